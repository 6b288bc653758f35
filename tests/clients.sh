#!/usr/bin/env bash
# NBD clients of others at our exports, our clients at their servers, and hostile clients.
. "$(dirname "$0")/lib/run.sh" clients "$@"
