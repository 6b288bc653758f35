#!/usr/bin/env bash
# Files of an NFS server (nfs-ganesha): beside QEMU's driver and libnfs, and while the server is killed and started again.
. "$(dirname "$0")/lib/run.sh" nfs "$@"
