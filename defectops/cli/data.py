"""``defectops data``: what goes in, checked before anything learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    epilog="Example:  defectops data validate micrograph.tif",
)


@app.callback()
def data() -> None:
    """Import, check and describe micrographs, labels and manifests."""


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


@app.command(
    name="import",
    epilog="\b\nExamples:\n"
    "  defectops data import scans --labels masks --defect voids --pixel-size-nm 0.365\n"
    "  defectops data import 'set/*/image.tif' --labels 'set/*/mask.png' --name-from parent \\\n"
    "      --defect gamma_prime --shape particle --polarity dark --uncalibrated \\\n"
    "      --side train --side last=dev --replace\n"
    "  defectops data import images --labels coloured --label-colour voids=255,0,0 \\\n"
    "      --split-file splits.json --thickness-nm 136+-10\n"
    "  defectops data import set.zip --into ../set",
)
def import_(
    images: list[str] = typer.Argument(
        None, help="Folders, files or quoted patterns of micrographs; or one zip or tar file."
    ),
    labels: list[str] = typer.Option(
        [], "--labels", help="Folder, file or pattern of masks or YOLO .txt; or a COCO .json."
    ),
    defect: list[str] = typer.Option([], "--defect", help="Type that the labels show."),
    label_colour: list[str] = typer.Option(
        [], "--label-colour", help="TYPE=R,G,B in coloured masks; repeatable."
    ),
    label_index: list[str] = typer.Option(
        [], "--label-index", help="TYPE=NUMBER in indexed masks, YOLO, COCO; repeatable."
    ),
    ignore: list[str] = typer.Option(
        [], "--ignore", help="Folder, file or pattern of masks of pixels that do not count."
    ),
    manifest: Path | None = typer.Option(
        None, "--manifest", help="CSV with image, label_<type>, side, ... instead of IMAGES."
    ),
    name_from: Literal["stem", "parent"] = typer.Option(
        "stem", "--name-from", help="stem, or parent: files of one folder belong together."
    ),
    pixel_size_nm: float | None = typer.Option(
        None, "--pixel-size-nm", help="nm per pixel, where the files say nothing."
    ),
    uncalibrated: bool = typer.Option(
        False, "--uncalibrated", help="Accept files without a pixel size; results are in pixels."
    ),
    thickness_nm: str | None = typer.Option(
        None, "--thickness-nm", help="Foil thickness, also with uncertainty: 136+-10."
    ),
    side: list[str] = typer.Option(
        [], "--side", help="train, dev, test, gate or auto; for some as NAME=dev."
    ),
    split_file: Path | None = typer.Option(
        None, "--split-file", help="CSV (image, side) or JSON ({train: [...], val: [...]})."
    ),
    split_name: str | None = typer.Option(
        None, "--split-name", help="Which, if the JSON holds several."
    ),
    rectangle: list[str] = typer.Option(
        [], "--rectangle", help="SIDE=TOP:BOTTOM,LEFT:RIGHT in fractions of each image."
    ),
    specimen: list[str] = typer.Option(
        [], "--specimen", help="Specimen of the images; for some as NAME=VALUE."
    ),
    condition: str = typer.Option("", "--condition", help="Dose, temperature, treatment ..."),
    licence: str = typer.Option("", "--licence", help="Terms of the images."),
    source: str = typer.Option("", "--source", help="Where the images come from."),
    shape: list[str] = typer.Option(
        [], "--shape", help="Of a new type: line or particle; for one as TYPE=line."
    ),
    polarity: list[str] = typer.Option(
        [], "--polarity", help="Of a new type, as it shows: bright or dark."
    ),
    replace: bool = typer.Option(
        False, "--replace", help="Start a new set in place of the one in data/."
    ),
    into: Path | None = typer.Option(
        None, "--into", help="Another data folder; params.yaml and DVC are left alone."
    ),
    no_dvc: bool = typer.Option(False, "--no-dvc", help="Do not run `dvc add data`."),
    json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Bring your own micrographs and labels into data/.

    Everything is checked before anything is written; micrographs are copied as they are, labels
    become PNG with 0 and 255. New types of defect are added to params.yaml.
    """
    from defectops.cli.importing import grouped, show_import, thickness
    from defectops.dataset.importing import parse_colour, parse_index, parse_rectangle
    from defectops.workflows.gathering import ImportRequest
    from defectops.workflows.importing import import_data

    request = ImportRequest(
        images=tuple(images or ()),
        labels=tuple(labels),
        ignore=tuple(ignore),
        manifest=manifest,
        defects=tuple(defect),
        indices=grouped(parse_index(t) for t in label_index),
        colours=grouped(parse_colour(t) for t in label_colour),
        name_from=name_from,
        split_file=split_file,
        split_name=split_name,
        sides=tuple(side),
        rectangles=tuple(parse_rectangle(t) for t in rectangle),
        specimens=tuple(specimen),
        condition=condition,
        licence=licence,
        source=source,
        pixel_size_nm=pixel_size_nm,
        uncalibrated=uncalibrated,
        thickness=thickness(thickness_nm),
        shapes=tuple(shape),
        polarities=tuple(polarity),
        into=into,
        replace=replace,
        dvc=not no_dvc,
    )
    show_import(import_data(Path(), request), json)


@app.command(epilog="Example:  defectops data synth --into another --seed 1")
def synth(
    into: Path = typer.Option(Path("data"), "--into", help="The data folder to write."),
    preset: Literal["paper", "small"] = typer.Option(
        "paper", "--preset", help="paper: four of 2048 x 2048; small: the same in 256 x 320."
    ),
    seed: int = typer.Option(
        20190905,
        "--seed",
        min=0,
        help="Another seed draws other defects; this one the bundled set.",
    ),
    line_width_px: float = typer.Option(3.0, "--line-width-px", help="Width of line labels."),
) -> None:
    """Draw the synthetic set: micrographs, labels and the truth about them."""
    from defectops.cli.output import line
    from defectops.workflows.synthesising import synthesise

    synthesise(into, preset, seed, line_width_px)
    line(f"{into}: synthetic set '{preset}', seed {seed}")


@app.command(
    name="leak-check",
    epilog="\b\nExamples:\n  defectops data leak-check\n  defectops data leak-check --defect voids",
)
def leak_check(
    defect: list[str] = typer.Option([], "--defect", help="Only this type; repeatable."),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Look for pictures that are on two sides of a split, also as crops of each other.

    Ends with code 6 if something leaks.
    """
    from defectops.cli.importing import show_leaks
    from defectops.workflows.leak_checking import leak_check as findings

    show_leaks(findings(Path(), tuple(defect)), json)


@app.command(epilog="\b\nExamples:\n  defectops data info\n  defectops data info --json")
def info(
    data: Path = typer.Argument(Path("data"), help="A data folder with a manifest.csv."),
    json: bool = typer.Option(False, "--json", help="Print it as JSON."),
) -> None:
    """List the images: size, sides, pixel size, and how much of each defect is labelled."""
    from defectops.cli.importing import show_info
    from defectops.workflows.describing import describe

    show_info(describe(data), json)
