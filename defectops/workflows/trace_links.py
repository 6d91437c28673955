"""The links from a number of a batch back to pixels, model and data, each checked by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from defectops.errors import DefectopsError
from defectops.experiments import journal
from defectops.experiments.champions import DATA, Places, read_champion
from defectops.experiments.provenance import has_commit
from defectops.learning.bundle import file_sha256, load_bundle
from defectops.measurement.particle_quantities import ParticleMeasurement
from defectops.workflows.batch_rows import calibration_of, quantities_of, told_of, value_id
from defectops.workflows.batch_tables import NOTHING, RUNS, column_of

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry
    from defectops.measurement.pooling import Measurement
    from defectops.measurement.quantities import Quantity
    from defectops.workflows.traced_images import TracedImage

State = Literal["matches", "differs", "unknown"]
MATCHES: State = "matches"
DIFFERS: State = "differs"
UNKNOWN: State = "unknown"

Cells = Mapping[str, str]

_SAME = 1e-9  # of numbers that the same functions drew from the same pixels
_SHOWN = 12  # digits of a digest


@dataclass(frozen=True)
class Link:
    """One step of the chain.

    Parameters
    ----------
    name : str
        ``value``, ``inputs``, ``method``, ``objects``, ``pixels``, ``micrograph``, ``model``,
        ``training data`` or ``commit``.
    said : str
        What stands there, and what differs.
    state : {"matches", "differs", "unknown"}
        ``unknown``: what it leads to is not at hand, so it could not be checked.
    """

    name: str
    said: str
    state: State = MATCHES


def checked(name: str, said: str, differences: Sequence[str]) -> Link:
    """Return a link that matches unless there are differences."""
    if not differences:
        return Link(name, said)
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return Link(name, f"{said}; but {differences[0]}{more}", DIFFERS)


def guarded(name: str, make: Callable[[], Link]) -> Link:
    """Return a link; one that leads to a file which cannot be used differs."""
    try:
        return make()
    except DefectopsError as error:
        return Link(name, str(error), DIFFERS)
    except KeyError as error:
        return Link(name, f"the column {error} is missing", DIFFERS)


def quantity_value(cells: Cells, known: Sequence[Quantity]) -> Link:
    """Compare a row of ``quantities.csv`` with what was recorded."""
    said = (
        f"{cells['quantity']} = {cells['value']} {cells['unit']}, {cells['low']} to {cells['high']}"
    )
    if not known:
        return checked("value", said, [f"{cells['image']} has no such quantity"])
    return checked("value", said, _other_cells(cells, asdict(known[0]), "quantities.csv"))


def pooled_value(cells: Cells, out: Path) -> Link:
    """Compare a pooled row of ``quantities.csv`` with ``summary.json``."""
    said = (
        f"{cells['quantity']} = {cells['value']} {cells['unit']}, {cells['low']} to {cells['high']}"
    )
    try:
        told = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        groups = told["defects"][cells["defect"]]
        rows = [
            q
            for name in ("pooled", "pooled_uncalibrated")
            for q in (groups[name] or {"quantities": []})["quantities"]
            if q["value_id"] == cells["value_id"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return checked("value", said, [f"summary.json cannot be read ({error})"])
    if not rows:
        return checked("value", said, ["summary.json has no such value"])
    known = {n: v for n, v in rows[0].items() if n in cells and n != "images"}
    return checked("value", said, _other_cells(cells, known, "quantities.csv", "summary.json has"))


def _number(cells: Cells) -> str:
    value, low, high = (_short(cells[name]) for name in ("value", "low", "high"))
    return f"{cells['quantity']} = {value} {cells['unit']}, {low} to {high}"


def _short(text: str) -> str:
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text


def _other_cells(
    cells: Cells, known: Mapping[str, Any], table: str, other: str = "recorded was"
) -> list[str]:
    return [
        f"{name} is {cells.get(name, 'absent')} in {table}, {other} {_told(told)}"
        for name, told in known.items()
        if not same_cell(cells.get(name, ""), told)
    ]


def _told(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def image_value(cells: Cells, traced: TracedImage) -> Link:
    """Compare a row of ``images.csv`` with what was recorded."""
    record, defect, model = traced.record, traced.choices.defect, traced.choices.model
    expected = {
        "status": record["defects"][defect]["status"],
        "image_sha256": record["image_sha256"],
        "model": model["model"],
        "model_version": model["version"],
        "model_sha256": model["sha256"],
        "git_commit": record["git_commit"],
        **asdict(calibration_of(record)),
        "rows_px": record["shape"][0],
        "columns_px": record["shape"][1],
        "threshold": model["threshold"],
        "objects": record["defects"][defect]["objects"],
    }
    for q in quantities_of(record, defect):
        for end, value in (("", q.value), ("low", q.low), ("high", q.high)):
            expected[column_of(q.quantity, q.unit, end)] = value  # type: ignore[arg-type]
    found = _other_cells(cells, expected, "images.csv")
    return checked("value", f"all numbers of {cells['image']}, {defect}", found)


def inputs(traced: TracedImage, settings: Mapping[str, Any], given: str, what: str) -> Link:
    """Make the id of a value again from everything that the value was made of."""
    record, defect = traced.record, traced.choices.defect
    scale = calibration_of(record)
    size = "uncalibrated"
    if scale.pixel_size_nm is not None:
        size = f"{scale.pixel_size_nm:g} nm per px ({scale.pixel_size_source})"
    thick = "no thickness" if scale.thickness_nm is None else f"{scale.thickness_nm:g} nm thick"
    said = f"image, {size}, {thick}, model and options make the id {given}"
    made = value_id(record, defect, told_of(settings, defect), what)
    other = [] if made == given else [f"what is recorded of them gives {made}"]
    return checked("inputs", said, other)


def method(traced: TracedImage, known: Sequence[Quantity]) -> Link:
    """Draw the quantities again from the label image."""
    again = {q.quantity: q for q in traced.choices.quantities([traced.measured])}
    formula = known[0].method if len(known) == 1 else f"{len(known)} quantities"
    # What only masks have, not instance labels, may be absent the second time.
    moved = [
        f"{q.quantity} is {again[q.quantity].value:.9g} from the label image, not {q.value:.9g}"
        for q in known
        if q.quantity in again and not _same(q.value, again[q.quantity].value)
    ]
    return checked("method", f"{formula}: {_sums([traced.measured])}", moved)


def pooled_method(cells: Cells, traced: Sequence[TracedImage]) -> Link:
    """Draw a pooled quantity again from the label images of all its images."""
    fields = [one.measured for one in traced]
    again = {q.quantity: q.value for q in traced[0].choices.quantities(fields)}
    value = again.get(cells["quantity"])
    moved = []
    if value is not None and not _near_cell(cells["value"], value):
        moved = [f"{cells['quantity']} is {value:.9g} from the label images"]
    return checked("method", f"{cells['method']}: {_sums(fields)}", moved)


def _sums(fields: Sequence[Measurement]) -> str:
    """Return what a density is made of."""
    unit = fields[0].calibration.length_unit
    if isinstance(fields[0], ParticleMeasurement):
        particles = [f for f in fields if isinstance(f, ParticleMeasurement)]
        count = sum(float(f.objects["counts_in_number"].sum()) for f in particles)
        area = sum(f.frame_area for f in particles)
        return f"{count:.6g} counted in {area:.6g} {unit}²"
    lines = [f for f in fields if not isinstance(f, ParticleMeasurement)]
    length = sum(float(f.lengths.sum()) for f in lines)
    area = sum(f.field_area for f in lines)
    return f"{length:.6g} {unit} of line in {area:.6g} {unit}²"


def objects(traced: TracedImage, rows: Sequence[Cells]) -> Link:
    """Compare rows of ``objects.csv`` with the objects of the label image."""
    table = traced.measured.objects.rename(columns={"line": "label"})
    known = {int(row["label"]): row for row in table.to_dict("records")}
    found = []
    for cells in rows:
        own = known.pop(whole(cells["label"]), None)
        if own is None:
            found.append(f"object {cells['label']} is not in the label image")
            continue
        found += [
            f"{name} of object {cells['label']} is {cells[str(name)]} in objects.csv, "
            f"{value!r} from the label image"
            for name, value in own.items()
            if not _near_cell(cells.get(str(name), ""), value)
        ]
    return checked("objects", f"{len(rows)} rows of objects.csv", found)


def all_objects(traced: TracedImage, rows: Sequence[Cells]) -> Link:
    """Compare all rows of an image: none may be too many or missing."""
    link = objects(traced, rows)
    number = len(traced.measured.objects)
    if link.state == MATCHES and number != len(rows):
        return checked("objects", link.said, [f"the label image has {number} objects"])
    return link


def pixels(traced: TracedImage, label: int | None = None) -> Link:
    """Check the label image itself, and count the pixels."""
    name = traced.label_file
    known = traced.image.files.get(name, "")
    own = traced.labels > 0 if label is None else traced.labels == label
    of = "" if label is None else f" with the value {label}"
    said = f"{int(np.count_nonzero(own))} pixels{of} in {name}, sha256 {known[:_SHOWN]}"
    now = file_sha256(traced.out / name)
    return checked("pixels", said, [] if now == known else [f"its sha256 is {now[:_SHOWN]} now"])


def micrograph(traced: TracedImage, elsewhere: Path | None) -> Link:
    """Check the picture, and the mask of ignored pixels if there was one."""
    known, place = traced.record["image_sha256"], traced.image.path
    if elsewhere is not None:
        place = elsewhere / Path(traced.record["image"]).name
    said = f"{traced.record['image']}, sha256 {known[:_SHOWN]}"
    if not place.is_file():
        return Link("micrograph", f"{said}; not at hand, --micrographs says where", UNKNOWN)
    now = file_sha256(place)
    found = [] if now == known else [f"its sha256 is {now[:_SHOWN]} now"]
    mask, told = traced.ignore_path, traced.record["masks_sha256"].get(traced.choices.defect)
    if mask is not None and (not mask.is_file() or file_sha256(mask) != told):
        found.append(f"its mask {mask.name} is another one now, or gone")
    return checked("micrograph", said, found)


def model_and_data(
    traced: TracedImage, root: Path, registry: Callable[[], Registry] | None
) -> list[Link]:
    """Look for the model among champions, in the journal and in the registry; then for its data."""
    told = traced.choices.model
    name, number, sha256 = str(told["model"]), told["version"], str(told["sha256"])
    version = f"{name} version {number}" if number is not None else f"{name}, no version"
    said = f"{version}, threshold {told['threshold']:g}, sha256 {sha256[:_SHOWN]}"
    places = Places(root, traced.choices.defect, name)
    champion = read_champion(places)
    lines = journal.read(places.journal) if places.journal.is_file() else []
    entry = next((e for e in lines[::-1] if e.more.get("to_sha256") == sha256), None)
    data = None if entry is None else entry.more.get(DATA)
    if champion.sha256 == sha256:
        link = _champion(said, number, champion.version, places.bundle, sha256)
        if link.state == MATCHES and places.bundle.is_file():
            data = load_bundle(places.bundle, sha256).training.get(DATA)
            differs = entry is not None and entry.more.get(DATA) not in (None, data)
            return [link, _data(data, ["the journal says otherwise"] if differs else [])]
        return [link, _data(data, [])]
    if entry is not None:
        other = [] if number in (None, entry.to_version) else [f"it was version {entry.to_version}"]
        return [checked("model", f"{said}; an earlier champion", other), _data(data, [])]
    return [_registered(said, name, number, sha256, registry, places), _data(data, [])]


def _champion(said: str, number: int | None, now: int | None, bundle: Path, sha256: str) -> Link:
    found = []
    if number is not None and number != now:
        found.append(f"the champion with this digest is version {now}")
    if not bundle.is_file():
        return checked("model", f"{said}; the champion, its bundle is not here", found)
    digest = file_sha256(bundle)
    if digest != sha256:
        found.append(f"the bundle in champions/ has sha256 {digest[:_SHOWN]}")
    return checked("model", f"{said}; the champion", found)


def _registered(
    said: str,
    name: str,
    number: int | None,
    sha256: str,
    registry: Callable[[], Registry] | None,
    places: Places,
) -> Link:
    if registry is not None:
        known = registry().find(name, sha256)
        if known is not None:
            other = [] if number in (None, known) else [f"the registry calls it version {known}"]
            return checked("model", f"{said}; in the registry", other)
    if number is not None and places.file.is_file():
        return checked("model", said, ["neither champions nor journal nor registry know it"])
    return Link("model", f"{said}; not at hand", UNKNOWN)


def _data(sha256: object, differences: Sequence[str]) -> Link:
    if not sha256:
        return Link("training data", "not known without the model", UNKNOWN)
    return checked("training data", f"sha256 {str(sha256)[:_SHOWN]}", differences)


def commit(traced: TracedImage, root: Path) -> Link:
    """Look whether the project's repository has the commit."""
    told = str(traced.record["git_commit"])
    plain = told.removesuffix("+changes")
    if plain == "none":
        return Link("commit", "measured outside of a repository", UNKNOWN)
    said = f"git {plain[:_SHOWN]}" + (", with changed files" if told != plain else "")
    known = has_commit(root, plain)
    if known is None:
        return Link("commit", f"{said}; no repository here", UNKNOWN)
    return Link("commit", said) if known else Link("commit", f"{said}; not in this one", UNKNOWN)


