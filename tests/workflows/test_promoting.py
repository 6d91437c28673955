"""A trained model before the gate: who becomes champion, who stays, and what is written of it."""

import json
import math
from types import SimpleNamespace

import pandas as pd
import pytest
from drawing import VOIDS, discs, field, write_split

from defectops.errors import ModelRefused
from defectops.experiments import changing
from defectops.experiments.champions import Champion, checked_champion, places_of, read_champion
from defectops.experiments.journal import read as read_journal
from defectops.experiments.promotion import PromotionOptions
from defectops.experiments.registry import RecordingRegistry
from defectops.experiments.succession import note, rollback
from defectops.experiments.tracking import RecordingTracker
from defectops.learning import machine
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.inference import LoadedModel
from defectops.learning.networks import NetworkSpec, build
from defectops.measurement.model_comparison import Change
from defectops.micrograph import save_fields
from defectops.workflows import after_promotion, judging, promoting
from defectops.workflows.promoting import promote_on_repro

TINY = NetworkSpec(width=0.1)
MODEL = "defectops-voids"


def _sure(scores):
    """Return intervals of no width."""
    values = {name: math.nan if value is None else value for name, value in scores.items()}
    return {name: Change(v, v, v, 32, "1", "tiles") for name, v in values.items()}


def _sure_change(champion, challenger, how):
    return _sure({n: v - champion.scores[n] for n, v in challenger.scores.items()})


class Project:
    """A project whose models score what they are told to."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.tracker, self.registry = RecordingTracker(), RecordingRegistry()
        self.places = places_of(root, VOIDS.key)
        self.scores = {}
        label = discs((32, 40), (10, 10), (20, 30))
        pieces = [field(label, 1.0 * label), field(label, 1.0 * label, image="b.png")]
        save_fields(root / "split/voids/gate.npz", pieces)
        save_fields(root / "split/voids/dev.npz", pieces)
        write_split(root, dev=pieces)
        # What is measured, and how sure that is, has tests of its own.
        monkeypatch.setattr(judging, "measure_on_gate", self._told)
        monkeypatch.setattr(judging, "score_intervals", lambda sample, how: _sure(sample.scores))
        monkeypatch.setattr(judging, "paired_change", _sure_change)
        monkeypatch.setattr(promoting, "gate_scores", lambda sample: sample.scores)

    def _told(self, defect, model, gate, options, masks):
        assert len(gate) == 2
        told = self.scores[model.bundle.training["seed"]]
        return SimpleNamespace(scores=told, images=tuple(f.image for f in gate))

    def train(self, seed, regions=(), conditioning=None, **scores):
        """Leave what a training leaves; the model scores as said."""
        kind = {"key": "voids", "shape": "particle", "polarity": "bright", "colour": "#8ac926"}
        training = {"seed": seed, "settings": {"preset": "quick"}, "train_regions": list(regions)}
        bundle = Bundle(
            TINY,
            build(TINY, seed).state_dict(),
            kind,
            conditioning or {},
            0.5 + seed / 100,
            {},
            training,
        )
        sha256 = save_bundle(self.root / "models/voids/model.safetensors", bundle)
        self.scores[seed] = scores
        run_id = self.tracker.start(MODEL, f"seed {seed}", {}, {})
        self.tracker.finish(run_id, "FINISHED")
        self._write("results/runs/voids.json", json.dumps({"run_id": run_id}))
        rows = [{"epoch": e, "train_iou": 0.1 * e, "dev_iou": 0.1 * e} for e in range(3)]
        self._write("results/curves/voids.csv", pd.DataFrame(rows).to_csv(index=False))
        return sha256, run_id

    def _write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def promote(self, registry="own", **options):
        given = PromotionOptions(**{"floors": {"iou": 0.2}, **options})
        chosen = self.registry if registry == "own" else registry
        return promote_on_repro(self.root, VOIDS, given, self.tracker, chosen)

    @property
    def champion(self):
        return read_champion(self.places)

    @property
    def written(self):
        return json.loads((self.root / "results/promotion/voids.json").read_text())

    @property
    def journal(self):
        return read_journal(self.places.journal)

    def state(self):
        champions = sorted(p for p in (self.root / "champions").rglob("*") if p.is_file())
        versions = [(v.number, v.sha256) for v in self.registry.versions(MODEL)]
        aliases = [self.registry.alias(MODEL, a) for a in ("champion", "candidate", "previous")]
        return {str(p): p.read_bytes() for p in champions}, versions, aliases


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A project whose figures are drawn, which takes a while."""
    threads = machine.settle(1)
    yield Project(tmp_path, monkeypatch)
    machine.settle(threads)


@pytest.fixture
def project(drawn, monkeypatch):
    monkeypatch.setattr(promoting, "_publish_figures", lambda *given: None)
    return drawn


