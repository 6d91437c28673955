"""Laws of the synthesis: what was asked for is in the truth, the label and the picture."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from defectops.dataset import synthesis
from defectops.dataset.synthesis_detector import DetectorOptions, record
from defectops.dataset.synthesis_foil import FoilOptions, background, smooth_field
from defectops.dataset.synthesis_lines import (
    Line,
    LineOptions,
    draw_lines,
    length_inside_nm,
    line_image,
    line_labels,
)
from defectops.dataset.synthesis_particles import (
    Particle,
    ParticleOptions,
    draw_particles,
    particle_image,
    particle_labels,
)
from defectops.dataset.synthesis_truth import true_quantities
from defectops.micrograph import Region

SCALE = 0.5
VOIDS = ParticleOptions("voids", 5e21, 12.0, 3.0, (0.5, 0.5), roughness=0.0)


def straight(start, stop, contrast=0.3):
    path = np.linspace((*start, 0.0), (*stop, 30.0), 200)
    return Line(path, contrast, 1.0, (0.0, 0.0))


def disc(row_nm, column_nm, depth_nm, diameter_nm, contrast=0.5):
    return Particle(row_nm, column_nm, depth_nm, diameter_nm, contrast, ())


@pytest.fixture(scope="module")
def drawn():
    return [synthesis.draw(options, 7 + i) for i, options in enumerate(synthesis.small())]


def test_same_seed_same_bytes_other_seed_other_bytes(drawn):
    options = synthesis.small()[2]
    again, other = synthesis.draw(options, 9), synthesis.draw(options, 10)
    assert again.micrograph.pixels.tobytes() == drawn[2].micrograph.pixels.tobytes()
    assert again.truth == drawn[2].truth
    assert (other.micrograph.pixels != again.micrograph.pixels).mean() > 0.5


def test_every_defect_is_drawn_and_nothing_else_is_labelled(drawn):
    assert [set(d.labels) for d in drawn] == [
        {"dislocations"},
        {"dislocations"},
        {"precipitates", "voids"},
        {"precipitates", "voids"},
    ]
    # Residual dislocations disturb the particle pictures: in the truth, in no label.
    assert drawn[2].truth["objects"]["dislocations"]
    for d in drawn:
        assert d.micrograph.pixels.dtype == np.uint8
        assert d.micrograph.pixels.shape == (256, 320)
        for key, label in d.labels.items():
            assert label.any()
            assert np.array_equal(label, d.instances[key] > 0)


def test_instances_name_visible_objects_of_the_truth(drawn):
    for d in drawn:
        for key, numbers in d.instances.items():
            visible = {o["id"] for o in d.truth["objects"][key] if o["visible"]}
            shown = set(np.unique(numbers).tolist()) - {0}
            assert shown <= visible
            # A line can lie wholly under later ones or outside; a visible particle shows.
            assert d.truth["shapes"][key] == "line" or shown == visible


def test_defects_are_dark_and_bright_as_their_type_says(drawn):
    def step(d, key):
        label = d.labels[key]
        near = ndimage.binary_dilation(label, iterations=2)
        ring = ndimage.binary_dilation(label, iterations=8) & ~near
        return d.micrograph.pixels[label].mean() - d.micrograph.pixels[ring].mean()

    assert step(drawn[0], "dislocations") < -10
    assert step(drawn[3], "precipitates") < -10
    assert step(drawn[3], "voids") > 10


@pytest.mark.parametrize("density", [2e14, 9e14])
def test_line_density_is_the_one_asked_for(density):
    options = LineOptions(density, vanished_share=0.25)
    shape, thickness = (300, 500), 45.0
    lines = draw_lines(np.random.default_rng(1), shape, SCALE, thickness, options)
    high = (shape[0] * SCALE, shape[1] * SCALE)
    volume = high[0] * high[1] * thickness
    seen = sum(length_inside_nm(x.path_nm, (0, 0), high) for x in lines if x.visible)
    all_of_them = sum(length_inside_nm(x.path_nm, (0, 0), high) for x in lines)
    assert seen / volume * 1e18 == pytest.approx(density, rel=0.02)
    assert all_of_them / volume * 1e18 == pytest.approx(density / 0.75, rel=0.02)


@pytest.mark.slow
def test_lines_are_isotropic_so_that_four_over_pi_holds():
    lines = draw_lines(
        np.random.default_rng(2), (2048, 2048), 0.365, 45.0, LineOptions(3e15, bundle_share=0.0)
    )
    steps = np.concatenate([np.diff(x.path_nm, axis=0) for x in lines])
    length = np.linalg.norm(steps, axis=1)
    flat = np.hypot(steps[:, 0], steps[:, 1])
    assert length.sum() / flat.sum() == pytest.approx(4 / np.pi, rel=0.02)
    assert np.average(steps[:, 0] ** 2 / length**2, weights=length) == pytest.approx(
        1 / 3, rel=0.06
    )
    depth = np.concatenate([x.path_nm[:, 2] for x in lines])
    assert depth.min() >= 0
    assert depth.max() <= 45
    assert depth.mean() == pytest.approx(22.5, rel=0.03)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_line_label_has_the_width_asked_for(width):
    label = line_labels([straight((50.0, -10.0), (58.0, 160.0))], (200, 240), SCALE, width)
    # Pixels a column, along the normal: the line rises by 8 nm in 170 nm.
    across = label.astype(bool).sum(axis=0).mean() * np.cos(np.arctan(8 / 170))
    assert across == pytest.approx(width, rel=0.05)


def test_later_line_lies_on_top_and_a_vanished_one_is_not_labelled():
    first = straight((50.0, 5.0), (50.0, 95.0))
    second = straight((5.0, 50.0), (95.0, 50.0))
    hidden = straight((20.0, 5.0), (20.0, 95.0), contrast=0.0)
    label = line_labels([first, second, hidden], (200, 200), SCALE, 3)
    assert label[100, 100] == 2
    assert label[100, 40] == 1
    assert set(np.unique(label)) == {0, 1, 2}


def test_the_dark_image_of_a_line_lies_under_its_label():
    options = LineOptions(1e14, oscillation=0.0, width_nm=2.5)
    line = straight((40.2, -20.0), (40.2, 120.0), contrast=0.4)
    # Contrast wanders along a line by a fifth; many lines average that out.
    image = line_image(np.random.default_rng(0), [line] * 12, (160, 200), SCALE, options) / 12
    label = line_labels([line], (160, 200), SCALE, 3) > 0
    profile = image.mean(axis=1)
    centre = np.average(np.arange(160) + 0.5, weights=-profile)
    assert centre * SCALE == pytest.approx(40.2, abs=0.02)
    assert label[np.argmin(profile)].all()
    assert profile.min() == pytest.approx(-0.4, rel=0.05)
    assert np.count_nonzero(profile < profile.min() / 2) == pytest.approx(2.5 / SCALE, abs=1)


def test_particle_density_and_sizes_are_those_asked_for():
    thickness, shape = 120.0, (400, 640)
    made = draw_particles(np.random.default_rng(3), shape, SCALE, thickness, VOIDS)
    inside = [
        p
        for p in made
        if 0 <= p.depth_nm < thickness and 0 <= p.row_nm < 200 and 0 <= p.column_nm < 320
    ]
    assert len(inside) == round(5e21 * 1e-27 * 200 * 320 * thickness)
    diameters = np.array([p.diameter_nm for p in inside])
    assert diameters.mean() == pytest.approx(12.0, rel=0.05)
    assert diameters.std(ddof=1) == pytest.approx(3.0, rel=0.2)
    assert any(not 0 <= p.depth_nm < thickness for p in made), "caps are missing"
    assert any(p.row_nm < 0 for p in made), "particles at the border are missing"


def test_particles_of_one_kind_do_not_interpenetrate():
    made = draw_particles(np.random.default_rng(4), (300, 300), SCALE, 100.0, VOIDS)
    at = np.array([(p.row_nm, p.column_nm, p.depth_nm) for p in made])
    radius = np.array([p.diameter_nm / 2 for p in made])
    gap = np.linalg.norm(at[:, None] - at[None], axis=2) - radius[:, None] - radius[None]
    assert gap[np.triu_indices(len(made), 1)].min() > -1e-9


def test_area_of_a_label_is_that_of_its_circle_even_when_rough():
    rough = replace(disc(50, 60, 40, 30), harmonics=((0.06, 0.3), (0.05, 2.0), (0.03, 4.0)))
    for particle in (disc(50, 60, 40, 30), rough):
        label = particle_labels([particle], (240, 260), SCALE, 80.0)
        area = np.count_nonzero(label) * SCALE**2
        assert area == pytest.approx(np.pi * 15**2, rel=0.01)


def test_a_cap_shows_the_circle_in_which_the_surface_cuts_it():
    # Centre 6 nm above the foil, radius 10 nm: the cut has the radius 8 nm.
    label = particle_labels([disc(50, 50, -6.0, 20)], (200, 200), SCALE, 80.0)
    assert np.count_nonzero(label) * SCALE**2 == pytest.approx(np.pi * 64, rel=0.02)
    gone = particle_labels([disc(50, 50, -10.5, 20)], (200, 200), SCALE, 80.0)
    assert not gone.any()


def test_upper_particle_covers_the_lower_and_the_border_cuts():
    pair = [disc(30, 30, 60, 20), disc(36, 30, 20, 20), disc(0, 80, 40, 20)]
    label = particle_labels(pair, (200, 200), SCALE, 80.0)
    assert label[66, 60] == 2
    assert label[50, 60] == 1
    assert np.count_nonzero(label == 3) == pytest.approx(np.pi * 20**2 / 2, rel=0.03)


def test_a_void_over_a_precipitate_cancels():
    at = (60.0, 60.0, 40.0, 20.0)
    dark = particle_image([disc(*at, contrast=-0.4)], (240, 240), SCALE, 80.0, VOIDS)
    bright = particle_image([disc(*at, contrast=0.4)], (240, 240), SCALE, 80.0, VOIDS)
    assert dark.min() < -0.3
    assert np.abs(dark + bright).max() < 1e-12


def hand_made():
    return {
        "pixel_size_nm": 0.5,
        "shape_px": [200, 400],
        "thickness_nm": 50.0,
        "shapes": {"dislocations": "line", "voids": "particle"},
        "objects": {
            "dislocations": [
                {"visible": True, "path_nm": [[10, 0, 0], [10, 60, 25], [10, 120, 50]]},
                {"visible": False, "path_nm": [[0, 30, 20], [40, 30, 20]]},
            ],
            "voids": [
                {"row_nm": 20, "column_nm": 20, "centre_in_foil": True, "diameter_nm": 10.0},
                {"row_nm": 20, "column_nm": 120, "centre_in_foil": True, "diameter_nm": 16.0},
                {"row_nm": 30, "column_nm": 50, "centre_in_foil": True, "diameter_nm": 14.0},
                {"row_nm": 40, "column_nm": 40, "centre_in_foil": False, "diameter_nm": 99.0},
                {"row_nm": -1, "column_nm": 40, "centre_in_foil": True, "diameter_nm": 99.0},
            ],
        },
    }


def test_true_quantities_of_a_hand_counted_field():
    left = Region(0, 200, 0, 200)  # 100 nm x 100 nm of a foil of 50 nm: 5e-22 m3
    found = true_quantities(hand_made(), "voids", left)
    assert found["number_density"] == pytest.approx(2 / 5e-22)
    assert found["areal_density"] == pytest.approx(2 / 1e-14)
    assert found["mean_diameter"] == pytest.approx(12.0)
    assert found["sd_diameter"] == pytest.approx(np.sqrt(8))
    lines = true_quantities(hand_made(), "dislocations", left)
    # Each half of the first line is 65 nm long; the middles of both lie left of 100 nm.
    assert lines["dislocation_density"] == pytest.approx(130e-9 / 5e-22)
    assert lines["dislocation_density_all"] == pytest.approx(170e-9 / 5e-22)


def test_true_quantities_of_an_empty_region_and_of_an_unknown_defect():
    empty = true_quantities(hand_made(), "voids", Region(100, 200, 300, 400))
    assert empty["number_density"] == 0
    assert np.isnan(empty["mean_diameter"])
    assert np.isnan(empty["sd_diameter"])
    with pytest.raises(KeyError):
        true_quantities(hand_made(), "loops")


@settings(max_examples=25, deadline=None)
@given(row=st.integers(1, 199), column=st.integers(1, 399))
def test_quantities_of_parts_add_up_to_the_whole(row, column):
    parts = [
        Region(top, bottom, left, right)
        for top, bottom in ((0, row), (row, 200))
        for left, right in ((0, column), (column, 400))
    ]
    for defect, key in (("voids", "areal_density"), ("dislocations", "dislocation_density_all")):
        total = sum(
            true_quantities(hand_made(), defect, r)[key] * r.shape[0] * r.shape[1] for r in parts
        )
        whole = true_quantities(hand_made(), defect)[key] * 200 * 400
        assert total == pytest.approx(whole)


def test_truth_states_the_quantities_of_its_objects(drawn):
    for d in drawn:
        for key, said in d.truth["quantities"].items():
            assert said == true_quantities(d.truth, key)


def test_smooth_field_has_mean_zero_and_variance_one():
    fields = [smooth_field(np.random.default_rng(i), (60, 90), (4.0, 7.0)) for i in range(40)]
    assert np.mean(fields) == pytest.approx(0, abs=0.05)
    assert np.var(fields) == pytest.approx(1, abs=0.08)


def test_a_flat_foil_without_contours_is_featureless():
    plain = FoilOptions(100.0, 10.0, thickness_variation=0.0, bend=0.0)
    foil = background(np.random.default_rng(0), (40, 60), SCALE, plain)
    assert foil.shape == (40, 60)
    assert np.ptp(foil) < 1e-9


def test_more_counts_mean_less_noise():
    blank = np.zeros((200, 300))
    blank[:, 150:] = -1.0  # a step, so that the grey range is the same in both
    spread = [
        record(np.random.default_rng(0), blank, SCALE, DetectorOptions(counts=c, row_gain=0.0))
        for c in (50.0, 5000.0)
    ]
    noisy, clean = (p[:, :140].std() / np.ptp(p.mean(axis=0)) for p in spread)
    assert noisy / clean == pytest.approx(10, rel=0.2)


def test_paper_preset_states_the_paper():
    stated = {o.name: o for o in synthesis.paper()}
    assert {o.shape for o in stated.values()} == {(2048, 2048)}
    assert [o.foil.thickness_nm for o in stated.values()] == [45.0, 45.0, 136.3, 159.1]
    assert [o.lines.density_m2 for o in list(stated.values())[:2]] == [8.91e14, 9.19e14]
    first, second = (stated[f"ht9_irradiated_{i}"].particles for i in (1, 2))
    assert [(p.density_m3, p.diameter_nm, p.diameter_sd_nm) for p in (*first, *second)] == [
        (6.56e21, 10.17, 5.12),
        (5.25e20, 22.64, 8.50),
        (8.42e21, 10.83, 4.51),
        (1.04e21, 20.26, 6.76),
    ]


def test_line_width_is_a_parameter_of_the_label_alone():
    thin, wide = (synthesis.draw(synthesis.small(line_width_px=w)[0], 3) for w in (3, 7))
    assert np.array_equal(thin.micrograph.pixels, wide.micrograph.pixels)
    ratio = wide.labels["dislocations"].sum() / thin.labels["dislocations"].sum()
    assert 1.8 < ratio < 2.4
    assert thin.truth["quantities"] == wide.truth["quantities"]
