#!/usr/bin/env bash
# Images pass between our programs and QEMU's own: what one writes the other checks, reads and goes on writing.
. "$(dirname "$0")/lib/run.sh" peers "$@"
