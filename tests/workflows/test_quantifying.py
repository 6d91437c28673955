"""Quantities of a project: what is joined, pooled, compared with the truth, and never endless."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from drawing import LINES, VOIDS, champion, discs, field

from defectops.learning.views import VIEWS, ViewOptions
from defectops.measurement.quantities import COLUMNS, MeasureOptions
from defectops.micrograph import UNCALIBRATED, Calibration, Region, save_fields
from defectops.workflows import quantifying
from defectops.workflows.quantifying import joined, quantify

SHAPE = (60, 80)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Quantify sides, and whole images, with a champion that sees the intensity."""

    def run(dev, test, whole=(), defect=VOIDS, model="default", turned=None):
        given = champion() if model == "default" else model
        views = ViewOptions(mirrored=turned is not None)
        masks = tmp_path / "results/masks" / defect.key
        for folder, own in {".": dev, **(turned or {})}.items():
            save_fields(masks / folder / "dev.npz", own)
            save_fields(masks / folder / "test.npz", test)
        for f in whole:
            stem = f.image.removesuffix(".png")
            save_fields(tmp_path / f"prepared/{defect.key}/{stem}.npz", [f])
        monkeypatch.setattr(quantifying, "load_champion", lambda root, kind, conditioning: given)
        return quantify(tmp_path, defect, MeasureOptions(), None, None, views)

    return run


def _value(table, region, source, quantity, image="a.png", interval="material"):
    rows = table[
        (table["image"] == image)
        & (table["region"] == region)
        & (table["source"] == source)
        & (table["quantity"] == quantity)
        & ((table["interval"] == interval) | (source == "truth"))
    ]
    assert len(rows) == 1, rows
    return float(rows["value"].iloc[0])


# --- joined ---------------------------------------------------------------------------------


def test_adjacent_fields_of_one_image_become_one():
    random = np.random.default_rng(0)
    whole = random.random((7, 9))
    label = whole > 0.5
    upper = field(label[:3], whole[:3], at=(10, 20))
    lower = field(label[3:], whole[3:], at=(13, 20))
    (one,) = joined([lower, upper])
    assert one.region == Region(10, 17, 20, 29)
    np.testing.assert_array_equal(one.intensity, whole.astype(np.float32))
    np.testing.assert_array_equal(one.label, label)


@pytest.mark.parametrize(
    "places",
    [
        ((0, 0), (4, 0)),  # a gap
        ((0, 0), (3, 5)),  # a corner
        ((0, 0), (2, 0)),  # an overlap
        ((0, 0), (3, 0), (3, 5)),  # an L
    ],
)
def test_fields_that_fill_no_rectangle_stay_as_they_are(places):
    given = [field(np.zeros((3, 5), bool), at=at) for at in places]
    assert joined(given) == given


def test_fields_of_different_images_are_never_joined():
    given = [field(np.zeros((3, 5), bool), at=(3 * i, 0), image=f"{i}.png") for i in range(2)]
    assert joined(given) == given


def test_a_particle_on_the_border_of_dev_and_test_is_counted_once(measure, tmp_path):
    whole = discs(SHAPE, (30, 40))
    table = measure([field(whole[:30])], [field(whole[30:], at=(30, 0))])
    area = SHAPE[0] - 1, SHAPE[1] - 1
    density = 1 / (area[0] * area[1] * 0.25e-18)
    assert _value(table, "dev+test", "label", "areal_density") == pytest.approx(density)
    objects = pd.read_parquet(tmp_path / "results/objects/voids.parquet")
    assert objects["centroid_row_px"].tolist() == [30.0, 30.0]


# --- pooled and truth -----------------------------------------------------------------------


def test_pooled_rows_add_counts_and_areas_of_all_images(measure):
    a = field(discs(SHAPE, (20, 20), (40, 60)))
    b = field(discs((40, 50), (20, 20)), image="b.png")
    table = measure([a], [b])
    counted = 59 * 79 + 39 * 49
    expected = 3 / (counted * 0.25e-18)
    assert _value(table, "dev+test", "label", "areal_density", "pooled") == pytest.approx(expected)
    assert _value(table, "dev+test", "prediction", "areal_density", "pooled") == pytest.approx(
        expected
    )
    # One image on a side: its own row says it all.
    assert "pooled" not in set(table[table["region"] == "dev"]["image"])


def _truth(thickness_nm, *particles):
    rows = [
        {"row_nm": r, "column_nm": c, "diameter_nm": d, "centre_in_foil": inside}
        for r, c, d, inside in particles
    ]
    return {
        "pixel_size_nm": 0.5,
        "thickness_nm": thickness_nm,
        "shape_px": [60, 80],
        "shapes": {"voids": "particle"},
        "objects": {"voids": rows},
    }


