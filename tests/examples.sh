#!/usr/bin/env bash
# The programs under examples/: backups with our daemon and with QEMU's while a client writes, and a day of a disk in 2.1's words.
bash "$(dirname "$0")/lib/run.sh" examples "$@"
