"""``defectops trace``: from a number in the tables of a batch back to pixels, model and data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops trace 1c258dc087344b60 measured\n"
    "  defectops trace ed16461731d750e9 measured --micrographs /media/session --json"
)
def trace(
    value_id: str = typer.Argument(..., help="From a column value_id or object_id."),
    out: Path = typer.Argument(Path(), metavar="[DIR]", help="Folder of `defectops quantify`."),
    micrographs: Path | None = typer.Option(
        None, "--micrographs", help="Where the pictures are now, if they were moved."
    ),
    json: bool = typer.Option(False, "--json", help="Print the chain as JSON."),
) -> None:
    """Follow a number back and check every link: objects, pixels, micrograph, model, data, commit.

    The number is drawn again from the label image. Ends with 5 if a link no longer matches: a
    table, a label image, a micrograph or a model was changed since. Champions, journal and
    repository are those of the folder where the command runs.
    """
    from defectops.batch.recorded import Recorded
    from defectops.errors import IntegrityFault
    from defectops.workflows import tracing

    root = Path()
    ground = tracing.Ground(out, Recorded(out), root, micrographs, _registry(root))
    found = tracing.trace(value_id, ground)
    if json:
        output.as_json(found.as_json())
    else:
        rows = [[link.name, link.state, link.said] for link in found.links]
        output.table(["link", "state", "what"], rows, found.what)
    if found.broken:
        first = found.broken[0]
        raise IntegrityFault(value_id, "E_TRACE", f"{first.name} no longer matches: {first.said}")


def _registry(root: Path) -> Callable[[], Registry] | None:
    """Return how to open the registry, if there is one; it is not made for a question."""
    import os

    if not ((root / "mlflow.db").is_file() or os.environ.get("MLFLOW_TRACKING_URI")):
        return None

    def opened() -> Registry:
        from defectops.workflows.stores import open_stores

        return open_stores(root).registry

    return opened
