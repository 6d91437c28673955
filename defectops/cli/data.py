"""``defectops data``: what goes in, checked before anything learns from it."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    epilog="Example:  defectops data validate micrograph.tif",
)


@app.callback()
def data() -> None:
    """Check micrographs, labels and manifests."""


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops data validate haadf_01.tif --pixel-size-nm 0.365\n"
    "  defectops data validate data --html check.html"
)
def validate(
    path: Path = typer.Argument(
        ..., help="A micrograph, its sidecar, a manifest, a .npy, or a folder of images and labels."
    ),
    pixel_size_nm: float | None = typer.Option(
        None, "--pixel-size-nm", help="nm per pixel, where the file says nothing."
    ),
    uncalibrated: bool = typer.Option(
        False, "--uncalibrated", help="Accept files without a pixel size; results are in pixels."
    ),
    page: int | None = typer.Option(None, "--page", help="Page of a stack, from 0."),
    max_pixels: int | None = typer.Option(
        None, "--max-pixels", min=1, help="Refuse larger pictures (default 16384 x 16384)."
    ),
    html: Path | None = typer.Option(None, "--html", help="Also write the findings as a page."),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check files as training would read them.

    Nothing is written or changed. The first thing that cannot be used ends the check with one
    line on stderr and exit code 2; what is odd but usable is listed as a warning.
    """
    from functools import partial

    from defectops.cli.validation import show
    from defectops.imaging.raster import MAX_PIXELS
    from defectops.imaging.reading import read_micrograph
    from defectops.workflows.validating import validate as findings

    read = partial(
        read_micrograph,
        pixel_size_nm=pixel_size_nm,
        uncalibrated=uncalibrated,
        page=page,
        max_pixels=max_pixels or MAX_PIXELS,
    )
    show(findings(path, read), html, json)
