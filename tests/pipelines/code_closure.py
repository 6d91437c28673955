"""Which of our files a stage runs: follows its imports, those inside functions too.

python tests/pipelines/code_closure.py            what dvc.yaml and studies/dvc.yaml should declare
python tests/pipelines/code_closure.py --write    put it there, all else kept
"""

import ast
import functools
import io
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("prepare", "split", "train", "promote", "evaluate", "quantify", "report", "tune")
FILES = ("dvc.yaml", "studies/dvc.yaml")
CODE = ("defectops/", "pipelines/")


def closure(stage):
    """Return the paths, relative to the root, of all our modules that a stage imports.

    Tables and templates count too where a module names them.
    """
    waiting, seen = [f"pipelines.{stage}"], set()
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if path is None or path in seen:
            continue
        seen.add(path)
        seen |= _data(path)
        waiting += _imported(path)
        # The folder of a module is a package: its face runs too.
        waiting += [module.rpartition(".")[0]] if "." in module else []
    return sorted(str(p.relative_to(ROOT)) for p in seen)


def body(stage):
    """Return what a stage of dvc.yaml declares, with or without ``foreach``."""
    return stage.get("do", stage)


def declared_code(stage):
    """Return the code among the dependencies of a stage."""
    return [d for d in body(stage)["deps"] if d.startswith(CODE)]


def rewritten(text):
    """Return dvc.yaml with the code of each stage replaced by its closure."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    graph = yaml.load(text)
    for name, stage in graph["stages"].items():
        deps = body(stage)["deps"]
        kept = [d for d in deps if not d.startswith(CODE)]
        deps[:] = kept + closure(name)
    stream = io.StringIO()
    yaml.dump(graph, stream)
    return stream.getvalue()


def _file(module):
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if module and path.is_file():
            return path
    return None


@functools.cache
def _tree(path):
    return ast.parse(path.read_text())


@functools.cache
def _imported(path):
    names = []
    for node in _run_time_nodes(_tree(path)):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Modules named in text: loaders that are imported by name.
            names += [node.value] if node.value.startswith("defectops.") else []
    return [n for n in names if n.split(".")[0] in ("defectops", "pipelines")]


@functools.cache
def _data(path):
    """Return folders of tables, and templates, that a module names."""
    strings = {
        n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)
    }
    found = set()
    for folder in path.parent.iterdir():
        if not folder.is_dir() or (folder / "__init__.py").exists():
            continue
        inside = [folder] if folder.name in strings else folder.iterdir()
        found |= {item for item in inside if item.name in strings}
    return found


def _run_time_nodes(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_time_nodes(child)


def main(words):
    if words == ["--write"]:
        for path in (ROOT / name for name in FILES):
            path.write_text(rewritten(path.read_text()))
        return
    for name in STAGES:
        sys.stdout.write(f"{name}:\n" + "".join(f"  - {p}\n" for p in closure(name)))


if __name__ == "__main__":
    main(sys.argv[1:])
