"""One micrograph of a batch: calibration, conditioning, numbers, pictures, and what comes back."""

import csv
import io
import json
import re
import weakref
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
from drawing import discs
from hypothesis import given
from hypothesis import strategies as st
from small_batch import TYPES, bench, carry_out, picture, sees, write_pictures

from defectops.dataset.manifest import ManifestRow
from defectops.errors import CalibrationRefused, LabelRefused, MicrographRefused
from defectops.learning.views import ViewOptions
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration
from defectops.workflows import batch_measuring as module
from defectops.workflows.batch_measuring import Source, measure_image, result_files
from defectops.workflows.batch_records import as_bytes, from_bytes, objects_of
from defectops.workflows.batch_rows import Rows, calibration_of, id_of, quantities_of


@pytest.fixture
def measured(tmp_path):
    """Measure one picture; keywords go to the request."""

    def go(*keys, row=None, pixels=None, sidecar=False, **request):
        write_pictures(tmp_path, 1, sidecar)
        if not sidecar:
            (tmp_path / "p0.json").unlink(missing_ok=True)
        if pixels is not None:
            tifffile.imwrite(tmp_path / "p0.tif", pixels)
        source = Source(tmp_path / "p0.tif", "p0.tif", "p0", "a" * 64, row)
        return measure_image(source, bench(tmp_path, *keys, **request))

    return go


def value(result, quantity, defect="voids"):
    (found,) = (q for q in quantities_of(result.record, defect) if q.quantity == quantity)
    return found


def test_numbers_are_those_of_measuring_the_same_mask(measured):
    result = measured("voids", pixel_size_nm=0.5, thickness=(100.0, 10.0))
    scale = calibration_of(result.record)
    mask = tifffile.imread(io.BytesIO(result.files["labels/p0_voids.tif"])) > 0
    wanted = observe_particles(mask, scale, MeasureOptions(detail="main"))
    at, lower, higher = from_bytes(result.kept["voids.npz"], scale, wanted.options)
    assert at.covered_area == wanted.covered_area
    assert lower.covered_area >= at.covered_area >= higher.covered_area
    density = value(result, "areal_density")
    assert density.value == pytest.approx(
        wanted.objects["counts_in_number"].sum() / wanted.frame_area * 1e18
    )
    assert value(result, "number_density").n == density.n == len(wanted.objects) > 3


