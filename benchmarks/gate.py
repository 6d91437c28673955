"""Does the gate stop a worse model, and never call an equal one better? Rates on drawn gate packs.

Run: python benchmarks/gate.py [--repeats N] [--seed S] [--only particle|line] [--json]

Labels are drawn (discs, straight segments), and two models are simulated by what they do to a
label: losing objects, inventing some, drawing them larger or smaller. No network is trained: what
is judged here is the gate, and only a simulated model is known to be worse by just the margin. The
errors of the two models are independent of each other, which is the harder case: models trained
on the same images err on the same objects. Exit status 1 if an equal challenger is called better
in more than 5 % of repeats, or one worse by the margin is stopped in less than 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from defectops.dataset.synthesis_segments import capsules
from defectops.dataset.synthesis_spheres import Discs, disc_labels
from defectops.experiments.gate_rules import Evidence, judge
from defectops.experiments.promotion import MARGINS, PromotionOptions
from defectops.measurement.model_comparison import (
    GateSample,
    Resampling,
    observe_sample,
    paired_change,
    scores,
)
from defectops.measurement.objects import ObjectOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration, Field, Region

if TYPE_CHECKING:
    from defectops.defects import Shape

Array = npt.NDArray[Any]

CALIBRATION = Calibration(0.5, "synthesis", 100.0, 0.0)
OPTIONS = MeasureOptions(objects=ObjectOptions(min_area_px=20), detail="main")
DIAMETER_PX, SPREAD = 12.0, 0.25
LENGTH_PX, WIDTH_PX = 80.0, 5.0
IOU, COUNT, SIZE = "iou", "number_density_error_percent", "mean_diameter_error_percent"
LINES = "dislocation_density_error_percent"
JUDGED: dict[Shape, tuple[str, ...]] = {"particle": (IOU, COUNT, SIZE), "line": (IOU, LINES)}
MOST_BETTER, LEAST_STOPPED = 0.05, 0.95


@dataclass(frozen=True)
class Skill:
    """What a simulated model does to a label.

    Parameters
    ----------
    lost, invented : float
        Share of the labelled objects that it misses, and objects that are not there per labelled
        one.
    growth, scatter : float
        Mean and standard deviation, from object to object, of the relative change of a diameter or
        of a line's width.
    moods : float
        Standard deviation of `lost` between images.
    """

    lost: float = 0.05
    invented: float = 0.05
    growth: float = 0.0
    scatter: float = 0.06
    moods: float = 0.0

    def on_one_image(self, rng: np.random.Generator) -> Skill:
        """Return what it does to one image: better on some than on others."""
        return replace(self, lost=float(np.clip(rng.normal(self.lost, self.moods), 0.0, 1.0)))


@dataclass(frozen=True)
class Pack:
    """A kind of gate pack: images of one shape with so many objects each on the mean."""

    name: str
    shape: Shape
    images: int
    objects: float
    size: tuple[int, int] = (192, 384)


@dataclass(frozen=True)
class Condition:
    """A challenger against a champion on a kind of pack, and what is known of it.

    Parameters
    ----------
    pack : Pack
    what : str
    champion, challenger : Skill
    worse : str
        Name of the score in which the challenger is worse by the margin; empty: it is equal.
    """

    pack: Pack
    what: str
    champion: Skill
    challenger: Skill
    worse: str = ""


@dataclass
class Tally:
    """How the rule of one score answered over all repeats of a condition."""

    condition: Condition
    name: str
    better: int = 0
    passed: int = 0
    inconclusive: int = 0
    failed: int = 0
    ends: list[tuple[float, float]] = field(default_factory=list)

    def covers(self, truly: float) -> float:
        """Return the share of intervals of the change that hold its true value."""
        return float(np.mean([low <= truly <= high for low, high in self.ends]))

    @property
    def repeats(self) -> int:
        """Packs that were judged."""
        return self.passed + self.inconclusive + self.failed

    @property
    def stopped(self) -> int:
        """Packs on which the gate did not let the challenger pass."""
        return self.inconclusive + self.failed

    @property
    def missed(self) -> bool:
        """Whether the rate is not what is asked."""
        if self.condition.worse:
            return self.stopped < LEAST_STOPPED * self.repeats
        return self.better > MOST_BETTER * self.repeats


def conditions() -> list[Condition]:
    """Return what is simulated. Each `worse` is so by its margin, as the column ``truly`` shows."""
    many = Pack("particles, 2 strips, 150 objects", "particle", 2, 75)
    few = Pack("particles, 2 strips, 20 objects", "particle", 2, 10)
    ten = Pack("particles, 10 images, 150 objects", "particle", 10, 15, (128, 192))
    lines = Pack("lines, 2 strips, 60 objects", "line", 2, 30)
    plain, moody = Skill(), Skill(moods=0.08, lost=0.1, invented=0.1)
    sure = Skill(lost=0.0, invented=0.0, scatter=0.02)
    found = [Condition(p, "equal", plain, plain) for p in (many, few, lines)]
    found.append(Condition(ten, "equal, images differ", moody, moody))
    for pack, before, density in (
        (many, plain, COUNT),
        (few, plain, COUNT),
        (few, sure, COUNT),
        (ten, moody, COUNT),
        (lines, plain, LINES),
    ):
        loses = replace(before, lost=before.lost + 0.05)
        what = "loses objects" if before.lost else "a perfect one, loses objects"
        found.append(Condition(pack, what, before, loses, density))
    for pack, before, share in ((many, plain, 0.0223), (few, sure, 0.0207), (lines, plain, 0.0226)):
        loses = replace(before, lost=before.lost + share)
        what = "loses objects" if before.lost else "a perfect one, loses objects"
        found.append(Condition(pack, what, before, loses, IOU))
    for pack, growth in ((many, -0.047), (lines, -0.055)):
        found.append(Condition(pack, "draws thinner", plain, replace(plain, growth=growth), IOU))
    found.append(Condition(many, "draws larger", plain, replace(plain, growth=0.05), SIZE))
    return found


def tallies(condition: Condition, repeats: int, seed: int) -> tuple[list[Tally], dict[str, float]]:
    """Judge drawn packs; return the tallies and the mean true change of each score."""
    names = JUDGED[condition.pack.shape]
    found = [Tally(condition, n) for n in names if condition.worse in ("", n)]
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for rng in np.random.default_rng(seed).spawn(repeats):
        one, two = simulated(condition, rng)
        seen.append((scores(one), scores(two)))
        change = paired_change(one, two, Resampling(seed=seed))
        for tally in found:
            _note(tally, change)
    return found, {t.name: _true_change(t.name, seen) for t in found}


def simulated(condition: Condition, rng: np.random.Generator) -> tuple[GateSample, GateSample]:
    """Draw a gate pack and show it to both models."""
    pack = condition.pack
    fields, masks = [], ([], [])
    for number in range(pack.images):
        draw = _Particles if pack.shape == "particle" else _Lines
        objects = draw.scattered(rng, pack)
        label = objects.mask(pack.size)
        region = Region(0, pack.size[0], 0, pack.size[1])
        nothing = np.zeros(pack.size, bool)
        intensity = np.zeros(pack.size, np.float32)
        fields.append(Field(f"{number}.png", region, intensity, label, nothing, CALIBRATION))
        for found, skill in zip(masks, (condition.champion, condition.challenger), strict=True):
            found.append(objects.seen_by(rng, skill.on_one_image(rng), pack).mask(pack.size))
    one, two = (observe_sample(pack.shape, fields, m, OPTIONS) for m in masks)
    return one, two


@dataclass(frozen=True, eq=False)
class _Particles:
    """Discs of one image that do not touch."""

    discs: Discs

    @classmethod
    def scattered(cls, rng: np.random.Generator, pack: Pack) -> _Particles:
        return cls._apart(*cls._drawn(rng, rng.poisson(pack.objects), pack.size))

    @staticmethod
    def _drawn(
        rng: np.random.Generator, count: int, size: tuple[int, int]
    ) -> tuple[Array, Array, Array]:
        sigma = math.sqrt(math.log1p(SPREAD**2))
        diameter = DIAMETER_PX * np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)
        return rng.uniform(0, size[0], count), rng.uniform(0, size[1], count), diameter

    @classmethod
    def _apart(cls, row: Array, column: Array, diameter: Array) -> _Particles:
        kept: list[int] = []
        for i in range(row.size):
            away = np.hypot(row[kept] - row[i], column[kept] - column[i])
            if not np.any(away < (diameter[kept] + diameter[i]) / 2 * 1.3 + 3):
                kept.append(i)
        return cls(Discs(row[kept], column[kept], diameter[kept]))

    def seen_by(self, rng: np.random.Generator, skill: Skill, pack: Pack) -> _Particles:
        d = self.discs
        kept = rng.random(d.rows.size) >= skill.lost
        new = rng.poisson(skill.invented * d.rows.size)
        row, column, diameter = (
            np.concatenate([old[kept], more])
            for old, more in zip(
                (d.rows, d.columns, d.diameters), self._drawn(rng, new, pack.size), strict=True
            )
        )
        change = 1 + skill.growth + skill.scatter * rng.standard_normal(row.size)
        apart = self._apart(row, column, diameter).discs
        return _Particles(replace(apart, diameters=apart.diameters * change[: apart.rows.size]))

    def mask(self, size: tuple[int, int]) -> Array:
        return np.asarray(disc_labels(self.discs, size) > 0)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Segments of one image, each with its width."""

    start: Array
    stop: Array
    width: Array

    @classmethod
    def scattered(cls, rng: np.random.Generator, pack: Pack) -> _Lines:
        return cls._drawn(rng, rng.poisson(pack.objects), pack.size)

    @classmethod
    def _drawn(cls, rng: np.random.Generator, count: int, size: tuple[int, int]) -> _Lines:
        angle, middle = rng.uniform(0, math.pi, count), rng.uniform((0, 0), size, (count, 2))
        half = rng.uniform(0.25, 0.75, (count, 1)) * LENGTH_PX
        along = half * np.column_stack([np.sin(angle), np.cos(angle)])
        return cls(middle - along, middle + along, np.full(count, WIDTH_PX))

    def seen_by(self, rng: np.random.Generator, skill: Skill, pack: Pack) -> _Lines:
        kept = rng.random(self.width.size) >= skill.lost
        new = self._drawn(rng, rng.poisson(skill.invented * self.width.size), pack.size)
        start = np.concatenate([self.start[kept], new.start])
        stop = np.concatenate([self.stop[kept], new.stop])
        # In steps of a quarter pixel, so that lines of one width are drawn together.
        change = 1 + skill.growth + skill.scatter * rng.standard_normal(len(start))
        return _Lines(start, stop, np.round(4 * WIDTH_PX * change) / 4)

    def mask(self, size: tuple[int, int]) -> Array:
        out = np.zeros(size, dtype=bool)
        for width in np.unique(self.width):
            same = self.width == width
            out |= capsules(self.start[same], self.stop[same], float(width), size)
        return out


