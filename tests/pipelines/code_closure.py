"""Which of our files a stage runs: follows its imports, those inside functions too.

Run it to see what dvc.yaml should declare:  python tests/pipelines/code_closure.py
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prepare", "split", "train", "promote", "evaluate", "quantify", "report")


def closure(stage):
    """Return the paths, relative to the root, of all our modules that a stage imports."""
    waiting, seen = [f"pipelines.{stage}"], set()
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if path is None or path in seen:
            continue
        seen.add(path)
        waiting += _imported(path)
        # The folder of a module is a package: its face runs too.
        waiting += [module.rpartition(".")[0]] if "." in module else []
    return sorted(str(p.relative_to(ROOT)) for p in seen)


def _file(module):
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if module and path.is_file():
            return path
    return None


def _imported(path):
    names = []
    for node in _run_time_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Modules named in text: loaders that are imported by name.
            names += [node.value] if node.value.startswith("defectops.") else []
    return [n for n in names if n.split(".")[0] in ("defectops", "pipelines")]


def _run_time_nodes(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_time_nodes(child)


if __name__ == "__main__":
    for name in STAGES:
        sys.stdout.write(f"{name}:\n" + "".join(f"  - {p}\n" for p in closure(name)))