def one_sided(plane):
    """Return what a model says that does not see the left third of what it is shown."""
    seen = sees(plane)
    seen[:, : plane.shape[1] // 3] = 0
    return seen


@pytest.fixture
def mirrored(tmp_path, monkeypatch):
    """Measure one picture with a model that sees as it is told, its views mirrored or not."""

    def go(sight, views=True):
        write_pictures(tmp_path, 1)
        tools = bench(tmp_path, mirrored_views=views)
        monkeypatch.setattr(tools.segmenters[0].model, "probability", sight)
        source = Source(tmp_path / "p0.tif", "p0.tif", "p0", "a" * 64)
        return measure_image(source, tools), tools

    return go


def test_views_are_kept_after_the_thresholds_in_a_fixed_order(mirrored):
    result, _ = mirrored(one_sided)
    scale, options = calibration_of(result.record), MeasureOptions(detail="main")
    at, lower, higher, *views = from_bytes(result.kept["voids.npz"], scale, options)
    areas = [v.covered_area for v in views]
    assert len(areas) == 3
    left_right, top_bottom, turned = areas
    assert top_bottom == at.covered_area
    assert left_right == turned != at.covered_area
    assert lower.covered_area >= at.covered_area >= higher.covered_area
    assert [step for _, step, _ in result.timing].count("mirrored views") == 1


def test_views_of_a_model_without_a_side_change_no_number(mirrored):
    with_views, plain = (mirrored(sees, views)[0] for views in (True, False))
    assert with_views.record == plain.record
    assert with_views.files == plain.files


def test_a_model_with_a_side_has_wider_intervals_and_the_same_values(mirrored):
    with_views, plain = (mirrored(one_sided, views)[0] for views in (True, False))
    wide, narrow = (value(r, "areal_density") for r in (with_views, plain))
    assert wide.value == narrow.value
    assert wide.low < narrow.low < narrow.high < wide.high
    assert with_views.files == plain.files


def test_objects_in_a_view_only_are_no_objects_of_the_picture(mirrored):
    def other_way(plane):
        # Sees nothing where the longer of the two bars lies below, as it does in the file.
        return np.zeros_like(plane) if plane[8].sum() < plane[-10].sum() else sees(plane)

    result, _ = mirrored(other_way)
    found = value(result, "areal_density")
    assert (found.value, found.low, found.n) == (0.0, 0.0, 0)
    assert found.high > 0
    assert not tifffile.imread(io.BytesIO(result.files["labels/p0_voids.tif"])).any()
    scale, options = calibration_of(result.record), MeasureOptions(detail="main")
    views = from_bytes(result.kept["voids.npz"], scale, options)[3:]
    assert [len(v.objects) > 0 for v in views] == [False, True, True]


def test_one_view_is_in_memory_at_once(mirrored):
    answers, alive = [], []

    def sight(plane):
        alive.append(sum(a() is not None for a in answers))
        found = sees(plane)
        answers.append(weakref.ref(found))
        return found

    mirrored(sight)
    assert alive == [0, 1, 1, 1]  # the answer that is reported, and no view but the present one


def test_pooled_budgets_hold_the_views(tmp_path, monkeypatch):
    write_pictures(tmp_path / "in", 2)
    tools = bench(tmp_path, mirrored_views=True)
    monkeypatch.setattr(tools.segmenters[0].model, "probability", one_sided)
    (pooled,) = carry_out(tmp_path / "in", tmp_path / "out", tools).pooled
    (item,) = (
        row
        for row in pooled.budget
        if (row["quantity"], row["component"]) == ("areal_density", "mirrored views")
    )
    assert item["relative_sd_percent"] > 0
    assert re.match("left-right: .*; top-bottom: .*; turned: ", item["method"])


def test_the_scale_comes_from_option_sidecar_or_manifest_and_is_told(measured):
    row = ManifestRow(
        "p0.tif",
        pixel_size_nm=0.25,
        pixel_size_source="grating",
        thickness_nm=80.0,
        thickness_sd_nm=8.0,
    )
    scales = [
        calibration_of(measured(**given).record)
        for given in (
            {"pixel_size_nm": 0.5},
            {"sidecar": True},
            {"row": row},
            {"row": row, "thickness": (70.0, None)},
            {"uncalibrated": True},
            {"row": ManifestRow("p0.tif", pixel_size_source="uncalibrated")},
        )
    ]
    assert scales == [
        Calibration(0.5, "option"),
        Calibration(0.5, "sidecar", 100.0, 10.0),
        Calibration(0.25, "grating", 80.0, 8.0),
        Calibration(0.25, "grating", 70.0, None),
        Calibration(None, "uncalibrated"),
        Calibration(None, "uncalibrated"),
    ]


def test_without_a_pixel_size_it_is_refused(measured):
    with pytest.raises(CalibrationRefused, match=r"p0\.tif: E_PX_MISSING"):
        measured()


def test_an_option_that_contradicts_the_sidecar_is_refused(measured):
    with pytest.raises(CalibrationRefused, match="E_PX_CONFLICT"):
        measured(sidecar=True, pixel_size_nm=0.7)


def test_volume_needs_a_thickness(measured):
    names = {q.quantity for q in quantities_of(measured(pixel_size_nm=0.5).record, "voids")}
    assert {"areal_density", "mean_diameter"} <= names
    assert not {"number_density", "swelling", "barrier_hardening"} & names


def test_what_cannot_be_true_is_refused_with_its_reason(measured):
    with pytest.raises(CalibrationRefused, match="E_IMPLAUSIBLE"):
        measured(pixel_size_nm=80.0, thickness=(5.0, None))


def test_label_images_hold_the_numbers_of_the_objects(measured):
    result = measured("voids", "dislocations", pixel_size_nm=0.5)
    for key, column in (("voids", "label"), ("dislocations", "line")):
        table = objects_of(result.kept[f"{key}.npz"])
        path = f"labels/p0_{key}.tif"
        labels = tifffile.imread(io.BytesIO(result.files[path]))
        assert sorted(set(labels.flat) - {0}) == sorted(table[column])
    assert sorted(result.files) == sorted(result_files("p0", bench_of("voids", "dislocations")))


def bench_of(*keys):
    segmenters = tuple(SimpleNamespace(defect=TYPES[k]) for k in keys)
    return SimpleNamespace(segmenters=segmenters)


def test_each_model_sees_its_defect_bright_and_the_picture_is_read_once(tmp_path, monkeypatch):
    write_pictures(tmp_path, 1)
    reads, planes = [], []
    original = module.read_micrograph
    monkeypatch.setattr(
        module, "read_micrograph", lambda *a, **k: reads.append(a) or original(*a, **k)
    )
    tools = bench(tmp_path, "voids", "dislocations")
    for segmenter in tools.segmenters:
        seen = segmenter.model.probability
        monkeypatch.setattr(
            segmenter.model, "probability", lambda p, seen=seen: planes.append(p) or seen(p)
        )
    tools.segmenters[1].model.bundle.defect["polarity"] = "dark"
    measure_image(Source(tmp_path / "p0.tif", "p0.tif", "p0", "a" * 64), tools)
    assert len(reads) == 1
    np.testing.assert_array_equal(planes[0], -planes[1])


def test_pixels_that_the_manifest_ignores_do_not_count(measured, tmp_path):
    mask = np.zeros(picture(0).shape, np.uint8)
    mask[:, :80] = 255
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    row = ManifestRow("p0.tif", ignore=("mask.tif",), pixel_size_nm=0.5, pixel_size_source="x")
    all_of_it = measured(pixel_size_nm=0.5)
    some = measured(row=row)
    assert value(some, "areal_density").n < value(all_of_it, "areal_density").n
    assert some.record["masks_sha256"]["voids"]
    tifffile.imwrite(tmp_path / "mask.tif", mask[1:])
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        measured(row=row)


def test_a_constant_picture_names_its_file(measured):
    with pytest.raises(MicrographRefused, match=r"p0\.tif: E_CONSTANT"):
        measured(pixels=np.full((64, 64), 7, np.uint8), pixel_size_nm=0.5)


# Kept and pooled ---------------------------------------------------------------------------------


@pytest.mark.parametrize("observe", [observe_particles, observe_lines])
def test_measurements_come_back_to_the_last_bit(observe):
    mask = discs((90, 110), (20, 20), (50, 80), (70, 30), radius=8)
    scale, options = Calibration(0.3, "tags", 90.0, 9.0), MeasureOptions()
    before = [observe(m, scale, options) for m in (mask, np.zeros_like(mask))]
    data = as_bytes(before)
    assert data == as_bytes(before)
    for old, new in zip(before, from_bytes(data, scale, options), strict=True):
        assert type(old) is type(new)
        for part in fields(old):
            a, b = getattr(old, part.name), getattr(new, part.name)
            if isinstance(a, pd.DataFrame):
                pd.testing.assert_frame_equal(a, b, check_dtype=len(a) > 0)
            elif isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)
            else:
                assert a == b
    pd.testing.assert_frame_equal(objects_of(data), before[0].objects)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("batch")
    write_pictures(tmp_path / "in", 3)
    tools = bench(tmp_path, "voids", "dislocations")
    summary = carry_out(tmp_path / "in", tmp_path / "out", tools)
    return tmp_path / "out", summary, tools


