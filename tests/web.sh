#!/usr/bin/env bash
# Files of web servers as disks: nginx with and without TLS, what curl and QEMU read there, and that no secret is shown.
. "$(dirname "$0")/lib/run.sh" web "$@"
