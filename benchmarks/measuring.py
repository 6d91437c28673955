"""Time to measure a label image, with the same values from scikit-image, skan and ImageJ beside it.

Usage:  python benchmarks/measuring.py [--rounds 5] [--sizes 1024,2048,4096,8192] [--json]

Runs on one core. Ours is the full default set: objects, quantities, intervals, budget. The others
compute the values only (areas, diameters, perimeters, Feret diameters; lengths of branches): they
have no densities, no border rule, no intervals. Areas and counts of particles are compared object
by object, and the run ends with 1 if they differ, if a label of 1024 x 1024 takes over 0.25 s, or
if a pixel of a larger one costs over 1.5 times as much as one of the smallest.

skan (`pip install skan`) and ImageJ (`apt-get install imagej`, with a JDK) are optional; what is
absent is left out with the reason.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is loaded

import numpy as np
import tifffile
from scipy import ndimage
from skimage.measure import label as connected
from skimage.measure import regionprops_table
from skimage.morphology import skeletonize

from defectops.measurement.budget import Known, itemised
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.particles import particle_table
from defectops.measurement.strength import Material, constants_sd, hardening
from defectops.micrograph import Calibration

LIMIT_S = 0.25
LIMIT_GROWTH = 1.5
CALIBRATION = Calibration(0.365, "option", 136.0, 10.0)
JAR = Path("/usr/share/java/ij.jar")
JAVA = Path(__file__).parent / "imagej" / "Particles.java"
Timing = dict[str, Any]


def particles(size: int) -> np.ndarray:
    """Return a mask of random discs, as many and as large as the paper's precipitates."""
    random = np.random.default_rng(1)
    mask = np.zeros((size, size), bool)
    for row, column, d in zip(*_places(random, size, 160), strict=True):
        _disc(mask, row, column, d)
    return mask


def _places(random: np.random.Generator, size: int, per_mega: int) -> tuple[np.ndarray, ...]:
    count = round(per_mega * size**2 / 1024**2)
    at = random.uniform(0, size, (2, count))
    return at[0], at[1], random.normal(29, 5, count).clip(6)


def _disc(mask: np.ndarray, row: float, column: float, d: float) -> None:
    top, left = max(int(row - d), 0), max(int(column - d), 0)
    window = mask[top : int(row + d) + 1, left : int(column + d) + 1]
    rows, columns = np.indices(window.shape)
    window |= (rows + top - row) ** 2 + (columns + left - column) ** 2 < d**2 / 4


