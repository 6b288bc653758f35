#!/usr/bin/env bash
# Readers that other projects wrote read what ours writes: libqcow, libvhdi and Dissect from PyPI, 7-Zip from the distribution.
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
for pip in "/usr/bin/python3 -m pip" "python3 -m pip" pip3 pip; do
    $pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$packages" \
        libqcow-python libvhdi-python dissect.hypervisor 2>/dev/null && break
done
PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" bash "$(dirname "$0")/lib/run.sh" readers "$@"
