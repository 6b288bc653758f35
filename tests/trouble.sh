#!/usr/bin/env bash
# Bad input and failures around it: full disks, too few descriptors, files that are no images, damaged images, peers that hang.
. "$(dirname "$0")/lib/run.sh" trouble "$@"
