"""``defectops label-next``: which field of which micrograph to label next."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from defectops.cli import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops label-next scans --defect voids --top 3\n"
    "  defectops label-next scans --model model.safetensors --window-px 0 --out next"
)
def label_next(
    folder: Path = typer.Argument(..., help="Folder of micrographs, or a data folder."),
    defect: str | None = typer.Option(None, "--defect", help="Use the champion of this type."),
    model: Path | None = typer.Option(None, "--model", help="Use this bundle (.safetensors)."),
    top: int = typer.Option(5, "--top", min=1, help="How many fields to choose."),
    window_px: int = typer.Option(
        512, "--window-px", min=0, help="About the side of a field; 0 takes whole micrographs."
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder for the table and the crops."),
    json: bool = typer.Option(False, "--json", help="Print the choice as JSON."),
) -> None:
    """Choose the fields whose labels would narrow the interval on the density most per minute.

    Fields that look like one already chosen, fields the model was trained on, and micrographs that
    the manifest says are labelled are passed over. Nothing is learned or changed.
    """
    from defectops.workflows.label_choosing import COLUMNS, choose_labels, model_in_use

    loaded = model_in_use(Path(), defect, model)
    choice = choose_labels(folder, loaded, top=top, window_px=window_px, out=out)
    if json:
        output.as_json(choice.as_json())
        return
    output.table(
        COLUMNS,
        [[_cell(row[name]) for name in COLUMNS] for row in choice.windows.to_dict("records")],
        f"Label next: {choice.defect.key}",
    )
    output.line(
        f"{choice.defect.key}: {choice.n_windows} fields; the 95 % interval on the density of all "
        f"of them together is now +-{choice.half_width_percent:.3g} %"
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return str(value)
