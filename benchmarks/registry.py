"""How long a registry of 1,000 versions and 10,000 runs keeps a person waiting.

Usage:  python benchmarks/registry.py [--versions 1000] [--runs 10000] [--rounds 5]
                                      [--keep FOLDER] [--json]

A project is made whose two models of a few thousand weights are trained, judged on a gate pack of
one small field and registered by the stages themselves. The rest of the store is copied from their
rows by SQL, since MLflow takes some minutes for as many runs through its own interface: each copy
has an id, a digest and numbers of its own, with all parameters, tags and metrics of the original.
All versions belong to one model, which is the hardest case for a list of them. The journal is made
by real moves of the champion, back and forth.

Then `models list`, `promote --dry-run` and `models history` run as whole processes in turn with
`python -c 'import mlflow'`; told is the median of each and of what it takes beyond that import in
the same round, in seconds and in seconds of the processor: on a busy machine only the latter say
something. What the gate of a dry run takes (its libraries, PyTorch above all, the weights,
inference, rules) depends on the gate pack and not on the registry: it is measured inside the
command and told beside the rest. Exit status 1 if a command takes 2 s more than the import, or if
one of its queries runs through all runs, or all of their tags, parameters or metrics.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from defectops.experiments.champions import places_of
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.promotion import Finding, PromotionOptions, Verdict
from defectops.experiments.registry import CANDIDATE, RecordingRegistry
from defectops.experiments.succession import Candidate, note, promote
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning import machine
from defectops.micrograph import Calibration, Field, Region, save_fields
from defectops.settings import tracking_uri
from defectops.workflows.parameters import load_parameters
from defectops.workflows.promoting import promote_on_repro
from defectops.workflows.train_settings import read_train_settings
from defectops.workflows.training import Shells, train

LIMIT_S = 2.0
MOVES = 300
EPOCHS = 30
KEY = "voids"
TRAIN = {
    "epochs": EPOCHS,
    "learning_rate": 0.004,
    "patch_px": 32,
    "batch": 2,
    "patches_per_epoch": 4,
    "width": 0.15,
    "warm_up_steps": 0,
    "final_decay_epochs": 0,
    "threads": 1,
}
EASY = PromotionOptions(floors={"iou": 0.0}, margins={})
PASSED = Verdict("pass", (Finding("benchmark", "pass", None, None, "benchmark"),))
COMMANDS = {
    "models list": ("models", "list"),
    "promote --dry-run": ("promote", "--defect", KEY, "--dry-run", "--version", "2"),
    "models history": ("models", "history", "--defect", KEY),
}
# What holds ten thousand runs, and so must never be read from end to end.
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")

# Runs one command in this process, with two things noted on the way: each SQL statement, and the
# seconds of the gate (the model loaded and shown the gate pack; the rules).
_WRAPPED = """
import json, sys, time
from pathlib import Path
into, words = Path(sys.argv[1]), sys.argv[2:]
statements, spent = [], {}
from sqlalchemy import event
from sqlalchemy.engine import Engine
event.listen(Engine, "before_cursor_execute",
             lambda c, cursor, sql, given, context, many: statements.append(sql))
def spend(name, call):
    began, worked = time.perf_counter(), time.process_time()
    try:
        return call()
    finally:
        before = spent.get(name, (0.0, 0.0))
        now = time.perf_counter() - began, time.process_time() - worked
        spent[name] = before[0] + now[0], before[1] + now[1]
def timed(module, name):
    inner = getattr(module, name)
    setattr(module, name, lambda *a, **k: spend(name, lambda: inner(*a, **k)))
if words[0] == "promote":
    import mlflow
    def libraries():
        from defectops.workflows import direct_promotion
    spend("libraries", libraries)
    from defectops.workflows import direct_promotion
    timed(direct_promotion, "load_model")
    timed(direct_promotion.Gate, "show")
    timed(direct_promotion, "judge_on_gate")
from defectops.cli.main import run
code = run(words)
into.write_text(json.dumps({"statements": sorted(set(statements)), "spent": spent}))
sys.exit(code)
"""

_PLAIN = "import sys; from defectops.cli.main import run; sys.exit(run())"


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock and of the processor."""

    clock: float
    processor: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.clock - other.clock, self.processor - other.processor)


@dataclass(frozen=True)
class Waited:
    """One command: whole, beyond the import, the gate's part and the rest (medians)."""

    command: str
    whole: Spent
    beyond_import: Spent
    gate: Spent
    registry: Spent
    scans: tuple[str, ...]


