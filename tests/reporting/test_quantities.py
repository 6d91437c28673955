import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.defects import BUILT_IN, DefectType
from defectops.reporting import quantities

VOIDS, LINES = BUILT_IN["voids"], BUILT_IN["dislocations"]


def row(source, value, quantity="number_density", **more):
    given_ = {
        "image": "pooled",
        "region": "dev+test",
        "source": source,
        "quantity": quantity,
        "value": value,
        "unit": "m^-3",
        "low": None if value is None else 0.8 * value,
        "high": None if value is None else 1.2 * value,
        "level": 0.95,
        "interval": "material",
        "n": 120,
        "method": "counted",
    }
    return given_ | more


def table(*rows):
    return pd.DataFrame(rows)


@given(st.floats(1e-3, 1e25), st.floats(0, 1e25))
def test_error_is_relative_to_the_label(label, prediction):
    (found,) = quantities.comparisons(table(row("label", label), row("prediction", prediction)))
    assert found.error == pytest.approx(prediction / label - 1, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("label", "prediction"), [(0.0, 1.0), (None, 1.0), (1.0, None)])
def test_error_is_undefined_without_two_numbers(label, prediction):
    (found,) = quantities.comparisons(table(row("label", label), row("prediction", prediction)))
    assert found.error is None
    assert quantities.printed([found])[0].rows[0].error == "–"


def test_intervals_of_one_number_come_together():
    (found,) = quantities.comparisons(
        table(
            row("label", 6.0e21),
            row("prediction", 6.6e21),
            row("prediction", 6.6e21, interval="model", low=6.2e21, high=7.0e21),
            row("truth", 6.3e21, low=None, high=None),
        )
    )
    assert found.values["prediction"].interval("model") == (6.2e21, 7.0e21)
    assert found.values["truth"].intervals == ()
    (group,) = quantities.printed([found])
    assert (group.name, group.unit) == ("Number density", "10²¹ m⁻³")
    printed = group.rows[0]
    assert printed.cells["prediction"].value == "6.60"
    assert printed.cells["prediction"].intervals == (
        ("material", "5.28 to 7.92"),
        ("model", "6.20 to 7.00"),
    )
    assert printed.error == "+10.0"
    assert printed.n == "120 / 120"
    assert printed.image == "all images"
    assert quantities.levels([found]) == [0.95]


def test_rows_of_one_quantity_share_a_power_of_ten():
    rows = quantities.comparisons(
        table(row("label", 9e20, region="test"), row("label", 2e21, region="dev"))
    )
    (group,) = quantities.printed(rows)
    assert [r.cells["label"].value for r in group.rows] == ["0.90", "2.00"]


def test_pooled_comes_first_and_alone():
    rows = quantities.comparisons(
        table(row("label", 1.0, image="a.png"), row("label", 2.0), row("label", 3.0, region="test"))
    )
    assert [(c.image, c.region) for c in rows] == [
        ("pooled", "dev+test"),
        ("pooled", "test"),
        ("a.png", "dev+test"),
    ]
    assert [c.image for c in quantities.pooled(rows)] == ["pooled", "pooled"]
    assert [c.image for c in quantities.single(rows)] == ["a.png"]


def test_whole_pooled_does_not_hide_the_only_dev_image():
    rows = quantities.comparisons(
        table(
            row("prediction", 9.0, region="whole"),
            row("prediction", 7.0, region="whole", image="a.png"),
            row("label", 2.0, region="dev", image="a.png"),
            row("prediction", 3.0, region="dev", image="a.png"),
            row("label", 2.0, image="a.png"),
            row("prediction", 3.0, image="a.png"),
        )
    )
    (headline,) = quantities.headlines(rows, VOIDS)
    assert (headline.region, headline.image, headline.error) == ("dev", "a.png", 0.5)
    shown = [(c.region, c.image) for c in quantities.pooled(rows)]
    assert shown == [("whole", "pooled"), ("dev", "a.png")]
    assert [(c.region, c.image) for c in quantities.single(rows)] == [("whole", "a.png")]


def test_without_pooled_rows_the_images_stand_once():
    rows = quantities.comparisons(table(row("label", 1.0, image="a.png")))
    assert len(quantities.pooled(rows)) == 1
    assert quantities.single(rows) == []


def test_headline_is_density_and_diameter_of_the_largest_region():
    rows = quantities.comparisons(
        table(
            row("label", 1.0, "areal_density"),
            row("label", 2.0, "number_density", region="test"),
            row("label", 3.0, "number_density"),
            row("label", 4.0, "mean_diameter", unit="nm"),
            row("label", 5.0, "dislocation_density_skeleton"),
        )
    )
    assert [c.values["label"].value for c in quantities.headlines(rows, VOIDS)] == [3.0, 4.0]
    assert [c.values["label"].value for c in quantities.headlines(rows, LINES)] == [5.0]


def test_headline_falls_back_to_what_is_defined():
    rows = quantities.comparisons(
        table(
            row("label", None, "number_density", method="no thickness"),
            row("label", 3e-5, "areal_density", unit="px^-2"),
        )
    )
    (found,) = quantities.headlines(rows, VOIDS)
    assert found.quantity == "areal_density"
    assert rows[0].undefined == {"label": "no thickness"}
    assert [g.name for g in quantities.printed(rows)] == ["Areal density"]
    assert quantities.length_unit(table(row("label", 3.0, unit="px^-2"))) == "px"


def test_details_stay_in_the_table_and_off_the_page():
    names = ("mean_diameter", "diameter_p90", "lognormal_sigma")
    rows = [row("label", 1.0, name) for name in names]
    assert [c.quantity for c in quantities.comparisons(pd.DataFrame(rows))] == ["mean_diameter"]
    assert not quantities.DETAILS & set(quantities.NAMES)


def test_user_type_and_unknown_quantity_need_no_code():
    rows = quantities.comparisons(table(row("label", 2.0, "loop_share", unit="1")))
    assert rows[0].name == "Loop share"
    assert quantities.headlines(rows, DefectType("loops", "particle", "dark")) == []


def test_empty_table():
    assert quantities.comparisons(pd.DataFrame()) == []
    assert quantities.headlines([], VOIDS) == []
    assert quantities.length_unit(pd.DataFrame()) == "nm"


def test_nothing_counted_is_a_dash_with_its_count_and_reason():
    (found,) = quantities.comparisons(
        table(row("label", 14.0, "mean_diameter"), row("prediction", None, "mean_diameter", n=0))
    )
    assert found.defined
    assert found.undefined == {"prediction": "n = 0"}
    printed = quantities.printed([found])[0].rows[0]
    assert printed.cells["prediction"].value == "–"
    assert printed.n == "120 / 0"


def test_infinite_value_is_undefined():
    (found,) = quantities.comparisons(table(row("label", math.inf)))
    assert not found.defined
