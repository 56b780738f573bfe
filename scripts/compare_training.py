#!/usr/bin/env python3
"""Learns from what sr3 learns from, in PyTorch, and writes the losses as a curve that `sr3 plot` reads.

  cargo run --release -p sr3-engine --example training_samples -- PICTURES SAMPLES 500 16 32 8 1 CONFIG.json
  compare_training.py PEERS SAMPLES CONFIG.json CURVE.jsonl --learning-rate 1e-3 --warmup 50 --clip 1
  sr3 train SPEC.yaml      # the same, with log_every: 1
  sr3 plot RUN CURVE.jsonl --out both.png

PEERS is the folder of a module `sr3_model` with the public implementation's U-Net (`UNet`, `UNetConfig`, `load_state`).
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("peers", type=Path)
p.add_argument("samples", type=Path)
p.add_argument("config", type=Path)
p.add_argument("curve", type=Path)
p.add_argument("--batch", type=int, default=16)
p.add_argument("--side", type=int, default=32)
p.add_argument("--learning-rate", type=float, required=True)
p.add_argument("--warmup", type=int, default=0)
p.add_argument("--clip", type=float)
p.add_argument("--threads", type=int, default=2)
args = p.parse_args()

sys.path.insert(0, str(args.peers))
from sr3_model import UNet, UNetConfig, load_state  # noqa: E402

torch.set_num_threads(args.threads)
names = {"norm_groups", "channel_mults", "res_blocks", "inner_channel", "in_channel", "out_channel", "attn_res", "dropout"}
config = {name: value for name, value in json.loads(args.config.read_text()).items() if name in names}
model = UNet(UNetConfig.from_json(json.dumps(config | {"image_size": args.side})))
load_state(model, args.samples / "model.safetensors")
model.train()
optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)

n, s = args.batch, args.side
cuts = np.cumsum([n * s * s * 6, n])
begun = time.monotonic()
with args.curve.open("w") as out:
    for step in range(len(list(args.samples.glob("step-*.f32")))):
        values = np.fromfile(args.samples / f"step-{step}.f32", dtype="<f4")
        given, levels, target = np.split(values, cuts)
        picture = lambda list, channels: torch.from_numpy(list).reshape(n, s, s, channels).permute(0, 3, 1, 2)  # noqa: E731
        said = model(picture(given, 6), torch.from_numpy(levels).reshape(n, 1))
        loss = (said - picture(target, 3)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        clip = args.clip if args.clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        rate = args.learning_rate * min(1.0, (step + 1) / args.warmup if args.warmup else 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        now = time.monotonic()
        row = {"step": step + 1, "samples": n * (step + 1), "loss": loss.item(), "loss_by_level": [None] * 4,
               "gradient_norm": norm.item(), "learning_rate": rate, "skipped": 0,
               "time": {"members": 1, "samples_per_second": n / (now - begun), "data": 0, "gradient": 0, "exchange": 0,
                        "optimizer": 0, "all": now - begun}}
        print(json.dumps(row), file=out)
        begun = now