def _note(tally: Tally, change: Any) -> None:
    options = PromotionOptions(margins={tally.name: MARGINS[tally.name]})
    evidence = Evidence({}, tally.condition.pack.images, {tally.name: change[tally.name]})
    (finding,) = judge(options, evidence).findings
    tally.ends.append((change[tally.name].low, change[tally.name].high))
    tally.better += "better than the champion" in finding.message
    tally.passed += finding.outcome == "pass"
    tally.inconclusive += finding.outcome == "inconclusive"
    tally.failed += finding.outcome == "fail"


def _true_change(name: str, seen: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """Return the change between the means over all packs: sizes of errors after averaging."""
    one, two = (float(np.mean([pair[i][name] for pair in seen])) for i in (0, 1))
    return abs(two) - abs(one) if name.endswith("_percent") else two - one


def wilson(hits: int, tries: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    share = hits / tries
    middle = (share + z**2 / (2 * tries)) / (1 + z**2 / tries)
    half = z / (1 + z**2 / tries) * math.sqrt(share * (1 - share) / tries + (z / tries) ** 2 / 4)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def rows(repeats: int, seed: int, only: str | None) -> Iterator[dict[str, Any]]:
    """Yield one row a condition and score."""
    for number, condition in enumerate(conditions()):
        if only not in (None, condition.pack.shape):
            continue
        found, truly = tallies(condition, repeats, seed + number)
        for tally in found:
            hits = tally.stopped if condition.worse else tally.better
            low, high = wilson(hits, tally.repeats)
            # Two equal models differ by nothing, whatever the mean of these repeats.
            true = truly[tally.name] if condition.worse else 0.0
            yield {
                "pack": condition.pack.name,
                "challenger": condition.what,
                "score": tally.name,
                "truly": truly[tally.name],
                "asked": "stopped" if condition.worse else "better",
                "rate": hits / tally.repeats,
                "low": low,
                "high": high,
                "covers": tally.covers(true),
                **{k: v for k, v in asdict(tally).items() if isinstance(v, int)},
                "missed": tally.missed,
            }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rates; return 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="packs a condition")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("particle", "line"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    missed = False
    if not given.json:
        print(
            f"{'pack':35}{'challenger':30}{'score':35}{'truly':>8}{'pass':>6}{'open':>6}{'fail':>6}"
            f"{'better':>8}{'covers':>8}   rate asked for"
        )
    for row in rows(given.repeats, given.seed, given.only):
        missed |= row["missed"]
        print(json.dumps(row) if given.json else _printed(row), flush=True)
    return int(missed)


def _printed(row: dict[str, Any]) -> str:
    limit = "at most 5 %" if row["asked"] == "better" else "at least 95 %"
    text = f"{row['pack']:35}{row['challenger']:30}{row['score']:35}{row['truly']:8.3f}"
    text += f"{row['passed']:6}{row['inconclusive']:6}{row['failed']:6}{row['better']:8}"
    text += f"{100 * row['covers']:6.1f} %"
    text += f"   {row['asked']} {100 * row['rate']:.1f} % [{100 * row['low']:.1f}, "
    return text + f"{100 * row['high']:.1f}], {limit}{': MISSED' if row['missed'] else ''}"


if __name__ == "__main__":
    sys.exit(main())
