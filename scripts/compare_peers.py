"""What scripts/compare-peers.sh runs: turns, medians, ratios."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

SR3 = os.environ.get("CARGO_TARGET_DIR", "target") + "/release/sr3"
CASES = os.environ.get("SR3_CASES", "small-64 face-16-128 wide-256").split()
AVX2 = os.environ.get("SR3_AVX2") == "1"
OURS = ["--json"] + (["--isa", "avx2"] if AVX2 else [])
# Held to AVX2, PyTorch still takes the processor for one with bf16, and computes it ten times as slowly as f32.
THEIRS = ["--dtype", "fp32"] if AVX2 else []
ROUNDS = int(os.environ.get("SR3_ROUNDS", "3"))


def lines(command):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def peer(script, *arguments):
    """Median milliseconds of the fastest mode of any kind, and of f32, and whether another process disturbed them."""
    found = lines([sys.argv[2], str(Path(sys.argv[1]) / script), *arguments, *THEIRS])
    best = {line["best"]: line["median_ms"] for line in found if "best" in line}
    return best["any"], best["fp32"], any(line.get("cpu_elsewhere", 0) > 0.1 for line in found)


def turns(ours, theirs):
    """Medians of each side, the ratios of neighbouring turns, and whether anything was disturbed."""
    own, own_best, any_kind, f32, noisy = [], [], [], [], False
    for _ in range(ROUNDS):
        line = lines(ours)[0]
        own.append(line["median_ms"])
        # Where the processor has bf16, sr3 may choose it as PyTorch may.
        other = line["cpu_features"] == "avx512-bf16"
        own_best.append(min(own[-1], lines([*ours, "--dtype", "auto"])[0]["median_ms"]) if other else own[-1])
        best, best_f32, disturbed = peer(*theirs)
        any_kind.append(best)
        f32.append(best_f32)
        noisy |= disturbed
    ratios = sorted(theirs / ours for theirs, ours in zip(f32, own))
    return *map(statistics.median, (own, f32, own_best, any_kind)), ratios, noisy


def row(name, threads, measured):
    own, f32, own_best, any_kind, ratios, noisy = measured
    remark = " (disturbed)" if noisy else ""
    print(f"| {name} | {threads} | {own:.0f} ms | {f32:.0f} ms | {f32 / own:.2f}× ({ratios[0]:.2f}–{ratios[-1]:.2f}) "
          f"| {own_best:.0f} ms | {any_kind:.0f} ms | {any_kind / own_best:.2f}× |{remark}", flush=True)


def main():
    threads = [t for t in sys.argv[3:] if t] or ["2", "1"]
    print("| case | threads | sr3, f32 | PyTorch, best f32 | | sr3, best | PyTorch, best of any kind | |")
    print("|---|---|---|---|---|---|---|---|")
    for n in threads:
        for case in CASES:
            for mode in ("sample", "train"):
                ours = [SR3, "bench", "unet", "--case", case, "--mode", mode, "--threads", n, "--repeat", "3", *OURS]
                theirs = ("torch_unet.py", "--case", case, "--op", mode, "--threads", n, "--repeat", "3")
                row(f"{case}, {mode}", n, turns(ours, theirs))
        ours = [SR3, "bench", "sampler", "--threads", n, "--repeat", "1", *OURS]
        theirs = ("torch_sampler.py", "--threads", n, "--repeat", "1", "--trials", "1")
        row("whole sampling loop", n, turns(ours, theirs))


if __name__ == "__main__":
    main()
