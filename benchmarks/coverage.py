"""Do measured numbers lie where they should? Bias and coverage of every estimator on known fields.

Run: python benchmarks/coverage.py [--fields N] [--out FOLDER] [--only particles|lines]

Fields are drawn from known physics: spheres in a foil, cut by its surfaces and by the border, and
line segments in a foil. Printed are the bias of each estimator and how often its 95 % interval
holds the truth, beside the naive variants; with --out also coverage.csv and coverage.png.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy import special, stats

mpl.use("Agg")
import matplotlib.pyplot as plt

from defectops.atomic import replacing, write_text
from defectops.dataset.synthesis_spheres import Spheres, disc_labels, disc_table, seen_discs
from defectops.measurement.particle_quantities import (
    ParticleMeasurement,
    counted,
    observe_particles,
    particle_quantities,
)
from defectops.measurement.quantities import MeasureOptions, Quantity
from defectops.micrograph import Calibration

COLUMNS = (
    "kind",
    "quantity",
    "variant",
    "cell",
    "n_fields",
    "bias_percent",
    "bias_sd",
    "coverage",
    "coverage_low",
    "coverage_high",
)
DEFAULT = "default"
POOLED = "all"
SHAPE = (512, 640)
# One pixel is one nanometre, so that truths in pixels are those in nanometres.
THICKNESS_SD = 0.0
MAIN = ("number_density", "mean_diameter", "sd_diameter")
NAIVE = {
    "count all, over t": MeasureOptions(border="all", foil="t", detail="main"),
    "no t + d, no caps": MeasureOptions(foil="t", detail="main"),
    "whole ones only": MeasureOptions(border="exclude", detail="main"),
}


@dataclass(frozen=True)
class Cell:
    """One kind of field: how many particles are seen, their sizes, the foil."""

    name: str
    count: float
    spheres: Spheres


def particle_cells() -> list[Cell]:
    """Return the cells on which estimators are judged."""
    cells = [
        _cell(count, spread, thickness)
        for count, thickness in ((12, 5.0), (40, 10.0), (150, 5.0), (150, 10.0))
        for spread in (0.2, 0.35, 0.5)
    ]
    return [*cells, _cell(40, 0.25, 5.0, "normal"), _cell(150, 0.25, 10.0, "normal")]


def _cell(count: float, spread: float, thickness: float, sizes: Any = "lognormal") -> Cell:
    mean = 26.0
    area = SHAPE[0] * SHAPE[1]
    depth = mean * (thickness + 1)
    spheres = Spheres(count / area / depth, mean, spread * mean, mean * thickness, sizes)
    return Cell(f"{count:g} seen, {sizes} {spread:g}, t = {thickness:g} d", count, spheres)


def particle_rows(fields_per_cell: int, seed: int) -> list[dict[str, Any]]:
    """Measure drawn discs of every cell: the estimators without the pixels."""
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(particle_cells()):
        tallies: dict[tuple[str, str], Tally] = {}
        truth = true_values(cell.spheres)
        for random in np.random.default_rng([seed, number]).spawn(fields_per_cell):
            table = disc_table(seen_discs(random, SHAPE, cell.spheres), SHAPE)
            for variant, options in {DEFAULT: MeasureOptions(), **NAIVE}.items():
                found = particle_quantities([_observed(table, cell.spheres, options)])
                names = truth if variant == DEFAULT else MAIN
                _note(tallies, variant, found, {n: truth[n] for n in names})
        rows += [t.row("particles", *key, cell.name) for key, t in tallies.items()]
    return rows


def true_values(spheres: Spheres) -> dict[str, float]:
    """Return the truth of each quantity, in the units of the measurement."""
    per_m = 1e9
    s = spheres
    values = {
        "areal_density": s.seen_density * per_m**2,
        "number_density": s.density * per_m**3,
        "mean_diameter": s.mean,
        "sd_diameter": s.sd,
        "median_diameter": s.median,
        "nearest_neighbour_distance": 0.5 / math.sqrt(s.seen_density),
        "clark_evans_ratio": 1.0,
        "volume_fraction": s.density * math.pi / 6 * s.moment(3),
        "obstacle_spacing": (s.density * s.mean) ** -0.5,
        "neighbour_spacing": 0.5539602 * s.density ** (-1 / 3),
    }
    z = float(special.ndtri(0.9))
    if s.sizes == "lognormal":
        values |= {"lognormal_median_diameter": s.median, "lognormal_sigma": s.sigma}
        values |= {
            "diameter_p10": s.median * math.exp(-z * s.sigma),
            "diameter_p90": s.median * math.exp(z * s.sigma),
        }
    else:
        values |= {"diameter_p10": s.mean - z * s.sd, "diameter_p90": s.mean + z * s.sd}
    return values


def _observed(
    table: pd.DataFrame, spheres: Spheres, options: MeasureOptions
) -> ParticleMeasurement:
    """Return the measurement that ideal instance labels of the discs would give."""
    calibration = Calibration(1.0, "synthesis", spheres.thickness, THICKNESS_SD)
    lengths = {
        c: c.replace("_px", "_nm")
        for c in map(str, table)
        if c.startswith(("area", "equi", "feret"))
    }
    objects = counted(table.rename(columns=lengths), SHAPE, calibration, options)
    frame = (SHAPE[0] - 1) * (SHAPE[1] - 1) if options.border == "gundersen" else math.prod(SHAPE)
    area = float(objects["area_nm2"].sum())
    return ParticleMeasurement(
        objects, calibration, options, frame, math.prod(SHAPE), area, pd.DataFrame()
    )


def raster_rows(fields_per_cell: int, seed: int) -> list[dict[str, Any]]:
    """Measure drawn labels: what pixels, and particles that hide each other, add.

    Instance labels at low cover show what pixels do; masks at growing cover what overlap does,
    separated by watershed and with the overlap correction.
    """
    rows: list[dict[str, Any]] = []
    union = MeasureOptions(overlap="union", detail="main")
    for number, cover in enumerate((0.01, 0.02, 0.05, 0.1, 0.2)):
        base = _cell(100, 0.35, 7.0).spheres
        spheres = replace(base, density=base.density * math.log1p(-cover) / math.log1p(-base.cover))
        calibration = Calibration(1.0, "synthesis", spheres.thickness, THICKNESS_SD)
        tallies: dict[tuple[str, str], Tally] = {}
        truth = true_values(spheres) | {
            "area_fraction": spheres.cover,
            "mean_feret_max": spheres.seen_mean,
            "mean_feret_min": spheres.seen_mean,
        }
        masks = {n: truth[n] for n in (*MAIN, "area_fraction")}
        for random in np.random.default_rng([seed, 1, number]).spawn(fields_per_cell):
            labels = disc_labels(seen_discs(random, SHAPE, spheres), SHAPE)
            for variant, plane, options, known in (
                ("instance labels", labels, MeasureOptions(), truth),
                ("union mask", labels > 0, MeasureOptions(detail="main"), masks),
                ("union mask, overlap corrected", labels > 0, union, masks),
            ):
                found = particle_quantities([observe_particles(plane, calibration, options)])
                _note(tallies, variant, found, known)
        rows += [t.row("raster", *key, f"{100 * cover:g} % cover") for key, t in tallies.items()]
    return rows


@dataclass
class Tally:
    """Sums over fields of one estimator in one cell."""

    power: float
    ratios: list[float]
    held: list[bool]

    def row(self, kind: str, quantity: str, variant: str, cell: str) -> dict[str, Any]:
        """Return the row of the table."""
        ratios = np.array(self.ratios) ** self.power
        mean, error = float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(ratios.size))
        bias = 100 * (mean ** (1 / self.power) - 1)
        low, high = share_interval(sum(self.held), len(self.held))
        return {
            "kind": kind,
            "quantity": quantity,
            "variant": variant,
            "cell": cell,
            "n_fields": len(self.ratios),
            "bias_percent": bias,
            "bias_sd": 100 * error / self.power,
            "coverage": float(np.mean(self.held)) if self.held else math.nan,
            "coverage_low": low,
            "coverage_high": high,
        }


def _note(
    tallies: dict[tuple[str, str], Tally],
    variant: str,
    found: Sequence[Quantity],
    truth: Mapping[str, float],
) -> None:
    for q in found:
        if q.quantity not in truth or not math.isfinite(q.value):
            continue
        # A sample variance is unbiased, its root is not: spreads are averaged as squares.
        power = 2.0 if q.quantity in ("sd_diameter", "lognormal_sigma") else 1.0
        tally = tallies.setdefault((q.quantity, variant), Tally(power, [], []))
        tally.ratios.append(q.value / truth[q.quantity])
        if math.isfinite(q.high):
            tally.held.append(q.low <= truth[q.quantity] <= q.high)


def share_interval(hits: int, tries: int) -> tuple[float, float]:
    """Exact 95 % interval of a share (Clopper and Pearson, doi:10.1093/biomet/26.4.404)."""
    if not tries:
        return math.nan, math.nan
    low = stats.beta.ppf(0.025, hits, tries - hits + 1) if hits else 0.0
    high = stats.beta.ppf(0.975, hits + 1, tries - hits) if hits < tries else 1.0
    return float(low), float(high)


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a kind, quantity and variant over all its cells, each counted equally."""
    rows = []
    for (kind, quantity, variant), cells in table.groupby(
        ["kind", "quantity", "variant"], sort=False
    ):
        held = cells[cells["coverage"].notna()]
        tries = int(held["n_fields"].sum())
        coverage = float(held["coverage"].mean()) if len(held) else math.nan
        low, high = share_interval(round(coverage * tries) if tries else 0, tries)
        rows.append(
            {
                "kind": kind,
                "quantity": quantity,
                "variant": variant,
                "cell": POOLED,
                "n_fields": int(cells["n_fields"].sum()),
                "bias_percent": cells["bias_percent"].mean(),
                "bias_sd": math.sqrt((cells["bias_sd"] ** 2).sum()) / len(cells),
                "coverage": coverage,
                "coverage_low": low,
                "coverage_high": high,
                "worst_bias_percent": max(cells["bias_percent"].tolist(), key=abs),
                "least_coverage": held["coverage"].min() if len(held) else math.nan,
            }
        )
    return pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; write CSV and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=400, help="drawn fields a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for coverage.csv and coverage.png")
    parser.add_argument("--only", choices=("particles", "lines"))
    given = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    if given.only != "lines":
        rows += particle_rows(given.fields, given.seed)
        rows += raster_rows(max(given.fields // 4, 5), given.seed)
    if given.only != "particles":
        sys.path.insert(0, str(Path(__file__).parent))
        from coverage_lines import line_rows  # noqa: PLC0415

        rows += line_rows(given.fields, given.seed)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    summary = pooled(table)
    for line in printed(summary, table):
        print(line)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        together = pd.concat([table, summary[list(COLUMNS)]])
        write_text(given.out / "coverage.csv", together.round(4).to_csv(index=False))
        draw(table, summary, given.out / "coverage.png")
    return 0


def printed(summary: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of the table, then the bias of masks against their cover."""
    yield (
        f"{'kind':10}{'quantity':31}{'variant':31}{'fields':>7}{'bias %':>8}{'+-':>6}{'worst':>8}"
        f"{'covers %':>10}{'least':>7}"
    )
    for row in summary.to_dict("records"):
        numbers = f"{row['n_fields']:7}{row['bias_percent']:8.2f}{row['bias_sd']:6.2f}"
        numbers += f"{row['worst_bias_percent']:8.2f}"
        covers = f"{100 * row['coverage']:10.1f}{100 * row['least_coverage']:7.1f}"
        yield f"{row['kind']:10}{row['quantity']:31}{row['variant']:31}{numbers}{covers}"
    masks = table[(table["kind"] == "raster") & table["quantity"].isin(MAIN)]
    if len(masks):
        yield ""
        yield f"{'bias % of':16}{'variant':31}" + "".join(
            f"{c:>13}" for c in masks["cell"].unique()
        )
    for (quantity, variant), cells in masks.groupby(["quantity", "variant"], sort=False):
        biases = "".join(f"{b:13.2f}" for b in cells["bias_percent"])
        yield f"{quantity:16}{variant:31}{biases}"


def draw(table: pd.DataFrame, summary: pd.DataFrame, path: Path) -> None:
    """Draw coverage and bias of the default estimators, naive ones beside, and masks by cover."""
    plain = summary[summary["kind"] != "raster"]
    defaults = plain[plain["variant"] == DEFAULT].reset_index(drop=True)
    names = [f"{q.replace('_', ' ')}" for q in defaults["quantity"]]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(15, 0.32 * len(names) + 2.2), width_ratios=(1, 1, 0.9), layout="constrained"
    )
    _draw_coverage(left, table, defaults)
    _draw_bias(middle, plain, defaults)
    for axis in (left, middle):
        axis.set_yticks(range(len(names)), names if axis is left else [""] * len(names))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="y", color="0.92")
        axis.set_axisbelow(True)
    _draw_masks(right, table)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", metadata={"Software": None})
    plt.close(figure)


def _draw_coverage(axis: Any, table: pd.DataFrame, defaults: pd.DataFrame) -> None:
    axis.axvspan(93, 97, color="tab:green", alpha=0.15, lw=0, label="93 to 97 %")
    axis.axvline(91, color="0.5", ls=":", label="91 %, least a cell")
    for place, row in defaults.iterrows():
        cells = table[
            (table["kind"] == row["kind"])
            & (table["quantity"] == row["quantity"])
            & (table["variant"] == DEFAULT)
        ]
        axis.plot(100 * cells["coverage"], [place] * len(cells), ".", color="tab:blue", alpha=0.35)
    whole = 100 * defaults[["coverage", "coverage_low", "coverage_high"]].to_numpy()
    errors = np.abs(whole[:, 1:] - whole[:, :1]).T
    axis.errorbar(
        whole[:, 0], defaults.index, xerr=errors, fmt="o", ms=5, color="black", label="all cells"
    )
    axis.set_xlim(86, 100.3)
    axis.set_xlabel("truth inside the 95 % interval, % of fields")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=3, fontsize=8)


def _draw_bias(axis: Any, plain: pd.DataFrame, defaults: pd.DataFrame) -> None:
    axis.axvspan(-1, 1, color="tab:green", alpha=0.15, lw=0, label="within 1 %")
    axis.axvline(0, color="0.6", lw=0.8)
    place = {(r["kind"], r["quantity"]): i for i, r in defaults.iterrows()}
    naive = plain[plain["variant"] != DEFAULT]
    for colour, (variant, rows) in enumerate(naive.groupby("variant", sort=False)):
        known = [
            (r["bias_percent"], place.get((r["kind"], r["quantity"]))) for _, r in rows.iterrows()
        ]
        at = [(b, y) for b, y in known if y is not None]
        axis.plot(*zip(*at, strict=True), "x", color=f"C{colour + 1}", label=str(variant))
    axis.errorbar(
        defaults["bias_percent"],
        defaults.index,
        xerr=1.96 * defaults["bias_sd"],
        fmt="o",
        ms=5,
        color="black",
        label="default",
    )
    axis.set_xscale("symlog", linthresh=2)
    ticks = (-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.set_xlabel("bias, %")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=3, fontsize=8)


def _draw_masks(axis: Any, table: pd.DataFrame) -> None:
    masks = table[table["kind"] == "raster"]
    styles = {"instance labels": "-", "union mask": ":", "union mask, overlap corrected": "--"}
    axis.axhspan(-5, 5, color="tab:green", alpha=0.1, lw=0)
    axis.axhline(0, color="0.6", lw=0.8)
    for (quantity, variant), cells in masks.groupby(["quantity", "variant"], sort=False):
        if quantity not in MAIN:
            continue
        cover = [float(str(c).split()[0]) for c in cells["cell"]]
        colour = f"C{MAIN.index(str(quantity))}"
        label = f"{str(quantity).replace('_', ' ')}, {variant}"
        axis.errorbar(
            cover,
            cells["bias_percent"],
            yerr=1.96 * cells["bias_sd"],
            ls=styles[str(variant)],
            color=colour,
            label=label,
            capsize=2,
        )
    axis.set_xlabel("area covered by particles, %")
    axis.set_ylabel("bias of drawn labels and masks, %")
    axis.legend(fontsize=7)


if __name__ == "__main__":
    sys.exit(main())