def test_the_first_model_that_passes_the_floors_is_champion(project):
    sha256, run_id = project.train(1, iou=0.3)
    assert project.promote().outcome == "pass"
    champion = checked_champion(project.places)
    assert (champion.version, champion.run_id, champion.sha256) == (1, run_id, sha256)
    assert (champion.threshold, champion.verdict) == (0.51, "pass")
    assert project.registry.alias(MODEL, "champion") == 1
    assert project.written["moved"] is True
    assert project.registry.version(MODEL, 1).metrics == {"iou": 0.3}
    assert project.registry.version(MODEL, 1).tags["preset"] == "quick"


def test_below_the_floors_nobody_is_champion_and_every_output_is_there(project):
    project.train(1, iou=0.1)
    verdict = project.promote()
    assert (verdict.outcome, verdict.reason) == (
        "fail",
        "iou 0.1 [0.1, 0.1] is below 0.2",
    )
    assert project.champion == Champion(MODEL)
    assert project.places.bundle.parent.is_dir()
    assert project.places.journal.read_text() == ""
    assert project.places.file.is_file()
    assert (project.written["outcome"], project.written["moved"]) == ("fail", False)
    # It is a candidate all the same.
    assert project.registry.alias(MODEL, "candidate") == 1
    assert project.registry.alias(MODEL, "champion") is None


def test_an_undefined_score_is_inconclusive_and_promotes_nobody(project):
    project.train(1, iou=None, recall=0.5)
    assert project.promote().outcome == "inconclusive"
    assert project.champion.version is None
    assert project.registry.version(MODEL, 1).metrics == {"recall": 0.5}


def test_a_worse_model_leaves_the_champion_in_place(project):
    project.train(1, iou=0.5)
    project.promote()
    before = project.champion
    worse, _ = project.train(2, iou=0.4)
    verdict = project.promote()
    assert verdict.outcome == "fail"
    assert "change of iou -0.1 " in verdict.reason
    assert project.champion == before
    assert project.written["moved"] is False
    assert project.registry.find(MODEL, worse) == project.registry.alias(MODEL, "candidate") == 2


def test_a_better_model_follows_the_champion(project):
    first, _ = project.train(1, iou=0.4)
    project.promote()
    second, _ = project.train(2, iou=0.5)
    assert project.promote().passed
    assert checked_champion(project.places).sha256 == second != first
    assert [(e.from_version, e.to_version) for e in project.journal] == [(None, 1), (1, 2)]
    assert project.registry.alias(MODEL, "previous") == 1


@pytest.mark.parametrize(("on_repro", "champions"), [("first", [1, 1]), ("never", [None, None])])
def test_on_repro_holds_back_what_the_gate_lets_pass(project, on_repro, champions):
    for seed, expected in zip((1, 2), champions, strict=True):
        project.train(seed, iou=0.2 + seed / 10)
        assert project.promote(on_repro=on_repro).outcome == "pass"
        assert project.champion.version == expected
        assert project.written["moved"] is (on_repro == "first" and seed == 1)
    assert [v.number for v in project.registry.versions(MODEL)] == [1, 2]


def test_inside_an_experiment_nothing_moves_and_the_verdict_is_written(project):
    project.train(1, iou=0.4)
    project.promote()
    before = project.state()
    project.train(2, iou=0.9)
    assert project.promote(registry=None).outcome == "pass"
    assert project.state() == before
    assert (project.written["outcome"], project.written["moved"]) == ("pass", False)


def test_an_experiment_before_any_champion_leaves_the_outputs(project):
    project.train(1, iou=0.9)
    project.promote(registry=None)
    assert project.champion == Champion(MODEL)
    assert project.places.bundle.parent.is_dir()
    assert project.registry.versions(MODEL) == []


def test_the_same_model_again_changes_nothing(project):
    project.train(1, iou=0.4)
    project.promote()
    before = project.state()
    assert project.promote().outcome == "pass"
    assert project.state() == before
    assert project.written["moved"] is False


def test_the_same_model_below_new_floors_stays_champion_with_the_verdict_fail(project):
    project.train(1, iou=0.4)
    project.promote()
    before = project.state()
    assert project.promote(floors={"iou": 0.9}).outcome == "fail"
    assert project.state() == before


def test_a_clone_without_bundle_and_store_restores_both_from_the_same_training(project):
    project.train(1, iou=0.4)
    project.promote()
    before = project.state()[0]
    project.places.bundle.unlink()
    project.registry = RecordingRegistry()
    project.promote()
    assert project.state()[0] == before
    assert project.registry.alias(MODEL, "champion") == 1


def test_without_the_champions_bundle_the_floors_decide_and_the_journal_says_so(project):
    project.train(1, iou=0.9)
    project.promote()
    project.places.bundle.unlink()
    other, _ = project.train(2, iou=0.3)
    assert project.promote().passed
    assert checked_champion(project.places).sha256 == other
    assert project.journal[-1].reason == (
        "iou 0.3 [0.3, 0.3] is at least 0.2; champion version 1 was not compared with: its "
        "bundle is not at hand"
    )