def lines(size: int) -> np.ndarray:
    """Return a mask of random lines three pixels wide, as dense as the paper's dislocations."""
    random = np.random.default_rng(2)
    mask = np.zeros((size, size), bool)
    for row, column, angle in zip(
        *random.uniform(0, size, (2, round(90 * size**2 / 1024**2))),
        random.uniform(0, np.pi, round(90 * size**2 / 1024**2)),
        strict=True,
    ):
        along = np.arange(-60, 60, 0.5)
        rows = (row + along * np.sin(angle)).astype(int)
        columns = (column + along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        mask[rows[inside], columns[inside]] = True
    return ndimage.binary_dilation(mask, np.ones((3, 3)))


def ours(plane: np.ndarray, kind: str) -> int:
    """Measure with intervals and budget; return the number of quantities."""
    observe, defect = (
        (observe_lines, "dislocations") if kind == "lines" else (observe_particles, "voids")
    )
    material = Material()
    known = Known(0.01, constants_sd(defect, material))
    field = observe(plane, CALIBRATION)
    found = itemised([field], known, lambda given: hardening(given, defect, material))
    return len(found.quantities)


def skimage_particles(mask: np.ndarray) -> dict[str, np.ndarray]:
    """Label and measure as one would with scikit-image alone."""
    names = ("area", "centroid", "bbox", "equivalent_diameter_area", "feret_diameter_max")
    labels = connected(mask, connectivity=2)
    return regionprops_table(labels, properties=(*names, "perimeter_crofton"))


def skan_lines(mask: np.ndarray) -> float:
    """Return the length of all branches as skan gives it (pixel steps: 5.5 % too long)."""
    # This folder holds a coverage.py, which Numba would take for the package of that name.
    here = str(Path(__file__).parent)
    sys.path[:] = [p for p in sys.path if p != here]
    from skan import Skeleton, summarize  # noqa: PLC0415 - optional

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = summarize(Skeleton(skeletonize(mask)), separator="_")
    return float(table["branch_distance"].sum())


def imagej_particles(mask: np.ndarray, rounds: int) -> tuple[list[float], list[float]]:
    """Return areas of ImageJ's Analyze Particles in pixels, and seconds of each round."""
    with tempfile.TemporaryDirectory() as folder:
        picture, table = Path(folder, "mask.tif"), Path(folder, "table.csv")
        tifffile.imwrite(picture, mask.astype(np.uint8) * 255)
        java = ["java", "-Djava.awt.headless=true", "-XX:ActiveProcessorCount=1", "-cp", str(JAR)]
        words = [*java, str(JAVA), str(picture), str(table), str(rounds)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        with table.open(encoding="utf-8") as stream:
            areas = [float(row["Area"]) for row in csv.DictReader(stream)]
    return areas, [float(line) for line in done.stdout.split()]


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Return the median time of some rounds, after one that warms up."""
    call()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def timing(what: str, size: int, call: Callable[[], object], rounds: int) -> Timing:
    """Return one row of the table."""
    taken = seconds(call, rounds)
    return {"what": what, "size": size, "seconds": taken, "per_mega": taken * 1024**2 / size**2}


def scaling(sizes: list[int], rounds: int) -> list[Timing]:
    """Return our times over sizes: a mask of particles, instance labels, a mask of lines."""
    rows = []
    for size in sizes:
        few = rounds if size <= 2048 else 1
        mask, thin = particles(size), lines(size)
        instances = connected(mask, connectivity=2).astype(np.int32)
        rows += [
            timing("ours: particles, mask", size, lambda p=mask: ours(p, "particles"), few),
            timing(
                "ours: particles, instances", size, lambda p=instances: ours(p, "particles"), few
            ),
            timing("ours: lines, mask", size, lambda p=thin: ours(p, "lines"), few),
        ]
    first = {row["what"]: row["per_mega"] for row in reversed(rows)}
    return [{**row, "growth": row["per_mega"] / first[row["what"]]} for row in rows]


def _too_slow(row: Timing) -> bool:
    """Whether one of our rows misses a goal."""
    return row.get("growth", 0.0) > LIMIT_GROWTH or (
        "growth" in row and row["size"] == 1024 and row["seconds"] > LIMIT_S
    )


def beside(size: int, rounds: int) -> tuple[list[Timing], list[str]]:
    """Return the times of the others at one size, and sentences on what agrees or is absent."""
    mask, thin = particles(size), lines(size)
    areas = np.sort(particle_table(connected(mask, connectivity=2), 1.0, "px")["area_px2"])
    rows = [timing("scikit-image: particles", size, lambda: skimage_particles(mask), rounds)]
    theirs = np.sort(skimage_particles(mask)["area"])
    said = [_agreement("scikit-image", areas, theirs)]
    if shutil.which("java") and JAR.is_file():
        found, taken = imagej_particles(mask, rounds + 1)
        warm = statistics.median(taken[1:])
        rows.append(
            {
                "what": "ImageJ: particles (warm, without the start of Java)",
                "size": size,
                "seconds": warm,
                "per_mega": warm * 1024**2 / size**2,
            }
        )
        said.append(_agreement("ImageJ", areas, np.sort(found)))
    else:
        said.append("ImageJ left out: no java or no ij.jar; apt-get install imagej")
    try:
        rows.append(timing("scikit-image + skan: lines", size, lambda: skan_lines(thin), rounds))
    except ImportError:
        said.append("skan left out: not installed; pip install skan")
    else:
        own = observe_lines(thin, Calibration(None, "uncalibrated")).objects["length_px"].sum()
        said.append(f"length of lines: skan {skan_lines(thin):.0f} px, ours {own:.0f} px")
    return rows, said


def _agreement(name: str, ours_px: np.ndarray, theirs_px: np.ndarray) -> str:
    """Say whether counts and sorted areas are the same."""
    same = len(ours_px) == len(theirs_px) and np.array_equal(ours_px, theirs_px)
    word = "the same" if same else "DIFFERENT"
    return f"{name}: {len(theirs_px)} particles, ours {len(ours_px)}; areas one by one {word}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="1024,2048,4096,8192")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sizes = [int(s) for s in given.sizes.split(",")]
    rows = scaling(sizes, given.rounds)
    others, said = beside(sizes[0], given.rounds)
    rows += others
    failed = any("DIFFERENT" in s for s in said) or any(map(_too_slow, rows))
    if given.json:
        print(json.dumps({"rows": rows, "notes": said, "limit_s": LIMIT_S, "failed": failed}))
    else:
        for row in rows:
            print(f"{row['what']:<55} {row['size']:>5} px  {row['seconds']:8.3f} s", end="")
            grown = f", {row['growth']:.2f} times the first" if "growth" in row else ""
            print(f"  {row['per_mega']:.3f} s per 1024 x 1024{grown}")
        print("\n".join(said))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
