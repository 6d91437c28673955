"""From a number back to pixels and model: every link holds, and is found out when it is broken."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from small_batch import SHAPE, bench, carry_out, promoted, write_pictures

from defectops.batch.recorded import Recorded
from defectops.cli.main import run
from defectops.dataset.manifest import ManifestRow
from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments.registry import RecordingRegistry
from defectops.workflows.tracing import Ground, trace

ORDER = [
    "value",
    "inputs",
    "method",
    "objects",
    "pixels",
    "micrograph",
    "model",
    "training data",
    "commit",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A project with champions, micrographs and a batch of two types."""
    root = tmp_path_factory.mktemp("project")
    for key in ("voids", "dislocations"):
        promoted(root, key)
    write_pictures(root / "pictures")
    carry_out(root / "pictures", root / "out", bench(root, "voids", "dislocations"))
    return root


@pytest.fixture
def project(measured, tmp_path):
    """A copy of it that may be spoilt."""
    return shutil.copytree(measured, tmp_path / "project")


def rows(root, name):
    with (root / "out" / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def the_id(root, table="quantities.csv", column="value_id", **wanted):
    """Return the id of the first row with these cells."""
    return next(
        row[column] for row in rows(root, table) if all(row[k] == v for k, v in wanted.items())
    )


def follow(root, value_id, **more):
    out = root / "out"
    return trace(value_id, Ground(out, Recorded(out), root, **more))


def states(root, value_id, **more):
    return {link.name: link.state for link in follow(root, value_id, **more).links}


def edit(root, table, value_id, column, text, key="value_id"):
    """Change a cell as somebody with an editor would."""
    own = rows(root, table)
    for row in own:
        if row[key] == value_id:
            row[column] = text
    with (root / "out" / table).open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, list(own[0]), lineterminator="\r\n")
        out.writeheader()
        out.writerows(own)


def density(root, **wanted):
    return the_id(root, quantity="number_density", image="p0.tif", **wanted)


def test_every_kind_of_value_leads_to_the_commit(measured):
    ids = [
        density(measured),
        the_id(measured, "images.csv", image="p1.tif", defect="voids"),
        the_id(measured, "images.csv", image="p1.tif", defect="dislocations"),
        the_id(measured, image="p0.tif", quantity="dislocation_density_skeleton"),
    ]
    for value_id in ids:
        found = follow(measured, value_id)
        assert [link.name for link in found.links] == ORDER
        assert not found.broken
        assert {link.state for link in found.links[:-1]} == {"matches"}
        assert found.links[-1].state == "unknown"  # outside of a repository


def test_an_object_leads_to_its_own_pixels(measured):
    for defect in ("voids", "dislocations"):
        object_id = the_id(measured, "objects.csv", "object_id", defect=defect, label="2")
        found = follow(measured, object_id)
        assert not found.broken
        labels = tifffile.imread(measured / f"out/labels/p0_{defect}.tif")
        said = {link.name: link.said for link in found.links}["pixels"]
        assert said.startswith(f"{(labels == 2).sum()} pixels with the value 2")


@pytest.mark.parametrize(
    ("defect", "quantity"),
    [("voids", "number_density"), ("dislocations", "dislocation_density_skeleton")],
)
def test_a_pooled_value_leads_to_all_its_images(measured, defect, quantity):
    value_id = the_id(measured, image="pooled", quantity=quantity, defect=defect)
    found = follow(measured, value_id)
    assert not found.broken
    assert [link.name for link in found.links].count("micrograph") == 2
    assert found.what == f"{quantity} of {defect}, 2 images pooled"


@pytest.mark.parametrize(
    "column",
    ["value", *(pytest.param(c, marks=pytest.mark.slow) for c in ("low", "unit", "n", "method"))],
)
def test_an_edited_number_is_found_out(project, column):
    value_id = density(project)
    edit(project, "quantities.csv", value_id, column, "7")
    assert [link.name for link in follow(project, value_id).broken] == ["value"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("number_density_per_m3", "1e+21"),
        ("mean_diameter_high_nm", "1.0"),
        ("model_version", "4"),
        ("image_sha256", "f" * 64),
        ("pixel_size_nm", "0.25"),
        ("thickness_nm", "null"),
    ],
)
def test_an_edited_row_of_an_image_is_found_out(project, column, text):
    value_id = the_id(project, "images.csv", image="p0.tif", defect="voids")
    edit(project, "images.csv", value_id, column, text)
    assert [link.name for link in follow(project, value_id).broken] == ["value"]


