"""The tables of a batch, and its images pooled: from what was kept of each image."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from defectops.atomic import write_text
from defectops.measurement.budget import COLUMNS as BUDGET_COLUMNS
from defectops.measurement.budget import budget_rows, itemised
from defectops.measurement.consequences import consequences
from defectops.micrograph import UNCALIBRATED
from defectops.workflows.batch_measuring import OUT_OF_RANGE, known_of
from defectops.workflows.batch_records import from_bytes
from defectops.workflows.batch_rows import (
    LONG,
    REGION,
    SOURCE,
    Kept,
    Rows,
    calibration_of,
    id_of,
    image_columns,
    long_row,
    object_columns,
)
from defectops.workflows.batch_tables import Table, write_csv
from defectops.workflows.check_list import CHECK_TABLES, write_check

if TYPE_CHECKING:
    from defectops.measurement.pooling import Measurement
    from defectops.measurement.quantities import Quantity
    from defectops.micrograph import Calibration
    from defectops.workflows.batch_choosing import Bench, Segmenter

Images = Callable[[], Iterator[Kept]]

POOLED = "pooled"
TABLES = (
    "images.csv",
    "images.parquet",
    "objects.csv",
    "objects.parquet",
    "quantities.csv",
    "quantities.parquet",
    "budget.csv",
    "quarantine.csv",
    "timing.csv",
    "summary.json",
    *CHECK_TABLES,
)


class Refused(Protocol):
    """A file that could not be used."""

    @property
    def name(self) -> str:
        """As in the tables."""

    @property
    def code(self) -> str:
        """Reason code."""

    @property
    def reason(self) -> str:
        """In words."""


@dataclass(frozen=True)
class PooledValue:
    """One quantity of several images together.

    Parameters
    ----------
    value_id : str
    images : int
        From which it is drawn; fewer than all where some have no foil thickness.
    quantity : Quantity
    """

    value_id: str
    images: int
    quantity: Quantity


@dataclass(frozen=True)
class Pooled:
    """The images of one type together; those without a pixel size by themselves.

    Parameters
    ----------
    defect : str
    unit : {"nm", "px"}
    images : int
    values : list of PooledValue
    budget : list of dict
        Keys `budget.COLUMNS`: what the intervals are made of.
    """

    defect: str
    unit: str
    images: int
    values: list[PooledValue]
    budget: list[dict[str, object]]


@dataclass(frozen=True)
class Summary:
    """What a batch found.

    Parameters
    ----------
    pooled : list of Pooled
        For each type at most two; none without an image that counts.
    counts : dict of str to int
        ``given, measured, refused, uncalibrated, out_of_range, duplicate, flagged`` images.
    flags : list of (image, defect, sentence)
    """

    pooled: list[Pooled]
    counts: dict[str, int]
    flags: list[tuple[str, str, str]]


@dataclass(frozen=True, eq=False)
class _Field:
    """One image among those to be pooled."""

    value_id: str
    calibration: Calibration
    measured: Measurement
    others: list[Measurement]


def write_results(out: Path, images: Images, refused: Sequence[Refused], bench: Bench) -> Summary:
    """Write all tables of a batch, the same bytes for the same images, options and models.

    Parameters
    ----------
    out : Path
    images : callable
        Yields what was kept of each image, in the order of the tables, each time it is called: no
        more than the table of one image is in memory, but for pooling.
    refused : sequence of Refused
    bench : Bench

    Returns
    -------
    Summary
        Also written as ``summary.json``.

    Notes
    -----
    ``images.csv``: one row an image and type of defect. ``objects.csv``: one row an object.
    ``quantities.csv``: one row a quantity, images and pooled. Each also as Parquet.
    ``budget.csv``: what the pooled intervals are made of. ``quarantine.csv``: files that were
    refused. ``timing.csv``: seconds, the only file with times. The list of
    what to check is that of `check_list.write_check`.
    """
    rows = Rows(bench, _twins(images()))
    pooled = [p for s in bench.segmenters for p in _pool(s, images, rows)]
    summary = Summary(pooled, _counts(images, rows, refused), list(_flags(images, rows)))
    _write_images(out / "images.csv", images, rows)
    _write_objects(out / "objects.csv", images, rows)
    _write_quantities(out / "quantities.csv", images, rows, pooled)
    write_csv(
        out / "budget.csv",
        ("defect", *BUDGET_COLUMNS),
        ([p.defect, *(item[c] for c in BUDGET_COLUMNS)] for p in pooled for item in p.budget),
    )
    write_csv(
        out / "quarantine.csv",
        ("image", "code", "reason"),
        ((r.name, r.code, r.reason) for r in refused),
    )
    write_csv(out / "timing.csv", ("image", "defect", "step", "seconds"), _times(images()))
    write_text(out / "summary.json", _as_json(summary, bench))
    write_check(out, images, rows, bench.request.check)
    return summary


def all_rows(images: Images, bench: Bench, summary: Summary) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``quantities.csv``: image by image, then pooled."""
    rows = Rows(bench, _twins(images()))
    for kept in images():
        for defect in kept.record["defects"]:
            yield from rows.quantity_rows(kept.record, defect)
    yield from _pooled_rows(summary.pooled)


def _twins(images: Iterator[Kept]) -> dict[str, str]:
    """Return the first image with each content."""
    first: dict[str, str] = {}
    for kept in images:
        first.setdefault(kept.record["pixels_sha256"], kept.record["image"])
    return first


