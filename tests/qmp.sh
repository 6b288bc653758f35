#!/usr/bin/env bash
# The daemon controlled over QMP: by the PyPI client qemu.qmp, by many at once, by clients that behave badly.
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
for pip in "python3 -m pip" "/usr/bin/python3 -m pip" pip3 pip; do
    $pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$packages" qemu.qmp 2>/dev/null && break
done
PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" bash "$(dirname "$0")/lib/run.sh" qmp "$@"
