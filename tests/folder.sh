#!/usr/bin/env bash
# Folders shown as FAT disks, read and written by programs that other projects wrote: fsck.fat and mtools.
. "$(dirname "$0")/lib/run.sh" folder "$@"
