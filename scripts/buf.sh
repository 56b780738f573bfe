#!/usr/bin/env bash
# Lints the protocol: buf, from PyPI's buf-bin, in a virtual environment under target/. Needs python3 with venv and pip.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
environment=${CARGO_TARGET_DIR:-$root/target}/buf
if [ ! -e "$environment/complete" ]; then
  python3 -m venv "$environment/venv"
  "$environment/venv/bin/pip" install --quiet --disable-pip-version-check buf-bin==1.75.0
  touch "$environment/complete"
fi
cd "$root/proto"
exec "$environment/venv/bin/buf" lint .
