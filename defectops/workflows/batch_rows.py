"""The rows that one image adds to the tables of a batch, each with the id of its value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from defectops.measurement.budget import itemised
from defectops.measurement.consequences import consequences
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.quantities import Quantity
from defectops.micrograph import UNCALIBRATED, Calibration
from defectops.workflows.batch_measuring import OUT_OF_RANGE
from defectops.workflows.batch_records import objects_of
from defectops.workflows.batch_tables import Kind, column_of

if TYPE_CHECKING:
    from pathlib import Path

    from defectops.measurement.pooling import Measurement
    from defectops.workflows.batch_choosing import Bench, Segmenter

REGION, SOURCE = "whole", "prediction"
_ID_DIGITS = 16
_NAMES = ("quantity", "value", "unit", "low", "high", "level", "interval", "n", "method")
_ABOUT: dict[str, Kind] = {
    "value_id": "text",
    "image": "text",
    "defect": "text",
    "status": "text",
    "pooled": "truth",
    "image_sha256": "text",
    "model": "text",
    "model_version": "whole",
    "model_sha256": "text",
    "git_commit": "text",
    "defectops_version": "text",
    "pixel_size_nm": "real",
    "pixel_size_source": "text",
    "thickness_nm": "real",
    "thickness_sd_nm": "real",
    "rows_px": "whole",
    "columns_px": "whole",
    "threshold": "real",
    "objects": "whole",
}
LONG: dict[str, Kind] = {
    "value_id": "text",
    "defect": "text",
    "image": "text",
    "region": "text",
    "source": "text",
    "quantity": "text",
    "value": "real",
    "unit": "text",
    "low": "real",
    "high": "real",
    "level": "real",
    "interval": "text",
    "n": "whole",
    "method": "text",
}
_OBJECT: dict[str, Kind] = {
    "object_id": "text",
    "value_id": "text",
    "image": "text",
    "defect": "text",
    "label": "whole",
}


class Item(Protocol):
    """A micrograph of a batch: where it is, and the stem of the files written for it."""

    @property
    def path(self) -> Path:
        """The picture."""

    @property
    def stem(self) -> str:
        """Of its label images."""


class Kept(Protocol):
    """What is kept of one image: its record, as `batch_measuring.ImageResult` has it."""

    @property
    def item(self) -> Item:
        """Which image."""

    @property
    def record(self) -> Mapping[str, Any]:
        """Plain values of the image."""

    @property
    def timing(self) -> str:
        """CSV lines of type, step and seconds."""

    def read(self, name: str) -> bytes:
        """Return a kept file."""


class Rows:
    """Turns what is kept of an image into rows.

    Parameters
    ----------
    bench : Bench
    twins : mapping of str to str
        Digest of pixels to the first image that has them.
    """

    def __init__(self, bench: Bench, twins: Mapping[str, str]) -> None:
        self.bench = bench
        self._twins = twins
        told = bench.as_settings()
        self._told = {s.defect.key: told_of(told, s.defect.key) for s in bench.segmenters}

    def value_id(self, record: Mapping[str, Any], defect: str, what: str) -> str:
        """Return the id of one value: of the image's row, or of a quantity."""
        return value_id(record, defect, self._told[defect], what)

    def image_id(self, record: Mapping[str, Any], defect: str) -> str:
        """Return the id of the image's row for a type."""
        return self.value_id(record, defect, "image")

    def twin(self, record: Mapping[str, Any]) -> str | None:
        """Return the earlier image with the same pixels, None if there is none."""
        first = self._twins.get(record["pixels_sha256"], record["image"])
        return None if first == record["image"] else first

    def pooled(self, record: Mapping[str, Any], defect: str) -> bool:
        """Say whether an image counts among the pooled numbers of a type."""
        accepted = self.bench.request.accept_out_of_range
        status = record["defects"][defect]["status"]
        return (status != OUT_OF_RANGE or accepted) and self.twin(record) is None

    def flags(self, record: Mapping[str, Any], defect: str) -> list[str]:
        """Return what is odd about an image, one sentence a doubt."""
        own = record["defects"][defect]
        found = [*record["warnings"], *own["odd"], *own["flags"]]
        twin = self.twin(record)
        if twin is not None:
            found.insert(0, f"the same pixels as {twin!r}, so not counted among the pooled")
        return found

    def image_row(self, record: Mapping[str, Any], segmenter: Segmenter) -> dict[str, Any]:
        """Return the row of ``images.csv`` for one type."""
        defect = segmenter.defect.key
        own, scale = record["defects"][defect], calibration_of(record)
        row: dict[str, Any] = {
            "value_id": self.image_id(record, defect),
            "image": record["image"],
            "defect": defect,
            "status": own["status"],
            "pooled": self.pooled(record, defect),
            "image_sha256": record["image_sha256"],
            "model": segmenter.name,
            "model_version": segmenter.version,
            "model_sha256": segmenter.sha256,
            "git_commit": record["git_commit"],
            "defectops_version": version("defectops"),
            **asdict(scale),
            "rows_px": record["shape"][0],
            "columns_px": record["shape"][1],
            "threshold": segmenter.model.bundle.threshold,
            "objects": own["objects"],
            "flags": "; ".join(self.flags(record, defect)) or None,
        }
        for q in quantities_of(record, defect):
            row[column_of(q.quantity, q.unit)] = q.value
            row[column_of(q.quantity, q.unit, "low")] = q.low
            row[column_of(q.quantity, q.unit, "high")] = q.high
        return row

    def quantity_rows(self, record: Mapping[str, Any], defect: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``quantities.csv`` for one type."""
        for q in quantities_of(record, defect):
            id_ = self.value_id(record, defect, q.quantity)
            yield long_row(q, id_, defect, record["image"])

    def object_rows(self, kept: Kept, defect: str) -> list[dict[str, Any]]:
        """Return the rows of ``objects.csv`` for one type."""
        record = kept.record
        table = objects_of(kept.read(f"{defect}.npz")).rename(columns={"line": "label"})
        about = {
            "value_id": self.image_id(record, defect),
            "image": record["image"],
            "defect": defect,
        }
        return [
            {"object_id": id_of([about["value_id"], row["label"]]), **about, **row}
            for row in ({str(k): v for k, v in r.items()} for r in table.to_dict("records"))
        ]


def id_of(plain: object) -> str:
    """Return an id of plain values: 16 hexadecimal digits of a SHA-256, the first a letter.

    So that no spreadsheet takes ``12345678e9012345`` for a number. Where the digest of the values
    begins with a figure, that digest is hashed again.
    """
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    found = hashlib.sha256(text.encode()).hexdigest()
    while not found[0].isalpha():
        found = hashlib.sha256(found.encode()).hexdigest()
    return found[:_ID_DIGITS]


def told_of(settings: Mapping[str, Any], defect: str) -> list[Any]:
    """Return what decides about the values of a type besides the picture.

    Parameters
    ----------
    settings : mapping
        From `Bench.as_settings`, also after it was written down and read again.
    defect : str
    """
    names = ("threshold_spread", "pixel_size_sd_nm")
    own = [settings["defectops"], settings["models"][defect]]
    return own + [settings[name] for name in names]


def value_id(record: Mapping[str, Any], defect: str, told: Sequence[Any], what: str) -> str:
    """Return the id of a value of an image: ``image`` for its row, or a quantity's name.

    It is made of whatever the value depends on, so that it stands for these inputs: the picture,
    its calibration and mask, model and options (`told_of`).
    """
    own = [record["image"], record["image_sha256"], record["calibration"]]
    return id_of([*own, record["masks_sha256"].get(defect), defect, list(told), what])


def long_row(q: Quantity, value_id: str, defect: str, image: str) -> dict[str, Any]:
    """Return a quantity as a row of ``quantities.csv``."""
    where = {"value_id": value_id, "defect": defect, "image": image}
    return {**where, "region": REGION, "source": SOURCE, **asdict(q)}


def quantities_of(record: Mapping[str, Any], defect: str) -> list[Quantity]:
    """Return the quantities of an image; what is undefined is NaN."""
    rows = [dict(zip(_NAMES, row, strict=True)) for row in record["defects"][defect]["quantities"]]
    for row in rows:
        row |= {n: np.nan if row[n] is None else row[n] for n in ("value", "low", "high")}
    return [Quantity(**row) for row in rows]


def calibration_of(record: Mapping[str, Any]) -> Calibration:
    """Return the calibration that an image was measured with."""
    return Calibration(*record["calibration"])


def image_columns(bench: Bench, records: Iterator[Mapping[str, Any]]) -> dict[str, Kind]:
    """Return the columns of ``images.csv``.

    Those of every quantity of the types at hand in nm, whether an image has it or not; in pixels
    where an image is uncalibrated.
    """
    columns = dict(_ABOUT)
    found = [q for s in bench.segmenters for q in _all_of(s, calibrated=True)]
    for record in records:
        found += [q for key in record["defects"] for q in quantities_of(record, key)]
        found = list({(q.quantity, q.unit): q for q in found}.values())
    for q in found:
        columns[column_of(q.quantity, q.unit)] = "real"
        columns[column_of(q.quantity, q.unit, "low")] = "real"
        columns[column_of(q.quantity, q.unit, "high")] = "real"
    return {**columns, "flags": "text"}


def object_columns(bench: Bench, units: Sequence[str]) -> dict[str, Kind]:
    """Return the columns of ``objects.csv`` for images in these units, nm or px."""
    columns = dict(_OBJECT)
    for segmenter in bench.segmenters:
        for unit in units or ("nm",):
            table = _empty_field(segmenter, calibrated=unit == "nm").objects
            for name in table.columns:
                if name not in ("label", "line"):
                    columns[name] = _kind(table[name].dtype.kind)
    return columns


def _kind(letter: str) -> Kind:
    kinds: dict[str, Kind] = {"f": "real", "b": "truth", "i": "whole", "u": "whole"}
    return kinds.get(letter, "text")


def _all_of(segmenter: Segmenter, *, calibrated: bool) -> list[Quantity]:
    """Return what there is to know of a type: the quantities of an empty field."""
    field = _empty_field(segmenter, calibrated=calibrated)
    key, material = segmenter.defect.key, segmenter.material
    return itemised([field], None, lambda found: consequences(found, key, material)).quantities


def _empty_field(segmenter: Segmenter, *, calibrated: bool) -> Measurement:
    side = 2 * segmenter.options.guard_px + 64
    scale = Calibration(1.0, "option", 100.0) if calibrated else Calibration(None, UNCALIBRATED)
    observe = observe_lines if segmenter.defect.shape == "line" else observe_particles
    return observe(np.zeros((side, side), bool), scale, segmenter.options)
