#!/usr/bin/env bash
# Conversions with a journal: killed over and over, interrupted, on full disks, from servers that go away; and those with a proof.
. "$(dirname "$0")/lib/run.sh" conversions "$@"
