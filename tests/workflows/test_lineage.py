"""Where weights come from: found in the exported study, in the store, through the registry."""

import json
import shutil

import pytest

from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments.registry import RecordingRegistry, Version
from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.studies import (
    Outcome,
    Plan,
    Step,
    close_study,
    exported,
    open_study,
    state_of,
    work,
)
from defectops.workflows.lineage import Recorded, find_lineage

PLAN = Plan(
    "voids", 1, Space((Dimension("rate", "float"),)), 2, 1, 1, 1, 2, pruner="none", tolerance=0.0
)


def evaluate(choice):
    value = choice.params["rate"] + 0.1 * choice.generation
    yield Step(0, value, 2.0)
    return Outcome((value,), f"{choice.index:064d}")


def unasked():
    raise AssertionError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text("defects:\n  voids: {}\n  precipitates: {}\n")
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a study in its store, and the study."""
    folder = tmp_path_factory.mktemp("made")
    study = open_study(folder, "", "voids", PLAN)
    work(study, evaluate)
    state = state_of(study)
    close_study(study)
    return folder, state


@pytest.fixture
def state(root, made):
    folder, state = made
    shutil.copytree(folder, root, dirs_exist_ok=True)
    return state


def export(root, state, plan=PLAN):
    (root / "studies").mkdir(exist_ok=True)
    (root / "studies" / "voids.json").write_text(json.dumps(exported(state, plan)))


def test_a_trial_of_the_store_alone(root, state):
    found = find_lineage(root, "voids/3", unasked)
    parent = state.trials[3].parent
    assert (found.study, found.objective, found.index) == ("voids", "iou", 3)
    assert found.line == (parent, 3)
    ((_, top), *below) = found.trees[0].walk()
    assert top.member.index == parent
    assert [b.member.index for _, b in below] == [2, 3]
    assert found.members[3].cumulative_seconds == 4.0
    assert found.broken == ()


def test_the_exported_file_alone_has_no_seconds(root, state, tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "params.yaml").write_text((root / "params.yaml").read_text())
    export(clone, state)
    found = find_lineage(clone, "voids", unasked)
    assert [m.seconds for m in found.members] == [None] * 4
    assert len(found.trees) == 2
    assert found.line == ()
    assert not (clone / ".defectops").exists()


def test_both_together_are_the_file_with_seconds(root, state):
    export(root, state)
    assert find_lineage(root, "voids/3", unasked).members[3].seconds == 2.0


def test_the_file_goes_first_where_the_store_has_another_study(root, state, tmp_path):
    other = tmp_path / "other"
    other.mkdir()

    def differently(choice):
        yield Step(0, 0.5, 7.0)
        return Outcome((0.5,), f"{choice.index + 50:064d}")

    study = open_study(other, "", "voids", PLAN)
    work(study, differently)
    export(root, state_of(study))
    close_study(study)
    found = find_lineage(root, "voids/0", unasked)
    assert found.members[0].checkpoint_sha256 == f"{50:064d}"
    assert found.members[0].seconds is None


def registered(trials, index, **changes):
    """A registry with one version, tagged as a study does it."""
    line = [trials[index]]
    while line[0].parent is not None:
        line.insert(0, trials[line[0].parent])
    tags = {
        "study": "voids",
        "trial": str(index),
        "lineage.trials": " > ".join(str(t.index) for t in line),
        "lineage.sha256": " > ".join(t.checkpoint_sha256 for t in line),
    }
    sha256 = trials[index].checkpoint_sha256
    return one_version(Version("defectops-voids", 1, "run", sha256, {}, tags | changes))


def one_version(version):
    registry = RecordingRegistry()
    registry._versions["defectops-voids"] = [version]
    return lambda: registry


def test_a_version_leads_to_its_trial(root, state):
    export(root, state)
    found = find_lineage(root, "defectops-voids/1", registered(state.trials, 3))
    assert (found.index, found.version) == (3, "defectops-voids/1")


def test_a_version_of_an_earlier_study_is_told_from_its_tags(root, state):
    def differently(choice):
        yield Step(0, 0.5, 7.0)
        return Outcome((0.5,), f"{choice.index + 50:064d}")

    study = open_study(root, "", "voids", PLAN, mode="new")
    work(study, differently)
    export(root, state_of(study))
    close_study(study)
    assert find_lineage(root, "voids", unasked).members[1].checkpoint_sha256 == f"{51:064d}"
    found = find_lineage(root, "defectops-voids/1", registered(state.trials, 3))
    parent = state.trials[3].parent
    assert found.line == ((parent, f"{parent:064d}"), (3, f"{3:064d}"))


def test_a_version_whose_study_is_nowhere_is_told_from_its_tags(root, state, tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "params.yaml").write_text((root / "params.yaml").read_text())
    found = find_lineage(clone, "defectops-voids/1", registered(state.trials, 0))
    assert isinstance(found, Recorded)
    assert found.line == ((0, f"{0:064d}"),)


@pytest.mark.parametrize(
    "change", [{"trial": "2"}, {"lineage.sha256": "f" * 64}, {"lineage.trials": ""}]
)
def test_a_version_whose_tags_contradict_each_other_is_an_integrity_fault(root, state, change):
    with pytest.raises(IntegrityFault, match=r"defectops-voids/1: E_DIGEST"):
        find_lineage(root, "defectops-voids/1", registered(state.trials, 3, **change))


def test_a_version_of_no_study_started_from_nothing(root, state):
    plain = one_version(Version("defectops-voids", 1, "run", "a" * 64, {}, {"defect": "voids"}))
    found = find_lineage(root, "defectops-voids/1", plain)
    assert isinstance(found, Recorded)
    assert found.line == ()


def test_a_broken_link_is_reported_within_the_family(root, state):
    content = exported(state, PLAN)
    content["trials"][3]["parent_sha256"] = "e" * 64
    (root / "studies").mkdir()
    (root / "studies" / "voids.json").write_text(json.dumps(content))
    assert "started from weights eeeeeeeeeeee" in find_lineage(root, "voids/3", unasked).broken[0]
    alone = 1 - state.trials[3].parent
    assert find_lineage(root, f"voids/{alone}", unasked).broken == ()


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("voids/4", "E_TRIAL"),
        ("void/1", "E_CONFIG"),
        ("precipitates/0", "E_STUDY"),
        ("defectops-voids", "E_USAGE"),
        ("defectops-voids/2", "E_VERSION"),
        ("defectops-cracks/2", "E_CONFIG"),
        ("voids/-1", "E_USAGE"),
        ("voids/1/2", "E_USAGE"),
        ("../voids", "E_USAGE"),
        ("", "E_USAGE"),
        ("voids/99999999999", "E_USAGE"),
    ],
)
def test_what_is_not_there_is_refused(root, state, subject, code):
    with pytest.raises(InputRefused) as refused:
        find_lineage(root, subject, RecordingRegistry)
    assert refused.value.code == code


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"trials": [], "plan": 3}'])
def test_a_damaged_file_is_named(root, content):
    (root / "studies").mkdir()
    (root / "studies" / "voids.json").write_text(content)
    with pytest.raises(IntegrityFault, match=r"voids\.json: E_RESULT"):
        find_lineage(root, "voids", unasked)


def test_nothing_is_made_by_looking(root):
    with pytest.raises(InputRefused, match=r"E_STUDY.*defectops tune --defect voids"):
        find_lineage(root, "voids", unasked)
    assert [p.name for p in root.iterdir()] == ["params.yaml"]
