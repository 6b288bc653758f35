#!/usr/bin/env bash
# Figures for a monitoring system: read by the parser of another project, scraped by many at once and by those that nobody wants.
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
for pip in "python3 -m pip" "/usr/bin/python3 -m pip" pip3 pip; do
    $pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$packages" prometheus_client 2>/dev/null && break
done
PYTHONPATH="$packages${PYTHONPATH:+:$PYTHONPATH}" bash "$(dirname "$0")/lib/run.sh" metrics "$@"
