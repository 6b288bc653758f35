#!/usr/bin/env bash
# Units of an iSCSI target, read and written: beside QEMU's driver and libiscsi's tools, with a target that is killed, and that no password is shown.
. "$(dirname "$0")/lib/run.sh" iscsi "$@"
