"""Measurements of one image as bytes and back, so that a batch can be pooled after a restart."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from defectops.measurement.line_fields import LineMeasurement
from defectops.measurement.particle_quantities import ParticleMeasurement

if TYPE_CHECKING:
    from defectops.measurement.pooling import Measurement
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Array, Calibration

_TOLD = ("calibration", "options")  # known from elsewhere; the same for all of an image


def as_bytes(measurements: Sequence[Measurement]) -> bytes:
    """Return measurements of one image and type as our own form of npz.

    Every number comes back as it was, to the last bit; the same measurements give the same bytes.
    """
    arrays: dict[str, Any] = {}
    heads = []
    for number, one in enumerate(measurements):
        plain: dict[str, Any] = {}
        tables: dict[str, list[str]] = {}
        for part in fields(one):
            value = getattr(one, part.name)
            place = f"{number}/{part.name}"
            if isinstance(value, pd.DataFrame):
                tables[part.name] = list(value.columns)
                for column in value.columns:
                    arrays[f"{place}/{column}"] = _column(value[column])
            elif isinstance(value, np.ndarray):
                arrays[place] = value
            elif part.name not in _TOLD:
                plain[part.name] = value
        kind = "line" if isinstance(one, LineMeasurement) else "particle"
        heads.append({"kind": kind, "plain": plain, "tables": tables})
    text = json.dumps(heads, sort_keys=True)
    stream = io.BytesIO()
    np.savez_compressed(stream, head=np.frombuffer(text.encode(), np.uint8), **arrays)
    return stream.getvalue()


def from_bytes(data: bytes, calibration: Calibration, options: MeasureOptions) -> list[Measurement]:
    """Return what `as_bytes` was given."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        heads = json.loads(bytes(arrays["head"]))
        return [_one(arrays, i, head, calibration, options) for i, head in enumerate(heads)]


def objects_of(data: bytes) -> pd.DataFrame:
    """Return the table of objects of the first measurement alone."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        head = json.loads(bytes(arrays["head"]))[0]
        return _table(arrays, "0/objects", head["tables"]["objects"])


def _one(
    arrays: Any,
    number: int,
    head: dict[str, Any],
    calibration: Calibration,
    options: MeasureOptions,
) -> Measurement:
    parts = dict(head["plain"])
    for name, columns in head["tables"].items():
        parts[name] = _table(arrays, f"{number}/{name}", columns)
    if head["kind"] == "particle":
        return ParticleMeasurement(calibration=calibration, options=options, **parts)
    parts["families"] = tuple(parts["families"])
    parts["rose"] = arrays[f"{number}/rose"]
    return LineMeasurement(calibration=calibration, options=options, **parts)


def _column(column: pd.Series[Any]) -> Array:
    values = column.to_numpy()
    return values.astype(str) if values.dtype.kind not in "biuf" else values


def _table(arrays: Any, place: str, columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({c: arrays[f"{place}/{c}"] for c in columns}, columns=list(columns))
