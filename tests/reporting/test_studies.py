"""Figures of a study: their data as numbers, then that every case can be drawn."""

import math

import drawn_study as toy
import pytest

from defectops.experiments.importance import Importance, Worth
from defectops.experiments.lineage import Member, forest
from defectops.experiments.search_space import Dimension
from defectops.experiments.study_trials import StudyState, Trial
from defectops.reporting import study_history, study_marks, study_parameters, study_pareto
from defectops.reporting.studies import draw_study
from defectops.reporting.study_lineage import lineage_tree
from defectops.reporting.study_parameters import Axis

NOTHING = StudyState("voids", [], "", None, [])


def trial(index, state="complete", values=(), curve=(), **more):
    return Trial(
        index, more.pop("generation", 0), state, toy.OWN, values, dict(enumerate(curve)), **more
    )


def state(*trials, best=None):
    return StudyState("voids", list(trials), "", None if best is None else trials[best], [])


MIXED = state(
    trial(0, values=(0.6,), curve=(0.3, 0.6)),
    trial(1, "pruned", curve=(0.2, math.nan, 0.7, 0.1)),
    trial(2, "failed", curve=()),
    trial(3, values=(0.5,)),
    trial(4, values=(0.8,), generation=1),
    trial(5, "waiting", generation=1),
    best=4,
)


# Marks ---------------------------------------------------------------------------------------


def test_a_pruned_trial_has_the_best_it_reported_and_a_failed_one_may_have_none():
    scores = [study_marks.score(t, toy.plan()) for t in MIXED.trials]
    assert scores == [0.6, 0.7, None, 0.5, 0.8, None]


def test_an_error_is_not_guessed_from_the_iou():
    errors = toy.plan(objective="density")
    assert study_marks.score(MIXED.trials[1], errors) is None
    assert study_marks.better(0.1, 0.2, errors)
    assert study_marks.better(0.2, 0.1, toy.plan())


def test_generations_have_different_colours_that_stand_out_from_white():
    for count in (1, 2, 5, 30):
        colours = study_marks.generation_colours(count)
        assert len(set(colours)) == len(colours) == count


