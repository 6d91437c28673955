"""What the package shows and does before anything is asked of it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("defectops", "pipelines")
HEAVY = ("torch", "mlflow", "numpy", "pandas", "scipy", "skimage", "matplotlib", "optuna", "dvc")


def modules(*folders):
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert found
    return found


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def python(code, **environment):
    """Run code in a fresh interpreter; whatever it prints comes back."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=environment.get("HOME"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_line_of_every_module_is_a_sentence():
    wrong = []
    for path in modules(*PACKAGES, "benchmarks", "requirements"):
        text = path.read_text("utf-8")
        first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        starts = text.lstrip("r").startswith('"""' + first)
        if not (starts and first.endswith(".") and len(first.split()) >= 4):
            wrong.append(f"{path.relative_to(ROOT)}: {first!r}")
    assert wrong == []


def test_package_faces_hold_a_docstring_and_nothing_else():
    """But `pipelines`: a process of its own, whose threads are told how to wait before torch is."""
    for path in modules(*PACKAGES):
        if path.name == "__init__.py" and path.parent.name != "pipelines":
            body = ast.parse(path.read_text("utf-8")).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


@pytest.mark.slow
def test_importing_the_package_writes_nothing_and_says_nothing(tmp_path):
    home, caches = tmp_path / "home", tmp_path / "caches"
    home.mkdir()
    names = [dotted(path) for path in modules(*PACKAGES)]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    # Matplotlib and Numba keep caches of their own where these say.
    printed = python(
        code, HOME=str(home), MPLCONFIGDIR=str(caches / "mpl"), NUMBA_CACHE_DIR=str(caches / "nb")
    )
    assert printed == ""
    assert list(home.iterdir()) == []


def test_help_loads_no_heavy_package():
    code = (
        "import sys\n"
        "from defectops.cli.main import run\n"
        "run(['--help'])\n"
        f"print('loaded:', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    printed = python(code)
    assert "Commands:" in printed
    assert printed.splitlines()[-1] == "loaded: []"
