"""How long a promotion takes, and on what: inference, resampling, registry, DVC.

Usage:  python benchmarks/promotion.py [PROJECT] [--defect voids] [--rounds 3] [--json]

PROJECT is a folder where `dvc repro` ran (`make repro`), by default this one. It is copied without
its caches, and nothing in it is changed. In the copy a challenger is registered, the champion with
another threshold, and `defectops promote --version N --force` judges it on the project's own gate
pack, with the champion beside it, by the rules and resamples of `params.yaml`; it is forced so that
all of a promotion is done whatever the verdict. Whole processes, with as many threads as there are
cores. Told are seconds on the clock, medians of the rounds, and what they were spent on: as the
command itself measured it, apart from the start of Python and the import of libraries, which is the
rest. Exit status 1 if a promotion takes over 30 s or has fewer than 1,000 resamples.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from defectops.experiments.champions import places_of
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.promotion import PromotionOptions
from defectops.learning.bundle import load_bundle, save_bundle
from defectops.learning.inference import load_model
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import load_fields
from defectops.settings import tracking_uri
from defectops.workflows.gate_measuring import gate_scores, measure_on_gate
from defectops.workflows.judging import MEASURED_WITH, measured_with
from defectops.workflows.parameters import Parameters, load_parameters

LIMIT_S, LEAST_RESAMPLES = 30.0, 1_000
PARTS = ("inference", "measuring", "resampling", "registry", "DVC", "the rest")
HERE = Path(__file__).resolve().parents[1]
NOT_COPIED = ("__pycache__", ".venv", "cache", "node_modules", "bundled", ".mypy_cache", "site")

# Runs `defectops promote` in this process and notes the seconds of its parts; none lies in another.
_WRAPPED = """
import json, sys, time
from pathlib import Path
spent = {}
def timed(part, owner, name):
    inner = getattr(owner, name)
    def outer(*given, **more):
        began = time.perf_counter()
        try:
            return inner(*given, **more)
        finally:
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - began
    setattr(owner, name, outer)
from defectops.cli import promotions
from defectops.learning.inference import LoadedModel
from defectops.workflows import direct_promotion, gate_measuring, judging
timed("inference", LoadedModel, "probability")
timed("measuring", gate_measuring, "observe_sample")
timed("resampling", judging, "score_intervals")
timed("resampling", judging, "paired_change")
timed("registry", promotions, "opened")
timed("registry", direct_promotion, "_chosen")
timed("registry", direct_promotion, "promote")
timed("DVC", direct_promotion, "record")
from defectops.cli.main import run
code = run(sys.argv[2:])
Path(sys.argv[1]).write_text(json.dumps(spent))
sys.exit(code)
"""


@dataclass(frozen=True)
class Promoted:
    """One promotion: seconds in all and of its parts."""

    seconds: float
    parts: Mapping[str, float]


def main() -> int:
    """Copy the project, promote challengers in it, print, and judge."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="promotion-") as scratch:
        root = copied(Path(options.project).resolve(), Path(scratch) / "project")
        parameters = load_parameters(root)
        found = {}
        for defect in options.defect or parameters.defects:
            rounds = [promoted(root, parameters, defect, i) for i in range(options.rounds)]
            found[defect] = {
                **gate_size(root, parameters, defect),
                "seconds": statistics.median(r.seconds for r in rounds),
                **{part: statistics.median(r.parts[part] for r in rounds) for part in PARTS},
            }
    late = [
        defect
        for defect, row in found.items()
        if row["seconds"] > LIMIT_S or row["resamples"] < LEAST_RESAMPLES
    ]
    if options.json:
        sys.stdout.write(json.dumps({"promotions": found, "missed": late}, indent=1) + "\n")
    else:
        sys.stdout.write(_told(found, late))
    return 1 if late else 0


def copied(project: Path, root: Path) -> Path:
    """Copy a project without its caches; DVC keeps a cache of its own there."""
    shutil.copytree(project, root, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    if (root / ".dvc").is_dir():
        (root / ".dvc" / "config.local").unlink(missing_ok=True)
        # Hashes every file of the copy once, as they are known in a project that is in use.
        _run(root, "-m", "dvc", "status")
    return root


def register_challenger(root: Path, parameters: Parameters, defect: str, number: int) -> int:
    """Register the champion with another threshold and the scores it has so; return its version."""
    kind = parameters.defect(defect)
    measuring = parameters.options("quantify", defect, MeasureOptions)
    bundle = load_bundle(places_of(root, kind.key).bundle)
    path = root / ".defectops" / "challenger.safetensors"
    moved = bundle.threshold + (0.001 if bundle.threshold < 0.5 else -0.001) * (number + 1)
    save_bundle(path, replace(bundle, threshold=moved))
    gate = load_fields(root / "split" / defect / "gate.npz")
    scores = gate_scores(measure_on_gate(kind, load_model(path), gate, measuring))
    tags = {"threshold": repr(moved), MEASURED_WITH: measured_with(measuring)}
    registry = MlflowRegistry(MlflowTracker(tracking_uri(root), root))
    known = {name: value for name, value in scores.items() if value is not None}
    return registry.submit(kind.model_name, path, "", known, tags)


def promoted(root: Path, parameters: Parameters, defect: str, number: int) -> Promoted:
    """Promote a new challenger and return what it took."""
    version = register_challenger(root, parameters, defect, number)
    words = ("promote", "--defect", defect, "--version", str(version))
    with tempfile.NamedTemporaryFile(suffix=".json") as into:
        began = time.perf_counter()
        _run(root, "-c", _WRAPPED, into.name, *words, "--force", "--reason", "benchmark")
        seconds = time.perf_counter() - began
        parts = json.loads(Path(into.name).read_text(encoding="utf-8"))
    parts = {part: parts.get(part, 0.0) for part in PARTS}
    return Promoted(seconds, parts | {"the rest": seconds - sum(parts.values())})


def gate_size(root: Path, parameters: Parameters, defect: str) -> dict[str, float]:
    """Return megapixels and fields of the gate pack, and the resamples of its rules."""
    gate = load_fields(root / "split" / defect / "gate.npz")
    rules = parameters.options("promotion", defect, PromotionOptions)
    pixels = sum(f.label.size for f in gate) / 1e6
    return {"megapixels": round(pixels, 3), "fields": len(gate), "resamples": rules.resamples}


def _run(root: Path, *words: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    env = kept | {"DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words[2:])}: {done.stderr[-800:]}")


def _told(found: Mapping[str, Mapping[str, float]], late: Sequence[str]) -> str:
    lines = [
        f"{'':<14}{'Mpx':>6}{'resamples':>11}{'seconds':>9}" + "".join(f"{p:>12}" for p in PARTS)
    ]
    for defect, row in found.items():
        parts = "".join(f"{row[p]:7.2f} {100 * row[p] / row['seconds']:2.0f} %" for p in PARTS)
        over = f"  over {LIMIT_S:.0f} s, or too few resamples" if defect in late else ""
        lines.append(
            f"{defect:<14}{row['megapixels']:6.2f}{row['resamples']:11.0f}{row['seconds']:9.2f}"
            f"{parts}{over}"
        )
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", nargs="?", default=HERE, help="Folder where dvc repro ran.")
    parser.add_argument("--defect", action="append", help="Only this type; repeatable.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
