#!/usr/bin/env bash
# Makes an archive to copy to other machines: the binary, its licences and the README.
# Usage: deploy/package.sh [FOLDER]     (default: dist)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-dist}

cargo build --release --bin sr3
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=sr3-$version-$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$out/$name"
install -m 755 "${CARGO_TARGET_DIR:-target}/release/sr3" "$out/$name/"
install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$out/$name/"
install -m 644 engine/models/photo-4x/CREDITS.md "$out/$name/MODEL-CREDITS.md"
cargo tree -p sr3 -e normal --prefix none --no-dedupe -f "{p}: {l}" | grep -v "^sr3" | sed "s/ (proc-macro)//" | sort -u > "$out/$name/THIRD-PARTY.txt"
strip "$out/$name/sr3" 2>/dev/null || true
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"
echo "$out/$name.tar.gz"
