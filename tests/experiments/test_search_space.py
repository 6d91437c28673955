"""The space of a study: bounds, boxes, and its form in JSON."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import SettingsRefused
from defectops.experiments.search_space import Dimension, Space

SPACE = Space.default(["defectsegnet", "unet"], ["dice", "focal"])


def dimensions():
    """Float and integer dimensions, linear and logarithmic, with a value inside."""
    bounds = st.lists(st.integers(1, 1000), min_size=2, max_size=2, unique=True).map(sorted)
    return st.builds(
        lambda kind, low_high, log: Dimension("x", kind, *map(float, low_high), log=log),
        st.sampled_from(["float", "int"]),
        bounds,
        st.booleans(),
    )


def test_the_default_is_the_papers_space():
    found = {d.name: (d.low, d.high, d.log) for d in Space.default().dimensions}
    assert found["learning_rate"] == (1e-5, 1e-2, True)
    assert found["positive_weight"] == (1.0, 50.0, True)
    assert found["dropout"] == (0.0, 0.5, False)
    assert found["learning_rate_factor"] == (0.1, 0.9, False)
    assert found["l2"][2]
    assert set(found) == {
        "learning_rate",
        "positive_weight",
        "positive_weight_decay",
        "l2",
        "dropout",
        "learning_rate_factor",
    }


def test_architecture_and_loss_are_dimensions_only_where_there_is_a_choice():
    assert Space.default(["unet"], ["dice"]) == Space.default()
    assert SPACE.names[-2:] == ("architecture", "loss")
    assert [d.name for d in SPACE.dimensions if d.structural] == ["architecture"]


def test_a_space_survives_json():
    assert Space.from_json(json.loads(json.dumps(SPACE.as_json()))) == SPACE


def test_optuna_sees_the_same_bounds():
    found = SPACE.distributions()
    assert list(found) == list(SPACE.names)
    assert (found["learning_rate"].low, found["learning_rate"].high) == (1e-5, 1e-2)
    assert found["learning_rate"].log
    assert found["loss"].choices == ("dice", "focal")
    whole = Dimension("batch", "int", 2, 16, log=True).distribution()
    assert (whole.low, whole.high, whole.log) == (2, 16, True)


@given(dimensions(), st.floats(0, 1), st.floats(0.01, 1))
def test_a_box_lies_inside_and_holds_its_middle(dimension, share, width):
    value = dimension.at(share)
    box = dimension.around(value, width)
    assert dimension.low <= box.low <= value <= box.high <= dimension.high
    assert dimension.holds(value)
    assert box.holds(value)


@given(dimensions(), st.floats(0, 1))
def test_share_undoes_at(dimension, share):
    value = dimension.at(share)
    again = dimension.at(dimension.share(value))
    assert again == pytest.approx(value, rel=1e-9)


def test_a_box_in_the_middle_has_its_width():
    linear = Dimension("x", "float", 0.0, 8.0).around(4.0, 0.25)
    assert (linear.low, linear.high) == (3.0, 5.0)
    factors = Dimension("x", "float", 1e-4, 1.0, log=True).around(1e-2, 0.5)
    assert (factors.low, factors.high) == (pytest.approx(1e-3), pytest.approx(1e-1))


def test_a_box_is_cut_at_the_bounds_and_a_value_outside_is_moved_there():
    dimension = Dimension("x", "float", 0.0, 1.0)
    assert dimension.around(1.0, 0.5).low == 0.75
    assert dimension.around(1.0, 0.5).high == 1.0
    assert dimension.around(7.0, 0.5) == dimension.around(1.0, 0.5)


def test_structural_dimensions_keep_the_parents_value():
    box = SPACE.around({d.name: d.choices[-1] if d.choices else d.low for d in SPACE.dimensions}, 1)
    by_name = {d.name: d for d in box.dimensions}
    assert by_name["architecture"].choices == ("unet",)
    assert by_name["loss"].choices == ("dice", "focal")
    assert Dimension("width", "float", 0.5, 2, structural=True).around(1.5, 1) == Dimension(
        "width", "float", 1.5, 1.5, structural=True
    )


def test_holds_wants_exactly_the_names():
    space = Space((Dimension("x", "float"), Dimension("y", "choice", choices=("a",))))
    assert space.holds({"x": 0.5, "y": "a"})
    assert not space.holds({"x": 0.5})
    assert not space.holds({"x": 0.5, "y": "a", "z": 1})
    assert not space.holds({"x": 1.5, "y": "a"})
    assert not space.holds({"x": 0.5, "y": "b"})
    assert not space.holds({"x": "0.5", "y": "a"})
    assert not space.holds({"x": math.nan, "y": "a"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("float", 1.0, 0.0), "low <= high"),
        (("float", 0.0, 1.0, True), "above 0 if log"),
        (("float", 0.0, math.inf), "finite"),
        (("float", math.nan, 1.0), "finite"),
        (("choice",), "at least one"),
        (("bool",), "must be float, int or choice, got 'bool'"),
    ],
)
def test_a_dimension_that_cannot_be_is_refused(arguments, says):
    with pytest.raises(SettingsRefused, match=says):
        Dimension("x", *arguments)


def test_a_choice_twice_and_a_name_twice_are_refused():
    with pytest.raises(SettingsRefused, match="different choices"):
        Dimension("x", "choice", choices=("a", "a"))
    with pytest.raises(SettingsRefused, match="a name twice: x, x"):
        Space((Dimension("x", "float"), Dimension("x", "int")))


def test_json_with_an_unknown_or_a_missing_key_is_refused():
    with pytest.raises(SettingsRefused, match="needs name and kind"):
        Space.from_json([{"name": "x", "kind": "float", "lo": 1}])
    with pytest.raises(SettingsRefused, match="needs name and kind"):
        Space.from_json([{"name": "x"}])


def test_a_box_needs_every_dimension():
    with pytest.raises(SettingsRefused, match="does not say positive_weight,"):
        Space.default().around({"learning_rate": 1e-3}, 0.2)