def test_one_row_an_image_and_type_with_everything_to_trace_it(done):
    out, _, _ = done
    table = pd.read_csv(out / "images.csv")
    assert list(table["image"]) == [f"p{i}.tif" for i in range(3) for _ in "ab"]
    assert list(table["defect"]) == ["voids", "dislocations"] * 3
    assert table["value_id"].is_unique
    assert (table["status"] == "ok").all()
    assert table["pooled"].all()
    assert set(table["pixel_size_source"]) == {"sidecar"}
    assert table.loc[table["defect"] == "voids", "number_density_per_m3"].notna().all()
    lines = "dislocation_density_skeleton_low_per_m2"
    assert list(table[lines].isna()) == list(table["defect"] == "voids")
    table["model_sha256"] = "0" * 64  # which pandas reads as a number here
    pd.testing.assert_frame_equal(
        table.dropna(axis=1, how="all"),
        pd.read_parquet(out / "images.parquet").dropna(axis=1, how="all"),
        check_dtype=False,
    )


def test_tables_agree_with_each_other(done):
    out, summary, _ = done
    images = pd.read_csv(out / "images.csv").set_index("value_id")
    objects = pd.read_csv(out / "objects.csv")
    long = pd.read_csv(out / "quantities.csv")
    assert objects["object_id"].is_unique
    assert long["value_id"].is_unique
    counts = objects.groupby("value_id").size()
    assert (counts == images["objects"].loc[counts.index]).all()
    row = long[(long["image"] == "p1.tif") & (long["quantity"] == "mean_diameter")].iloc[0]
    own = images[(images["image"] == "p1.tif") & (images["defect"] == "voids")].iloc[0]
    assert row["value"] == own["mean_diameter_nm"]
    assert row["low"] == own["mean_diameter_low_nm"]
    told = json.loads((out / "summary.json").read_text())
    pooled = long[long["image"] == "pooled"].set_index("value_id")["value"]
    for group in told["defects"].values():
        for q in group["pooled"]["quantities"]:
            assert q["images"] == 3
            assert q["value"] is None or q["value"] == pooled[q["value_id"]]
    assert told["images"] == summary.counts


