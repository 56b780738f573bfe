#!/usr/bin/env bash
# Makes an archive to copy to other machines: the binary, its licences, README and docs/operations.md, units, manual pages, completions for bash, zsh and fish,
# and what is in it (CycloneDX). Beside it: that list once more, and SHA256SUMS.
#
#   deploy/package.sh [--target TARGET] [FOLDER]     (default: this machine's target, dist)
#
# With --target x86_64-unknown-linux-musl the binary is static and runs on any Linux of that processor; that needs musl-gcc (package
# musl-tools) and rustup's target, which is added where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=$host out=dist
while [ $# -gt 0 ]; do
  case $1 in
    --target) target=${2:?--target wants a target}; shift 2 ;;
    -*) sed -n '2,8p' "$0" >&2; exit 2 ;;
    *) out=$1; shift ;;
  esac
done

# Cargo's folder for a target that is named is another one than for the host, and nothing is compiled twice.
build=(cargo build --release --locked --bin sr3) folder=${CARGO_TARGET_DIR:-target}/release
if [ "$target" != "$host" ]; then
  build+=(--target "$target") folder=${CARGO_TARGET_DIR:-target}/$target/release
  rustup target list --installed | grep -qx "$target" || rustup target add "$target"
fi
if [[ $target == *-musl ]] && ! command -v musl-gcc > /dev/null; then
  echo "musl-gcc is missing: install it (musl-tools)" >&2
  exit 1
fi
"${build[@]}"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=sr3-$version-$target
rm -rf "${out:?}/$name"
mkdir -p "$out/$name/completions"
install -m 755 "$folder/sr3" "$out/$name/"
strip "$out/$name/sr3" 2>/dev/null || true
if [[ $target == *-musl ]] && ldd "$out/$name/sr3" 2>&1 | grep -q '=>'; then
  echo "the binary is not static: $(ldd "$out/$name/sr3")" >&2
  exit 1
fi

"$out/$name/sr3" man "$out/$name/man"
"$out/$name/sr3" completions bash > "$out/$name/completions/sr3.bash"
"$out/$name/sr3" completions zsh > "$out/$name/completions/_sr3"
"$out/$name/sr3" completions fish > "$out/$name/completions/sr3.fish"
mkdir "$out/$name/deploy"
cp -r deploy/systemd deploy/slurm deploy/monitoring "$out/$name/deploy/"
install -m 644 docs/operations.md README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$out/$name/"
install -m 644 engine/models/photo-4x/CREDITS.md "$out/$name/MODEL-CREDITS.md"
cargo tree -p sr3 -e normal --target "$target" --prefix none --no-dedupe -f "{p}: {l}" | grep -v "^sr3" | sed "s/ (proc-macro)//" | sort -u > "$out/$name/THIRD-PARTY.txt"
python3 scripts/sbom.py "$target" > "$out/$name.cdx.json"
cp "$out/$name.cdx.json" "$out/$name/sr3.cdx.json"

tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz" "$name"
(cd "$out" && sha256sum -- "sr3-$version"-*.tar.gz "sr3-$version"-*.cdx.json > SHA256SUMS)
echo "$out/$name.tar.gz"
