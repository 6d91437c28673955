"""Percent errors of a prediction against its label, and their paired intervals."""

import numpy as np
import pytest
from scipy import ndimage

from defectops.errors import LabelRefused
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.paired import model_quantities, paired_interval, percent_error
from defectops.measurement.particle_quantities import measure_particles, observe_particles
from defectops.measurement.pooling import pool
from defectops.micrograph import Calibration

CAL = Calibration(0.5, "option", 100.0, 30.0)
SHAPE = (400, 500)


@pytest.fixture(scope="module")
def label(draw):
    return draw.discs(SHAPE, 0.0006, lambda r, n: np.clip(r.normal(16, 4, n), 8, 30), 4)


def without(label, share, seed=0):
    names = np.unique(label)[1:]
    random = np.random.default_rng(seed)
    gone = random.choice(names, int(share * names.size), replace=False)
    return np.where(np.isin(label, gone), 0, label)


def test_a_perfect_prediction_has_no_error_and_no_interval(label):
    field = [observe_particles(label, CAL)]
    assert set(percent_error(pool(field), pool(field)).values()) == {0.0}
    for interval in paired_interval(field, field).values():
        assert (interval.low, interval.high) == pytest.approx((0, 0), abs=1e-9)


def test_missing_particles_show_as_percent_and_lie_in_the_interval(label):
    truth = [observe_particles(label, CAL)]
    found = [observe_particles(without(label, 0.2), CAL)]
    error = percent_error(pool(truth), pool(found))["areal_density"]
    assert error == pytest.approx(-20, abs=3)
    interval = paired_interval(truth, found)["areal_density"]
    assert interval.low < error < interval.high < 0


def test_the_paired_interval_is_narrower_than_that_of_the_material(label):
    truth, found = observe_particles(label, CAL), observe_particles(without(label, 0.1), CAL)
    material = {q.quantity: q for q in pool([found])}["number_density"]
    model = {q.quantity: q for q in model_quantities([truth], [found])}["number_density"]
    assert model.value == material.value
    assert model.interval == "model"
    assert model.high - model.low < 0.5 * (material.high - material.low)
    labelled = {q.quantity: q for q in pool([truth])}["number_density"].value
    assert model.high < labelled  # a tenth is missing, and that shows


def test_wider_particles_are_larger_by_what_was_added(label):
    mask = without(label, 0.6) > 0
    truth = [observe_particles(mask, CAL)]
    found = [observe_particles(ndimage.binary_dilation(mask), CAL)]
    error = percent_error(pool(truth), pool(found))
    interval = paired_interval(truth, found)
    for name in ("mean_diameter", "area_fraction"):
        assert error[name] > 5
        assert interval[name].low < error[name] < interval[name].high


def test_lines_are_paired_too(draw):
    whole = np.zeros(SHAPE, dtype=bool)
    for row in range(30, 390, 40):
        whole |= draw.line(SHAPE, (row, 20), (row + 15, 480))
    broken = whole.copy()
    broken[:, 200:260] = False
    truth, found = [observe_lines(whole, CAL)], [observe_lines(broken, CAL)]
    error = percent_error(pool(truth), pool(found))
    interval = paired_interval(truth, found)
    for name in ("dislocation_density_skeleton", "dislocation_density_grid"):
        assert error[name] == pytest.approx(-100 * 60 / 460, abs=2)
        assert interval[name].low < error[name] < interval[name].high


def test_an_empty_label_has_no_percent_error(label):
    nothing = np.zeros(SHAPE, dtype=np.int32)
    truth, found = [observe_particles(nothing, CAL)], [observe_particles(label, CAL)]
    assert np.isnan(percent_error(pool(truth), pool(found))["number_density"])
    assert np.isnan(paired_interval(truth, found)["number_density"].low)
    row = {q.quantity: q for q in model_quantities(truth, found)}["number_density"]
    assert np.isnan(row.low)
    assert row.value == measure_particles(label, CAL)[1].value


def test_an_empty_prediction_is_minus_a_hundred_percent(label):
    nothing = np.zeros(SHAPE, dtype=np.int32)
    truth, found = [observe_particles(label, CAL)], [observe_particles(nothing, CAL)]
    error = percent_error(pool(truth), pool(found))
    assert error["number_density"] == -100
    assert np.isnan(error["mean_diameter"])


def test_the_same_fields_must_be_given_twice(label):
    field = observe_particles(label, CAL)
    with pytest.raises(LabelRefused, match="1 labels and 2 predictions"):
        paired_interval([field], [field, field])


def test_the_interval_is_seeded(label):
    truth, found = [observe_particles(label, CAL)], [observe_particles(without(label, 0.2), CAL)]
    assert paired_interval(truth, found) == paired_interval(truth, found)


def _model(truth, found):
    return {q.quantity: q for q in model_quantities(truth, found)}


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_than_five_particles_have_no_model_interval_of_their_spread(draw, count):
    mask = draw.discs(SHAPE, 0.0006, lambda r, n: np.clip(r.normal(16, 4, n), 8, 30), 4)
    mask = np.where(np.isin(mask, np.unique(mask)[1 : count + 1]), mask, 0)
    field = [observe_particles(mask, CAL)]
    model = _model(field, field)
    assert np.isnan([model["sd_diameter"].low, model["sd_diameter"].high]).all()
    assert np.isnan(model["mean_diameter"].low) == (count == 1)


def test_draws_without_a_spread_do_not_blow_up_its_interval():
    # Five particles in two tiles, four of them in one: many draws hold one particle alone.
    label, found = (np.zeros(SHAPE, dtype=np.int32) for _ in range(2))
    for number, (row, column, edge) in enumerate(
        [(10, 10, 9), (10, 40, 13), (40, 10, 17), (40, 40, 21), (320, 420, 20)], 1
    ):
        label[row : row + edge, column : column + edge] = number
        found[row : row + edge + 1, column : column + edge] = number
    model = _model([observe_particles(label, CAL)], [observe_particles(found, CAL)])["sd_diameter"]
    assert 0.9 * model.value < model.low <= model.high < 1.1 * model.value


def test_the_model_interval_of_the_area_does_not_depend_on_how_fine_a_field_was_sampled(label):
    # Half of the particles are missing in the second field; twice the pixels, half their size.
    fine = Calibration(0.25, "option", 100.0, 30.0)
    first, second = label, without(label, 0.5)

    def interval(factor, calibration):
        truth, found = (np.kron(m, np.ones((factor, factor), np.int32)) for m in (label, second))
        pairs = (
            (observe_particles(label, CAL), observe_particles(first, CAL)),
            (observe_particles(truth, calibration), observe_particles(found, calibration)),
        )
        return paired_interval([p[0] for p in pairs], [p[1] for p in pairs])["area_fraction"]

    coarse, sampled = interval(1, CAL), interval(2, fine)
    assert (sampled.low, sampled.high) == pytest.approx((coarse.low, coarse.high), abs=0.2)
