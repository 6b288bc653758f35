#!/usr/bin/env bash
# Bad input and bad days: full disks, too few descriptors, files that are no images, images that lie, peers that hang.
. "$(dirname "$0")/lib/run.sh" trouble "$@"
