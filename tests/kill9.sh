#!/usr/bin/env bash
# kill -9 of the daemon, again and again: nothing flushed is lost, no sector holds another's data.
. "$(dirname "$0")/lib/run.sh" kill9 "$@"
