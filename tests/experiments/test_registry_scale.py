"""A registry grows, and asking it stays cheap: queries that use an index, and as many of them."""

import contextlib
import gc
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from contract import bundle

from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_store import sqlite_uri, uncollected
from defectops.experiments.mlflow_tracking import MlflowTracker

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "registry.py"
MODEL = "defectops-voids"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("registry_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def registry(root, tmp_path):
    """Two versions, each of a run."""
    made = MlflowRegistry(MlflowTracker(sqlite_uri(root / "mlflow.db"), root))
    for number in (1, 2):
        run_id = made.tracker.start(MODEL, f"run {number}", {"seed": number}, {"defect": "voids"})
        made.tracker.metrics(run_id, {"loss": 0.5}, 1)
        made.tracker.finish(run_id, "FINISHED")
        made.submit(
            MODEL, bundle(tmp_path, b"%d" % number), run_id, {"iou": 0.5}, {"threshold": "1"}
        )
    made.set_alias(MODEL, "champion", 1)
    return made


@contextlib.contextmanager
def told():
    """Collect every statement that reaches a database."""
    statements = []

    def listen(connection, cursor, sql, *rest):
        statements.append(sql)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", listen)
    try:
        yield statements
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", listen)


def asked(registry):
    """Ask what lists, dry runs and promotions ask."""
    with told() as statements:
        assert registry.alias(MODEL, "champion") == 1
        assert registry.alias(MODEL, "previous") is None
        assert registry.version(MODEL, 2).metrics == {"iou": 0.5}
        assert registry.find(MODEL, "f" * 64) is None
        assert len(registry.versions(MODEL)) >= 2
    return statements


def test_as_many_queries_for_a_hundred_versions_as_for_two(registry, root, benchmark):
    few = asked(registry)
    benchmark.fill(root / "mlflow.db", 100, 300)
    assert benchmark.counted(root / "mlflow.db")["runs"] == 300
    assert len(registry.versions(MODEL)) == 100
    assert len({v.sha256 for v in registry.versions(MODEL)}) == 100
    many = asked(registry)
    assert len(many) == len(few) < 40


def test_no_query_runs_through_the_runs(registry, root, benchmark):
    statements = asked(registry)
    assert benchmark.scanned(root / "mlflow.db", statements) == ()
    # The check can fail.
    by_status = "SELECT * FROM runs WHERE status = ?"
    assert benchmark.scanned(root / "mlflow.db", [by_status]) == (by_status,)


def test_the_copies_have_all_that_the_originals_have(registry, root, benchmark):
    benchmark.fill(root / "mlflow.db", 5, 20)
    copy, original = registry.version(MODEL, 5), registry.version(MODEL, 2)
    assert (copy.metrics, copy.tags) == (original.metrics, original.tags)
    with contextlib.closing(sa.create_engine(sqlite_uri(root / "mlflow.db")).connect()) as store:
        rows = store.execute(sa.text("SELECT run_uuid FROM runs")).scalars().all()
    runs = [registry.tracker.run(run_id) for run_id in rows]
    assert len({r.run_id for r in runs}) == 20
    assert {r.params["seed"] for r in runs} == {"1", "2"}
    assert {r.metrics["loss"] for r in runs} == {0.5}


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was(on):
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        with contextlib.suppress(KeyError), uncollected():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() is on
    finally:
        (gc.enable if before else gc.disable)()


LISTS = """
import sys
from defectops.cli import models
from defectops.workflows import listing_models
heavy = {"torch", "pandas", "skimage", "matplotlib", "mlflow"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else 0)
"""


def test_lists_and_histories_load_neither_pytorch_nor_pandas():
    done = subprocess.run(
        [sys.executable, "-c", LISTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
