"""The paper's printed pixel size against its own numbers, and other contradictions."""

import dataclasses

import pytest

from defectops.errors import CalibrationRefused
from defectops.measurement.panel import reference
from defectops.measurement.plausibility import (
    Claims,
    check,
    fitting_pixel_sizes_nm,
    implied_thickness_nm,
    refuse_impossible,
)


def paper(column, pixel_size_nm, **more):
    """The ground truth of one set of the paper at some pixel size."""
    diameter = reference("table3_diameter_nm").loc["ground_truth"]
    return Claims(
        pixel_size_nm=pixel_size_nm,
        field_px=(1024, 1024),
        count=reference("derived_counts").at["ground_truth", column],
        number_density_m3=reference("table2_density").at["ground_truth", column],
        diameter_nm=diameter[f"{column}_d"],
        diameter_sd_nm=diameter[f"{column}_sd"],
        **more,
    )


SETS = ("precipitates_1", "precipitates_2", "voids_1", "voids_2")


@pytest.mark.parametrize("column", SETS)
def test_the_printed_pixel_size_is_refused(column):
    with pytest.raises(CalibrationRefused, match="thinner than one particle") as caught:
        refuse_impossible(paper(column, 3.2), "haadf.png")
    assert caught.value.exit_code == 2
    assert caught.value.code == "E_IMPLAUSIBLE"


def test_the_sentence_names_the_contradiction_and_what_fits():
    claims = paper("precipitates_1", 3.2)
    assert implied_thickness_nm(claims) == pytest.approx(1.77, abs=0.01)
    low, high = fitting_pixel_sizes_nm(claims)
    assert low < 0.31
    assert 0.365 < high < 3.2
    (finding, *_) = check(claims)
    for part in ("125 particles", "3.2 nm per pixel", "1.8 nm thick", "10.2 nm", f"{low:.2g} to"):
        assert part in finding.sentence


@pytest.mark.parametrize("column", SETS)
def test_the_pixel_size_of_the_scale_bar_passes(column):
    thickness = 136.3 if column.endswith("_1") else 159.1
    assert check(paper(column, 0.365, thickness_nm=thickness)) == []


def test_the_cover_decides_between_pixel_sizes():
    good = paper("precipitates_2", 0.365, area_fraction=0.126)
    assert check(good) == []
    findings = check(dataclasses.replace(good, pixel_size_nm=3.2))
    assert [f.verdict for f in findings] == ["impossible", "impossible", "suspicious"]
    assert "cover 0.19 %" in findings[1].sentence
    assert "3.4 pixels wide" in findings[2].sentence


def test_two_thicknesses():
    assert check(paper("voids_1", 0.365, thickness_nm=150.0)) == []
    (some,) = check(paper("voids_1", 0.365, thickness_nm=230.0))
    assert some.verdict == "suspicious"
    (much,) = check(paper("voids_1", 0.365, thickness_nm=400.0))
    assert much.verdict == "impossible"
    assert "136 nm thick, but 400 nm" in much.sentence


def test_wide_particles_and_thick_foils_are_suspicious():
    (wide,) = check(Claims(thickness_nm=15.0, diameter_nm=20.0))
    (thick,) = check(Claims(thickness_nm=900.0))
    assert (wide.verdict, thick.verdict) == ("suspicious", "suspicious")
    assert refuse_impossible(Claims(thickness_nm=900.0), "x") == [thick.sentence]
    with pytest.raises(CalibrationRefused, match="no electrons"):
        refuse_impossible(Claims(thickness_nm=9000.0), "x")


def test_a_pixel_size_far_too_small_makes_a_foil_far_too_thick():
    (finding,) = check(paper("precipitates_1", 0.0365))
    assert finding.verdict == "impossible"
    assert "needs a pixel size of" in finding.sentence


def test_the_widest_particle_and_the_foil():
    fits = Claims(thickness_nm=60.0, diameter_nm=20.0, largest_diameter_nm=59.0)
    assert check(fits) == []
    (wide,) = check(dataclasses.replace(fits, largest_diameter_nm=61.0))
    assert wide.verdict == "suspicious"
    assert "61 nm is wider than the foil of 60 nm" in wide.sentence
    (none,) = check(Claims(thickness_nm=1.8, diameter_nm=10.2))
    assert none.verdict == "impossible"
    (scaled,) = check(Claims(pixel_size_nm=3.2, thickness_nm=10.0, diameter_nm=32.0))
    assert "a foil of 32 nm or more, or a pixel size of 1 nm or less" in scaled.sentence


def test_particles_cannot_fill_more_than_they_can_be_packed():
    # 0.74 of the volume is the densest packing of equal spheres: 1.41e24 m^-3 of 10 nm.
    (much,) = check(Claims(number_density_m3=1.5e24, diameter_nm=10.0))
    assert much.verdict == "impossible"
    assert "needs at most 1.4e+24 m^-3" in much.sentence
    (dense,) = check(Claims(number_density_m3=1e24, diameter_nm=10.0))
    assert dense.verdict == "suspicious"
    assert check(Claims(number_density_m3=5e23, diameter_nm=10.0)) == []


def test_crowded_fields_and_swapped_masks_are_suspicious():
    for share in ({"area_fraction": 0.6}, {"line_share": 0.3}):
        (found,) = check(Claims(**share))
        assert found.verdict == "suspicious"
        assert "swapped" in found.sentence
    assert check(Claims(area_fraction=0.3, line_share=0.15)) == []


def test_lines_cannot_be_closer_than_their_cores():
    assert check(Claims(dislocation_density_m2=1e15)) == []
    assert check(Claims(dislocation_density_m2=1e16))[0].verdict == "suspicious"
    (found,) = check(Claims(dislocation_density_m2=1e18))
    assert found.verdict == "impossible"
    assert "1 nm apart" in found.sentence


def test_line_share():
    claims = Claims(
        pixel_size_nm=0.365,
        thickness_nm=45.0,
        dislocation_density_m2=8.91e14,
        line_width_px=3.0,
        line_share=0.035,
    )
    assert check(claims) == []
    (finding,) = check(dataclasses.replace(claims, line_share=0.097))
    assert "that fits a foil of" in finding.sentence


def test_little_is_never_wrong():
    assert check(Claims()) == []
    assert check(Claims(pixel_size_nm=3.2, count=125)) == []
    assert implied_thickness_nm(Claims(count=3)) is None
    assert fitting_pixel_sizes_nm(Claims(count=3)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel_size_nm": 0.0},
        {"thickness_nm": float("nan")},
        {"count": -1},
        {"area_fraction": 1.2},
        {"field_px": (0, 5)},
        {"diameter_nm": float("inf")},
    ],
)
def test_values_that_are_no_values_are_refused(wrong):
    with pytest.raises(CalibrationRefused, match=next(iter(wrong))):
        Claims(**wrong)
