"""The stores of a project, and what a stage may move."""

from defectops.workflows.stores import open_stores


def test_runs_and_models_lie_in_one_store(tmp_path):
    stores = open_stores(tmp_path)
    assert stores.registry.tracker is stores.tracker


def test_inside_an_experiment_a_stage_gets_no_registry(tmp_path, monkeypatch):
    stores = open_stores(tmp_path)
    for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    assert stores.movable is stores.registry
    monkeypatch.setenv("DVC_EXP_NAME", "exp-1")
    assert stores.movable is None
