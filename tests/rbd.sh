#!/usr/bin/env bash
# Images in a Ceph cluster of one machine: as QEMU's driver sees them, under a workload, while storage goes and comes, and who is refused.
. "$(dirname "$0")/lib/run.sh" rbd "$@"
