"""Write reference/cli.md from the help texts that the commands themselves print.

Run: python docs/make_cli_reference.py

A test compares the page with the help texts, so a changed option cannot leave the page behind.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from defectops.cli.main import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 90

HEAD = """# Commands

<!-- Written by docs/make_cli_reference.py from the help texts; edit those, then run it again. -->

Each command answers `--help` with what stands here. Results go to stdout, progress and warnings
to stderr. In a terminal you see tables; in a pipe, tab-separated lines; with `--json`, one JSON
document. An error is one line with a code. [Error codes](error-codes.md) says what to do about it,
[Exit codes](exit-codes.md) what a script can tell from it. `--debug` works in any place and adds
the traceback.

The pipeline is run by DVC: `dvc repro`. Its stages read `params.yaml`; every key is in
[Parameters](params.md). What to type to try a setting, look at curves and compare runs is in
[Run an experiment](../how-to/run-an-experiment.md).
"""


def page() -> str:
    """Return the page as text: the same for everybody, however wide the terminal."""
    return HEAD + "".join(_section(context) for context in contexts())


def contexts() -> Iterator[Any]:
    """Yield the context of ``defectops`` and of every command below it, in reading order."""
    root = get_command(app)
    yield from _below(root, _context(root, "defectops", None))


def examples(command: Any) -> list[str]:
    """Return the example lines of a command, each as one would type it."""
    text = (command.epilog or "").replace("\b", "").strip()
    _, _, rest = text.partition(":")
    lines = rest if rest.startswith("\n") else rest.strip()
    return textwrap.dedent(lines).strip().splitlines()


def _below(command: Any, context: Any) -> Iterator[Any]:
    yield context
    for name in sorted(getattr(command, "commands", {})):
        # Resolved, not looked up: the nouns of `defectops` are loaded only when called.
        _, found, _ = command.resolve_command(context, [name])
        yield from _below(found, _context(found, name, context))


def _context(command: Any, name: str, parent: Any) -> Any:
    return command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )


def _section(context: Any) -> str:
    command, path = context.command, context.command_path
    level = "##" if len(path.split()) < 3 else "###"
    formatter = context.make_formatter()
    command.format_usage(context, formatter)
    command.format_options(context, formatter)
    parts = [f"\n{level} `{path}`", inspect.cleandoc(command.help or "").replace("\b", "")]
    if examples(command):
        parts.append("```sh\n" + "\n".join(examples(command)) + "\n```")
    parts.append("```text\n" + formatter.getvalue().strip() + "\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