def test_an_edited_pooled_number_is_found_out(project):
    value_id = the_id(project, image="pooled", quantity="number_density")
    edit(project, "quantities.csv", value_id, "value", "1e+21")
    assert [link.name for link in follow(project, value_id).broken] == ["value", "method"]


def test_an_edited_object_is_found_out_from_both_sides(project):
    object_id = the_id(project, "objects.csv", "object_id", defect="voids", label="2")
    edit(project, "objects.csv", object_id, "area_nm2", "12.5", key="object_id")
    for value_id in (object_id, density(project)):
        assert [link.name for link in follow(project, value_id).broken] == ["objects"]


@pytest.mark.slow
def test_a_row_too_many_or_missing_is_found_out(project):
    path = project / "out/objects.csv"
    lines = path.read_bytes().split(b"\r\n")
    at = next(i for i, text in enumerate(lines) if b"p0.tif,voids" in text)
    for spoilt in (lines[:at] + lines[at + 1 :], [*lines[:at], lines[at], *lines[at:]]):
        path.write_bytes(b"\r\n".join(spoilt))
        assert [link.name for link in follow(project, density(project)).broken] == ["objects"]


def test_a_changed_label_image_is_found_out(project):
    path = project / "out/labels/p0_voids.tif"
    labels = tifffile.imread(path)
    labels[labels == 1] = 0
    tifffile.imwrite(path, labels)
    broken = [link.name for link in follow(project, density(project)).broken]
    assert broken == ["method", "objects", "pixels"]
    pooled = the_id(project, image="pooled", quantity="number_density")
    assert "pixels" in {link.name for link in follow(project, pooled).broken}
    path.unlink()
    assert states(project, density(project))["pixels"] == "differs"


def test_a_replaced_micrograph_is_found_out(project):
    value_id = density(project)
    shutil.copy(project / "pictures/p1.tif", project / "pictures/p0.tif")
    assert [link.name for link in follow(project, value_id).broken] == ["micrograph"]
    pooled = the_id(project, image="pooled", quantity="number_density")
    assert [link.name for link in follow(project, pooled).broken] == ["micrograph"]


@pytest.mark.slow
def test_micrographs_that_moved_are_found_where_they_are(project):
    value_id = density(project)
    (project / "pictures").rename(project / "elsewhere")
    assert states(project, value_id)["micrograph"] == "unknown"
    moved = states(project, value_id, micrographs=project / "elsewhere")
    assert moved["micrograph"] == "matches"


def test_another_bundle_under_the_same_name_is_found_out(project):
    bundle = project / "champions/voids/model.safetensors"
    bundle.write_bytes(bundle.read_bytes() + b" ")
    assert [link.name for link in follow(project, density(project)).broken] == ["model"]


@pytest.mark.slow
def test_a_champion_that_was_replaced_is_still_known(project):
    promoted(project, version=4)
    found = {link.name: link for link in follow(project, density(project)).links}
    assert found["model"].state == found["training data"].state == "matches"
    assert "an earlier champion" in found["model"].said


def test_a_model_that_nobody_knows_is_found_out(project):
    (project / "champions/voids.journal.jsonl").unlink()
    promoted(project, version=4)
    assert [link.name for link in follow(project, density(project)).broken] == ["model"]


@pytest.mark.slow
def test_a_model_of_the_registry_is_known(project, tmp_path):
    registry = RecordingRegistry()
    kept = shutil.copytree(project / "champions/voids", tmp_path / "kept")
    for _ in range(3):
        registry.submit("defectops-voids", kept / "model.safetensors", "run", {}, {})
    shutil.rmtree(project / "champions")
    found = {
        link.name: link
        for link in follow(project, density(project), registry=lambda: registry).links
    }
    assert found["model"].state == "differs"
    assert "calls it version" in found["model"].said


