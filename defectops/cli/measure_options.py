"""Options of measuring, the same words in every command that measures."""

from __future__ import annotations

from typing import Annotated

import typer

ThresholdSpread = Annotated[
    float,
    typer.Option("--threshold-spread", help="How far off the threshold might be; 0 leaves it out."),
]
Border = Annotated[
    str | None,
    typer.Option("--border", help="gundersen (default), weighted, guard, exclude, all (paper)."),
]
GuardPx = Annotated[
    int | None,
    typer.Option("--guard-px", help="Margin of the border rule guard (64)."),
]
Foil = Annotated[
    str | None,
    typer.Option(
        "--foil", help="t+d (default): particles cut by the surfaces count; t: the paper."
    ),
]
Overlap = Annotated[
    str | None,
    typer.Option("--overlap", help="none (default); union: count for particles hidden in a mask."),
]
Detail = Annotated[
    str | None,
    typer.Option("--detail", help="full (default), or main: densities and mean sizes only."),
]
Probe = Annotated[
    str | None,
    typer.Option("--probe", help="Test lines for dislocations: grid (default), circles, random."),
]
Merging = Annotated[
    str | None,
    typer.Option("--merging", help="corrected (default) for lines that merge; or: as seen."),
]
GridSpacingPx = Annotated[
    int | None,
    typer.Option("--grid-spacing-px", help="Distance of the lines that count crossings (32)."),
]
MinAreaPx = Annotated[
    int | None,
    typer.Option("--min-area-px", help="Smaller pieces of a mask are specks (12)."),
]
SeparationPx = Annotated[
    float | None,
    typer.Option("--separation-px", help="Necks narrower by this part touching particles (0.75)."),
]
Level = Annotated[
    float | None,
    typer.Option("--level", help="Coverage of intervals (0.95)."),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Of the grid and of resampling (0)."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Refuse larger pictures (default 16384 x 16384)."),
]
