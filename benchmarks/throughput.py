"""Training throughput against a plain float32 PyTorch loop over the same network and patches.

Usage:  python benchmarks/throughput.py [--rounds 3] [--json]

Both loops run in processes of their own, in turn (A B A B ...), so that a drift of the machine
meets both. The ratio is taken round by round; its median is the figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from defectops.dataset.patches import random_batches
from defectops.learning import machine
from defectops.learning.networks import DEFECTSEGNET, NetworkSpec, build, weight_count
from defectops.learning.training import TrainingOptions, fit
from defectops.micrograph import Calibration, Field, Region

PATCH_PX, BATCH, PATCHES = 192, 8, 64


class PlainNetwork(nn.Module):
    """DefectSegNet as one would write it down: a module for each node, maps concatenated."""

    def __init__(self) -> None:
        super().__init__()
        channels = {0: 1}
        self.layers = nn.ModuleList()
        for number, node in enumerate(DEFECTSEGNET, 1):
            given = sum(channels[i] for i in node.inputs)
            channels[number] = given if node.op == "pool" else node.channels
            self.layers.append(_plain_layer(node.op, given, node.channels))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        maps = {0: image}
        for number, (node, layer) in enumerate(zip(DEFECTSEGNET, self.layers, strict=True), 1):
            maps[number] = layer(torch.cat([maps[i] for i in node.inputs], 1))
        return maps[len(DEFECTSEGNET)]


def _plain_layer(op: str, given: int, made: int) -> nn.Module:
    if op == "pool":
        return nn.MaxPool2d(2)
    if op == "logits":
        return nn.Conv2d(given, made, 3, padding=1)
    up = op == "up"
    convolution = (
        nn.ConvTranspose2d(given, made, 2, stride=2) if up else nn.Conv2d(given, made, 3, padding=1)
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(made), nn.ReLU())


def field(size: int) -> Field:
    """Return a seeded field of noise with a square defect."""
    random = np.random.default_rng(0)
    label = np.zeros((size, size), bool)
    label[size // 4 : size // 2, size // 4 : size // 2] = True
    return Field(
        "noise",
        Region(0, size, 0, size),
        random.normal(size=(size, size)).astype(np.float32),
        label,
        np.zeros((size, size), bool),
        Calibration(0.365, "synthesis"),
    )


def ours() -> float:
    """Return patches a second of our loop: third epoch, after everything is warm."""
    machine.settle()
    train, dev = [field(1024)], [field(64)]
    options = TrainingOptions(epochs=3, positive_weight=4.0)
    records = fit(
        build(NetworkSpec(), seed=0),
        lambda epoch: random_batches(
            train, patch_px=PATCH_PX, batch=BATCH, count=PATCHES, key=(0, epoch)
        ),
        dev,
        options,
    )
    return max(r.images_per_s for r in records)


def plain() -> float:
    """Return patches a second of the plain loop, equally warm."""
    torch.manual_seed(0)
    network = PlainNetwork().train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    train = [field(1024)]
    rates = []
    for epoch in range(3):
        started = time.perf_counter()
        for batch in random_batches(
            train, patch_px=PATCH_PX, batch=BATCH, count=PATCHES, key=(0, epoch)
        ):
            loss = functional.binary_cross_entropy_with_logits(
                network(batch.image), batch.label, pos_weight=torch.tensor(4.0)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        rates.append(PATCHES / (time.perf_counter() - started))
    return max(rates)


def in_a_process(side: str) -> float:
    """Run one side in a process of its own and return its rate."""
    done = subprocess.run(
        [sys.executable, __file__, "--side", side], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("ours", "plain"))
    given = parser.parse_args()
    if given.side:
        print((ours if given.side == "ours" else plain)())
        return
    same = weight_count(PlainNetwork()) == weight_count(build(NetworkSpec()))
    rounds = [(in_a_process("ours"), in_a_process("plain")) for _ in range(given.rounds)]
    ratios = [a / b for a, b in rounds]
    figures = {
        "ours_patches_per_s": statistics.median(a for a, _ in rounds),
        "plain_patches_per_s": statistics.median(b for _, b in rounds),
        "ratio_median": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "patch_px": PATCH_PX,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "same_number_of_weights": same,
    }
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    print(
        f"training, patches of {PATCH_PX} px, batch {BATCH}, {figures['threads']} threads: "
        f"ours {figures['ours_patches_per_s']:.1f} patches/s, plain float32 "
        f"{figures['plain_patches_per_s']:.1f} patches/s, ratio "
        f"{figures['ratio_median']:.2f} ({figures['ratio_low']:.2f} to {figures['ratio_high']:.2f})"
    )


if __name__ == "__main__":
    main()
