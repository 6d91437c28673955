"""Resolve pyproject.toml into the three lock files beside this script: `make lock`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHOSEN = HERE / "chosen.txt"
HEAD = "# Exact versions of {what}. Written by `make lock`, not by hand.\n"


def resolve(requirements: Iterable[str], constraints: Path) -> dict[str, str]:
    """Return what pip would install into an empty environment, name to version.

    Parameters
    ----------
    requirements : iterable of str
        As in ``pyproject.toml``.
    constraints : Path
        A pip constraints file.

    Returns
    -------
    dict of str to str
        Names in normal form, sorted. A local version such as ``+cpu`` is cut off: which build of
        PyTorch fits is for the user's machine to say (docs/decisions/0002).
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report)]
        subprocess.run([*command, "-c", str(constraints), *requirements], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text("utf-8"))["install"]]
    versions = {normal(item["name"]): item["version"].partition("+")[0] for item in found}
    return dict(sorted(versions.items()))


def normal(name: str) -> str:
    """Return a project's name as the packaging standard compares it.

    >>> normal("ruamel_Yaml")
    'ruamel-yaml'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def write(name: str, what: str, pins: dict[str, str], include: str = "") -> None:
    """Write one lock file; `include` is a first line such as ``-r lock.txt``."""
    lines = [HEAD.format(what=what), include, *(f"{key}=={pins[key]}\n" for key in pins)]
    HERE.joinpath(name).write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Resolve everything together, then give each group its part of the result."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))
    # The build back end is locked too, so that installing the project itself needs no index.
    default = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    extras = project["project"]["optional-dependencies"]
    together = resolve([*default, *extras["test"], *extras["docs"]], CHOSEN)
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder, "pinned.txt")
        pinned.write_text("".join(f"{key}=={value}\n" for key, value in together.items()), "utf-8")
        locked = resolve(default, pinned)
        tested = resolve([*default, *extras["test"]], pinned)
        documented = resolve(extras["docs"], pinned)
    write("lock.txt", "the default install", locked)
    write(
        "lock-test.txt",
        "the default install and the tools of `make test` and `make check`",
        {key: value for key, value in tested.items() if key not in locked},
        include="-r lock.txt\n",
    )
    write("lock-docs.txt", "the tools of `make docs`", documented)


if __name__ == "__main__":
    main()
