#!/usr/bin/env bash
# Makes the image `cpu` of deploy/Dockerfile out of a static binary, and pulls nothing: an OCI archive (a tar) that
# `docker load`, `podman load`, `skopeo copy oci-archive:…` and `ctr images import` take.
#
#   deploy/image.sh [--binary FILE] [--tag NAME:TAG] [--out FILE] [--authorities FILE] [--builder buildah|python]
#
#   --binary       a static executable                  (default: dist/sr3, else the one that deploy/package.sh made for musl)
#   --tag          name of the image in the archive                         (default: sr3:VERSION of Cargo.toml)
#   --out          the archive                                              (default: dist/NAME-TAG.oci.tar)
#   --authorities  PEM file of the authorities whom the image trusts        (default: this machine's)
#   --builder      who writes it                      (default: buildah where it is there and works, else python3)
#
# Without buildah, deploy/oci_layout.py (python3 alone) writes the same: the output says who did. Its archive has the same bytes for
# the same input.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -n 1)
binary=dist/sr3
made=dist/sr3-$version-$(uname -m)-unknown-linux-musl/sr3
[ -e "$binary" ] || [ ! -e "$made" ] || binary=$made
tag=sr3:$version out='' authorities='' builder=''
while [ $# -gt 0 ]; do
  case $1 in
    --binary) binary=$2 ;;
    --tag) tag=$2 ;;
    --out) out=$2 ;;
    --authorities) authorities=$2 ;;
    --builder) builder=$2 ;;
    *)
      sed -n '2,14p' "$0" >&2
      exit 2
      ;;
  esac
  shift 2
done
out=${out:-dist/${tag//[:\/]/-}.oci.tar}
if [ -z "$authorities" ]; then
  for known in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    if [ -e "$known" ]; then
      authorities=$known
      break
    fi
  done
fi
[ -n "$authorities" ] || {
  echo "image.sh: this machine trusts no authorities: name a PEM file with --authorities" >&2
  exit 2
}
python3 "$here/oci_layout.py" check "$binary"
case $(uname -m) in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) architecture=$(uname -m) ;;
esac
mkdir -p "$(dirname "$out")"

# In a store of its own, so that nothing is left behind and nothing of the machine's is touched.
with_buildah() {
  local store container
  store=$(mktemp -d)
  trap 'rm -rf "$store"' RETURN
  local options=(--root "$store/storage" --runroot "$store/run" --storage-driver vfs)
  python3 "$here/oci_layout.py" layer "$store/layer.tar" "$binary" "$authorities" &&
    container=$(buildah "${options[@]}" from scratch) &&
    buildah "${options[@]}" add -q "$container" "$store/layer.tar" / > /dev/null &&
    buildah "${options[@]}" config --os linux --arch "$architecture" --user 65532:65532 --workingdir /tmp \
      --env PATH=/usr/bin --env HOME=/cache --env SR3_CACHE=/cache --entrypoint '["/usr/bin/sr3"]' \
      --label org.opencontainers.image.title=sr3 --label "org.opencontainers.image.version=$version" \
      --label 'org.opencontainers.image.licenses=MIT OR Apache-2.0' \
      --label 'org.opencontainers.image.description=Diffusion super-resolution: coordinator, worker and command' "$container" &&
    rm -f "$out" &&
    buildah "${options[@]}" commit -q --format oci "$container" "oci-archive:$out:$tag" > /dev/null
}

if [ "$builder" != python ] && command -v buildah > /dev/null && with_buildah; then
  echo "$out ($tag, by buildah)"
elif [ "$builder" = buildah ]; then
  echo "image.sh: buildah is not here, or cannot work here" >&2
  exit 1
else
  python3 "$here/oci_layout.py" write "$out" "$tag" "$architecture" "$version" "$binary" "$authorities"
  echo "$out ($tag, by python3: buildah is not here, or was not to be used)"
fi