def test_pooled_truth_weighs_by_volume_as_counted_by_hand(measure, tmp_path):
    # Image a: 3 centres inside (one outside the foil does not count), 100 nm; image b: 1, 50 nm.
    truths = {
        "a": _truth(100.0, (5, 5, 4, True), (9, 9, 8, True), (2, 3, 6, True), (1, 1, 9, False)),
        "b": _truth(50.0, (5, 5, 10, True)),
    }
    for stem, truth in truths.items():
        path = tmp_path / f"prepared/voids/truth/{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(truth))
    fields = [field(discs(SHAPE, (20, 20)), image=f"{s}.png") for s in "ab"]
    table = measure(fields, [], whole=fields)
    area_m2 = 60 * 80 * 0.25e-18

    def value(image, quantity):
        return _value(table, "dev", "truth", quantity, image)

    assert value("a.png", "number_density") == pytest.approx(3 / (area_m2 * 100e-9))
    assert value("b.png", "number_density") == pytest.approx(1 / (area_m2 * 50e-9))
    assert value("pooled", "number_density") == pytest.approx(4 / (area_m2 * 150e-9))
    assert value("pooled", "areal_density") == pytest.approx(4 / (2 * area_m2))
    assert value("pooled", "mean_diameter") == pytest.approx(np.mean([4, 8, 6, 10]))
    assert value("pooled", "sd_diameter") == pytest.approx(np.std([4, 8, 6, 10], ddof=1))
    assert np.isnan(value("b.png", "sd_diameter"))


def test_whole_is_the_prediction_on_the_complete_micrograph(measure):
    whole = field(discs(SHAPE, (20, 20), (40, 60)))
    table = measure([field(discs((30, 80), (20, 20)))], [], whole=[whole])
    rows = table[table["region"] == "whole"]
    assert set(rows["source"]) == {"prediction"}
    assert _value(table, "whole", "prediction", "areal_density") == pytest.approx(
        2 / (59 * 79 * 0.25e-18)
    )


def test_a_perfect_prediction_lies_in_its_own_model_interval(measure):
    given = field(discs(SHAPE, (10, 10), (20, 60), (45, 30)))
    table = measure([given], [])
    model = table[table["interval"] == "model"]
    defined = model.dropna(subset=["low", "high"])
    assert len(defined)
    assert (defined["low"] <= defined["value"] * 1.000001).all()
    assert (defined["high"] >= defined["value"] * 0.999999).all()


def test_ignored_pixels_are_no_area(measure):
    ignore = np.zeros(SHAPE, bool)
    ignore[:, 40:] = True
    table = measure([field(discs(SHAPE, (20, 20), (20, 60)), ignore=ignore)], [])
    expected = 1 / (59 * 39 * 0.25e-18)
    assert _value(table, "dev", "label", "areal_density") == pytest.approx(expected)


# --- units ----------------------------------------------------------------------------------


def test_uncalibrated_results_are_in_pixels_and_say_so(measure, tmp_path):
    given = field(discs(SHAPE, (20, 20)), calibration=Calibration(None, UNCALIBRATED))
    table = measure([given], [], whole=[given])
    assert set(table["unit"]) == {"px^-2", "px", "1"}
    assert not table["quantity"].isin(["number_density"]).any()
    histogram = pd.read_csv(tmp_path / "results/histograms/voids.csv")
    assert list(histogram) == ["source", "bin_low_px", "bin_high_px", "count"]


def test_without_thickness_there_are_areal_values_only(measure):
    given = field(discs(SHAPE, (20, 20)), calibration=Calibration(0.5, "manifest"))
    quantities = set(measure([given], [])["quantity"])
    assert "areal_density" in quantities
    assert "number_density" not in quantities


def test_calibrated_and_uncalibrated_images_are_not_pooled(measure):
    loose = Calibration(None, UNCALIBRATED)
    given = [
        field(discs(SHAPE, (20, 20))),
        field(discs(SHAPE, (20, 20)), image="b.png", calibration=loose),
    ]
    assert set(measure(given, [])["image"]) == {"a.png", "b.png"}


# --- nothing there --------------------------------------------------------------------------


@pytest.mark.parametrize("defect", [VOIDS, LINES])
def test_an_empty_prediction_is_zero_with_an_upper_bound(measure, defect):
    given = field(discs(SHAPE, (20, 20)), np.zeros(SHAPE))
    table = measure([given], [], defect=defect)
    quantity = "number_density" if defect is VOIDS else "dislocation_density_skeleton"
    rows = table[(table["quantity"] == quantity) & (table["source"] == "prediction")]
    rows = rows[rows["region"] == "dev"]
    (row,) = rows[rows["interval"] == "material"].to_dict("records")
    assert row["value"] == row["low"] == 0
    assert row["high"] > 0


