"""Masks of any kind measured without a model: what their pixels mean, what is refused."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import tifffile
from drawing import discs
from PIL import Image

from defectops.defects import BUILT_IN
from defectops.errors import CalibrationRefused, LabelRefused, ManifestRefused, SettingsRefused
from defectops.measurement.quantities import COLUMNS
from defectops.workflows.mask_sources import MeasureRequest
from defectops.workflows.mask_variants import moved_edges
from defectops.workflows.measuring import measure, write_figures, write_tables

SHAPE = (80, 100)
CENTRES = ((20, 20), (20, 60), (50, 30), (60, 80))


@pytest.fixture
def save(tmp_path):
    def write(name, values):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.asarray(values)
        if path.suffix == ".png":
            Image.fromarray(values).save(path)
        elif path.suffix == ".npy":
            np.save(path, values)
        else:
            tifffile.imwrite(path, values)
        return str(path)

    return write


@pytest.fixture
def run(tmp_path):
    """Measure, by default voids at 0.5 nm a pixel in 100 nm of foil."""

    def go(*masks, defect="voids", calibrated=True, **given):
        scale = {"pixel_size_nm": 0.5, "thickness": (100.0, 5.0)} if calibrated else {}
        return measure(tmp_path, MeasureRequest(defect, masks, **{**scale, **given}))

    return go


def value(found, quantity, image=None, source=None, interval="material"):
    rows = [
        r
        for r in found.rows
        if r["quantity"] == quantity
        and image in (None, r["image"])
        and source in (None, r["source"])
        and r["interval"] == interval
    ]
    assert len(rows) == 1, rows
    return rows[0]["value"]


def instances():
    planes = [discs(SHAPE, c) * number for number, c in enumerate(CENTRES, 1)]
    return sum(planes).astype(np.uint8)


def line():
    mask = np.zeros((120, 140), bool)
    mask[58:61] = True
    return mask


# --- what the pixels mean -------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        discs(SHAPE, *CENTRES).astype(np.uint8),
        discs(SHAPE, *CENTRES).astype(np.uint8) * np.uint8(255),
        discs(SHAPE, *CENTRES).astype(np.float32),
        instances(),
        instances().astype(np.uint16) * 1000,
    ],
    ids=["0-1", "0-255", "float", "instances", "with gaps"],
)
def test_masks_and_instances_of_the_same_particles_measure_the_same(save, run, values):
    found = run(save("a.tif", values))
    counted = 79 * 99
    assert value(found, "areal_density") == pytest.approx(4 / (counted * 0.25e-18))
    assert len(found.objects) == 4
    assert set(found.objects["image"]) == {"a.tif"}
    assert [tuple(row) for row in found.rows] == [COLUMNS] * len(found.rows)


def test_touching_instances_stay_apart_where_a_mask_is_one_bar(save, run):
    bar = np.zeros(SHAPE, np.uint8)
    bar[30:40, 20:40], bar[30:40, 40:60] = 3, 7
    assert len(run(save("a.tif", bar)).objects) == 2
    assert len(run(save("b.tif", bar), meaning="mask").objects) == 1


def test_classes_are_not_taken_for_instances(save, run):
    classes = np.where(discs(SHAPE, *CENTRES[:3]), 1, np.where(discs(SHAPE, CENTRES[3]), 2, 0))
    path = save("classes.png", classes.astype(np.uint8))
    with pytest.raises(LabelRefused, match="2 different numbers lie in 4 separate pieces"):
        run(path)
    assert len(run(path, label_index=1).objects) == 3
    assert len(run(path, label_index=2).objects) == 1
    assert len(run(path, meaning="instances").objects) == 2


def test_grey_rims_of_a_resized_mask_are_refused(save, run):
    large = Image.fromarray(discs(SHAPE, *CENTRES).astype(np.uint8) * np.uint8(255))
    small = np.asarray(large.resize((150, 120), Image.Resampling.BILINEAR))
    with pytest.raises(LabelRefused, match="grey values"):
        run(save("resized.png", small))


def test_one_object_of_number_one_is_an_instance_only_if_said(save, run):
    one = discs(SHAPE, (30, 30), (30, 37)).astype(np.uint8)
    assert len(run(save("b.tif", one), meaning="instances").objects) == 1
    assert len(run(save("b.tif", one)).objects) == 2


def test_probabilities_need_a_threshold_and_get_its_spread(save, run):
    rows, columns = np.indices(SHAPE)
    distance = np.hypot(rows - 40, columns - 50)
    probability = np.clip(1 - distance / 20, 0, 1).astype(np.float32)
    path = save("p.tif", probability)
    with pytest.raises(LabelRefused, match="needs --threshold"):
        run(path)
    found = run(path, threshold=0.5, threshold_spread=0.1)
    assert value(found, "area_fraction", source="prediction") == pytest.approx(
        np.mean(probability >= 0.5)
    )
    (sd,) = (
        row["relative_sd_percent"]
        for row in found.budget
        if (row["quantity"], row["component"]) == ("area_fraction", "segmentation")
    )
    low, high = (np.mean(probability >= t) for t in (0.6, 0.4))
    assert sd == pytest.approx(100 * math.log(high / low) / math.sqrt(12), rel=1e-3)
    with pytest.raises(LabelRefused, match="needs probabilities"):
        run(save("q.tif", (probability * 7).astype(np.float32)), threshold=0.5)


def test_lines_have_no_instances(save, run):
    mask = line().astype(np.uint8) * 3
    mask[:, 70:] *= 2
    found = run(save("a.tif", mask), defect="dislocations")
    assert value(found, "projected_line_density") == pytest.approx(1 / (120 * 0.5), rel=0.02)


# --- edges, fields, labels ------------------------------------------------------------------


def test_edges_move_by_whole_pixels_and_never_join_instances():
    disc = discs(SHAPE, (40, 50))
    for px in (1, 2):
        assert moved_edges(disc, px).sum() > disc.sum() > moved_edges(disc, -px).sum()
    two = np.zeros(SHAPE, np.int32)
    two[20:30, 20:30], two[20:30, 30:40] = 1, 2
    inner = moved_edges(two, -1)
    assert (inner == 1).sum() == (inner == 2).sum() == 64
    wider = moved_edges(two, 1)
    assert set(np.unique(wider[19:31, 19:30])) <= {0, 1}
    cut = np.zeros(SHAPE, bool)
    cut[:10, :10] = True
    assert moved_edges(cut, -1).sum() == 81


def test_moved_edges_are_an_item_of_the_budget(save, run):
    path = save("a.tif", discs(SHAPE, *CENTRES))
    items = {(r["quantity"], r["component"]) for r in run(path).budget}
    assert ("mean_diameter", "segmentation") not in items
    found = run(path, edge_px=1)
    (item,) = (
        r
        for r in found.budget
        if (r["quantity"], r["component"]) == ("mean_diameter", "segmentation")
    )
    assert item["relative_sd_percent"] > 5
    assert "edges 1 px further out" in item["method"]


def test_several_masks_are_pooled(save, run):
    a = save("a.tif", discs(SHAPE, *CENTRES))
    b = save("b.png", discs((60, 70), (30, 30)).astype(np.uint8))
    found = run(a, b)
    counted = 79 * 99 + 59 * 69
    assert value(found, "areal_density", image="pooled") == pytest.approx(5 / (counted * 0.25e-18))
    assert [r["image"] for r in found.rows][-1] == "pooled"
    assert found.histogram["n"].sum() == 5


def test_against_labels_there_are_two_intervals(save, run, tmp_path):
    save("truth/a.tif", discs(SHAPE, *CENTRES))
    mask = save("a.tif", discs(SHAPE, *CENTRES[1:]))
    found = run(mask, against=(str(tmp_path / "truth"),))
    assert value(found, "areal_density", source="label") == pytest.approx(
        4 / 3 * value(found, "areal_density", source="prediction")
    )
    assert value(found, "areal_density", interval="model") == value(
        found, "areal_density", source="prediction"
    )
    assert sorted(found.objects["source"]) == ["label"] * 4 + ["prediction"] * 3


def test_against_labels_the_errors_are_told_apart(save, run, tmp_path):
    save("truth/a.tif", discs(SHAPE, *CENTRES))
    mask = save("a.tif", discs(SHAPE, *CENTRES[1:]))
    found = run(mask, against=(str(tmp_path / "truth"),))
    written = [*write_tables(found, tmp_path / "out"), *write_figures(found, tmp_path / "out")]
    assert {"error_budget.csv", "error_budget.png"} <= {p.name for p in written}
    table = pd.read_csv(tmp_path / "out/error_budget.csv")
    density = table[table["quantity"] == "areal_density"].set_index("part")["value"]
    assert density["label"] == value(found, "areal_density", source="label")
    assert density["prediction"] == value(found, "areal_density", source="prediction")
    assert density["missed"] == pytest.approx(-density["label"] / 4)
    alone = run(mask)
    assert alone.errors is None
    names = [p.name for p in [*write_tables(alone, tmp_path), *write_figures(alone, tmp_path)]]
    assert not any("error_budget" in name for name in names)


def test_ignored_pixels_do_not_count(save, run, tmp_path):
    hidden = np.zeros(SHAPE, np.uint8)
    hidden[:40] = 1
    found = run(save("a.tif", discs(SHAPE, *CENTRES)), ignore=(save("ignore/a.png", hidden),))
    assert len(found.objects) == 2


# --- scale ----------------------------------------------------------------------------------


def test_the_pixel_size_of_the_file_is_used_and_must_agree(save, run, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        discs(SHAPE, *CENTRES).astype(np.uint8),
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"unit": "nm"},
    )
    found = run(str(path), calibrated=False)
    assert value(found, "mean_diameter") == pytest.approx(4.0, rel=0.05)
    assert "number_density" not in {r["quantity"] for r in found.rows}
    assert any("never assumed" in n for n in found.notes)
    with pytest.raises(CalibrationRefused, match="conflict"):
        run(str(path), calibrated=False, pixel_size_nm=0.365)


def test_without_a_pixel_size_results_are_in_pixels_only_if_said(save, run):
    path = save("a.npy", discs(SHAPE, *CENTRES))
    with pytest.raises(CalibrationRefused, match="no pixel size"):
        run(path, calibrated=False)
    found = run(path, calibrated=False, uncalibrated=True)
    assert {r["unit"] for r in found.rows} <= {"px", "px^-2", "1"}
    assert any("in pixels" in n for n in found.notes)


def test_a_sidecar_tells_size_and_thickness(save, run, tmp_path):
    path = save("a.png", discs(SHAPE, *CENTRES).astype(np.uint8))
    (tmp_path / "a.json").write_text(json.dumps({"pixel_size_nm": 0.5, "thickness_nm": 100}))
    assert value(run(path, calibrated=False), "number_density") > 0


def test_manifest(save, run, tmp_path):
    save("labels/a.png", discs(SHAPE, *CENTRES).astype(np.uint8))
    save("labels/b.png", discs(SHAPE, *CENTRES).astype(np.uint8))
    table = tmp_path / "manifest.csv"
    table.write_text(
        "image,label_voids,pixel_size_nm,thickness_nm,thickness_sd_nm\n"
        "a.tif,labels/a.png,0.5,100,5\nb.tif,labels/b.png,0.5,200,\nc.tif,,0.5,100,\n"
    )
    found = measure(tmp_path, MeasureRequest("voids", manifest=table))
    thin, thick = (value(found, "number_density", image=i) for i in ("a.tif", "b.tif"))
    assert 1.8 < thin / thick < 2
    with pytest.raises(ManifestRefused, match="label_precipitates"):
        measure(tmp_path, MeasureRequest("precipitates", manifest=table))
    table.write_text("image,label_voids,pixel_size_nm\na.tif,labels/none.png,0.5\n")
    with pytest.raises(ManifestRefused, match="no file"):
        measure(tmp_path, MeasureRequest("voids", manifest=table))


def test_what_cannot_be_true_is_refused_and_what_is_odd_is_said(save, run):
    path = save("a.tif", discs(SHAPE, *CENTRES, radius=8))
    with pytest.raises(CalibrationRefused, match="wider than their foil") as caught:
        run(path, thickness=(1.8, None))
    assert (caught.value.exit_code, caught.value.subject) == (2, "a.tif")
    assert any("wider than" in n for n in run(path, thickness=(6.0, None)).notes)
    swapped = save("b.tif", ~discs(SHAPE, *CENTRES, radius=8))
    assert any("swapped" in n for n in run(swapped, thickness=(100.0, None)).notes)
    assert any("swapped" in n for n in run(swapped, calibrated=False, uncalibrated=True).notes)


def test_refusals_name_the_file(save, run, tmp_path):
    with pytest.raises(LabelRefused, match=r"tiny.tif: E_TOO_SMALL: 1 x 1 pixels"):
        run(save("tiny.tif", np.ones((1, 1), np.uint8)))
    path = save("a.tif", discs(SHAPE, *CENTRES))
    with pytest.raises(LabelRefused, match=r"a.tif: E_SHAPE: ignore"):
        run(path, ignore=(save("ignore/a.png", np.ones((40, 40), np.uint8)),))
    with pytest.raises(LabelRefused, match=r"a.tif: E_EMPTY: ignore"):
        run(path, ignore=(save("ignore/a.png", np.ones(SHAPE, np.uint8)),))


# --- choices --------------------------------------------------------------------------------


def test_strength_comes_with_its_constants(save, run):
    found = run(save("a.tif", discs(SHAPE, *CENTRES)))
    assert value(found, "barrier_hardening") > 0
    items = [r for r in found.budget if r["quantity"] == "barrier_hardening"]
    assert "constants" in {r["component"] for r in items}
    other = run(save("a.tif", discs(SHAPE, *CENTRES)), defect="bubbles", shape="particle")
    assert "barrier_hardening" not in {r["quantity"] for r in other.rows}


def test_a_project_says_types_options_and_material(save, run, tmp_path):
    (tmp_path / "params.yaml").write_text(
        "defects:\n  bubbles: {shape: particle, polarity: bright}\n"
        "quantify:\n  default: {border: all}\n"
        "material:\n  default: {name: iron}\n  bubbles: {alpha: 0.2}\n"
    )
    found = run(save("a.tif", discs(SHAPE, *CENTRES)), defect="bubbles")
    (hardening,) = (r for r in found.rows if r["quantity"] == "barrier_hardening")
    assert "iron: alpha 0.2" in hardening["method"]
    assert "border all" in hardening["method"]
    assert any("params.yaml" in n for n in found.notes)
    # A type that the project does not name is measured as outside of any project.
    assert not any("params.yaml" in n for n in run(save("a.tif", discs(SHAPE, *CENTRES))).notes)


def test_options_win_over_the_project(save, run):
    path = save("a.tif", discs(SHAPE, (20, 20), (50, 50), radius=2))
    assert len(run(path).objects) == 2
    assert len(run(path, options={"min_area_px": 30}).objects) == 0
    rows = run(path, options={"border": "all", "level": 0.9}).rows
    assert {r["level"] for r in rows} == {0.9}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"defect": "loops"}, "known are dislocations"),
        ({"defect": "voids", "shape": "line"}, "is a particle"),
        ({"defect": "loops", "shape": "disc"}, "shape must be"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"threshold_spread": 0.7}, "between 0 and 0.5"),
        ({"edge_px": -1}, "between 0 and 100"),
        ({"pixel_size_sd_nm": -0.1}, "zero or positive"),
        ({"uncalibrated": True}, "contradicts"),
        ({"options": {"border": "none"}}, "border must be"),
        ({"options": {"level": 2.0}}, "level between"),
    ],
)
def test_wrong_choices_are_refused(save, run, given, message):
    with pytest.raises(SettingsRefused, match=message):
        run(save("a.tif", discs(SHAPE, *CENTRES)), **given)


def test_nothing_to_measure_is_a_usage_error(tmp_path):
    with pytest.raises(SettingsRefused, match="give masks"):
        MeasureRequest("voids")
    with pytest.raises(SettingsRefused, match="give masks"):
        MeasureRequest("voids", ("a.tif",), manifest=tmp_path / "m.csv")


# --- what is written ------------------------------------------------------------------------


def test_an_empty_mask_is_a_result(save, run, tmp_path):
    found = run(save("a.tif", np.zeros(SHAPE, np.uint8)))
    assert value(found, "number_density") == 0
    assert found.objects.empty
    assert found.histogram.empty
    for path in (*write_tables(found, tmp_path / "out"), *write_figures(found, tmp_path / "out")):
        assert path.stat().st_size > 0


def test_tables_and_figures_are_the_same_bytes_again(save, run, tmp_path):
    path = save("a.tif", discs(SHAPE, *CENTRES))
    written = []
    for folder in ("one", "two"):
        found = run(path)
        files = [
            *write_tables(found, tmp_path / folder),
            *write_figures(found, tmp_path / folder),
        ]
        written.append({p.name: p.read_bytes() for p in files})
    assert written[0] == written[1]
    names = {"quantities.csv", "budget.csv", "objects.csv", "histogram.csv"}
    assert names | {"sizes.png", "budget.png"} <= set(written[0])
    table = pd.read_csv(tmp_path / "one/quantities.csv")
    assert tuple(table.columns) == COLUMNS
    assert not any(str(tmp_path) in data.decode("latin-1") for data in written[0].values())


def test_the_histogram_counts_every_object_with_its_interval(save, run):
    table = run(save("a.tif", discs(SHAPE, *CENTRES))).histogram
    assert table["n"].sum() == 4
    assert (table["low"] <= table["count"]).all()
    assert (table["high"] > table["count"]).all()
    assert list(table.columns[:2]) == ["bin_low_nm", "bin_high_nm"]


def test_lines_have_a_rose_of_directions(save, run, tmp_path):
    found = run(save("a.tif", line()), defect="dislocations")
    assert found.rose is not None
    density = found.rose["density_per_nm"]
    assert density.iloc[[0, -1]].sum() == pytest.approx(1 / (120 * 0.5), rel=0.02)
    assert density.iloc[1:-1].sum() == 0
    written = [*write_tables(found, tmp_path), *write_figures(found, tmp_path)]
    assert {"rose.csv", "rose.png"} <= {p.name for p in written}
    assert run(save("b.tif", discs(SHAPE, *CENTRES))).rose is None


def test_every_built_in_type_can_be_measured(save, run):
    for key in BUILT_IN:
        assert run(save("a.tif", line()), defect=key).rows