def test_the_higher_the_value_the_darker():
    def brightness(colour):
        return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5))

    colours = [study_marks.value_colour(v, 2.0, 4.0) for v in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert colours[0] == colours[1]
    assert colours[3] == colours[4]
    assert brightness(colours[1]) > brightness(colours[2]) > brightness(colours[3])
    assert study_marks.value_colour(3.0, 3.0, 3.0) == colours[4]


# History -------------------------------------------------------------------------------------


def test_best_so_far_counts_complete_trials_only():
    data = study_history.history(MIXED, toy.plan())
    assert [d.best for d in data.dots] == [0.6, 0.6, 0.6, 0.6, 0.8]
    assert data.best == 4
    assert data.own == 0.6
    assert data.summary == (
        "5 trials in 2 generation(s): 3 complete, 1 failed, 1 pruned; the best is trial 4 with "
        "0.800, the project's own settings 0.600."
    )


def test_best_so_far_of_errors_goes_down():
    errors = state(*(trial(i, values=(v,)) for i, v in enumerate((0.3, 0.1, 0.2))), best=1)
    data = study_history.history(errors, toy.plan(objective="density", first=()))
    assert [d.best for d in data.dots] == [0.3, 0.1, 0.1]
    assert data.label == "Relative error of the quantity"
    assert data.own is None


def test_nothing_yet():
    assert study_history.history(NOTHING, toy.plan()).summary == "No trial has begun."
    running = study_history.history(state(trial(0, "running")), toy.plan())
    assert running.summary == "1 trials in 1 generation(s): 1 running."
    assert running.own is None


def test_curves_go_on_where_their_parents_stopped():
    study = state(
        trial(0, curve=(0.2, 0.5, 0.4), epochs=3, cumulative_epochs=3),
        trial(1, "failed", curve=(math.nan,), epochs=1, cumulative_epochs=1),
        trial(2, curve=(0.6, 0.7), epochs=2, cumulative_epochs=5, parent=0, generation=1),
        trial(3, curve=(0.5,), epochs=1, cumulative_epochs=4, parent=0, generation=1),
        best=2,
    )
    first, warm, other = study_history.learning_curves(study)
    assert (first.epochs, first.values, first.start) == ((1, 2, 3), (0.2, 0.5, 0.4), None)
    assert (warm.epochs, warm.values, warm.start) == ((4, 5), (0.6, 0.7), (2, 0.5))
    assert (other.epochs, other.start) == ((4,), (2, 0.5))
    assert [c.in_best_line for c in (first, warm, other)] == [True, True, False]


# Parameters ----------------------------------------------------------------------------------


def test_points_are_complete_or_pruned_and_say_their_role():
    foreign = Trial(6, 1, "complete", {"learning_rate": 0.1}, (0.9,))
    odd = Trial(7, 1, "complete", {**toy.OWN, "loss": "unheard_of"}, (0.9,))
    found = study_parameters.points(state(*MIXED.trials, foreign, odd, best=4), toy.plan())
    assert [(p.index, p.value, p.role) for p in found] == [
        (0, 0.6, "own"),
        (1, 0.7, ""),
        (3, 0.5, ""),
        (4, 0.8, "best"),
    ]


@pytest.mark.parametrize(
    ("dimension", "value", "place"),
    [
        (Dimension("a", "float", 1e-5, 1e-1, log=True), 1e-3, 0.5),
        (Dimension("a", "float", 0.5, 1.0), 0.625, 0.25),
        (Dimension("a", "float", 0.5, 1.0), 9.0, 1.0),
        (Dimension("a", "float", 0.5, 1.0), 0.1, 0.0),
        (Dimension("a", "float", 2.0, 2.0, log=True), 2.0, 0.5),
        (Dimension("a", "int", 1, 5), 2, 0.25),
        (Dimension("a", "choice", choices=("x", "y", "z")), "y", 0.5),
        (Dimension("a", "choice", choices=("x",)), "x", 0.5),
    ],
)
def test_a_value_has_its_place_on_the_axis(dimension, value, place):
    assert Axis("a", dimension).place(value) == pytest.approx(place)


def test_an_axis_says_where_it_begins_and_ends():
    log = Axis("a", Dimension("a", "float", 1e-5, 1e-1, log=True)).ticks()
    assert [text for _, text in log] == ["1e-5", "0.001", "0.1"]
    assert [place for place, _ in log] == pytest.approx([0, 0.5, 1])
    one = Axis("a", Dimension("a", "float", 2, 2)).ticks()
    assert one == [(0.5, "2")]
    choices = Axis("a", Dimension("a", "choice", choices=("dice", "soft_dice"))).ticks()
    assert choices == [(0.0, "dice"), (1.0, "soft dice")]


# Lineage and Pareto set ----------------------------------------------------------------------


def member(index, generation, parent=None):
    return Member(index, generation, "complete", 0.5, 8, 8, parent)


def test_a_tree_has_a_row_for_each_leaf_and_parents_between():
    members = [
        member(0, 0),
        member(1, 0),
        member(2, 0),
        member(3, 1, 0),
        member(4, 1, 0),
        member(5, 1, 2),
        member(6, 2, 3),
        member(7, 2, 3),
    ]
    tree = lineage_tree(forest(members), line=[0, 3, 7])
    assert {n.member.index: n.row for n in tree.nodes} == {
        0: 1.25,
        3: 0.5,
        6: 0,
        7: 1,
        4: 2,
        2: 3,
        5: 3,
    }
    assert (tree.rows, tree.alone) == (4, 1)
    assert [n.member.index for n in tree.nodes if n.in_line] == [0, 3, 7]
    parents = {n.member.index: n.parent and n.parent.member.index for n in tree.nodes}
    assert parents == {0: None, 3: 0, 6: 3, 7: 3, 4: 0, 2: None, 5: 2}


def test_a_trial_alone_is_drawn_when_asked_for():
    tree = lineage_tree(forest([member(0, 0), member(1, 0)]), line=[1])
    assert [n.member.index for n in tree.nodes] == [1]
    assert (tree.rows, tree.alone) == (1, 1)


def test_the_pareto_set_is_marked():
    study = toy.study(objective="pareto")
    found = study_pareto.spots(study)
    assert [s.index for s in found if s.front] == sorted(
        (t.index for t in study.pareto), key=lambda i: study.trials[i].values[0]
    )
    assert len(found) == sum(t.state == "complete" for t in study.trials)
    for spot in found:
        beaten = any(o.x >= spot.x and o.y < spot.y for o in found)
        assert spot.front is not beaten


# Drawings ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["iou", "pareto"])
def test_all_figures_of_a_study_are_the_same_bytes_twice(tmp_path, objective):
    study, plan = toy.study(objective=objective), toy.plan(objective=objective)
    first = draw_study(study, plan, tmp_path / "a")
    second = draw_study(study, plan, tmp_path / "b")
    names = ["history", "curves", "importance", "slice", "parallel", "lineage"]
    assert [p.stem for p in first] == names + ["pareto"] * (objective == "pareto")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["iou", "density", "pareto"])
@pytest.mark.parametrize(
    "study", [NOTHING, state(trial(0, "running")), state(trial(0, "failed")), MIXED]
)
def test_every_case_is_drawn(tmp_path, study, objective):
    paths = draw_study(study, toy.plan(objective=objective), tmp_path, ".svg")
    assert all(path.read_text().startswith("<?xml") for path in paths)
    said = "\n".join(path.read_text() for path in paths)
    assert ("no epoch reported" in said) == (study is not MIXED)


def test_the_figure_of_the_history_says_what_it_shows(tmp_path):
    study_history.draw_history(toy.study(), toy.plan(), tmp_path / "h.svg")
    said = (tmp_path / "h.svg").read_text()
    for words in ("generation 0", "best so far", "pruned", "failed", "own settings 0.650"):
        assert words in said


def test_the_figure_of_importance_tells_chance_apart(tmp_path):
    found = Importance((Worth("l2", 0.75, 0.01), Worth("dropout", 0.25, 0.4)), 12, "")
    study_parameters.draw_importance(found, tmp_path / "i.svg")
    said = (tmp_path / "i.svg").read_text()
    for words in ("L2", "75 %", "25 %", "more than chance gives", "as by chance", "12 trials"):
        assert words in said
    study_parameters.draw_importance(Importance((), 3, "needs 8"), tmp_path / "n.svg")
    assert "needs 8" in (tmp_path / "n.svg").read_text()
