#!/usr/bin/env bash
# NBD in TLS: our server and client with those of others, who is refused, and that no key is shown.
. "$(dirname "$0")/lib/run.sh" tls "$@"
