"""What a model has seen is found by name, by content and by place; the test side stays shut."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import VOIDS, discs, field, write_split
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import GateFailed, IntegrityFault
from defectops.experiments.promotion import PromotionOptions
from defectops.experiments.registry import RecordingRegistry
from defectops.experiments.study_trials import Choice, Parent
from defectops.experiments.tracking import RecordingTracker
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning.bundle import Bundle, load_bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.micrograph import Region, save_fields, sealed
from defectops.workflows.direct_promotion import PromotionRequest, promote_version
from defectops.workflows.leak_audit import Cut, Judges, leaks, refuse_leak, shared, side_cuts
from defectops.workflows.packing import Origin, packed
from defectops.workflows.promoting import promote_on_repro
from defectops.workflows.trials import Evaluator

DIGEST = "d" * 64


def cut(image="a.png", *place, digest=""):
    return Cut(image, Region(*(place or (0, 10, 0, 10))), digest)


def seen(train=(), dev=(), **more):
    rows = {
        "train_regions": [
            [c.image, *dataclasses.astuple(c.region), c.pixels_sha256] for c in train
        ],
        "dev_regions": [[c.image, *dataclasses.astuple(c.region), c.pixels_sha256] for c in dev],
    }
    return SimpleNamespace(training=rows | more)


@pytest.mark.parametrize(
    ("trained", "judged", "found"),
    [
        (cut("a.png"), cut("a.png", 9, 20, 9, 20), ["a.png"]),  # one pixel
        (cut("a.png"), cut("a.png", 10, 20, 0, 10), []),  # beside each other
        (cut("a.png"), cut("b.png"), []),
        (cut("a.png", digest=DIGEST), cut("b.png", digest=""), []),
        (cut("a.png", digest=""), cut("b.png", digest=""), []),  # unknown is not equal
        (
            cut("a.png", digest=DIGEST),
            cut("b.png", 9, 20, 9, 20, digest=DIGEST),
            ["b.png, the same pixels as a.png"],
        ),
        (cut("a.png", digest=DIGEST), cut("b.png", 10, 20, 0, 10, digest=DIGEST), []),
        # Saved anew under its name, the digest changed: the safe answer.
        (cut("a.png", digest=DIGEST), cut("a.png", digest="e" * 64), ["a.png"]),
    ],
)
def test_a_micrograph_is_known_by_name_or_content_and_shared_by_place(trained, judged, found):
    assert shared([trained], [judged]) == found


regions = st.builds(
    lambda top, left, rows, columns: Region(top, top + rows, left, left + columns),
    *[st.integers(0, 6)] * 2,
    *[st.integers(1, 5)] * 2,
)
cuts = st.lists(st.builds(Cut, st.sampled_from("ab"), regions, st.sampled_from(["", "x", "y"])))


@given(cuts, cuts)
def test_what_is_shared_is_what_two_drawings_have_in_common(trained, judged):
    def drawn(rows):
        pixels = set()
        for c in rows:
            for key in (c.image, c.pixels_sha256 and f"sha {c.pixels_sha256}"):
                r = c.region
                pixels |= {
                    (key, y, x)
                    for y in range(r.top, r.bottom)
                    for x in range(r.left, r.right)
                    if key
                }
        return pixels

    expected = {c.image for c in judged if drawn([c]) & drawn(trained)}
    assert {text.partition(",")[0] for text in shared(trained, judged)} == expected


def test_each_kind_of_leak_is_named():
    gate, test = [cut("g.png")], [cut("t.png")]
    judges = Judges(gate, test)
    assert leaks(seen(train=[cut("a.png")], dev=gate), judges) == []
    assert leaks(seen(train=gate), judges) == ["was trained on pixels of the gate pack (g.png)"]
    assert leaks(seen(train=test), judges) == ["was trained on pixels of the test side (t.png)"]
    assert leaks(seen(dev=test), judges) == [
        "had its epoch and threshold chosen on pixels of the test side (t.png)"
    ]
    with pytest.raises(GateFailed, match=r"m/1: E_LEAK: .*gate.* and .*test side.*; do this") as e:
        refuse_leak(seen(train=gate + test), "m/1", judges, "do this")
    assert e.value.exit_code == 6


def test_a_side_gate_of_its_own_must_not_have_chosen_the_model():
    gate = [cut("g.png")]
    assert leaks(seen(dev=gate), Judges(gate, own_gate=gate)) == [
        "had its epoch and threshold chosen on pixels of the side gate (g.png)"
    ]
    assert leaks(seen(dev=[cut("d.png")]), Judges(gate, own_gate=gate)) == []


@pytest.mark.parametrize(
    "rows", [None, "abc", 7, [["a.png", 0, 1]], [["a.png", 0, "x", 0, 1]], [[]], [["a"] * 9]]
)
def test_a_bundle_that_cannot_say_what_it_saw_is_not_cleared(rows):
    (text,) = leaks(SimpleNamespace(training={"train_regions": rows}), Judges())
    assert text.startswith("does not say which pixels")
    (text,) = leaks(seen(dev_regions=rows), Judges())
    assert text.startswith("does not say which pixels")


def test_the_sides_are_read_from_the_record(tmp_path):
    label = np.zeros((4, 6), bool)
    there = [field(label, at=(2, 3), pixels=DIGEST)]
    write_split(tmp_path, train=[field(label)], test=there)
    assert side_cuts(tmp_path, VOIDS, "test") == [cut("a.png", 2, 6, 3, 9, digest=DIGEST)]
    assert side_cuts(tmp_path, VOIDS, "dev") == []


@pytest.mark.parametrize("damage", [None, "", "[]", '{"pieces": [{"side": "test"}]}'])
def test_a_record_that_cannot_tell_is_refused(tmp_path, damage):
    write_split(tmp_path)
    path = tmp_path / "split/voids/split.json"
    path.unlink() if damage is None else path.write_text(damage)
    with pytest.raises(IntegrityFault, match=r"E_CORRUPT.*dvc repro split@voids"):
        side_cuts(tmp_path, VOIDS, "test")


TINY = NetworkSpec(width=0.1)


class Project:
    """A gate pack, a test side that must not be touched, and one registered version."""

    def __init__(self, root):
        self.root, self.registry = root, RecordingRegistry()
        label = discs((32, 40), (10, 10), (20, 30))
        self.gate = field(label, 1.0 * label, image="g.png", pixels="a" * 64)
        self.test = field(label, 1.0 * label, image="t.png", pixels="b" * 64, at=(32, 0))
        self.pack = root / "split/voids/gate.npz"
        save_fields(self.pack, [self.gate])
        (root / "split/voids/test.npz").write_bytes(b"poison: whoever opens this fails")
        write_split(root, dev=[self.gate], test=[self.test])

    def train(self, path, *rows, dev=()):
        training = {"train_regions": list(rows), "settings": {"preset": "quick"}}
        training["dev_regions"] = list(dev)
        kind = dataclasses.asdict(VOIDS)
        save_bundle(path, Bundle(TINY, build(TINY, 1).state_dict(), kind, {}, 0.01, {}, training))

    def promote(self, *rows, dev=(), **request):
        path = self.root / "m.safetensors"
        self.train(path, *rows, dev=dev)
        number = self.registry.submit(VOIDS.model_name, path, "", {}, {"threshold": "0.01"})
        asked = PromotionRequest(version=number, **request)
        options = PromotionOptions(floors={"iou": 0.0}, margins={})
        with sealed(self.pack):
            return promote_version(self.root, VOIDS, options, self.registry, asked)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


FORCED = {"forced": True, "reason": "never mind"}


SEEN = pytest.mark.parametrize(
    ("row", "what"),
    [
        (["g.png", 0, 9, 0, 9, ""], "gate pack (g.png)"),
        (["renamed.png", 0, 9, 0, 9, "a" * 64], "gate pack (g.png, the same pixels as renamed"),
        (["t.png", 40, 50, 0, 9, ""], "test side (t.png)"),
        (["copy.png", 40, 50, 0, 9, "b" * 64], "test side (t.png, the same pixels as copy.png)"),
    ],
)


@pytest.mark.parametrize("request_", [{"dry_run": True}, {}, FORCED])
@SEEN
def test_the_gate_refuses_whoever_has_seen_it_or_the_test_side(project, row, what, request_):
    with pytest.raises(GateFailed, match="E_LEAK") as caught:
        project.promote(row, **request_)
    assert what in str(caught.value)
    assert not list(project.root.glob("champions/*"))


ON_GATE = ["g.png", 0, 9, 0, 9, "a" * 64]


@pytest.mark.parametrize("request_", [{"dry_run": True}, {}, FORCED])
def test_a_model_chosen_on_what_is_the_side_gate_now_is_refused(project, request_):
    write_split(project.root, gate=[project.gate], test=[project.test])
    with pytest.raises(GateFailed, match=r"E_LEAK: .*chosen on pixels of the side gate \(g.png\)"):
        project.promote(dev=[ON_GATE], **request_)
    assert not list(project.root.glob("champions/*"))


def test_where_the_gate_pack_is_the_dev_side_a_model_may_be_chosen_on_it(project):
    assert project.promote(dev=[ON_GATE]).moved


@SEEN
def test_inside_dvc_repro_the_same_is_refused_and_not_even_registered(project, row, what):
    project.train(project.root / "models/voids/model.safetensors", row)
    (project.root / "results/runs").mkdir(parents=True)
    (project.root / "results/runs/voids.json").write_text('{"run_id": "r"}')
    options, tracker = PromotionOptions(floors={"iou": 0.0}), RecordingTracker()
    with pytest.raises(GateFailed, match=r"models/voids: E_LEAK.*dvc repro train@voids") as caught:
        promote_on_repro(project.root, VOIDS, options, tracker, project.registry)
    assert what in str(caught.value)
    assert project.registry.versions(VOIDS.model_name) == []
    assert not list(project.root.glob("champions/*"))


def test_the_gate_judges_without_opening_the_test_side(project):
    rest_of_it = ["t.png", 0, 32, 0, 40, "b" * 64]
    assert project.promote(rest_of_it, dry_run=True).verdict.passed
    assert project.promote(rest_of_it).moved


def test_what_a_parent_was_trained_on_is_its_childs_too(tmp_path):
    # Of an evaluator only what it packs: a study has one ground, so the parent is made up here.
    foreign = ["old.png", 0, 9, 0, 9, DIGEST]
    training = {"train_regions": [foreign]}
    kind = dataclasses.asdict(VOIDS)
    bundle = Bundle(TINY, build(TINY, 1).state_dict(), kind, {}, 0.5, {}, training)
    sha256 = save_bundle(tmp_path / "waiting", bundle)
    (tmp_path / "waiting").rename(tmp_path / f"{sha256}.safetensors")
    assert load_bundle(tmp_path / f"{sha256}.safetensors").training == training
    evaluator = Evaluator(None, None, tmp_path)
    choice = Choice("voids", 3, 1, 1, {}, 0, 2, Parent(0, sha256, 2, 1.0, ""), tmp_path)
    assert evaluator._parent(choice).training["train_regions"] == [foreign]
    assert evaluator._parent(dataclasses.replace(choice, parent=None)) is None


def test_a_bundle_names_its_own_rectangles_and_those_it_inherits():
    label = discs((64, 64), (20, 20))
    own, dev = field(label, 1.0 * label, pixels=DIGEST), field(label, 1.0 * label, at=(64, 0))
    settings = SimpleNamespace(network=TINY, flat=dict)
    state = SimpleNamespace(best_weights=lambda: build(TINY, 1).state_dict(), best_threshold=0.5)
    origin = Origin(VOIDS, settings, ConditioningOptions(), [own], [dev], "data", 1)
    row, foreign = ["a.png", 0, 64, 0, 64, DIGEST], ["old.png", 0, 9, 0, 9, ""]
    training = packed(origin, state, {}, {}, [row, foreign]).training
    assert training["train_regions"] == [row, foreign]
    assert training["dev_regions"] == [["a.png", 64, 128, 0, 64, ""]]
