"""The figure of a budget: nothing that is in a bar is left out of the drawing."""

import pandas as pd
import pytest

from defectops.measurement.budget import COMPONENTS
from defectops.reporting import budget
from defectops.reporting.budget import bars


def test_every_component_is_drawn_in_a_colour_of_its_own():
    assert tuple(budget._COLOURS) == COMPONENTS
    assert len(set(budget._COLOURS.values())) == len(COMPONENTS)


def test_a_bar_is_the_root_of_the_sum_of_squares_and_its_parts_are_variances():
    rows = [("density", "counting", 3.0), ("density", "mirrored views", 4.0)]
    rows += [("density", "segmentation", None), ("size", "counting", None)]
    table = pd.DataFrame(rows, columns=["quantity", "component", "relative_sd_percent"])
    (bar,) = bars(table)
    assert bar.percent == pytest.approx(5.0)
    assert bar.shares == pytest.approx({"counting": 9 / 25, "mirrored views": 16 / 25})
