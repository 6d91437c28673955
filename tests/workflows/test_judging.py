"""What the rules are handed: the champion on the same fields, experts, size and time."""

from types import SimpleNamespace

import numpy as np
import pytest
from drawing import LINES, VOIDS, discs, field

from defectops.experiments.champions import Champion, places_of
from defectops.experiments.promotion import PromotionOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.workflows import judging
from defectops.workflows.gate_measuring import (
    gate_scores,
    measure_on_gate,
    seconds_per_megapixel,
)
from defectops.workflows.judging import Gate, judge_on_gate, measured_with

SHAPE = (64, 96)
CENTRES = [(r, c) for r in range(8, 64, 16) for c in range(8, 96, 16)]
LABEL = discs(SHAPE, *CENTRES)
NONE = PromotionOptions(margins={})


def model(mask=LABEL, seen=()):
    """Return a model that finds this mask in whatever it is shown."""
    bundle = SimpleNamespace(
        threshold=0.5, training={"train_regions": list(seen)}, conditioning={}, defect={}
    )
    return SimpleNamespace(bundle=bundle, probability=lambda plane: mask.astype(np.float32))


class Court:
    """A gate pack of three fields, a bundle file and a champion beside it."""

    def __init__(self, root, monkeypatch):
        self.places = places_of(root, VOIDS.key)
        self.fields = [field(LABEL, image=f"{i}.png") for i in range(3)]
        self.bundle = root / "model.safetensors"
        self.bundle.write_bytes(b"x" * 2_000_000)
        self.standing = model()
        monkeypatch.setattr(judging, "load_model", lambda path, sha256: self.standing)

    def enthrone(self, champion):
        self.standing = champion
        self.places.bundle.parent.mkdir(parents=True, exist_ok=True)
        self.places.bundle.write_bytes(b"champion")
        return Champion("m", 3, "run", "of another file", 0.5)

    def judge(self, rules=NONE, challenger=None, champion=None):
        given = challenger or model()
        gate = Gate(VOIDS, self.places, self.fields, rules)
        sample = gate.show(given)
        return judge_on_gate(gate, given, sample, self.bundle, champion or Champion("m"))


@pytest.fixture
def court(tmp_path, monkeypatch):
    return Court(tmp_path, monkeypatch)


def rules(verdict):
    return {f.rule: f for f in verdict.findings}


def test_scores_are_those_of_the_models_mask_at_its_threshold():
    found = gate_scores(measure_on_gate(VOIDS, model(), [field(LABEL)], MeasureOptions()))
    assert found["iou"] == found["object_f1"] == 1
    assert found["number_density_error_percent"] == 0
    half = model(LABEL * 0.4)
    found = gate_scores(measure_on_gate(VOIDS, half, [field(LABEL)], MeasureOptions()))
    assert found["recall"] == 0
    lines = gate_scores(measure_on_gate(LINES, model(), [field(LABEL)], MeasureOptions()))
    assert "line_completeness" in lines


def test_without_a_champion_only_floors_and_ceilings_are_asked(court):
    options = PromotionOptions(
        floors={"iou": 0.5, "line_completeness": 0.5},
        ceilings={"number_density_error_percent": 50.0},
    )
    verdict = court.judge(options)
    assert verdict.passed
    assert list(rules(verdict)) == ["floor iou", "ceiling number_density_error_percent"]


def test_the_champion_is_shown_the_same_fields_once(court):
    shown = []
    champion = model(discs(SHAPE, *CENTRES[6:]))
    plain = champion.probability
    champion.probability = lambda plane: shown.append(1) or plain(plane)
    standing = court.enthrone(champion)
    verdict = court.judge(PromotionOptions(margins={"iou": 0.02}), champion=standing)
    assert len(shown) == len(court.fields)
    (finding,) = verdict.findings
    assert finding.estimate == pytest.approx(0.25)
    assert (finding.outcome, "better than the champion" in finding.message) == ("pass", True)


def test_a_worse_model_fails_against_the_champion(court):
    worse = model(discs(SHAPE, *CENTRES[10:]))
    options = PromotionOptions(margins={"iou": 0.02, "number_density_error_percent": 5.0})
    verdict = court.judge(options, worse, court.enthrone(model()))
    assert {f.outcome for f in verdict.findings} == {"fail"}
    assert "worse than the champion" in verdict.reason


def test_why_a_champion_was_not_compared_is_said_and_decides_nothing(court):
    options = PromotionOptions(floors={"iou": 0.1})
    away = Champion("m", 3, "run", "of another file", 0.5)
    assert "its bundle is not at hand" in court.judge(options, champion=away).reason
    standing = court.enthrone(model(seen=[["0.png", 0, 8, 0, 8]]))
    verdict = court.judge(options, champion=standing)
    assert verdict.passed
    assert "trained on pixels of the gate pack" in verdict.reason


def test_the_size_of_the_bundle(court):
    for most, outcome in ((2.0, "pass"), (1.9, "fail")):
        options = PromotionOptions(margins={}, max_size_mb=most)
        assert rules(court.judge(options))["most size_mb"].outcome == outcome


def test_time_is_measured_only_if_it_is_asked(court, monkeypatch):
    asked = []
    monkeypatch.setattr(
        judging,
        "seconds_per_megapixel",
        lambda model, field: asked.append(field) or seconds_per_megapixel(model, field, 3),
    )
    court.judge()
    assert not asked
    verdict = court.judge(PromotionOptions(margins={}, max_seconds_per_megapixel=1e6))
    finding = rules(verdict)["most seconds_per_megapixel"]
    assert (finding.outcome, finding.n) == ("pass", 3)
    assert finding.estimate > 0


def test_a_panel_in_the_project(court):
    head = "image,rater,kind,quantity,value,unit\n"
    rows = ["0.png,truth,truth,number_density,100,m^-3"]
    rows += [f"0.png,e{i},expert,number_density,{v},m^-3" for i, v in enumerate((180, 185, 190))]
    path = court.places.root / "panel.csv"
    path.write_text(head + "\n".join(rows) + "\n")
    options = PromotionOptions(margins={}, panel="panel.csv")
    (finding,) = court.judge(options).findings
    assert (finding.outcome, finding.rule) == ("pass", "experts number_density_error_percent")
    assert finding.estimate == pytest.approx(-85)


def test_options_of_measuring_have_a_digest_of_their_own():
    plain = measured_with(MeasureOptions())
    assert plain == measured_with(MeasureOptions())
    assert plain != measured_with(MeasureOptions(border="all"))
