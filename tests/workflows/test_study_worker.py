"""A study on the real network: what its trials tell and leave, and that nothing stops it."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from drawing import VOIDS
from small_study import Tuning, write_project

from defectops.errors import TrainingDiverged
from defectops.experiments.promotion import PromotionOptions
from defectops.experiments.studies import exported
from defectops.learning import machine
from defectops.learning.bundle import load_bundle
from defectops.micrograph import load_fields
from defectops.workflows import trials
from defectops.workflows.direct_promotion import PromotionRequest, promote_version

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    write_project(root)
    return root


@pytest.fixture
def tuning(project, tmp_path, monkeypatch):
    # Drawing takes longer than all trials together; `whole` is drawn.
    monkeypatch.setattr("defectops.workflows.study_finishing.draw_study", lambda *given: [])
    shutil.copytree(project, tmp_path / "project")
    threads = machine.settle(1)
    yield Tuning(tmp_path / "project")
    machine.settle(threads)


@pytest.fixture(scope="module")
def whole(project, tmp_path_factory):
    """One study that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(project, root)
    threads = machine.settle(1)
    tuning = Tuning(root)
    tuning.state, tuning.plan = tuning()
    machine.settle(threads)
    return tuning


def text(state, plan):
    return json.dumps(exported(state, plan))


def test_generations_continue_the_weights_of_the_best(whole):
    state = whole.state
    assert [t.generation for t in state.trials] == [0, 0, 0, 1, 1]
    assert {t.state for t in state.trials} == {"complete"}
    assert state.done
    for trial in state.trials[3:]:
        parent = state.trials[trial.parent]
        assert trial.parent_sha256 == parent.checkpoint_sha256
        assert trial.cumulative_epochs == 4
    weights = whole.root / ".defectops/studies/voids/weights"
    for trial in state.trials:
        path = weights / f"{trial.checkpoint_sha256}.safetensors"
        bundle = load_bundle(path, trial.checkpoint_sha256)
        assert bundle.training["study"]["trial"] == trial.index
        assert bundle.training["study"]["parent_sha256"] == trial.parent_sha256
        assert bundle.threshold == trial.facts["threshold"]
        assert bundle.training["metrics"]["dev_iou"] == pytest.approx(trial.values[0], abs=1e-6)
        best = max(trial.curve.values())
        assert trial.values[0] > best if "halfway" in trial.facts else trial.values[0] == best


def test_the_first_trial_is_the_projects_own(whole):
    own = {"learning_rate": 0.004, "positive_weight": 3.0, "l2": 1e-5, "dropout": 0.0}
    assert own.items() <= whole.state.trials[0].params.items()


def test_the_files_of_ended_trials_are_gone(whole):
    assert list((whole.root / ".defectops/studies/voids").glob("trials/*/*")) == []


def test_each_trial_is_a_run_below_the_study(whole):
    runs, study = whole.runs()
    assert sorted(runs) == [(i, 1) for i in range(5)]
    assert (study.status, study.tags["ended.reason"]) == ("FINISHED", whole.state.done)
    assert study.tags["best.trial"] == str(whole.state.best.index)
    assert study.metrics["best"] == whole.state.best.values[0]
    for (index, _), run in runs.items():
        trial = whole.state.trials[index]
        assert run.status == "FINISHED"
        assert run.experiment == "defectops-voids"
        assert run.tags["mlflow.parentRunId"] == study.run_id
        assert run.tags["trial.state"] == "complete"
        assert run.tags["checkpoint.sha256"] == trial.checkpoint_sha256
        assert run.run_id == trial.run_id
        assert {"git.commit", "threads", "version.torch"} <= run.tags.keys()
        assert run.params["learning_rate"] == str(trial.params["learning_rate"])
        assert run.params["patch_px"] == "32"
        for metric in ("dev/iou", "loss", "lr", "positive_weight"):
            steps = [step for step, _ in whole.tracker.history(run.run_id, metric)]
            assert steps == [0, 1], metric
        assert dict(whole.tracker.history(run.run_id, "dev/iou")) == trial.curve
        record = whole.tracker.records[run.run_id]
        assert [d["context"] for d in record.datasets] == ["train", "dev"]
        weights = record.artifacts[f"weights/{trial.checkpoint_sha256}.safetensors"]
        assert len(weights) > 1000
        assert record.artifacts["comparison/dev.png"].startswith(b"\x89PNG")
    children = [runs[i, 1].tags for i in (3, 4)]
    assert {t["parent.sha256"] for t in children} <= {
        t.checkpoint_sha256 for t in whole.state.trials[:3]
    }
    assert {t["parent.epochs"] for t in children} == {"2"}


def test_the_study_shows_its_figures_and_its_result(whole):
    _, study = whole.runs()
    names = set(whole.tracker.records[study.run_id].artifacts)
    assert {f"figures/{n}.png" for n in ("history", "importance", "slice", "parallel")} < names
    assert json.loads(whole.tracker.records[study.run_id].artifacts["voids.json"]) == exported(
        whole.state, whole.plan
    )