def _pool(segmenter: Segmenter, images: Images, rows: Rows) -> Iterator[Pooled]:
    """Yield the images of one type together: with a pixel size, then without."""
    defect = segmenter.defect.key
    for unit in ("nm", "px"):
        fields = [
            _field(kept, segmenter, rows)
            for kept in images()
            if calibration_of(kept.record).length_unit == unit and rows.pooled(kept.record, defect)
        ]
        if fields:
            yield _together(segmenter, fields, unit, rows)


def _field(kept: Kept, segmenter: Segmenter, rows: Rows) -> _Field:
    defect = segmenter.defect.key
    scale = calibration_of(kept.record)
    data = kept.read(f"{defect}.npz")
    measured, *others = from_bytes(data, scale, segmenter.options)
    return _Field(rows.image_id(kept.record, defect), scale, measured, others)


def _together(segmenter: Segmenter, fields: Sequence[_Field], unit: str, rows: Rows) -> Pooled:
    """Draw quantities from all fields, and those per volume from the fields with a thickness."""
    values, budget = _drawn(segmenter, fields, rows)
    thick = [f for f in fields if f.calibration.thickness_nm is not None]
    if unit == "nm" and 0 < len(thick) < len(fields):
        known = {v.quantity.quantity for v in values}
        more, items = _drawn(segmenter, thick, rows)
        values += [v for v in more if v.quantity.quantity not in known]
        budget += [i for i in items if i["quantity"] not in known]
    return Pooled(segmenter.defect.key, unit, len(fields), values, budget)


def _drawn(
    segmenter: Segmenter, fields: Sequence[_Field], rows: Rows
) -> tuple[list[PooledValue], list[dict[str, object]]]:
    defect, material = segmenter.defect.key, segmenter.material
    others = [f.others for f in fields]
    known = known_of(segmenter, [f.calibration for f in fields], others, rows.bench.request)
    found = itemised(
        [f.measured for f in fields], known, lambda q: consequences(q, defect, material)
    )
    ids = [f.value_id for f in fields]
    values = [PooledValue(id_of([ids, q.quantity]), len(fields), q) for q in found.quantities]
    return values, budget_rows(found.components, image=POOLED, region=REGION, source=SOURCE)


def _counts(images: Images, rows: Rows, refused: Sequence[Refused]) -> dict[str, int]:
    records = [kept.record for kept in images()]
    status = [{own["status"] for own in r["defects"].values()} for r in records]
    flagged = [any(rows.flags(r, defect) for defect in r["defects"]) for r in records]
    return {
        "given": len(records) + len(refused),
        "measured": len(records),
        "refused": len(refused),
        UNCALIBRATED: sum(UNCALIBRATED in s for s in status),
        OUT_OF_RANGE: sum(OUT_OF_RANGE in s for s in status),
        "duplicate": sum(rows.twin(r) is not None for r in records),
        "flagged": sum(flagged),
    }


def _flags(images: Images, rows: Rows) -> Iterator[tuple[str, str, str]]:
    for kept in images():
        for defect in kept.record["defects"]:
            for said in rows.flags(kept.record, defect):
                yield kept.record["image"], defect, said


def _write_images(path: Path, images: Images, rows: Rows) -> None:
    columns = image_columns(rows.bench, (kept.record for kept in images()))
    with Table(path, columns) as table:
        for kept in images():
            table.write([rows.image_row(kept.record, s) for s in rows.bench.segmenters])


def _write_objects(path: Path, images: Images, rows: Rows) -> None:
    units = sorted({calibration_of(kept.record).length_unit for kept in images()})
    with Table(path, object_columns(rows.bench, units)) as table:
        for kept in images():
            for defect in kept.record["defects"]:
                table.write(rows.object_rows(kept, defect))


def _write_quantities(path: Path, images: Images, rows: Rows, pooled: Sequence[Pooled]) -> None:
    with Table(path, LONG) as table:
        for kept in images():
            for defect in kept.record["defects"]:
                table.write(list(rows.quantity_rows(kept.record, defect)))
        table.write(list(_pooled_rows(pooled)))


def _pooled_rows(pooled: Sequence[Pooled]) -> Iterator[dict[str, Any]]:
    for group in pooled:
        for value in group.values:
            yield long_row(value.quantity, value.value_id, group.defect, POOLED)


def _times(images: Iterator[Kept]) -> Iterator[list[str]]:
    for kept in images:
        for line in kept.timing.splitlines():
            yield [kept.record["image"], *line.split(",")]


def _as_json(summary: Summary, bench: Bench) -> str:
    groups = {(p.defect, p.unit): p for p in summary.pooled}
    types = {}
    for s in bench.segmenters:
        types[s.defect.key] = {
            "model": s.name,
            "model_version": s.version,
            "model_sha256": s.sha256,
            "threshold": s.model.bundle.threshold,
            "pooled": _group(groups.get((s.defect.key, "nm"))),
            "pooled_uncalibrated": _group(groups.get((s.defect.key, "px"))),
        }
    told = {"defectops": version("defectops"), "images": summary.counts, "defects": types}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _group(group: Pooled | None) -> Mapping[str, Any] | None:
    if group is None:
        return None
    values = [_value(v) for v in group.values]
    return {"images": group.images, "quantities": values}


def _value(value: PooledValue) -> dict[str, Any]:
    q = value.quantity
    ends = {"value": q.value, "low": q.low, "high": q.high}
    return {
        "value_id": value.value_id,
        "quantity": q.quantity,
        **{n: float(v) if math.isfinite(v) else None for n, v in ends.items()},
        "unit": q.unit,
        "level": q.level,
        "n": int(q.n),
        "images": value.images,
        "method": q.method,
    }
