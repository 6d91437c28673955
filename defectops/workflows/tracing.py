"""From a number of a batch back to objects, pixels, micrograph, model, data and commit."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.errors import InputRefused, IntegrityFault
from defectops.workflows import trace_links as links
from defectops.workflows.batch_rows import id_of, quantities_of
from defectops.workflows.batch_summary import POOLED
from defectops.workflows.batch_tables import NOTHING
from defectops.workflows.trace_links import DIFFERS, Cells, Link, guarded, plain_text, whole
from defectops.workflows.traced_images import Recorded, TracedImage, choices_of

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry

_TABLES = {"quantities.csv": "value_id", "images.csv": "value_id", "objects.csv": "object_id"}
_NEEDED = {
    "quantities.csv": {"image", "defect", "quantity", "value", "unit", "low", "high", "method"},
    "images.csv": {"image", "defect"},
    "objects.csv": {"image", "defect", "label", "value_id"},
}


@dataclass(frozen=True)
class Trace:
    """The chain behind one number.

    Parameters
    ----------
    value_id : str
    what : str
        In words.
    links : tuple of Link
        From the number to the commit.
    """

    value_id: str
    what: str
    links: tuple[Link, ...]

    @property
    def broken(self) -> list[Link]:
        """Links that no longer match."""
        return [link for link in self.links if link.state == DIFFERS]

    def as_json(self) -> dict[str, Any]:
        """Return the chain as plain data."""
        rows = [asdict(link) for link in self.links]
        return {"value_id": self.value_id, "what": self.what, "links": rows}


@dataclass(frozen=True, eq=False)
class Ground:
    """Where a number is looked for, and where what is behind it.

    Parameters
    ----------
    out : Path
        Folder of the batch.
    recorded : Recorded
        What the batch wrote down there.
    root : Path
        The project: champions, journal, repository.
    micrographs : Path, optional
        Folder of the pictures, if they are no longer where they were.
    registry : callable, optional
        Opens the registry; asked only if nobody else knows the model.
    """

    out: Path
    recorded: Recorded
    root: Path
    micrographs: Path | None = None
    registry: Callable[[], Registry] | None = None

    def image(self, name: str, defect: str) -> TracedImage:
        """Return one image and type."""
        choices = choices_of(self.recorded.settings, defect)
        return TracedImage(self.out, self.recorded.image(name), choices)


def trace(value_id: str, ground: Ground) -> Trace:
    """Follow a number back and check every link.

    Parameters
    ----------
    value_id : str
        Of a row of ``images.csv`` or ``quantities.csv``, pooled ones too, or the ``object_id`` of a
        row of ``objects.csv``.
    ground : Ground

    Returns
    -------
    Trace
        Whose links differ where something was changed afterwards: a table, a label image, a
        micrograph, a model.

    Raises
    ------
    InputRefused
        ``E_NO_VALUE``: no row has this id.
    IntegrityFault
        What the batch recorded is gone or damaged.

    Notes
    -----
    Numbers are drawn again from the label image, with the functions and options of the batch, and
    must agree to nine digits. That the model draws this label image from this micrograph is taken
    from the digests; `defectops quantify --new` proves it.
    """
    table, cells = _find(ground.out, value_id)
    if table == "objects.csv":
        return _object(value_id, cells, ground)
    if table == "quantities.csv" and cells["image"] == POOLED:
        return _pooled(value_id, cells, ground)
    return _of_image(value_id, table, cells, ground)


def _of_image(value_id: str, table: str, cells: Cells, ground: Ground) -> Trace:
    image, defect = cells["image"], cells["defect"]
    traced = ground.image(image, defect)
    known = quantities_of(traced.record, defect)
    if table == "images.csv":
        what, name = f"row of {defect} in {image}", "image"
        value = guarded("value", lambda: links.image_value(cells, traced))
    else:
        name = cells["quantity"]
        what, known = f"{name} of {defect} in {image}", [q for q in known if q.quantity == name]
        value = guarded("value", lambda: links.quantity_value(cells, known))
    rows = _objects_of(ground.out, image, defect)
    chain = (
        value,
        links.inputs(traced, ground.recorded.settings, value_id, name),
        guarded("method", lambda: links.method(traced, known)),
        guarded("objects", lambda: links.all_objects(traced, rows)),
        guarded("pixels", lambda: links.pixels(traced)),
    )
    return Trace(value_id, what, (*chain, *_origin(traced, ground)))


def _object(value_id: str, cells: Cells, ground: Ground) -> Trace:
    traced = ground.image(cells["image"], cells["defect"])
    label = whole(cells["label"])
    what = f"object {label} of {cells['defect']} in {cells['image']}"
    made = id_of([cells["value_id"], label])
    same = [] if made == value_id else [f"its row and number give {made}"]
    chain = (
        links.checked("value", f"{what}, id {value_id}", same),
        links.inputs(traced, ground.recorded.settings, cells["value_id"], "image"),
        guarded("objects", lambda: links.objects(traced, [cells])),
        guarded("pixels", lambda: links.pixels(traced, label)),
    )
    return Trace(value_id, what, (*chain, *_origin(traced, ground)))


def _pooled(value_id: str, cells: Cells, ground: Ground) -> Trace:
    """Follow a number of several images together, each of them in one line."""
    defect, name = cells["defect"], cells["quantity"]
    rows = [
        row for row in _rows(ground.out / "images.csv", "defect", defect) if row["pooled"] == "True"
    ]
    pooled = _made_of(value_id, rows, name)
    what = f"{name} of {defect}, {len(pooled)} images pooled"
    traced = [ground.image(row["image"], defect) for row in pooled]
    chain = [links.pooled_value(cells, ground.out)]
    if not pooled:
        differs = "no images of images.csv that are pooled give this id"
        chain.append(links.checked("inputs", f"id {value_id}", [differs]))
        return Trace(value_id, what, tuple(chain))
    chain.append(links.checked("inputs", f"{len(pooled)} images: id {value_id}", []))
    each = _each_image(pooled, traced, ground)
    chain.append(guarded("method", lambda: links.pooled_method(cells, traced)))
    chain += each
    chain += links.model_and_commit(traced[0], ground.root, ground.registry)
    return Trace(value_id, what, tuple(chain))


def _made_of(value_id: str, rows: Sequence[Cells], quantity: str) -> list[Cells]:
    """Return the images that a pooled value was drawn from, found by its id."""
    nm = [row for row in rows if row["pixel_size_nm"] != NOTHING]
    px = [row for row in rows if row["pixel_size_nm"] == NOTHING]
    thick = [row for row in nm if row["thickness_nm"] != NOTHING]
    for group in (nm, thick, px):
        if id_of([[row["value_id"] for row in group], quantity]) == value_id:
            return group
    return []


def _each_image(
    pooled: Sequence[Cells], traced: Sequence[TracedImage], ground: Ground
) -> list[Link]:
    """Return the links of each image of a pool; ``objects.csv`` is read once."""
    images = {row["image"]: (row, one) for row, one in zip(pooled, traced, strict=True)}
    found: dict[str, list[Link]] = {}
    rows = _rows(ground.out / "objects.csv", "defect", pooled[0]["defect"])
    for name, objects in groupby(rows, lambda row: row["image"]):
        if name in images:
            found[name] = _image_in_pool(*images[name], list(objects), ground)
    for name in images.keys() - found.keys():
        found[name] = _image_in_pool(*images[name], [], ground)
    return [link for name in images for link in found[name]]


def _image_in_pool(
    row: Cells, traced: TracedImage, objects: Sequence[Cells], ground: Ground
) -> list[Link]:
    """Return what differs about one image of a pool, or one link that says that nothing does."""
    settings = ground.recorded.settings
    own = [
        guarded("value", lambda: links.image_value(row, traced)),
        links.inputs(traced, settings, row["value_id"], "image"),
        guarded("objects", lambda: links.all_objects(traced, objects)),
        guarded("pixels", lambda: links.pixels(traced)),
        guarded("micrograph", lambda: links.micrograph(traced, ground.micrographs)),
    ]
    traced.forget_pixels()
    differ = [link for link in own if link.state == DIFFERS]
    return differ or own[-1:]


def _origin(traced: TracedImage, ground: Ground) -> list[Link]:
    """Return the links from the picture on."""
    picture = guarded("micrograph", lambda: links.micrograph(traced, ground.micrographs))
    return [picture, *links.model_and_commit(traced, ground.root, ground.registry)]


def _find(out: Path, value_id: str) -> tuple[str, Cells]:
    """Return the table and the row that have an id."""
    for table, column in _TABLES.items():
        row = next(_rows(out / table, column, value_id), None)
        if row is not None:
            _require_columns(out / table, _NEEDED[table] - row.keys())
            return table, row
    raise InputRefused(
        value_id,
        "E_NO_VALUE",
        f"no row of the tables in {out} has this id; give the folder that `defectops quantify` "
        "wrote, and an id of its columns value_id or object_id",
    )


def _require_columns(path: Path, missing: set[str]) -> None:
    if missing:
        raise IntegrityFault(
            path,
            "E_TRACE",
            f"lost the column {min(missing)!r}; quantify again writes it",
        )


def _objects_of(out: Path, image: str, defect: str) -> list[Cells]:
    rows = _rows(out / "objects.csv", "defect", defect)
    return [row for row in rows if row["image"] == image]


def _rows(path: Path, column: str, value: str) -> Iterator[Cells]:
    """Yield the rows of a table that have a value in a column."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row.get(column) == value:
                    yield {name: plain_text(text) for name, text in row.items() if name}
    except (OSError, ValueError, csv.Error) as error:
        raise InputRefused(
            path, "E_NO_VALUE", f"cannot be read ({error}); give the folder of a batch"
        ) from error
