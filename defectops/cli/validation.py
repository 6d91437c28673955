"""How the findings of ``defectops data validate`` are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.workflows.validating import Findings


def show(found: Findings, html: Path | None, json: bool) -> None:
    """Print findings as tables or JSON; write them as a page where asked."""
    data = found.as_json()
    if html is not None:
        from defectops.atomic import write_text
        from defectops.reporting.validation_page import validation_page

        write_text(html, validation_page(data))
    if json:
        output.as_json(data)
        return
    output.table(
        ("image", "rows", "columns", "dtype", "pixel_size_nm", "source"),
        [
            (i.path, *i.shape, i.dtype, _number(i.pixel_size_nm), i.pixel_size_source)
            for i in found.images
        ],
    )
    if found.labels:
        output.table(
            ("label", "defect", "marked_percent", "objects", "specks", "line_width_px"),
            [
                (
                    one.path,
                    one.defect,
                    f"{100 * one.defect_fraction:.2f}",
                    one.objects,
                    one.specks,
                    _number(one.line_width_px),
                )
                for one in found.labels
            ],
        )
    for warning in data["warnings"]:
        output.line(f"warning: {warning}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
