#!/usr/bin/env bash
# Files of FTP and TFTP servers as disks: vsftpd with and without TLS, tftpd-hpa, what curl and QEMU read there, and that no password is shown.
. "$(dirname "$0")/lib/run.sh" ftp "$@"
