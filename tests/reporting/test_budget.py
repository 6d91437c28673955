"""The figure of a budget: nothing that is in a bar is left out of the drawing."""

import pandas as pd
import pytest

from defectops.measurement.budget import COMPONENTS
from defectops.reporting import budget
from defectops.reporting.budget import bars, complete_bars, lines, of_predictions
from defectops.reporting.quantities import Comparison


def test_every_component_is_drawn_in_a_colour_of_its_own():
    assert tuple(budget._COLOURS) == COMPONENTS
    assert len(set(budget._COLOURS.values())) == len(COMPONENTS)
    assert tuple(budget.MEANINGS) == COMPONENTS


def test_a_bar_is_the_root_of_the_sum_of_squares_and_its_parts_are_variances():
    rows = [("density", "counting", 3.0), ("density", "mirrored views", 4.0)]
    rows += [("density", "segmentation", None), ("size", "counting", None)]
    table = pd.DataFrame(rows, columns=["quantity", "component", "relative_sd_percent"])
    (bar,) = bars(table)
    assert bar.percent == pytest.approx(5.0)
    assert bar.shares == pytest.approx({"counting": 9 / 25, "mirrored views": 16 / 25})


def _table(*rows):
    columns = ["image", "region", "source", "quantity", "component", "relative_sd_percent"]
    return pd.DataFrame(rows, columns=columns)


def _shown(quantity, region="dev+test", image="pooled"):
    return Comparison(quantity, region, image, "nm", {})


def test_only_the_prediction_of_the_same_region_and_image_is_printed():
    found = of_predictions(
        _table(
            ("pooled", "dev+test", "prediction", "mean_diameter", "counting", 3.0),
            ("pooled", "dev+test", "label", "mean_diameter", "counting", 90.0),
            ("pooled", "dev", "prediction", "mean_diameter", "counting", 91.0),
            ("a.png", "dev+test", "prediction", "mean_diameter", "counting", 92.0),
            ("pooled", "dev+test", "prediction", "area_fraction", "counting", 93.0),
        ),
        [_shown("mean_diameter"), _shown("number_density")],
    )
    assert found.to_numpy().tolist() == [["Mean diameter", "dev+test, all images", "counting", 3.0]]


def test_lines_stand_in_the_order_of_the_components_and_end_with_their_sum():
    rows = of_predictions(
        _table(
            ("7", "test", "prediction", "mean_diameter", "thickness", 4.0),
            ("7", "test", "prediction", "mean_diameter", "counting", 3.0),
            ("7", "test", "prediction", "number_density", "counting", None),
            ("7", "test", "prediction", "number_density", "estimator", 1.0),
        ).astype({"image": int}),  # an image may be named by a number
        [_shown(q, "test", "7") for q in ("number_density", "mean_diameter")],
    )
    assert [(line.component, line.cells) for line in lines(rows)] == [
        ("counting", ("–", "3.0")),
        ("thickness", ("–", "4.0")),
        ("estimator", ("1.0", "–")),
        ("combined", ("–", "5.0")),
    ]
    assert [bar.quantity for bar in complete_bars(rows)] == ["Mean diameter"]


@pytest.mark.parametrize("shown", [[], [_shown("mean_diameter")]])
def test_nothing_is_printed_of_an_empty_table(shown):
    assert of_predictions(pd.DataFrame(), shown).empty
    assert of_predictions(_table(), shown).empty