def test_without_a_champion_every_output_is_there_and_empty(measure, tmp_path):
    assert measure([], [], model=None).empty
    results = tmp_path / "results"
    assert (results / "quantities/voids.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert pd.read_parquet(results / "objects/voids.parquet").empty
    for name in ("histograms", "timing"):
        assert len((results / f"{name}/voids.csv").read_text().splitlines()) == 1


def test_without_a_test_side_dev_and_both_say_the_same(measure):
    table = measure([field(discs(SHAPE, (20, 20)))], [])
    assert set(table["region"]) == {"dev", "dev+test"}
    columns = [c for c in COLUMNS if c != "region"]
    dev, both = (table[table["region"] == r][columns].reset_index() for r in ("dev", "dev+test"))
    pd.testing.assert_frame_equal(dev.drop(columns="index"), both.drop(columns="index"))


# --- files ----------------------------------------------------------------------------------


def test_histograms_count_every_object_of_label_and_prediction(measure, tmp_path):
    label = discs(SHAPE, (15, 15), (40, 60))
    shown = label | discs(SHAPE, (40, 20), radius=7)
    measure([field(label, shown)], [])
    histogram = pd.read_csv(tmp_path / "results/histograms/voids.csv")
    assert histogram.groupby("source")["count"].sum().to_dict() == {"label": 2, "prediction": 3}
    assert list(histogram) == ["source", "bin_low_nm", "bin_high_nm", "count"]


def _errors(tmp_path, quantity, defect=VOIDS):
    table = pd.read_csv(tmp_path / f"results/error_budget/{defect.key}.csv")
    rows = table[table["quantity"] == quantity]
    return table, rows.set_index("part")["value"]


def test_the_error_budget_leads_from_label_to_prediction_of_all_images(measure, tmp_path):
    label = discs(SHAPE, (15, 15), (40, 60))
    a = field(label, label | discs(SHAPE, (40, 20), radius=7))
    b = field(label, discs(SHAPE, (15, 15)), image="b.png")
    found = measure([a], [b])
    table, density = _errors(tmp_path, "areal_density")
    assert set(zip(table["image"], table["region"], strict=True)) == {("pooled", "dev+test")}
    one = 1 / (2 * 59 * 79 * 0.25e-18)
    assert density["label"] == _value(found, "dev+test", "label", "areal_density", "pooled")
    assert density["prediction"] == density["label"] == pytest.approx(4 * one)
    assert density["invented"] == pytest.approx(one)
    assert density["missed"] == pytest.approx(-one)


def test_the_error_budget_of_lines_names_the_image_and_sums(measure, tmp_path):
    label = np.zeros(SHAPE, bool)
    label[20:23, 5:75] = label[45:48, 5:75] = True
    shown = label.copy()
    shown[45:48] = False
    measure([field(label, shown)], [], defect=LINES)
    table, density = _errors(tmp_path, "projected_line_density", LINES)
    assert set(table["image"]) == {"a.png"}
    assert density["missed"] == pytest.approx(-density["label"] / 2)
    assert density.drop("prediction").sum() == pytest.approx(density["prediction"])


def test_without_a_common_scale_or_a_champion_the_error_budget_is_empty(measure, tmp_path):
    label = discs(SHAPE, (15, 15))
    bare = Calibration(None, UNCALIBRATED)
    measure([field(label), field(label, image="b.png", calibration=bare)], [])
    assert _errors(tmp_path, "areal_density")[0].empty
    measure([field(label)], [], model=None)
    assert _errors(tmp_path, "areal_density")[0].empty


def test_objects_lie_where_they_are_in_the_whole_micrograph(measure, tmp_path):
    measure([field(discs(SHAPE, (20, 30), radius=4), at=(100, 200))], [])
    objects = pd.read_parquet(tmp_path / "results/objects/voids.parquet")
    places = (
        ["centroid_row_px", "top_px", "bottom_px"],
        ["centroid_column_px", "left_px", "right_px"],
    )
    for (centre, first, end), expected in zip(places, (120, 230), strict=True):
        assert objects[centre].tolist() == [expected] * 2
        # Half-open bounding box around the centre of a disc.
        assert ((objects[first] + objects[end] - 1) / 2).tolist() == [expected] * 2


def test_times_are_named_by_image_and_step(measure, tmp_path):
    measure([], [], whole=[field(discs(SHAPE, (20, 20)))])
    times = pd.read_csv(tmp_path / "results/timing/voids.csv")
    assert times[["image", "step"]].to_numpy().tolist() == [
        ["a.png", "segmentation"],
        ["a.png", "quantification"],
    ]
    assert (times["seconds"] >= 0).all()


@pytest.mark.parametrize("defect", [VOIDS, LINES])
def test_two_runs_write_the_same_bytes_except_the_times(measure, tmp_path, defect):
    given = field(discs(SHAPE, (20, 20), (40, 60)))

    def written():
        measure([given], [], whole=[given], defect=defect)
        results = tmp_path / "results"
        found = sorted(p for p in results.rglob("*") if p.is_file() and "timing" not in p.parts)
        return {str(p): p.read_bytes() for p in found}

    first = written()
    time.sleep(0.01)
    assert written() == first


# --- mirrored views -------------------------------------------------------------------------


def _budget(tmp_path, region, quantity="areal_density", source="prediction", image="a.png"):
    table = pd.read_csv(tmp_path / "results/budget/voids.csv")
    own = table[(table["region"] == region) & (table["quantity"] == quantity)]
    own = own[(own["image"] == image) & (own["source"] == source)]
    return own.set_index("component")["relative_sd_percent"]


def _interval(table, region, source="prediction", quantity="areal_density", image="a.png"):
    own = table[(table["region"] == region) & (table["quantity"] == quantity)]
    own = own[(own["source"] == source) & (own["interval"] == "material")]
    (row,) = own[own["image"] == image].to_dict("records")
    return row["low"], row["value"], row["high"]


def _one_sided(threshold=0.5):
    """A model that does not see the left third of what it is shown."""
    seeing = champion(threshold)

    def probability(plane):
        seen = plane.copy()
        seen[:, : plane.shape[1] // 3] = 0
        return seen

    seeing.probability = probability
    return seeing


def test_views_of_a_model_without_a_side_change_no_number(measure, tmp_path):
    shown = field(discs(SHAPE, (20, 20), (40, 60)))
    plain = measure([shown], [], whole=[shown])
    turned = measure([shown], [], whole=[shown], turned={v: [shown] for v in VIEWS})
    pd.testing.assert_frame_equal(turned, plain)
    for region in ("dev", "whole"):
        assert _budget(tmp_path, region)["mirrored views"] == 0


def test_a_model_with_a_side_widens_the_interval_of_what_it_predicts(measure, tmp_path):
    shown = field(discs(SHAPE, (20, 10), (20, 40), (40, 40), (30, 70), (45, 72)))
    model = _one_sided()
    plain = measure([], [], whole=[shown], model=model)
    table = measure([], [], whole=[shown], model=model, turned={v: [] for v in VIEWS})
    assert "mirrored views" not in _budget(tmp_path, "dev")
    # Four as it is and upside down, three mirrored sideways and turned.
    expected = 100 * np.std(np.log([4, 3, 4, 3]), ddof=1)
    found = _budget(tmp_path, "whole")["mirrored views"]
    assert found == pytest.approx(expected, abs=1e-4)
    (low, value, high), (low_0, value_0, high_0) = (_interval(t, "whole") for t in (table, plain))
    assert value == value_0
    assert low < low_0 < high_0 < high


def test_views_of_dev_are_those_that_evaluate_segmented_in_joined_fields(measure, tmp_path):
    whole = discs(SHAPE, (30, 40), (50, 20))
    dev, test = field(whole[:30]), field(whole[30:], at=(30, 0))
    turned = {v: [field(np.zeros((30, 80), bool))] if v == "turned" else [dev] for v in VIEWS}
    measure([dev], [test], turned=turned)
    # The one on the border is half in dev and half in test: both together have two in each view.
    assert _budget(tmp_path, "dev+test")["mirrored views"] == 0
    assert _budget(tmp_path, "dev")["mirrored views"] > 0
    assert "mirrored views" not in _budget(tmp_path, "dev", source="label")


def test_pooled_readings_are_those_of_all_images_together(measure, tmp_path):
    many, few = (discs(SHAPE, *c) for c in (((20, 20), (40, 60)), ((20, 20),)))

    def side(*masks):
        return [field(m, image=f"{s}.png") for s, m in zip("ab", masks, strict=True)]

    # What one image loses in a view, the other gains.
    measure(side(many, few), [], turned=dict.fromkeys(VIEWS, side(few, many)))
    assert _budget(tmp_path, "dev")["mirrored views"] > 30
    assert _budget(tmp_path, "dev", image="pooled")["mirrored views"] == 0


# --- predictions of a model that learned nothing --------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("defect", [VOIDS, LINES], ids=["particles", "lines"])
@pytest.mark.parametrize(("share", "edge"), [(0.2, 512), (0.5, 512), (1.0, 1024)])
def test_garbage_is_measured_in_bounded_time(measure, defect, share, edge):
    # Work that grew with the square of the crossings, or with the depth of a solid mask, took
    # over twice the limit at these sizes, and twenty minutes at 2048.
    noise = np.random.default_rng(0).random((edge, edge)) < share
    started = time.perf_counter()
    table = measure([field(noise)], [], defect=defect)
    assert time.perf_counter() - started < 20
    assert len(table)
