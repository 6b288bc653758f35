#!/usr/bin/env bash
# Man pages and completions, in the shells that they are for.
bash "$(dirname "$0")/lib/run.sh" pages "$@"
