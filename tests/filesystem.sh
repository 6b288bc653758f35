#!/usr/bin/env bash
# A real ext4 written through the export, mounted by the kernel where that is allowed, while the graph changes under it.
. "$(dirname "$0")/lib/run.sh" filesystem "$@"