@pytest.mark.slow
def test_without_champions_the_model_is_unknown_not_wrong(project):
    shutil.rmtree(project / "champions")
    found = states(project, density(project))
    assert found["model"] == found["training data"] == "unknown"


@pytest.mark.slow
def test_other_options_do_not_make_the_same_id(project):
    path = project / "out/.work/plan.json"
    plan = json.loads(path.read_text())
    plan["settings"]["models"]["voids"]["options"]["border"] = "all"
    path.write_text(json.dumps(plan))
    assert states(project, density(project))["inputs"] == "differs"


@pytest.mark.slow
def test_a_tampered_record_does_not_make_the_same_id(project):
    for path in (project / "out/.work").glob("*/record.json"):
        told = json.loads(path.read_text())
        told["record"]["calibration"][0] = 0.25
        path.write_text(json.dumps(told))
    assert states(project, density(project))["inputs"] == "differs"


@pytest.mark.slow
def test_ignored_pixels_are_a_part_of_the_chain(tmp_path):
    promoted(tmp_path)
    write_pictures(tmp_path / "pictures", count=1)
    ignore = np.zeros(SHAPE, np.uint8)
    ignore[:60, :60] = 255  # a whole void, and a part of another
    ignore[60:75, 40:90] = 255
    mask = tmp_path / "pictures/mask.tiff"
    tifffile.imwrite(mask, ignore)
    row = ManifestRow(
        "p0.tif",
        ignore=(mask.name,),
        pixel_size_nm=0.5,
        pixel_size_source="manifest",
        thickness_nm=100.0,
    )
    carry_out(tmp_path / "pictures", tmp_path / "out", bench(tmp_path), row)
    value_id = density(tmp_path)
    assert not follow(tmp_path, value_id).broken
    tifffile.imwrite(mask, 255 - ignore)
    broken = {link.name: link.said for link in follow(tmp_path, value_id).broken}
    assert "its mask mask.tiff is another one now" in broken["micrograph"]
    assert "method" in broken


def test_no_such_value_and_no_such_folder(project):
    with pytest.raises(InputRefused, match="E_NO_VALUE"):
        follow(project, "0123456789abcdef")
    shutil.rmtree(project / "out/.work")
    with pytest.raises(IntegrityFault, match="E_BATCH"):
        follow(project, "0123456789abcdef")


@pytest.mark.parametrize("table", ["quantities.csv", "images.csv", "objects.csv"])
def test_a_table_that_lost_a_column_is_found_out(project, table):
    value_id = density(project)
    path = project / "out" / table
    gone = {"quantities.csv": "unit", "images.csv": "image", "objects.csv": "area_nm2"}[table]
    path.write_text(path.read_text().replace(f",{gone},", ",other,", 1))
    if table == "images.csv":
        value_id = rows(project, table)[0]["value_id"]
    if table == "objects.csv":
        assert [link.name for link in follow(project, value_id).broken] == ["objects"]
    else:
        with pytest.raises(IntegrityFault, match=f"E_TRACE: lost the column '{gone}'"):
            follow(project, value_id)


def test_the_chain_as_plain_data(measured):
    found = follow(measured, density(measured)).as_json()
    assert json.loads(json.dumps(found)) == found
    assert [row["name"] for row in found["links"]] == ORDER
    assert np.all([set(row) == {"name", "said", "state"} for row in found["links"]])


def test_the_command_prints_the_chain_and_ends_with_5_when_it_is_broken(
    project, monkeypatch, capsys
):
    monkeypatch.chdir(project)
    value_id = density(project)
    assert run(["trace", value_id, "out"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [text.split("\t")[0] for text in out[1:]] == ORDER
    edit(project, "quantities.csv", value_id, "value", "7")
    assert run(["trace", value_id, "out", "--json"]) == 5
    told = capsys.readouterr()
    assert json.loads(told.out)["links"][0]["state"] == "differs"
    assert told.err.startswith(f"{value_id}: E_TRACE: value no longer matches: ")
    assert told.err.count("\n") == 1
    assert run(["trace", "nonsense", "out"]) == 2