def model_and_commit(
    traced: TracedImage, root: Path, registry: Callable[[], Registry] | None
) -> list[Link]:
    """Return the links to what made the number: model, its data, the checkout."""
    try:
        found = model_and_data(traced, root, registry)
    except DefectopsError as error:
        found = [Link("model", str(error), DIFFERS)]
    return [*found, commit(traced, root)]


def plain_text(text: str | None) -> str:
    """Return the text of a CSV cell as it was before it was made safe for spreadsheets."""
    known = text or ""
    return known[1:] if known[:1] == "'" and known[1:].startswith(RUNS) else known


def whole(text: str) -> int:
    """Return a whole number of a CSV cell; -1, which no object has, if it is none."""
    return int(text) if text.isdecimal() else -1


def same_cell(text: str, expected: object) -> bool:
    """Whether the text of a CSV cell is what a value was written as."""
    if expected is None or expected == "" or (isinstance(expected, float) and _nothing(expected)):
        return text in (NOTHING, "")
    if isinstance(expected, str):
        return text == expected
    return text == repr(expected)


def _near_cell(text: str, expected: object) -> bool:
    if not isinstance(expected, float) or _nothing(expected):
        return same_cell(text, expected)
    try:
        return _same(float(text), expected)
    except ValueError:
        return False


def _nothing(value: float) -> bool:
    return not math.isfinite(value)


def _same(one: float, other: float) -> bool:
    if _nothing(one) or _nothing(other):
        return _nothing(one) and _nothing(other)
    return math.isclose(one, other, rel_tol=_SAME, abs_tol=1e-12)
