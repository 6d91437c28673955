import math

from hypothesis import given
from hypothesis import strategies as st

from defectops.reporting import numbers
from defectops.reporting.numbers import Scale

SIZES = st.floats(1e-25, 1e25)
SIGNED = st.one_of(SIZES, SIZES.map(lambda x: -x))
RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def read(text):
    """Read back what `quantity` printed in the unit m."""
    text = text.removesuffix(" m").replace("−", "-")
    mantissa, _, power = text.partition(" × 10")
    return float(mantissa) * 10.0 ** int(power.translate(RAISED) or 0)


@given(SIGNED)
def test_printed_number_reads_back_within_three_digits(value):
    assert math.isclose(read(numbers.quantity(value, "m")), value, rel_tol=5.1e-3)


@given(st.lists(SIGNED, min_size=1, max_size=5))
def test_row_shares_one_scale_of_its_largest(values):
    scale = numbers.common_scale(values)
    assert scale == numbers.common_scale([max(values, key=abs)])
    assert all(len(numbers.number(v, scale)) <= 8 for v in values)


def test_undefined_is_a_dash_and_never_nan():
    for value in (None, math.nan, math.inf):
        assert numbers.number(value, Scale()) == "–"
        assert numbers.quantity(value, "nm") == "–"
        assert numbers.signed_percent(value) == "–"
    assert numbers.percent(None) == "–"
    assert numbers.common_scale([None, math.nan, 0.0]) == Scale(0, 2)


def test_units_have_superscripts_and_true_minus():
    assert numbers.unit_text("px^-2") == "px⁻²"
    assert numbers.column_unit("m^-3", numbers.common_scale([6.6e21])) == "10²¹ m⁻³"
    assert numbers.quantity(3.1e-5, "px^-2") == "3.10 × 10⁻⁵ px⁻²"
    assert numbers.signed_percent(-0.0004) == "0.0"
