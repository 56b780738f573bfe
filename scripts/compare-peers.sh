#!/usr/bin/env bash
# sr3 beside PyTorch on the same networks, in turns on this machine: a table of medians and ratios, as in the README.
#
#   scripts/compare-peers.sh PEERS PYTHON [THREADS...]
#
# PEERS is a folder with the PyTorch scripts torch_unet.py and torch_sampler.py; PYTHON an interpreter with their
# packages. THREADS: 2 and 1 where none are named. Environment: SR3_ROUNDS, how often each side has its turn (3);
# SR3_CASES, which networks; SR3_AVX2=1 holds both sides to AVX2. Nothing else should run meanwhile: a line that another
# process disturbed is said to be so.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then sed -n '2,11p' "$0" >&2; exit 2; fi
peers=$1 python=$2
shift 2
cargo build --release --quiet
if [ "${SR3_AVX2:-}" = 1 ]; then
  export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
fi
exec "$python" scripts/compare_peers.py "$peers" "$python" "${@:-}"