def test_a_champion_of_an_earlier_form_is_not_compared_with(project, monkeypatch):
    def refused(path, sha256=None):
        raise ModelRefused(path.name, "E_MODEL_FORM", "a model of form 1")

    project.train(1, iou=0.9)
    project.promote()
    other, _ = project.train(2, iou=0.3)
    monkeypatch.setattr(judging, "load_model", refused)
    assert "of an earlier form" in project.promote().reason
    assert checked_champion(project.places).sha256 == other


def test_a_version_says_what_is_known_of_it(project):
    project.train(1, iou=0.9, object_f1=0.4)
    project.promote()
    version = project.registry.version(MODEL, 1)
    assert "| F1 of objects | 0.4000 |" in version.card
    assert version.tags["preset"] == "quick"


def test_a_champion_that_saw_the_gate_pack_in_training_is_not_compared_with(project):
    project.train(1, iou=0.9, regions=[["c.png", 10, 20, 0, 8]])
    project.promote()
    label = discs((32, 40), (10, 10))
    pieces = [field(label), field(label, image="c.png")]  # another split since
    save_fields(project.root / "split/voids/gate.npz", pieces)
    other, _ = project.train(2, iou=0.3)
    verdict = project.promote()
    assert verdict.passed
    assert checked_champion(project.places).sha256 == other
    assert "trained on pixels of the gate pack (c.png)" in verdict.reason


def test_a_champion_of_other_conditioning_is_not_compared_with(project):
    project.train(1, iou=0.9, conditioning={"clip_sd": 3.0})
    project.promote()
    other, _ = project.train(2, iou=0.3)
    assert "conditioned otherwise" in project.promote().reason
    assert checked_champion(project.places).sha256 == other


def test_the_same_model_inside_an_experiment_restores_a_missing_bundle(project):
    project.train(1, iou=0.4)
    project.promote()
    project.places.bundle.unlink()
    registry, project.registry = project.registry, None
    project.promote()
    assert project.places.bundle.is_file()
    assert registry.alias(MODEL, "champion") == 1


def test_the_run_gets_curves_and_a_map_of_each_dev_field(drawn):
    _, run_id = drawn.train(1, iou=0.4)
    drawn.promote()
    artifacts = drawn.tracker.records[run_id].artifacts
    assert sorted(artifacts) == ["comparison/a_dev.png", "comparison/b_dev.png", "curves/iou.png"]
    assert all(content.startswith(b"\x89PNG") for content in artifacts.values())


def test_where_the_gate_pack_is_the_dev_side_each_field_is_segmented_once(drawn, monkeypatch):
    seen = []
    plain = LoadedModel.probability

    def counted(self, plane):
        seen.append(plane)
        return plain(self, plane)

    monkeypatch.setattr(LoadedModel, "probability", counted)
    drawn.train(1, iou=0.4)
    drawn.promote()
    assert len(seen) == 2  # the two fields of the gate pack, which are those of the dev side


def test_two_dev_fields_of_one_image_have_maps_of_their_own(drawn):
    label = discs((32, 40), (10, 10))
    pieces = [field(label, 1.0 * label, at=(0, 40 * i)) for i in range(2)]
    save_fields(drawn.root / "split/voids/dev.npz", pieces)
    _, run_id = drawn.train(1, iou=0.4)
    drawn.promote()
    assert {"comparison/a_dev.png", "comparison/a_dev_2.png"} <= set(
        drawn.tracker.records[run_id].artifacts
    )


def test_where_the_store_does_not_hold_the_run_no_figure_is_drawn(drawn):
    drawn.train(1, iou=0.4)
    drawn.tracker = RecordingTracker()
    assert drawn.promote().passed
    assert drawn.tracker.records == {}


def test_a_move_that_dvc_was_not_told_of_is_not_undone(project, monkeypatch):
    monkeypatch.setattr(after_promotion, "unrecorded", lambda places: True)
    for seed in (1, 2):
        project.train(seed, iou=0.2 + seed / 10)
        project.promote()
    rollback(project.places, project.registry, note("doubles", by="rollback"))
    assert project.champion.version == 1
    verdict = project.promote()  # the stage runs again, with the model that was judged before
    assert verdict.passed
    assert "somebody moved the champion after this model was judged" in verdict.reason
    assert project.champion.version == 1
    assert project.written["moved"] is False
    project.train(3, iou=0.6)  # a new one is judged as always
    assert project.promote().passed
    assert project.champion.version == 3


def test_an_interrupted_move_is_finished_before_a_model_is_judged(project, monkeypatch):
    project.train(1, iou=0.3)

    def die(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changing, "STEPS", (*changing.STEPS[:2], die))
        with pytest.raises(KeyboardInterrupt):
            project.promote()
    project.train(2, iou=0.5)
    project.promote()
    assert [e.to_version for e in project.journal] == [1, 2]
    assert [e.more["by"] for e in project.journal] == ["repro", "repro"]
    assert checked_champion(project.places).version == 2
