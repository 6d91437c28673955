"""The import contracts of pyproject.toml cover the whole package and have no exceptions."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["name"]: contract for contract in LINTER["contracts"]}


def files():
    return [p for name in ("defectops", "pipelines") for p in sorted((ROOT / name).rglob("*.py"))]


def imported(tree):
    """Top-level names of everything a module imports, inside functions and for types too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def importers(package):
    """Modules that import a third-party package, as ``folder/file``."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in files()
        if package in imported(ast.parse(path.read_text("utf-8")))
    }


def test_every_package_stands_on_one_floor():
    (floors,) = [c for c in CONTRACTS.values() if c["type"] == "layers"]
    named = [word for row in floors["layers"] for word in row.replace("|", ":").split(":")]
    placed = [name.strip() for name in named]
    folder = ROOT / "defectops"
    there = {f"defectops.{p.stem}" for p in folder.glob("*.py") if p.name != "__init__.py"}
    there |= {f"defectops.{p.parent.name}" for p in folder.glob("*/__init__.py")}
    assert sorted(placed) == sorted(there | {"pipelines"})


def test_there_are_no_exceptions():
    for contract in CONTRACTS.values():
        assert not {"ignore_imports", "exhaustive_ignores"} & set(contract), contract["name"]
        assert contract.get("unmatched_ignore_imports_alerting") is None
    assert LINTER.get("exclude_type_checking_imports", False) is False


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("torch", ("defectops/learning/", "defectops/dataset/patches.py")),
        ("matplotlib", ("defectops/reporting/",)),
        ("mlflow", ("defectops/experiments/", "defectops/cli/")),
        ("optuna", ("defectops/experiments/",)),
        ("typer", ("defectops/cli/",)),
    ],
)
def test_a_tool_is_known_in_one_place(package, allowed):
    assert sorted(name for name in importers(package) if not name.startswith(allowed)) == []


def test_no_module_is_called_by_what_it_is_not():
    names = {path.stem for path in files()}
    assert not names & {"utils", "util", "helpers", "common", "base", "core", "misc"}
