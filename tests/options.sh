#!/usr/bin/env bash
# Every command and option of qemu-io and qemu-nbd, and the options of qemu-img, beside QEMU's own programs.
. "$(dirname "$0")/lib/run.sh" options "$@"
