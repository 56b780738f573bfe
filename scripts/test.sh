#!/usr/bin/env bash
# Everything that must pass before a change is kept: format, lints (buf for the protocol), licences and sources of what is linked,
# the list of unsafe code, tests (unit, end to end, documentation), docs, everything that is deployed.
# Needs cargo, a C compiler, and python3 with venv and pip. One build profile throughout, so that nothing is compiled twice.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
bash scripts/buf.sh
bash scripts/deny.sh
bash scripts/unsafe.sh
cargo clippy --release --workspace --all-targets -- -D warnings
cargo test --release --workspace
RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
bash scripts/deploy-check.sh
