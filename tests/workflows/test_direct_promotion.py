"""A person asks for a promotion: judged, reproduced, recorded, reversible."""

import contextlib
import dataclasses
import math

import pytest
from drawing import VOIDS, champion, discs, field, write_split

from defectops.errors import Conflict, GateFailed, InputRefused, IntegrityFault
from defectops.experiments import changing
from defectops.experiments.champions import checked_champion, places_of, read_champion
from defectops.experiments.journal import read as read_journal
from defectops.experiments.promotion import PromotionOptions
from defectops.experiments.registry import RecordingRegistry, Version
from defectops.experiments.succession import ANY
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.inference import load_model
from defectops.learning.networks import NetworkSpec, build
from defectops.measurement.model_comparison import one_object
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import save_fields
from defectops.workflows import direct_promotion
from defectops.workflows.direct_promotion import PromotionRequest, promote_version, roll_back
from defectops.workflows.gate_measuring import gate_scores, measure_on_gate
from defectops.workflows.judging import MEASURED_WITH, measured_with
from defectops.workflows.listing_models import champion_history, listed_versions

TINY = NetworkSpec(width=0.1)
EASY = PromotionOptions(floors={"iou": 0.0}, margins={})
HARD = PromotionOptions(floors={"iou": 0.999})


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


class Project:
    """A gate pack of two fields and a registry with untrained networks."""

    def __init__(self, root):
        self.root, self.registry = root, RecordingRegistry()
        label = discs((32, 40), (10, 10), (20, 30))
        self.gate = [field(label, 1.0 * label), field(label, 1.0 * label, image="b.png")]
        save_fields(root / "split/voids/gate.npz", self.gate)
        write_split(root, dev=self.gate)

    def register(self, seed, regions=(), measuring=None, **wrong):
        """Register a network with the scores it has on the gate pack, or with wrong ones."""
        options = measuring or MeasureOptions()
        bundle = Bundle(
            TINY,
            build(TINY, seed).state_dict(),
            dataclasses.asdict(VOIDS),
            {},
            0.01,  # low: an untrained network calls some pixels at any rate
            {},
            {"train_regions": list(regions), "settings": {"preset": "quick"}},
        )
        path = self.root / f"{seed}.safetensors"
        sha256 = save_bundle(path, bundle)
        model = load_model(path, sha256)
        scores = gate_scores(measure_on_gate(VOIDS, model, self.gate, options))
        metrics = {k: v for k, v in scores.items() if v is not None} | wrong
        tags = {"threshold": "0.01", MEASURED_WITH: measured_with(options)}
        return self.registry.submit(VOIDS.model_name, path, f"run{seed}", metrics, tags)

    def promote(self, options=EASY, **request):
        return promote_version(
            self.root, VOIDS, options, self.registry, PromotionRequest(**request)
        )

    @property
    def champion(self):
        return read_champion(places_of(self.root, VOIDS.key))


def test_a_version_that_passes_becomes_champion(project):
    number = project.register(1)
    decision = project.promote(version=number)
    assert decision.moved
    assert decision.before.version is None
    assert checked_champion(places_of(project.root, VOIDS.key)).version == number
    assert math.isfinite(decision.metrics["iou"])


def test_a_run_names_its_version_and_the_candidate_is_the_default(project):
    first, second = project.register(1), project.register(2)
    assert project.promote(run_id="run1").version.number == first
    project.registry.set_alias(VOIDS.model_name, "candidate", second)
    assert project.promote().version.number == second
    with pytest.raises(InputRefused, match="E_VERSION"):
        project.promote(run_id="run9")


def test_without_a_candidate_the_line_says_what_to_give(project):
    with pytest.raises(InputRefused, match="nobody is candidate; give --version"):
        project.promote()


def test_a_dry_run_moves_nothing(project):
    project.register(1)
    decision = project.promote(version=1, dry_run=True)
    assert decision.verdict.passed
    assert project.champion.version is None
    assert not list(project.root.glob("champions/*"))


def test_the_gate_says_fail_and_nothing_moves(project):
    project.register(1)
    with pytest.raises(GateFailed, match="E_GATE"):
        project.promote(HARD, version=1)
    assert project.champion.version is None


def test_force_needs_a_reason_and_is_recorded_as_forced(project):
    project.register(1)
    with pytest.raises(InputRefused, match="--reason"):
        project.promote(HARD, version=1, forced=True)
    project.promote(HARD, version=1, forced=True, reason="new detector")
    assert project.champion.verdict == "forced"
    (row,) = champion_history(project.root, VOIDS)
    assert (row["verdict"], row["reason"], row["to"]) == ("forced", "new detector", 1)


