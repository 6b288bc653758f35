#!/usr/bin/env bash
# `img hash` beside a program of another make that follows the specification, with BLAKE3 from PyPI.
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
for pip in "/usr/bin/python3 -m pip" "python3 -m pip" pip3 pip; do
    $pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$packages" blake3 2>/dev/null && break
done
PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" bash "$(dirname "$0")/lib/run.sh" hash "$@"
