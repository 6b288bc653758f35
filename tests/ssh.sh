#!/usr/bin/env bash
# Files of an SSH server: ours beside QEMU's driver, who is let in, a server that is killed, and that no password is shown.
. "$(dirname "$0")/lib/run.sh" ssh "$@"
