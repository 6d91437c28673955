"""Does the check-me list put true errors first? Precision of its head against a random order.

Usage:  python benchmarks/doubts.py [--champions champions] [--seeds 4] [--side 1024] [--json]

Micrographs are drawn from known defects with seeds that no training used, segmented with the
champions of a project, and their doubts compared with the truth: a doubt is right if what it says
is so (a missed particle is labelled there and was not found, and so on). Printed are the share of
right ones among the first 10, 20 and 50 of each list and among all of them, which is what a random
order gives; how many times better the first 20 are, with a 95 % interval from resampling
micrographs; and by kind how often a doubt is right beside the mean of its chances. Ends with 1 if
the lower end of a lift is not above 1.

Besides the micrographs of the paper's kind there are some with twice as many voids of half the
contrast, which the models have not been trained for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded

import numpy as np
import pandas as pd
from scipy import ndimage

from defectops.dataset.synthesis import SynthesisOptions, draw, paper
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.learning import machine
from defectops.learning.inference import LoadedModel, load_model
from defectops.measurement.doubts import list_doubts, named_covered
from defectops.measurement.objects import label_particles, thin_lines
from defectops.measurement.particle_errors import INVENTED, MERGED, MISSED, SPLIT, compare_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration
from defectops.settings import read

if TYPE_CHECKING:
    from defectops.measurement.doubt_rows import Doubt

TYPES = {"voids": "bright", "precipitates": "dark", "dislocations": "dark"}
FIRST_SEED = 7001
HEADS = (10, 20, 50)
HEAD = 20
TOLERANCE_PX = 3
LEAST_SHARE = 0.3
LEAST_WIDER = 0.05
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Field:
    """One micrograph and type: what the model says, and the truth."""

    key: str
    probability: np.ndarray
    threshold: float
    truth: np.ndarray


def kinds(side: int) -> dict[str, list[SynthesisOptions]]:
    """Return the micrographs to draw: as in the paper, and with faint voids."""
    given = [replace(options, shape=(side, side)) for options in paper()]
    faint = []
    for options in given[2:]:
        precipitates, voids = options.particles
        more = replace(voids, contrast=(0.15, 0.5), density_m3=2 * voids.density_m3)
        faint.append(replace(options, particles=(precipitates, more)))
    return {"paper": given, "faint voids": faint}


def fields(options: SynthesisOptions, seed: int, models: dict[str, LoadedModel]) -> Iterator[Field]:
    """Draw one micrograph and segment the types that it has."""
    drawn = draw(options, seed)
    for key, truth in drawn.instances.items():
        bundle = models[key].bundle
        how = read(bundle.conditioning, ConditioningOptions, "model: conditioning")
        plane = condition(drawn.micrograph.pixels, TYPES[key], how)
        yield Field(key, models[key].probability(plane), bundle.threshold, truth)


def judged(own: Field, others: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return the doubts about a field in their order, and which are right."""
    shape = "line" if own.key == "dislocations" else "particle"
    found = own.probability >= own.threshold
    if shape == "line":
        doubts = list_doubts(own.probability, own.threshold, shape, MeasureOptions())
        right = right_lines(doubts, found, own.truth > 0)
    else:
        instances = label_particles(found)
        doubts = list_doubts(
            own.probability, own.threshold, shape, MeasureOptions(), instances=instances
        )
        right = right_particles(doubts, instances, own.truth)
        doubts = named_covered(doubts, others)
    rows = [(d.kind, d.chance, d.score, r) for d, r in zip(doubts, right, strict=True)]
    return pd.DataFrame(rows, columns=["kind", "chance", "score", "right"])


def right_particles(doubts: list[Doubt], found: np.ndarray, truth: np.ndarray) -> list[bool]:
    """Say of each doubt about particles whether it is right."""
    errors = compare_particles(found, truth, Calibration(None, "uncalibrated"))
    names = errors.label.objects["label"].to_numpy(), errors.prediction.objects["label"].to_numpy()
    of_label = dict(zip(names[0].tolist(), errors.label_cause.tolist(), strict=True))
    of_found = dict(zip(names[1].tolist(), errors.prediction_cause.tolist(), strict=True))
    pair = {int(names[1][j]): int(names[0][i]) for i, j in errors.pairs}
    true_px, found_px = np.bincount(truth.ravel()), np.bincount(found.ravel())
    holder = {n: _holder(truth, found == n) for n in of_found}

    def right(doubt: Doubt) -> bool:
        if doubt.kind == "missed":
            under = truth.ravel()[doubt.at]
            own = [n for n in np.unique(under[under > 0]) if of_label.get(int(n)) == MISSED]
            shares = [(under == n).sum() / min(under.size, true_px[n]) for n in own]
            return any(share >= LEAST_SHARE for share in shares)
        if doubt.kind == "invented":  # a piece too many is none of its own either
            return of_found.get(doubt.label) in (INVENTED, SPLIT)
        if doubt.kind == "split":
            return holder[doubt.label] == holder[doubt.other_label] > 0
        if doubt.kind == "merged":
            return of_found.get(doubt.label) == MERGED
        if doubt.label not in pair:
            return False
        wider = np.sqrt(true_px[pair[doubt.label]] / found_px[doubt.label]) - 1
        more = doubt.effect.diameter_percent > 0
        return bool(abs(wider) >= LEAST_WIDER and (wider > 0) == more)

    return [right(doubt) for doubt in doubts]


