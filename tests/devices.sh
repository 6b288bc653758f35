#!/usr/bin/env bash
# Block devices of the host as disks, on loop devices: what they hold, their sizes, sectors and holes, and that they may go.
. "$(dirname "$0")/lib/run.sh" devices "$@"