def test_the_best_are_candidates_with_their_lineage(whole):
    ranked = sorted(whole.state.trials, key=lambda t: (-t.values[0], t.index))[:3]
    versions = whole.registry.versions("defectops-voids")
    assert [v.sha256 for v in versions] == [t.checkpoint_sha256 for t in ranked]
    assert [v.run_id for v in versions] == [t.run_id for t in ranked]
    assert whole.registry.alias("defectops-voids", "candidate") == 1
    best, tags = ranked[0], versions[0].tags
    assert tags["trial"] == str(best.index)
    assert tags["cumulative_epochs"] == str(best.cumulative_epochs)
    assert tags["lineage.sha256"].split(" > ")[-1] == best.checkpoint_sha256
    assert float(tags["threshold"]) == best.facts["threshold"]
    assert versions[0].metrics["dev_iou"] == pytest.approx(best.values[0], abs=1e-6)


def test_the_gate_judges_the_candidate_of_a_study(whole):
    request = PromotionRequest(dry_run=True)
    options = PromotionOptions(floors={"iou": 0.0})
    decision = promote_version(whole.root, VOIDS, options, whole.registry, request)
    assert decision.version.number == 1
    assert decision.version.tags["study"] == "voids"
    assert decision.verdict.passed
    assert 0 <= decision.metrics["iou"] <= 1


def test_a_finished_study_run_again_changes_nothing(whole):
    before = {k: dict(r.artifacts) for k, r in whole.tracker.records.items()}
    state, plan = whole()
    assert text(state, plan) == text(whole.state, whole.plan)
    assert {k: dict(r.artifacts) for k, r in whole.tracker.records.items()} == before
    assert len(whole.registry.versions("defectops-voids")) == 3
    assert whole.tracker.running() == []


def test_the_same_study_twice_is_the_same(whole, tuning):
    state, plan = tuning()
    assert text(state, plan) == text(whole.state, whole.plan)


class Killed(BaseException):
    """What SIGKILL would be: the worker hears nothing of it."""


@pytest.mark.parametrize("at", [1, 2, 3, 6, 9, 10])
def test_stopped_after_any_epoch_it_goes_on_to_the_same(whole, tuning, at):
    def stop(event):
        if [e["event"] for e in tuning.events].count("stepped") == at:
            raise KeyboardInterrupt

    tuning.on_event = lambda event: event["event"] == "stepped" and stop(event)
    with pytest.raises(KeyboardInterrupt):
        tuning()
    runs, study = tuning.runs()
    assert study.status == "KILLED"
    assert tuning.tracker.running() == []
    (stopped,) = [r for r in runs.values() if r.tags["trial.state"] == "stopped"]
    assert (stopped.status, stopped.tags["ended.reason"]) == ("KILLED", "stopped by Ctrl-C")
    tuning.on_event = lambda event: None
    state, plan = tuning()
    assert text(state, plan) == text(whole.state, whole.plan)
    runs, study = tuning.runs()
    index = int(stopped.tags["trial"])
    successor = runs[index, 2]
    assert runs[index, 1].tags["superseded.by"] == successor.run_id
    steps = [step for step, _ in tuning.tracker.history(successor.run_id, "dev/iou")]
    assert steps == [0, 1]  # told again from the checkpoint
    assert (successor.status, study.status) == ("FINISHED", "FINISHED")


