"""Hardening against hand-computed values, and what is not assumed."""

import math

import pytest

from defectops.errors import SettingsRefused
from defectops.measurement.quantities import material_quantity
from defectops.measurement.strength import Material, constants_sd, hardening
from defectops.measurement.uncertainty import Interval

NAN = float("nan")


def quantity(name, value, unit, low=NAN, high=NAN):
    return material_quantity(name, value, Interval(low, high), unit, 10, "by hand", level=0.95)


def voids(number=1e22, d=10.0):
    return [
        quantity("number_density", number, "m^-3"),
        quantity("mean_diameter", d, "nm"),
    ]


def test_barriers_by_hand():
    # 0.8 x 3.06 x 80e3 MPa x 0.248e-9 m x sqrt(1e22 x 10e-9) 1/m
    (found,) = hardening(voids(), "voids", Material())
    assert found.quantity == "barrier_hardening"
    assert found.unit == "MPa"
    assert found.value == pytest.approx(0.8 * 3.06 * 80e3 * 0.248e-9 * 1e7, rel=1e-12)
    for part in (
        "HT-9",
        "alpha 0.8",
        "M 3.06",
        "G 80 GPa",
        "b 0.248 nm",
        "this type of defect alone",
    ):
        assert part in found.method


def test_taylor_by_hand():
    given = [quantity("dislocation_density_skeleton", 4e14, "m^-2", 1e14, 9e14)]
    (found,) = hardening(given, "dislocations", Material(alpha=0.5, alpha_sd=0.0))
    assert found.quantity == "taylor_hardening"
    assert found.value == pytest.approx(0.5 * 3.06 * 80e3 * 0.248e-9 * 2e7, rel=1e-12)
    assert found.low == pytest.approx(found.value / 2)
    assert found.high == pytest.approx(found.value * 1.5)


def test_the_interval_takes_half_of_each_parent_in_quadrature():
    n, d = math.exp(0.3), math.exp(0.4)
    given = [
        quantity("number_density", 1e22, "m^-3", 1e22 / n, 1e22 * n),
        quantity("mean_diameter", 10.0, "nm", 10 / d, 10 * d),
    ]
    (found,) = hardening(given, "voids", Material())
    assert found.high / found.value == pytest.approx(math.exp(0.25))
    assert found.value / found.low == pytest.approx(math.exp(0.25))


def test_nothing_there_hardens_nothing_and_the_bound_is_what_is_known():
    none = [
        quantity("number_density", 0.0, "m^-3", 0.0, 3e20),
        quantity("mean_diameter", NAN, "nm"),
    ]
    (found,) = hardening(none, "voids", Material())
    assert (found.value, found.low) == (0.0, 0.0)
    assert math.isnan(found.high)
    rho = [quantity("dislocation_density_skeleton", 0.0, "m^-2", 0.0, 4e12)]
    (found,) = hardening(rho, "dislocations", Material())
    assert found.value == 0
    assert found.high == pytest.approx(0.3 * 3.06 * 80e3 * 0.248e-9 * 2e6)


def test_what_is_not_known_is_not_assumed():
    assert hardening(voids(), "bubbles", Material()) == []
    assert hardening(voids()[1:], "voids", Material()) == []
    assert hardening([], "voids", Material()) == []
    (found,) = hardening(voids(), "bubbles", Material(alpha=0.2))
    assert found.value == pytest.approx(0.2 * 3.06 * 80e3 * 0.248e-9 * 1e7)


def test_the_constants_add_in_quadrature():
    exact = {"taylor_factor_sd": 0.0, "shear_modulus_sd_gpa": 0.0, "burgers_vector_sd_nm": 0.0}
    assert constants_sd("voids", Material(**exact)) == pytest.approx(0.25)
    assert constants_sd("bubbles", Material(**exact)) == 0
    assert constants_sd("x", Material(**exact | {"shear_modulus_sd_gpa": 4.0})) == 0.05
    both = Material(**exact | {"alpha": 0.5, "alpha_sd": 0.15, "taylor_factor_sd": 3.06 * 0.4})
    assert constants_sd("voids", both) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 1.5},
        {"alpha": 0.0},
        {"alpha_sd": 0.1},
        {"shear_modulus_gpa": float("nan")},
        {"burgers_vector_nm": -0.2},
        {"taylor_factor_sd": float("inf")},
    ],
)
def test_constants_that_are_none_are_refused(wrong):
    with pytest.raises(SettingsRefused, match=next(iter(wrong))):
        Material(**wrong)
