#!/usr/bin/env bash
# Images in a Ceph cluster of one machine: as QEMU's driver sees them, under a workload, while storage goes and comes, and who is refused.
# Each open of an encrypted image derives a key, which takes librbd seconds on an idle machine.
CAIRN_TEST_BOUND=${CAIRN_TEST_BOUND:-1200}
. "$(dirname "$0")/lib/run.sh" rbd "$@"