def main() -> int:
    """Fill a store, time the commands on it, print, and judge."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="registry-") as scratch:
        root = Path(options.keep or scratch)
        if not (root / "mlflow.db").is_file():
            make_project(root)
            fill(root / "mlflow.db", options.versions, options.runs)
        sizes = counted(root / "mlflow.db")
        base, waited = measure(root, options.rounds)
    late = [w.command for w in waited if w.beyond_import.clock > LIMIT_S or w.scans]
    if options.json:
        rows = [asdict(w) for w in waited]
        found = {"store": sizes, "import_mlflow": asdict(base), "commands": rows, "missed": late}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.write(_told(sizes, base, waited))
    return 1 if late else 0


def make_project(root: Path) -> None:
    """Train, judge and register two models; move the champion to and fro; all through our code."""
    machine.settle(1)
    _write_split(root)
    sections = {"defects": {KEY: {}}, "promotion": {"default": {"floors": {"iou": 0.0}}}}
    (root / "params.yaml").write_text(json.dumps(sections), encoding="utf-8")
    defect = load_parameters(root).defect(KEY)
    tracker = MlflowTracker(tracking_uri(root), root)
    registry = MlflowRegistry(tracker)
    mirror, candidates = RecordingRegistry(), []
    for seed in (1, 2):
        settings = read_train_settings({**TRAIN, "seed": seed}, "benchmark")
        done = train(root, defect, settings, ConditioningOptions(), Shells(tracker))
        promote_on_repro(root, defect, EASY, tracker, registry)
        (root / f"{seed}.safetensors").write_bytes(done.bundle.read_bytes())
        version = registry.version(defect.model_name, seed)
        candidates.append(
            Candidate(
                root / f"{seed}.safetensors",
                done.run_id,
                float(version.tags["threshold"]),
                version.metrics,
                version.tags,
            )
        )
    places = places_of(root, defect.key)
    for move in range(MOVES):
        # In memory but for the last, which the store is told, so that all records agree.
        told = registry if move == MOVES - 1 else mirror
        promote(places, told, candidates[move % 2], PASSED, note(f"move {move}"))
    registry.set_alias(defect.model_name, CANDIDATE, 2)


def _write_split(root: Path) -> None:
    """Write the sides of voids: one field of 64 x 80 pixels each."""
    noise, rows, columns = np.random.default_rng(0), *np.indices((64, 80))
    pieces = []
    for top, side in enumerate(("train", "dev", "gate", "test")):
        centres = ((20, 20 + 5 * top), (40, 60))
        near = [(rows - r) ** 2 + (columns - c) ** 2 <= 16 for r, c in centres]
        label = np.any(near, axis=0)
        shown = (2.0 * label + noise.normal(0, 0.5, label.shape)).astype(np.float32)
        region = Region(64 * top, 64 * (top + 1), 0, 80)
        scale = Calibration(0.5, "manifest", 100.0, 10.0)
        field = Field("a.png", region, shown, label, label & False, scale)
        save_fields(root / "split" / KEY / f"{side}.npz", [field])
        piece = {"image": "a.png", "region": asdict(region), "side": side, "pixels_sha256": ""}
        pieces.append(piece)
    record = root / "split" / KEY / "split.json"
    record.write_text(json.dumps({"pieces": pieces}), encoding="utf-8")


def fill(database: Path, versions: int, runs: int) -> None:
    """Copy the first run and the second version, by SQL, until there are so many."""
    with closing(sqlite3.connect(database)) as store, store:
        (template,) = store.execute(
            "SELECT run_uuid FROM runs ORDER BY start_time LIMIT 1"
        ).fetchone()
        there = store.execute("SELECT count(*) FROM runs").fetchone()[0]
        ids = [uuid.UUID(int=i + 1).hex for i in range(runs - there)]
        for table in TABLES:
            _copy(store, table, {"run_uuid": template}, [{"run_uuid": i} for i in ids])
        numbers = range(3, versions + 1)
        changes = [{"version": n, "run_id": ids[-n]} for n in numbers]
        model = {"version": 2}
        _copy(store, "model_versions", model, changes)
        _copy(store, "model_version_tags", model, [{"version": n} for n in numbers])
        store.execute(
            "UPDATE model_version_tags SET value = printf('%064x', version) "
            "WHERE key = 'sha256' AND version > 2"
        )


def _copy(
    store: sqlite3.Connection, table: str, where: dict[str, Any], changes: list[dict[str, Any]]
) -> None:
    """Insert each row of a table that has some values again, with other values in them."""
    names = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
    chosen = " AND ".join(f"{name} = ?" for name in where)
    rows = store.execute(f"SELECT * FROM {table} WHERE {chosen}", [*where.values()]).fetchall()

    def copies() -> Iterator[list[Any]]:
        for change in changes:
            for row in rows:
                yield [change.get(name, value) for name, value in zip(names, row, strict=True)]

    marks = ", ".join("?" for _ in names)
    store.executemany(f"INSERT INTO {table} VALUES ({marks})", copies())


def counted(database: Path) -> dict[str, int]:
    """Return how many rows each table has."""
    with closing(sqlite3.connect(database)) as store:
        return {
            table: store.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in (*TABLES, "model_versions", "model_version_tags")
        }


def measure(root: Path, rounds: int) -> tuple[Spent, list[Waited]]:
    """Time the import and the commands in turn, each a process of its own."""
    base: list[Spent] = []
    whole: dict[str, list[Spent]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        base.append(_process(root, "-c", "import mlflow"))
        for name, words in COMMANDS.items():
            whole[name].append(_process(root, "-c", _PLAIN, *words))
    waited = []
    for name, words in COMMANDS.items():
        beyond = _median([w - b for w, b in zip(whole[name], base, strict=True)])
        found = [_inside(root, words) for _ in range(min(rounds, 3))]
        gate = _median([_added(f["spent"].values()) for f in found])
        scans = scanned(root / "mlflow.db", found[0]["statements"])
        waited.append(Waited(name, _median(whole[name]), beyond, gate, beyond - gate, scans))
    return _median(base), waited


def _added(parts: Iterable[tuple[float, float]]) -> Spent:
    rows = [Spent(*part) for part in parts]
    return Spent(sum(r.clock for r in rows), sum(r.processor for r in rows))


def _median(rows: list[Spent]) -> Spent:
    return Spent(
        statistics.median(r.clock for r in rows), statistics.median(r.processor for r in rows)
    )


def _process(root: Path, *words: str) -> Spent:
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=_environment(), capture_output=True, check=False
    )
    clock, after = time.perf_counter() - began, os.times()
    if done.returncode not in (0, 6, 7):  # a gate that fails has answered too
        raise SystemExit(f"{' '.join(words)}: {done.stderr.decode()[-500:]}")
    worked = after.children_user + after.children_system
    return Spent(clock, worked - before.children_user - before.children_system)


def _inside(root: Path, words: tuple[str, ...]) -> Any:
    """Run a command once more and return its SQL statements and the seconds of the gate."""
    with tempfile.NamedTemporaryFile(suffix=".json") as into:
        _process(root, "-c", _WRAPPED, into.name, *words)
        return json.loads(Path(into.name).read_text(encoding="utf-8"))


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
    # What `defectops` itself sets before it imports MLflow, so that the import alone has it too.
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def scanned(database: Path, statements: list[str]) -> tuple[str, ...]:
    """Return which statements run through a whole table of runs, as SQLite plans them."""
    found = []
    with closing(sqlite3.connect(database)) as store:
        for sql in statements:
            if not sql.lstrip().upper().startswith("SELECT"):
                continue
            plan = store.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?")).fetchall()
            words = [detail.split() for *_, detail in plan]
            if any(w[0] == "SCAN" and w[1] in TABLES for w in words):
                found.append(" ".join(sql.split())[:200])
    return tuple(found)


def _told(sizes: dict[str, int], base: Spent, waited: list[Waited]) -> str:
    lines = [", ".join(f"{n} {name}" for name, n in sizes.items())]
    lines.append("seconds on the clock / of the processor")
    head = ("", "whole", "beyond import", "gate", "the rest")
    lines.append(f"{head[0]:<20}" + "".join(f"{h:>16}" for h in head[1:]))
    lines.append(f"{'import mlflow':<20}{_pair(base)}")
    for w in waited:
        parts = (w.whole, w.beyond_import, w.gate, w.registry)
        late = "" if w.beyond_import.clock <= LIMIT_S else f"  over {LIMIT_S:.0f} s"
        lines.append(f"{w.command:<20}" + "".join(map(_pair, parts)) + late)
        lines += [f"    runs through a table: {sql}" for sql in w.scans]
    return "\n".join(lines) + "\n"


def _pair(spent: Spent) -> str:
    return f"{spent.clock:9.2f} /{spent.processor:5.2f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", help="Folder for the project; used again if it is there.")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
