"""Who was initialised from whom: trees, lines and broken links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments.lineage import (
    Member,
    ancestry,
    breaks,
    by_digest,
    exported_members,
    family,
    forest,
    members_of,
    timed,
)
from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.study_trials import Plan, StudyState, Trial, exported


def member(index, parent=None, generation=0, **more):
    digests = {"checkpoint_sha256": f"w{index}"}
    if parent is not None:
        digests["parent_sha256"] = f"w{parent}"
    return Member(index, generation, "complete", 0.5, 8, 8, parent=parent, **digests | more)


#     0      1       2
#   3   4            5
#   6
SIX = (
    member(0),
    member(1),
    member(2),
    member(3, 0, 1),
    member(4, 0, 1),
    member(5, 2, 1),
    member(6, 3, 2),
)


def shape(branch):
    return [(depth, one.member.index) for depth, one in branch.walk()]


def test_a_forest_has_a_tree_for_each_trial_from_nothing():
    assert [shape(tree) for tree in forest(SIX)] == [
        [(0, 0), (1, 3), (2, 6), (1, 4)],
        [(0, 1)],
        [(0, 2), (1, 5)],
    ]
    assert forest(()) == ()


@pytest.mark.parametrize("index", [0, 3, 4, 6])
def test_a_family_is_the_same_whichever_of_it_is_asked_for(index):
    assert shape(family(SIX, index)) == [(0, 0), (1, 3), (2, 6), (1, 4)]


def test_a_line_goes_from_the_first_ancestor_to_the_trial():
    assert [m.index for m in ancestry(SIX, 6)] == [0, 3, 6]
    assert [m.index for m in ancestry(SIX, 1)] == [1]


@pytest.mark.parametrize(("known", "there"), [(SIX, "0 to 6"), ((), "none yet")])
def test_an_unknown_trial_is_refused(known, there):
    with pytest.raises(InputRefused, match=f"trial 7: E_TRIAL: .*{there}"):
        ancestry(known, 7)


@given(st.lists(st.integers(0, 30), max_size=30), st.randoms())
def test_each_trial_stands_once_below_its_parent(draws, random):
    everyone = [
        member(i, None if draw % (i + 2) >= i else draw % (i + 2)) for i, draw in enumerate(draws)
    ]
    shuffled = list(everyone)
    random.shuffle(shuffled)
    trees = forest(shuffled)
    assert trees == forest(everyone)
    above = {}
    for tree in trees:
        for _, branch in tree.walk():
            for child in branch.children:
                above[child.member.index] = branch.member.index
    assert sorted(b.member.index for t in trees for _, b in t.walk()) == list(range(len(draws)))
    assert above == {m.index: m.parent for m in everyone if m.parent is not None}
    for m in everyone:
        assert len(ancestry(everyone, m.index)) == 1 + next(
            d for d, b in family(everyone, m.index).walk() if b.member == m
        )


def test_a_line_of_thousands_is_no_trouble():
    everyone = [member(i, i - 1 if i else None) for i in range(5000)]
    assert len(shape(family(everyone, 4999))) == 5000


def test_broken_links_are_named():
    other = member(7, 1, 1, parent_sha256="0123456789abcdef")
    lost = member(8, 99, 1)
    left_nothing = (member(0, checkpoint_sha256=""), member(1, 0, 1))
    assert breaks(SIX) == ()
    assert breaks((*SIX, other, lost)) == (
        "trial 7 started from weights 0123456789ab, trial 1 left w1",
        "trial 8 started from trial 99, which is not listed",
    )
    assert breaks(left_nothing) == ("trial 1 started from weights w0, trial 0 left none",)
    assert [t.member.index for t in forest((*SIX, lost))] == [0, 1, 2, 8]


def test_a_trial_is_found_by_the_digest_of_its_weights():
    assert by_digest(SIX, "w5") == SIX[5]
    assert by_digest(SIX, "w9") is None
    assert by_digest((member(0, checkpoint_sha256=""),), "") is None


TRIALS = [
    Trial(0, 0, "complete", {"rate": 0.1}, (0.7,), {0: 0.7}, 1, 1, checkpoint_sha256="a" * 64),
    Trial(
        1,
        1,
        "pruned",
        {"rate": 0.2},
        curve={0: 0.5},
        epochs=1,
        cumulative_epochs=2,
        pruned_at=0,
        parent=0,
        parent_sha256="a" * 64,
        seconds=2.0,
        cumulative_seconds=5.0,
    ),
]
PLAN = Plan("voids", 0, Space((Dimension("rate", "float"),)), 1, 1, 1, 1, 1)


def test_store_and_exported_file_tell_the_same_but_for_times():
    from_store = members_of(TRIALS)
    written = exported(StudyState("voids", TRIALS, "", TRIALS[0], TRIALS[:1]), PLAN)
    from_file = exported_members(written["trials"], "voids.json")
    assert [m.seconds for m in from_file] == [None, None]
    assert timed(from_file, from_store) == from_store
    assert from_store[1] == Member(
        1, 1, "pruned", None, 1, 2, 0, "a" * 64, "", seconds=2.0, cumulative_seconds=5.0
    )


def test_times_of_another_study_are_not_taken_over():
    written = exported(StudyState("voids", TRIALS, "", None, []), PLAN)
    from_file = exported_members(written["trials"], "voids.json")
    other = members_of([Trial(0, 0, "complete", {}, (0.7,), checkpoint_sha256="b" * 64)])
    assert timed(from_file, other) == from_file


@pytest.mark.parametrize(
    "change", [{"parent": 1}, {"parent": "x"}, {"index": None}], ids=["own", "text", "none"]
)
def test_a_row_that_cannot_be_is_refused(change):
    rows = exported(StudyState("voids", TRIALS, "", None, []), PLAN)["trials"]
    rows[1] |= change
    if change == {"index": None}:
        del rows[1]["index"]
    with pytest.raises(IntegrityFault, match=r"voids\.json: E_RESULT: a trial cannot be read"):
        exported_members(rows, "voids.json")
