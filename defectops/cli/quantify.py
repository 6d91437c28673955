"""``defectops quantify``: segments and measures any number of micrographs with promoted models."""

from __future__ import annotations

from pathlib import Path

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
    "  defectops quantify micrographs --defect voids --out measured\n"
    "  defectops quantify 'session/*/*.dm4' --defect all --thickness-nm 136+-10 --out measured\n"
    "  defectops quantify --manifest images.csv --model models:/defectops-voids/7 --out measured"
)
def quantify(
    context: typer.Context,
    paths: list[str] = typer.Argument(
        None, help="Micrographs: files, folders, quoted patterns ('**' for any folders)."
    ),
    defect: list[str] = typer.Option(
        [], "--defect", help="Type to measure with its champion, or all; repeatable."
    ),
    model: list[str] = typer.Option(
        [], "--model", help="Instead of the champion: voids/7, models:/..., a file; repeatable."
    ),
    out: Path = typer.Option(..., "--out", help="Folder of the results; the same goes on."),
    manifest: Path | None = typer.Option(
        None, "--manifest", help="CSV with image, pixel_size_nm, thickness_nm, ignore, ..."
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
    accept_out_of_range: bool = typer.Option(
        False, "--accept-out-of-range", help="Pool images unlike those the model learned from."
    ),
    check: int = typer.Option(
        20, "--check", min=0, max=999, help="Doubts to draw in check.html, the gravest first."
    ),
    threshold_spread: ThresholdSpread = 0.1,
    mirrored_views: bool | None = typer.Option(
        None,
        "--mirrored-views/--no-mirrored-views",
        help="Segment mirrored, too, for the intervals: on, if params.yaml does not say otherwise.",
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
    new: bool = typer.Option(False, "--new", help="Start over: delete what is there from before."),
    json: bool = typer.Option(False, "--json", help="Print one list of rows as JSON."),
) -> int:
    """Segment and measure micrographs, one row an image, and all of them pooled.

    Stopped or killed at any moment, the same command goes on and ends with the same files. A file
    that cannot be used is listed in quarantine.csv, the others go on, and the exit code is 2. The
    pixel size comes from the file, a sidecar, the manifest or the option; without a foil thickness
    densities per volume are left out. In a project, types, options and material are those of
    params.yaml.
    """
    from defectops.cli.supervision import OURS_ALONE, supervised

    options = {
        "border": border,
        "guard_px": guard_px,
        "foil": foil,
        "overlap": overlap,
        "detail": detail,
        "probe": probe,
        "merging": merging,
        "grid_spacing_px": grid_spacing_px,
        "min_area_px": min_area_px,
        "separation_px": separation_px,
        "level": level,
        "seed": seed,
    }

    def call() -> int:
        # Whatever starts threads is imported in the child.
        from defectops.cli.importing import thickness
        from defectops.cli.quantified import carry_out
        from defectops.imaging.raster import MAX_PIXELS
        from defectops.workflows.batch_choosing import BatchRequest

        request = BatchRequest(
            defects=tuple(defect),
            models=tuple(model),
            manifest=manifest,
            pixel_size_nm=pixel_size_nm,
            pixel_size_sd_nm=pixel_size_sd_nm,
            uncalibrated=uncalibrated,
            thickness=thickness(thickness_nm),
            threshold_spread=threshold_spread,
            mirrored_views=mirrored_views,
            max_pixels=max_pixels or MAX_PIXELS,
            accept_out_of_range=accept_out_of_range,
            options={name: value for name, value in options.items() if value is not None},
        )
        return carry_out(request, paths or [], out, new=new, json=json)

    return supervised(call) if context.obj[OURS_ALONE] else call()
