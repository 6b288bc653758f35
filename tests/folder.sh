#!/usr/bin/env bash
# Folders shown as FAT disks, read by programs that other projects wrote: fsck.fat and mtools.
. "$(dirname "$0")/lib/run.sh" folder "$@"
