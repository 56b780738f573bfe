#!/usr/bin/env bash
# An S3 server whose conditional PUT does not hold, for tests: nanio, from PyPI, in a virtual environment under target/.
# Needs python3 with venv and pip; listens on 127.0.0.1 only. Never for anything that matters.
#
#   scripts/nanio.sh run DIR PORT     stays in the foreground, prints `ready`, ends with its standard input
#
# S3 is at http://127.0.0.1:PORT (key AKIATEST, secret testsecret, bucket `test`).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
environment=${CARGO_TARGET_DIR:-$root/target}/nanio

[ "${1:-}" = run ] || { sed -n '2,7p' "$0" >&2; exit 2; }
mkdir -p "$environment" "$2"
(
  flock 9
  if [ ! -e "$environment/complete" ]; then
    python3 -m venv "$environment/venv" >&2
    "$environment/venv/bin/pip" install --quiet --disable-pip-version-check nanio==0.1.7 >&2
    touch "$environment/complete"
  fi
) 9> "$environment/lock"
# Several processes, as a server of some size has.
NANIO_ACCESS_KEY=AKIATEST NANIO_SECRET_KEY=testsecret timeout 3600 "$environment/venv/bin/nanio" serve \
  --data-dir "$2" --host 127.0.0.1 --port "$3" --workers 2 --log-level warning --no-access-log \
  > "$2/nanio.log" 2>&1 < /dev/null &
pid=$!
trap 'kill "$pid" 2> /dev/null || true; { wait "$pid" || true; } 2> /dev/null; rm -rf "$2"/{test,nanio.log,.nanio*}; rmdir "$2" || true' EXIT
if ! python3 "$root/scripts/s3_ready.py" "http://127.0.0.1:$3" AKIATEST testsecret test 60; then
  tail -n 20 "$2/nanio.log" >&2
  exit 1
fi
echo ready
cat > /dev/null