def test_another_champion_than_expected_is_a_conflict(project):
    first, second = project.register(1), project.register(2)
    project.promote(version=first)
    with pytest.raises(Conflict, match="E_CHAMPION_MOVED"):
        project.promote(version=second, expect=None)
    assert project.promote(version=second, expect=first).moved
    assert PromotionRequest().expect == ANY


def test_scores_that_do_not_come_out_again_are_refused_even_by_force(project):
    project.register(1, iou=0.9)
    with pytest.raises(IntegrityFault, match=r"E_REPRODUCE: iou was registered as 0\.9000"):
        project.promote(version=1, forced=True, reason="never mind")
    assert project.champion.version is None


def test_errors_of_quantities_must_come_out_again_but_for_one_object(project):
    name, options = "number_density_error_percent", MeasureOptions()
    sample = measure_on_gate(VOIDS, champion(), project.gate, options)
    assert gate_scores(sample)[name] == 0
    assert one_object(sample)[name] == 25  # four objects are labelled
    tags = {MEASURED_WITH: measured_with(options)}
    for registered, comes_out in ((25.4, True), (-25.4, True), (25.6, False)):
        version = Version(VOIDS.model_name, 1, "", "", {name: registered}, tags)
        refused = pytest.raises(IntegrityFault, match=rf"{name} .*tolerance 25\.5000")
        with contextlib.nullcontext() if comes_out else refused:
            direct_promotion._require_reproduced(version, sample, options)


def test_what_was_measured_with_other_options_is_not_asked_again(project):
    other = MeasureOptions(border="all")
    wrong = {"number_density_error_percent": 1e4}
    project.promote(version=project.register(1, measuring=other, **wrong), dry_run=True)
    project.register(2, measuring=other, recall=0.123456)
    with pytest.raises(IntegrityFault, match="E_REPRODUCE: recall"):
        project.promote(version=2)


def test_a_model_that_saw_the_gate_is_a_leak_even_by_force(project):
    project.register(1, regions=[["a.png", 0, 10, 0, 10], ["b.png", 0, 10, 0, 10]])
    with pytest.raises(GateFailed, match="E_LEAK"):
        project.promote(version=1, forced=True, reason="never mind")


def test_without_a_gate_pack_the_line_says_how_to_make_it(project):
    project.register(1)
    (project.root / "split/voids/gate.npz").unlink()
    with pytest.raises(InputRefused, match="dvc repro split@voids"):
        project.promote(version=1)


def test_rollback_restores_the_champion_before(project):
    for seed in (1, 2):
        project.promote(version=project.register(seed))
    before = project.champion
    champion = roll_back(project.root, VOIDS, project.registry, "doubles")
    assert (before.version, champion.version) == (2, 1)
    assert checked_champion(places_of(project.root, VOIDS.key)).version == 1
    rows = champion_history(project.root, VOIDS)
    assert [r["verdict"] for r in rows] == ["pass", "pass", "rollback"]


def test_versions_are_listed_with_scores_and_aliases(project):
    assert listed_versions(project.registry, VOIDS) == []
    first, second = project.register(1), project.register(2)
    project.promote(version=first)
    rows = listed_versions(project.registry, VOIDS)
    assert [r["version"] for r in rows] == [first, second]
    assert rows[0]["aliases"] == "champion, candidate"
    assert rows[1]["aliases"] == ""
    assert 0 <= rows[0]["iou"] <= 1
    assert rows[0]["threshold"] == 0.01


def test_who_moves_the_champion_while_another_is_judged_is_a_conflict_for_the_other(
    project, monkeypatch
):
    for seed in (1, 2, 3):
        project.register(seed)
    project.promote(version=1)
    judge, moved = direct_promotion.judge_on_gate, []

    def slowly(*given):
        if not moved:
            moved.append(True)
            project.promote(version=2)
        return judge(*given)

    monkeypatch.setattr(direct_promotion, "judge_on_gate", slowly)
    with pytest.raises(Conflict, match="E_CHAMPION_MOVED: version 1 was expected"):
        project.promote(version=3)
    assert project.champion.version == 2


def test_a_dry_run_finishes_nothing_and_says_what_does(project, monkeypatch):
    project.register(1)

    def die(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changing, "STEPS", (die,))
        with pytest.raises(KeyboardInterrupt):
            project.promote(version=1)
    with pytest.raises(IntegrityFault, match=r"E_UNFINISHED.*doctor --fix"):
        project.promote(version=1, dry_run=True)
    project.promote(version=1)
    (entry,) = read_journal(places_of(project.root, VOIDS.key).journal)
    assert entry.to_version == 1
