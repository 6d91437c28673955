"""How `defectops data import`, `info` and `leak-check` show what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from defectops.cli.output import as_json, line, note, table
from defectops.dataset.importing import parse_thickness
from defectops.errors import GateFailed

if TYPE_CHECKING:
    from defectops.workflows.describing import DataInfo
    from defectops.workflows.importing import ImportReport
    from defectops.workflows.leak_checking import Checked

T = TypeVar("T")


def grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, Sequence[T]]:
    """Collect values by name, in the order they were given."""
    found: dict[str, list[T]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return dict(found)


def thickness(text: str | None) -> tuple[float, float | None] | None:
    """Read the option ``--thickness-nm``."""
    return None if text is None else parse_thickness(text)


def show_import(report: ImportReport, json: bool) -> None:
    """Show what was imported, what to know about it, and what to type next."""
    if json:
        as_json(
            {
                "folder": str(report.folder),
                "images": [asdict(r) for r in report.rows],
                "defect_pixels": dict(report.pixels),
                "notes": list(report.notes),
                "commands": list(report.commands),
            }
        )
        return
    for text in report.notes:
        note(f"note: {text}")
    table(
        ["image", "side", "pixel size", "labels"],
        [
            (
                r.image,
                r.side,
                "uncalibrated" if r.pixel_size_nm is None else f"{r.pixel_size_nm:g} nm",
                ", ".join(sorted(r.labels)),
            )
            for r in report.rows
        ],
    )
    line(f"{len(report.rows)} images in {report.folder}")
    for command in report.commands:
        line(f"  {command}")


def show_info(info: DataInfo, json: bool) -> None:
    """Show a data folder: one row an image."""
    if json:
        as_json(asdict(info))
        return
    columns = ["image", "rows", "columns", "side", "pixel size", "thickness", "specimen"]
    table(
        [*columns, *(f"{d} %" for d in info.defects)],
        [
            (
                i.image,
                i.rows,
                i.columns,
                i.side,
                "uncalibrated" if i.pixel_size_nm is None else f"{i.pixel_size_nm:g} nm",
                None if i.thickness_nm is None else f"{i.thickness_nm:g} nm",
                i.specimen,
                *(
                    f"{100 * i.defect_fraction[d]:.2f}" if d in i.defect_fraction else None
                    for d in info.defects
                ),
            )
            for i in info.images
        ],
    )


def show_leaks(checked: Sequence[Checked], json: bool) -> None:
    """Show the audit of each type; end with `GateFailed` if something leaks."""
    if json:
        as_json([asdict(c) for c in checked])
    else:
        table(
            ["defect", "scheme", "images", "pieces", "finding"],
            [
                (c.defect, c.scheme, c.images, c.pieces, finding)
                for c in checked
                for finding in (*c.leaks, *c.notes, *(() if c.leaks else ("no leak",)))
            ],
        )
    leaks = [leak for c in checked for leak in c.leaks]
    if leaks:
        raise GateFailed(
            "leak-check",
            "E_LEAK",
            f"{len(leaks)} leak(s), the first: {leaks[0]}; mend sides or specimens in the manifest",
        )
