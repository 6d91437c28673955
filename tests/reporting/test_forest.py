import pytest

from defectops.reporting.forest import forest_svg, ratio
from defectops.reporting.quantities import Comparison, Value


def comparison(**values):
    return Comparison("number_density", "dev+test", "pooled", "m^-3", values)


def test_everything_is_divided_by_the_label():
    found = ratio(
        comparison(
            label=Value(2.0, (("material", 1.0, 3.0),)),
            prediction=Value(3.0, (("model", 0.0, 9.0), ("material", 2.0, 4.0))),
            truth=Value(2.5),
        ),
        "Voids",
        "#000000",
    )
    assert found.prediction == pytest.approx(1.5)
    assert found.prediction_bar == pytest.approx((1.0, 2.0))
    assert found.label_bar == pytest.approx((0.5, 1.5))
    assert found.truth == pytest.approx(1.25)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"label": Value(1.0)},
        {"label": Value(0.0), "prediction": Value(1.0)},
        {"label": Value(1.0), "prediction": Value(None)},
    ],
)
def test_no_row_without_a_ratio(values):
    assert ratio(comparison(**values), "x", "#000000") is None


def test_names_stand_on_the_axis_without_intervals_too():
    found = ratio(comparison(label=Value(1.0), prediction=Value(1.1)), "Voids: n", "#8ac926")
    svg = forest_svg([found], "a")
    assert "Voids: n" in svg
    assert "#8ac926" not in svg  # too faint on white: it was darkened
