#!/usr/bin/env bash
# Commands at random, with the schema as their grammar, to a daemon and a machine with jobs at work and guests that write.
. "$(dirname "$0")/lib/run.sh" random_commands "$@"
