"""The command ``defectops``: finds the noun, loads only its module, runs it inside the rim."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from defectops.cli.rim import guarded
from defectops.cli.supervision import OURS_ALONE


class Noun(NamedTuple):
    """A word after ``defectops``: the module whose `app` answers it, and its line of help."""

    module: str
    help: str


# Adding a command is one line here and a module with `app = typer.Typer(...)`.
NOUNS = {
    "config": Noun("defectops.cli.config", "Check params.yaml or a study file."),
    "data": Noun("defectops.cli.data", "Import, check and describe micrographs and labels."),
    "doctor": Noun("defectops.cli.doctor", "Find and repair stale runs and broken promotions."),
    "label-next": Noun("defectops.cli.label_next", "Choose which field to label next."),
    "lineage": Noun("defectops.cli.lineage", "Show whose weights a trial or version started from."),
    "measure": Noun("defectops.cli.measure", "Measure masks from any program; no model needed."),
    "models": Noun("defectops.cli.models", "List registered versions and past champions."),
    "panel": Noun("defectops.cli.panel", "Compare a machine with human experts."),
    "plausible": Noun("defectops.cli.plausible", "Can these sizes and counts be true together?"),
    "promote": Noun("defectops.cli.promote", "Judge a registered version; make it champion."),
    "quantify": Noun("defectops.cli.quantify", "Segment and measure any number of micrographs."),
    "rollback": Noun("defectops.cli.rollback", "Make the champion before this one champion again."),
    "trace": Noun("defectops.cli.trace", "Follow a number back to pixels, model and data."),
    "tune": Noun("defectops.cli.tune", "Search training settings; seed trials from the best."),
    "ui": Noun("defectops.cli.ui", "Open MLflow's pages on this project's runs and models."),
}


class LazyGroup(TyperGroup):
    """A group that shows every noun in its help but imports only the one that is called."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, noun in NOUNS.items():
            self.commands[name] = TyperCommand(name, help=noun.help, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the stand-in of the noun that is called by the real thing."""
        name, _, rest = super().resolve_command(ctx, args)
        module = importlib.import_module(NOUNS[str(name)].module)
        return name, get_command(module.app), rest


app = typer.Typer(
    cls=LazyGroup,
    name="defectops",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Example:  defectops data validate micrograph.tif",
)


@app.callback(invoke_without_command=True)
def defectops(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks; works anywhere."),
) -> None:
    """From labelled electron micrographs to trusted defect models and numbers.

    Exit codes: 0 done; 1 a bug of ours; 2 usage or input refused; 3 conflict; 4 disk, database or
    server; 5 integrity; 6 gate failed or leak found; 7 gate inconclusive.
    """
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"defectops {installed('defectops')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code (the console script's entry).

    Parameters
    ----------
    arguments : list of str or None
        Words after ``defectops``; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    ours = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in ours
    if debug:
        words.remove("--debug")
    command = get_command(app)
    # Only a process that is ours alone may be forked.
    ours_alone = {OURS_ALONE: arguments is None}
    code = guarded(
        lambda: command.main(words, "defectops", standalone_mode=False, obj=ours_alone), debug
    )
    if arguments is None:
        # The process ends now: to search all that MLflow and PyTorch left for cycles once more
        # would take Python a second.
        gc.freeze()
    return code
