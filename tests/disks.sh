#!/usr/bin/env bash
# Disks with a real ext4, NTFS and FAT through every format that is written, and back; their own tools check them.
. "$(dirname "$0")/lib/run.sh" disks "$@"
