# Runs one set of proofs with the Python that has libnbd; sourced by the scripts above.
set -euo pipefail
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
set=$1
shift
for python in ${CAIRN_TEST_PYTHON:-} /usr/bin/python3 python3; do
    "$python" -c 'import nbd' 2>/dev/null && break
done
exec timeout --kill-after=20 "${CAIRN_TEST_BOUND:-600}" "$python" -u -B "$lib/$set.py" "$@"
