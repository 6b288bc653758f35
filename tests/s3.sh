#!/usr/bin/env bash
# Objects of a store as disks: Ceph's gateway for S3, versions, who is refused, and objects that are written anew meanwhile.
. "$(dirname "$0")/lib/run.sh" s3 "$@"