def _holder(truth: np.ndarray, own: np.ndarray) -> int:
    """Return the labelled particle that holds most of a found one, 0 for none."""
    count = np.bincount(truth[own])
    count[0] = 0
    return int(count.argmax()) if count.size > 1 and 2 * count.max() > own.sum() else 0


def right_lines(doubts: list[Doubt], found: np.ndarray, truth: np.ndarray) -> list[bool]:
    """Say of each stretch whether most of it is right, within three pixels."""
    centres = [thin_lines(mask) for mask in (truth, found)]
    far_true, far_found = (ndimage.distance_transform_edt(~c).ravel() for c in centres)

    def right(doubt: Doubt) -> bool:
        at = doubt.at
        if doubt.kind == "missed":
            own = (far_true[at] <= TOLERANCE_PX) & (far_found[at] > TOLERANCE_PX)
        else:
            own = far_true[at] > TOLERANCE_PX
        return bool(2 * own.sum() >= at.size)

    return [right(doubt) for doubt in doubts]


def measured(models: dict[str, LoadedModel], seeds: int, side: int) -> pd.DataFrame:
    """Return one row a doubt of all micrographs."""
    tables = []
    for name, drawn in kinds(side).items():
        for number, options in enumerate(drawn):
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                seen = list(fields(options, seed + 100 * number, models))
                masks = {f.key: f.probability >= f.threshold for f in seen}
                for own in seen:
                    others = {k: m for k, m in masks.items() if k != own.key}
                    table = judged(own, others)
                    image = f"{options.name} {seed}"
                    tables.append(table.assign(drawn=name, defect=own.key, image=image))
    return pd.concat(tables, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return precision of the heads, share in a random order, and lift, by type."""
    rows = []
    for (drawn, defect), own in table.groupby(["drawn", "defect"], sort=False):
        images = [part["right"].to_numpy(dtype=float) for _, part in own.groupby("image")]
        heads = {f"first {n}": float(np.mean([i[:n].mean() for i in images])) for n in HEADS}
        every = np.array([i.mean() for i in images])
        head = np.array([i[:HEAD].mean() for i in images])
        random = np.random.default_rng(0).integers(0, len(images), (RESAMPLES, len(images)))
        lifts = head[random].sum(axis=1) / np.maximum(every[random].sum(axis=1), 1e-9)
        low, high = np.quantile(lifts, (0.025, 0.975))
        found = np.array([i[:HEAD].sum() / max(i.sum(), 1) for i in images])
        rows.append(
            {
                "micrographs": drawn,
                "type": defect,
                "images": len(images),
                "doubts an image": len(own) / len(images),
                **heads,
                "random": float(every.mean()),
                "lift": float(head.sum() / every.sum()),
                "low": float(low),
                "high": float(high),
                "of all right in first 20": float(found.mean()),
            }
        )
    return pd.DataFrame(rows)


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often each kind is right beside what its chances say."""
    given = table[table["drawn"] == "paper"]
    parts = given.groupby(["defect", "kind"], sort=False)
    return parts.agg(
        doubts=("right", "size"), right=("right", "mean"), chance=("chance", "mean")
    ).reset_index()


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--champions", type=Path, default=Path("champions"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    machine.settle()
    models = {key: load_model(given.champions / key / "model.safetensors") for key in TYPES}
    table = measured(models, given.seeds, given.side)
    heads, reliability = summary(table), by_kind(table)
    if given.json:
        told: dict[str, Any] = {
            "lists": heads.to_dict("records"),
            "kinds": reliability.to_dict("records"),
        }
        print(json.dumps(told, indent=2))
    else:
        print(heads.round(2).to_string(index=False))
        print()
        print(reliability.round(2).to_string(index=False))
    return int(bool((heads["low"] <= 1).any()))


if __name__ == "__main__":
    sys.exit(main())
