#!/usr/bin/env bash
# The command lines of Nova, Cinder, CDI, virt-v2v, Proxmox and others, word for word, beside QEMU's own programs.
. "$(dirname "$0")/lib/run.sh" callers "$@"
