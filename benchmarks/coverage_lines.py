"""Bias and coverage of the line quantities on fields of segments whose density is known.

Run: python benchmarks/coverage_lines.py [--fields N] [--seed S] [--calibrate]

`benchmarks/coverage.py` shows the same rows beside those of particles. With --calibrate the two
calibrated numbers of `defectops/measurement/line_merging.py` are printed for each cell instead.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from defectops.dataset.synthesis_segments import SegmentField, SegmentOptions, draw_segments
from defectops.measurement.line_fields import LineMeasurement, observe_lines
from defectops.measurement.line_merging import shared_length
from defectops.measurement.line_quantities import line_quantities
from defectops.measurement.lines import trace
from defectops.measurement.objects import thin_lines
from defectops.measurement.quantities import MeasureOptions, Quantity
from defectops.micrograph import Calibration

FIELDS_PER_CELL = 185
DEFAULT = "default"
DENSITIES = ("dislocation_density_skeleton", "dislocation_density_grid")
SPREAD = math.radians(15.0)  # of the preferred direction, as `SegmentOptions` draws it
GRID_PX = 32

Numbers = npt.NDArray[np.float64]
Variant = Callable[[SegmentField, LineMeasurement, "Cell"], Mapping[str, Quantity | float]]


@dataclass(frozen=True)
class Cell:
    """One kind of field: covered share, foil, segments, preferred direction."""

    share: float
    thickness_nm: float = 136.0
    length_nm: float = 300.0
    texture: float = 0.0
    texture_deg: float = 0.0

    @property
    def name(self) -> str:
        """What tells the cell from others."""
        text = f"{100 * self.share:g} % lines, t {self.thickness_nm:g} nm, l {self.length_nm:g} nm"
        return text + (f", texture {self.texture:g} at {self.texture_deg:g}" * bool(self.texture))

    @property
    def options(self) -> SegmentOptions:
        """Segments of which random ones cover the share on the mean."""
        plain = SegmentOptions(0.0)
        projected = -math.log1p(-self.share) / (plain.width_px * plain.pixel_size_nm)
        return SegmentOptions(
            4 / math.pi * projected / self.thickness_nm * 1e18,
            self.thickness_nm,
            self.length_nm,
            self.texture,
            self.texture_deg,
        )

    def truths(self) -> dict[str, float]:
        """Quantities of the material that a field shows a part of."""
        density = self.options.density_m2 * 1e-18
        projected = math.pi / 4 * density * self.thickness_nm
        # Segments with their middle in the foil, and those that a surface cuts off.
        seen = density / self.length_nm * self.thickness_nm + density / 2
        order = np.arange(1, 60)
        moments = self.texture * np.exp(-2 * (order * SPREAD) ** 2)
        weights = 4 / math.pi / (4 * order**2 - 1)
        sine = 2 / math.pi - float(weights @ moments**2)
        along = moments * np.cos(2 * order * math.radians(self.texture_deg))
        grid = 4 / math.pi + float((weights * ((-1.0) ** (order + 1) - 1)) @ along)
        return {
            "dislocation_density_skeleton": density * 1e18,
            "dislocation_density_grid": density * 1e18,
            "grid_skeleton_ratio": math.pi / 4 * grid,
            "anisotropy_index": float(moments[0]),
            "segment_density": seen * 1e18,
            "mean_segment_length": projected / seen,
            "junction_density": projected**2 / 2 * sine * 1e18,
        }


def cells() -> list[Cell]:
    """Return the cells on which estimators are judged."""
    plain = [Cell(share) for share in (0.01, 0.03, 0.06, 0.12)]
    thin = [Cell(share, 45.0) for share in (0.03, 0.06, 0.12)]
    short = [Cell(share, 136.0, 100.0) for share in (0.06, 0.12)]
    textured = [Cell(0.06, texture=0.5, texture_deg=30.0), Cell(0.03, texture=0.8)]
    return [*plain, *thin, *short, *textured]


def line_rows(fields_per_cell: int = FIELDS_PER_CELL, seed: int = 0) -> list[dict[str, Any]]:
    """Return bias and coverage of each estimator in each cell.

    Parameters
    ----------
    fields_per_cell : int
    seed : int

    Returns
    -------
    list of dict
        ``kind, quantity, variant, cell, n_fields, bias_percent, bias_sd, coverage, coverage_low,
        coverage_high``. The bias of densities is against what the drawn segments project to, 4/pi
        for those that need it, so that a field's chance does not blur it; that of the index is in
        points, since its truth may be 0. Coverage is of the material's value, NaN where a variant
        has no interval; its ends are exact binomial ones at 95 %.
    """
    return [
        found.row()
        for number, cell in enumerate(cells())
        for found in judged(cell, fields_per_cell, (seed, number))
    ]


@dataclass(frozen=True, eq=False)
class Judged:
    """One estimator on one cell."""

    quantity: str
    variant: str
    cell: str
    error: Numbers
    weight: Numbers
    holds: npt.NDArray[np.bool_]

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        n = self.holds.size
        covered = int(self.holds.sum())
        bias = float(self.error.sum() / self.weight.sum())
        rest = self.error - bias * self.weight
        sd = math.sqrt(float((rest**2).sum())) / float(self.weight.sum())
        exact = stats.binomtest(covered, n).proportion_ci(0.95) if n else None
        return {
            "kind": "lines",
            "quantity": self.quantity,
            "variant": self.variant,
            "cell": self.cell,
            "n_fields": self.error.size,
            "bias_percent": 100 * bias,
            "bias_sd": 100 * sd,
            "coverage": covered / n if n else math.nan,
            "coverage_low": float(exact.low) if exact else math.nan,
            "coverage_high": float(exact.high) if exact else math.nan,
        }


def judged(cell: Cell, fields: int, seed: tuple[int, ...]) -> Iterator[Judged]:
    """Draw the fields of a cell and compare every estimator with the truth."""
    truths = cell.truths()
    errors: dict[tuple[str, str], list[tuple[float, float]]] = {}
    holds: dict[tuple[str, str], list[bool]] = {}
    for number, drawn in enumerate(_fields(cell, fields, seed)):
        measured = _observed(drawn, cell, MeasureOptions(seed=number))
        area = measured.field_area
        for variant, of in VARIANTS.items():
            for name, given in of(drawn, measured, cell).items():
                value = given.value if isinstance(given, Quantity) else given
                if math.isnan(value):
                    continue
                true = truths[name]
                if name in DENSITIES:
                    true = 4e18 / math.pi * drawn.projected_nm.sum() / (area * cell.thickness_nm)
                scale = 1.0 if name == "anisotropy_index" else true
                errors.setdefault((name, variant), []).append((value - true, scale))
                if isinstance(given, Quantity) and not math.isnan(given.low):
                    inside = given.low <= truths[name] <= given.high
                    holds.setdefault((name, variant), []).append(inside)
    for (name, variant), pairs in errors.items():
        error, weight = np.array(pairs).T
        covered = np.array(holds.get((name, variant), []), dtype=bool)
        yield Judged(name, variant, cell.name, error, weight, covered)


def calibrate(fields: int, seed: int) -> Iterator[str]:
    """Yield a line a cell: what merging loses over what lines share, and the ratio of densities."""
    for number, cell in enumerate(cells()):
        true = found = shared = crossed = covered = 0.0
        for k, drawn in enumerate(_fields(cell, fields, (seed, number))):
            measured = _observed(drawn, cell, MeasureOptions(seed=k, merging="as seen"))
            by_name = {q.quantity: q for q in line_quantities([measured])}
            true += float(drawn.projected_nm.sum())
            found += float(measured.lengths.sum())
            shared += shared_length(measured)
            crossed += by_name["projected_line_density_grid"].value * measured.field_area
            covered += float(drawn.mask.mean()) / fields
        yield (
            f"{cell.name}: covered {covered:.4f}, lost part {(true - found) / shared:.2f}, "
            f"crossings over length {crossed / found:.4f}"
        )


def _fields(cell: Cell, fields: int, seed: tuple[int, ...]) -> Iterator[SegmentField]:
    for stream in np.random.default_rng(seed).spawn(fields):
        yield draw_segments(stream, cell.options)


def _observed(drawn: SegmentField, cell: Cell, options: MeasureOptions) -> LineMeasurement:
    pixel_size = cell.options.pixel_size_nm
    calibration = Calibration(pixel_size, "synthesis", cell.thickness_nm, 0.0)
    return observe_lines(drawn.mask, calibration, options)


def _default(_: SegmentField, measured: LineMeasurement, cell: Cell) -> dict[str, Quantity]:
    wanted = cell.truths()
    return {q.quantity: q for q in line_quantities([measured]) if q.quantity in wanted}


def _probe(probe: Any) -> Variant:
    """Count with other test lines, where a preferred direction makes a difference."""

    def variant(drawn: SegmentField, measured: LineMeasurement, cell: Cell) -> dict[str, Quantity]:
        if not cell.texture:
            return {}
        options = MeasureOptions(probe=probe, seed=measured.options.seed, detail="main")
        found = line_quantities([_observed(drawn, cell, options)])
        return {q.quantity: q for q in found if q.quantity == "dislocation_density_grid"}

    return variant


def _as_seen(_: SegmentField, measured: LineMeasurement, cell: Cell) -> dict[str, float]:
    return {"dislocation_density_skeleton": _density(measured, measured.lengths.sum(), cell)}


def _pixel_steps(drawn: SegmentField, measured: LineMeasurement, cell: Cell) -> dict[str, float]:
    """Add up steps of 1 and sqrt 2 along the centre line, crossings as they are."""
    lines = trace(thin_lines(drawn.mask))
    rows, columns = np.divmod(lines.pixels[lines.node], lines.shape[1])
    same = lines.path[1:] == lines.path[:-1]
    length = np.hypot(np.diff(rows), np.diff(columns))[same].sum() * cell.options.pixel_size_nm
    return {"dislocation_density_skeleton": _density(measured, length, cell)}


def _without_tilt(_: SegmentField, measured: LineMeasurement, cell: Cell) -> dict[str, float]:
    density = _density(measured, measured.lengths.sum(), cell) * math.pi / 4
    return {"dislocation_density_skeleton": density}


def _mask_runs(drawn: SegmentField, measured: LineMeasurement, cell: Cell) -> dict[str, float]:
    """Count runs of mask pixels along the rows and columns of a grid."""
    crossings = 0
    length = 0.0
    for plane in (drawn.mask[GRID_PX // 2 :: GRID_PX], drawn.mask.T[GRID_PX // 2 :: GRID_PX]):
        crossings += int(plane[:, 0].sum()) + int((plane[:, 1:] & ~plane[:, :-1]).sum())
        length += plane.size * cell.options.pixel_size_nm
    return {"dislocation_density_grid": 2e18 * crossings / length / cell.thickness_nm}


def _density(measured: LineMeasurement, length_nm: float, cell: Cell) -> float:
    return 4e18 / math.pi * float(length_nm) / (measured.field_area * cell.thickness_nm)


VARIANTS: dict[str, Variant] = {
    DEFAULT: _default,
    "circles": _probe("circles"),
    "random lines": _probe("random"),
    "not corrected for merging": _as_seen,
    "pixel steps": _pixel_steps,
    "no 4/pi": _without_tilt,
    "runs of the mask": _mask_runs,
}


def main() -> None:
    """Print the table, or the calibration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fields", type=int, default=FIELDS_PER_CELL, help="fields a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate", action="store_true")
    given = parser.parse_args()
    if given.calibrate:
        for line in calibrate(given.fields, given.seed):
            print(line)
        return
    for row in line_rows(given.fields, given.seed):
        covered = f"{row['coverage']:.3f} ({row['coverage_low']:.3f} to {row['coverage_high']:.3f})"
        bias = f"{row['bias_percent']:+7.2f} +- {row['bias_sd']:.2f} %"
        name = f"{row['quantity']:30}{row['variant']:27}{row['cell']:52}"
        print(f"{name}{row['n_fields']:6}{bias:>20}  {covered}")


if __name__ == "__main__":
    main()
