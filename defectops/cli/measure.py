"""``defectops measure``: densities, sizes and strength from anyone's masks, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from defectops.cli.measure_options import (
    Border,
    Detail,
    Foil,
    GridSpacingPx,
    GuardPx,
    Level,
    MaxPixels,
    Merging,
    MinAreaPx,
    Overlap,
    Probe,
    Seed,
    SeparationPx,
    ThresholdSpread,
)

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops measure LABEL.tif --pixel-size-nm 0.365 --thickness-nm 136+-10 --defect voids\n"
    "  defectops measure --labels masks --defect precipitates --out measured\n"
    "  defectops measure lines.png --defect dislocations --uncalibrated --json\n"
    "  defectops measure probability.tif --threshold 0.5 --defect voids --pixel-size-nm 0.365\n"
    "  defectops measure predicted --against labelled --defect bubbles --shape particle"
)
def measure(
    masks: list[str] = typer.Argument(
        None, help="Masks, instance labels or probability maps: files, folders, quoted patterns."
    ),
    labels: list[str] = typer.Option([], "--labels", help="The same as an option; repeatable."),
    manifest: Path | None = typer.Option(
        None, "--manifest", help="CSV with image, label_<type>, thickness_nm, ... instead."
    ),
    defect: str = typer.Option(..., "--defect", help="Type of defect that the masks show."),
    shape: str | None = typer.Option(
        None, "--shape", help="Of a type that is neither built in nor declared: line or particle."
    ),
    pixel_size_nm: float | None = typer.Option(
        None, "--pixel-size-nm", help="nm per pixel, where the files say nothing."
    ),
    pixel_size_sd_nm: float | None = typer.Option(
        None, "--pixel-size-sd-nm", help="Its standard uncertainty, nm."
    ),
    uncalibrated: bool = typer.Option(
        False, "--uncalibrated", help="Accept files without a pixel size; results are in pixels."
    ),
    thickness_nm: str | None = typer.Option(
        None, "--thickness-nm", help="Foil thickness, with its standard uncertainty: 136+-10."
    ),
    ignore: list[str] = typer.Option(
        [], "--ignore", help="Folder, file or pattern of masks of pixels that do not count."
    ),
    against: list[str] = typer.Option(
        [], "--against", help="Labels of the same fields: how far are the masks from them?"
    ),
    meaning: Literal["auto", "mask", "instances"] = typer.Option(
        "auto", "--as", help="What numbers above 1 are: one number an object, or all mask."
    ),
    label_index: int | None = typer.Option(
        None, "--label-index", help="Measure only this number of an indexed mask."
    ),
    threshold: float | None = typer.Option(
        None, "--threshold", help="The files are probabilities; at least this is defect."
    ),
    threshold_spread: ThresholdSpread = 0.1,
    edge_px: int = typer.Option(
        0, "--edge-px", help="How far off the drawn edges might be; 0 leaves it out."
    ),
    border: Border = None,
    guard_px: GuardPx = None,
    foil: Foil = None,
    overlap: Overlap = None,
    detail: Detail = None,
    probe: Probe = None,
    merging: Merging = None,
    grid_spacing_px: GridSpacingPx = None,
    min_area_px: MinAreaPx = None,
    separation_px: SeparationPx = None,
    level: Level = None,
    seed: Seed = None,
    max_pixels: MaxPixels = None,
    out: Path | None = typer.Option(
        None, "--out", help="Also write CSV tables and figures into this folder."
    ),
    json: bool = typer.Option(False, "--json", help="Print one list of rows as JSON."),
) -> None:
    """Measure masks that you have, from whatever program.

    Prints each quantity with its interval and where the uncertainty comes from. Binary masks (0
    and 1 or 255) and instance labels (one number an object) are read as they are. The pixel size
    comes from the file, a sidecar or the option; without a foil thickness densities per volume are
    left out. In a project, types, options and material are those of params.yaml. What cannot be
    true together ends with code 2; what is odd is said on stderr.
    """
    from defectops.cli.importing import thickness
    from defectops.cli.measured import show
    from defectops.imaging.raster import MAX_PIXELS
    from defectops.workflows.mask_sources import MeasureRequest
    from defectops.workflows.measuring import measure as measured

    options = {
        "border": border,
        "guard_px": guard_px,
        "overlap": overlap,
        "detail": detail,
        "probe": probe,
        "merging": merging,
        "foil": foil,
        "grid_spacing_px": grid_spacing_px,
        "level": level,
        "min_area_px": min_area_px,
        "seed": seed,
        "separation_px": separation_px,
    }
    request = MeasureRequest(
        defect=defect,
        labels=(*(masks or ()), *labels),
        manifest=manifest,
        ignore=tuple(ignore),
        against=tuple(against),
        shape=shape,
        meaning=meaning,
        label_index=label_index,
        threshold=threshold,
        threshold_spread=threshold_spread,
        edge_px=edge_px,
        pixel_size_nm=pixel_size_nm,
        pixel_size_sd_nm=pixel_size_sd_nm,
        uncalibrated=uncalibrated,
        thickness=thickness(thickness_nm),
        max_pixels=max_pixels or MAX_PIXELS,
        options={name: value for name, value in options.items() if value is not None},
    )
    show(measured(Path(), request), out, json)