def test_counts_add_up_in_the_pooled_density(done):
    out, summary, _ = done
    images = pd.read_csv(out / "images.csv")
    own = images[images["defect"] == "voids"]
    (pooled,) = (p for p in summary.pooled if p.defect == "voids")
    (density,) = (v for v in pooled.values if v.quantity.quantity == "areal_density")
    assert density.quantity.value == pytest.approx(own["areal_density_per_m2"].mean())
    assert density.quantity.low < density.quantity.value < density.quantity.high
    assert pooled.budget


def test_tables_are_whole_and_name_no_place_of_the_machine(done):
    out, _, _ = done
    for path in out.glob("*.csv"):
        assert str(out.parent) not in path.read_text()
        with path.open(newline="") as stream:
            lengths = {len(row) for row in csv.reader(stream)}
        assert len(lengths) == 1, path
        assert b"\r\n" in path.read_bytes()


def test_the_same_pixels_twice_count_once(tmp_path):
    write_pictures(tmp_path / "in", 2)
    (tmp_path / "in/q.tif").write_bytes((tmp_path / "in/p0.tif").read_bytes())
    (tmp_path / "in/q.json").write_bytes((tmp_path / "in/p0.json").read_bytes())
    summary = carry_out(tmp_path / "in", tmp_path / "out", bench(tmp_path))
    table = pd.read_csv(tmp_path / "out/images.csv").set_index("image")
    assert list(table["pooled"]) == [True, True, False]
    assert "the same pixels as 'p0.tif'" in table.loc["q.tif", "flags"]
    assert table["value_id"].is_unique
    assert summary.pooled[0].images == 2
    assert summary.counts["duplicate"] == 1


def test_volumes_are_pooled_from_the_images_with_a_thickness(tmp_path):
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in/p1.json").write_text('{"pixel_size_nm": 0.5}')
    (pooled,) = carry_out(tmp_path / "in", tmp_path / "out", bench(tmp_path)).pooled
    images = {v.quantity.quantity: v.images for v in pooled.values}
    assert images["areal_density"] == 3
    assert images["number_density"] == images["barrier_hardening"] == 2


def test_images_with_and_without_a_scale_are_pooled_apart(tmp_path):
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in/p1.json").unlink()
    tools = bench(tmp_path, uncalibrated=True)
    summary = carry_out(tmp_path / "in", tmp_path / "out", tools)
    assert [(p.unit, p.images) for p in summary.pooled] == [("nm", 2), ("px", 1)]
    table = pd.read_csv(tmp_path / "out/images.csv").set_index("image")
    assert table.loc["p1.tif", "status"] == "uncalibrated"
    assert np.isnan(table.loc["p1.tif", "mean_diameter_nm"])
    assert table.loc["p1.tif", "mean_diameter_px"] > 0
    assert np.isnan(table.loc["p0.tif", "mean_diameter_px"])


def test_nothing_measured_still_gives_whole_tables(tmp_path):
    write_pictures(tmp_path / "in", 1, sidecar=False)
    summary = carry_out(tmp_path / "in", tmp_path / "out", bench(tmp_path))
    assert summary.pooled == []
    assert summary.counts["refused"] == summary.counts["given"] == 1
    assert len(pd.read_csv(tmp_path / "out/images.csv")) == 0
    refused = pd.read_csv(tmp_path / "out/quarantine.csv")
    assert list(refused["code"]) == ["E_PX_MISSING"]
    assert len(pd.read_parquet(tmp_path / "out/objects.parquet")) == 0


@given(st.integers())
def test_no_id_reads_as_a_number(number):
    found = id_of(["x", number])
    assert re.fullmatch("[a-f][0-9a-f]{15}", found)
    assert found == id_of(["x", number])


def test_ids_say_what_a_value_depends_on(tmp_path):
    write_pictures(tmp_path, 1)
    tools = bench(tmp_path)
    (own,) = tools.segmenters
    source = Source(tmp_path / "p0.tif", "p0.tif", "p0", "a" * 64)
    record = measure_image(source, tools).record
    spread = replace(tools, request=replace(tools.request, threshold_spread=0.2))
    trained = replace(tools, segmenters=(replace(own, sha256="f" * 64),))
    border = replace(tools, segmenters=(replace(own, options=MeasureOptions(border="all")),))
    views = replace(tools, segmenters=(replace(own, views=ViewOptions(not own.views.mirrored)),))
    thinner = {**record, "calibration": [0.5, "sidecar", 90.0, 10.0]}
    found = [Rows(t, {}).image_id(record, "voids") for t in (tools, spread, trained, border, views)]
    found += [Rows(tools, {}).image_id(r, "voids") for r in (thinner, {**record, "image": "b"})]
    found.append(Rows(tools, {}).value_id(record, "voids", "areal_density"))
    assert len(set(found)) == len(found)
    assert Rows(bench(tmp_path), {}).image_id(record, "voids") == found[0]