def test_what_a_checkpoint_tells_is_not_trained_again(whole, tuning, monkeypatch):
    tuning.on_event = lambda event: event["event"] == "stepped" and _raise(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        tuning()
    begun = []
    real = trials.fit

    def fit(*given, state=None, **options):
        begun.append(0 if state is None else state.epoch)
        return real(*given, state=state, **options)

    monkeypatch.setattr(trials, "fit", fit)
    tuning.on_event = lambda event: None
    tuning()
    assert begun == [1, 0, 0, 0, 0]


def test_a_damaged_checkpoint_begins_the_trial_anew(whole, tuning):
    tuning.on_event = lambda event: event["event"] == "stepped" and _raise(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        tuning()
    (checkpoint,) = tuning.root.glob(".defectops/studies/voids/trials/*/*/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    tuning.on_event = lambda event: None
    assert text(*tuning()) == text(whole.state, whole.plan)


def _raise(error):
    raise error


def test_the_test_side_cannot_be_opened_while_a_study_runs(tuning, monkeypatch):
    real = trials.epoch_batches

    def peeking(*given):
        load_fields(tuning.root / "split/voids/test.npz")
        return real(*given)

    assert load_fields(tuning.root / "split/voids/test.npz")
    monkeypatch.setattr(trials, "epoch_batches", peeking)
    state, _ = tuning(trials=1)
    assert state.trials[0].state == "failed"
    assert "test.npz: E_LEAK: sealed" in state.trials[0].reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingDiverged("training", "E_DIVERGED", "loss is nan"), "E_DIVERGED: loss is nan"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "out of memory"),
        (OSError(28, "No space left on device"), "no room on the disk"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug"),
    ],
)
def test_a_trial_that_fails_says_why_and_the_study_goes_on(tuning, monkeypatch, error, reason):
    real = trials.fit

    def fit(*given, **options):
        for record in real(*given, **options):
            if tuning.events[-1].get("index") == 1:
                raise error
            yield record

    monkeypatch.setattr(trials, "fit", fit)
    state, _ = tuning(generations=0)
    assert [t.state for t in state.trials] == ["complete", "failed", "complete"]
    assert reason in state.trials[1].reason
    runs, study = tuning.runs()
    assert (runs[1, 1].status, study.status) == ("FAILED", "FINISHED")
    assert reason in runs[1, 1].tags["ended.reason"]
    assert runs[1, 1].tags["trial.state"] == "failed"
    assert state.best.index != 1


def test_a_pruned_trial_says_so(tuning, monkeypatch):
    def prune(name, own, kin, epochs):
        return "below its kin by 0.3" if tuning.events[-1]["index"] == 1 else ""

    monkeypatch.setattr("defectops.experiments.studies.should_prune", prune)
    state, _ = tuning(generations=0, pruner="median")
    assert [t.state for t in state.trials] == ["complete", "pruned", "complete"]
    runs, _ = tuning.runs()
    assert runs[1, 1].status == "KILLED"
    assert runs[1, 1].tags["trial.state"] == "pruned"
    pictures = [
        tuning.tracker.records[runs[i, 1].run_id].artifacts["comparison/dev.png"] for i in range(3)
    ]
    assert all(p.startswith(b"\x89PNG") for p in pictures)
    assert len(set(pictures)) == 3
    assert runs[1, 1].tags["ended.reason"] == "below its kin by 0.3"
    assert tuning.tracker.history(runs[1, 1].run_id, "dev/iou")


def _at_first_child(tuning, act):
    def on_event(event):
        if event["event"] == "began" and event["parent"] is not None and not done:
            done.append(event["index"])
            for path in tuning.root.glob(".defectops/studies/voids/weights/*"):
                act(path)

    done = []
    tuning.on_event = on_event


def test_weights_that_are_not_here_are_fetched_from_the_parents_run(whole, tuning):
    _at_first_child(tuning, lambda path: path.unlink())
    assert text(*tuning()) == text(whole.state, whole.plan)


def _lose(path, tuning):
    path.unlink()
    for record in tuning.tracker.records.values():
        record.artifacts.clear()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_lose, "E_NO_BUNDLE"),
        (lambda path, tuning: path.write_bytes(path.read_bytes()[:-9]), "E_MODEL_HASH"),
        (lambda path, tuning: path.write_bytes(b""), "E_MODEL_HASH"),
    ],
)
def test_a_parent_that_cannot_be_used_fails_the_trial_and_not_the_study(tuning, damage, code):
    _at_first_child(tuning, lambda path: damage(path, tuning))
    state, _ = tuning()
    warm = state.trials[3:]
    assert {t.state for t in warm} == {"failed"}
    assert all(code in t.reason and t.curve == {} for t in warm)
    assert state.best.index < 3
    runs, study = tuning.runs()
    assert runs[3, 1].status == "FAILED"
    assert study.status == "FINISHED"
    # Only undamaged weights, from here or from their run, are registered.
    for version in tuning.registry.versions("defectops-voids"):
        held = tuning.registry.stored["defectops-voids", version.number]
        assert hashlib.sha256(held).hexdigest() == version.sha256


def test_a_budget_gives_the_trial_back_and_ends_the_session_well(whole, tuning):
    tuning(deadline=0.0)  # long ago
    _, study = tuning.runs()
    assert study.status == "KILLED"
    assert "run the same command again" in study.tags["ended.reason"]
    assert text(*tuning()) == text(whole.state, whole.plan)


def test_what_a_killed_worker_left_is_set_right(tuning):
    # It dies between the study's store and the run's end.
    tuning.on_event = lambda event: None
    ended = tuning.tracker.finish
    count = []

    def finish(run_id, status, reason=""):
        count.append(run_id)
        if len(count) == 1:
            raise Killed
        ended(run_id, status, reason)

    tuning.tracker.finish = finish
    with pytest.raises(Killed):
        tuning()
    tuning.tracker.finish = ended
    state, _ = tuning()
    runs, study = tuning.runs()
    assert {r.status for r in runs.values()} == {"FINISHED"}
    assert study.status == "FINISHED"
    assert len(state.trials) == len(runs) == 5


def test_a_lost_store_is_no_obstacle(whole, tuning):
    tuning.on_event = lambda event: event["event"] == "stepped" and _raise(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        tuning()
    tuning.on_event = lambda event: None
    tuning.tracker = type(tuning.tracker)()
    assert text(*tuning()) == text(whole.state, whole.plan)
    assert tuning.runs()[1].status == "FINISHED"


def test_two_objectives_give_a_set_and_each_member_is_a_candidate(tuning):
    state, _ = tuning(objective="pareto", generations=0, epochs=3)
    assert all(len(t.values) == 2 for t in state.trials)
    errors = [t.facts["error.number_density"] for t in state.trials]
    assert np.isfinite(errors).all()
    versions = tuning.registry.versions("defectops-voids")
    assert {v.sha256 for v in versions} == {t.checkpoint_sha256 for t in state.pareto}
