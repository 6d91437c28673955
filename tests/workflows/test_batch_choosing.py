"""Which models and options a batch is carried out with, and what a manifest says of its images."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from defectops.defects import BUILT_IN
from defectops.errors import InputRefused, ManifestRefused, SettingsRefused
from defectops.experiments.registry import CHAMPION, RecordingRegistry
from defectops.learning.bundle import Bundle, file_sha256, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.workflows.batch_choosing import BatchRequest, choose, told_by

SPEC = NetworkSpec(width=0.1)


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "models/model.safetensors"
    weights = build(SPEC, 0).state_dict()
    save_bundle(path, Bundle(SPEC, weights, asdict(BUILT_IN["voids"]), {}, 0.4))
    return path


@pytest.fixture
def registry(bundle):
    store = RecordingRegistry()
    store.submit("defectops-voids", bundle, "run", {}, {})
    store.set_alias("defectops-voids", CHAMPION, 1)
    return store


def no_registry():
    raise AssertionError("champions and files need no registry")


@pytest.mark.parametrize(
    "name", ["voids/1", "defectops-voids/1", "models:/defectops-voids/1", "voids@champion"]
)
def test_a_version_is_fetched_by_any_of_its_names(name, registry, bundle, tmp_path):
    (found,) = choose(tmp_path, BatchRequest(models=(name,)), lambda: registry).segmenters
    assert (found.name, found.version) == ("defectops-voids", 1)
    assert found.sha256 == file_sha256(bundle)
    assert found.model.bundle.threshold == 0.4


@pytest.mark.parametrize("place", ["models", "models/model.safetensors"])
def test_a_file_or_its_folder_needs_neither_project_nor_registry(place, bundle, tmp_path):
    request = BatchRequest(models=(str(tmp_path / place),))
    (found,) = choose(tmp_path, request, no_registry).segmenters
    assert (found.version, found.sha256) == (None, file_sha256(bundle))
    assert found.defect == BUILT_IN["voids"]


def test_options_are_those_of_the_project_changed_by_the_command(bundle, tmp_path):
    (tmp_path / "params.yaml").write_text(
        "defects: {voids: {}}\n"
        "quantify: {default: {border: all, objects: {min_area_px: 99}}}\n"
        "material: {voids: {alpha: 0.5}}\n"
        "views: {default: {mirrored: false}}\n"
    )
    request = BatchRequest(models=(str(bundle),), options={"seed": 5, "separation_px": 2.5})
    (found,) = choose(tmp_path, request, no_registry).segmenters
    assert (found.options.border, found.options.seed) == ("all", 5)
    assert found.options.objects.min_area_px == 99
    assert found.options.objects.separation_px == 2.5
    assert found.material.alpha == 0.5
    assert not found.views.mirrored
    (found,) = choose(tmp_path, replace(request, mirrored_views=True), no_registry).segmenters
    assert found.views.mirrored


def test_mirrored_views_said_or_not_are_the_same_setting(bundle, tmp_path):
    said, default, without = (
        choose(
            tmp_path, BatchRequest(models=(str(bundle),), mirrored_views=views), no_registry
        ).as_settings()
        for views in (True, None, False)
    )
    assert said == default
    assert said["models"]["voids"].pop("mirrored_views")
    assert not without["models"]["voids"].pop("mirrored_views")
    assert said == without


def test_what_decides_about_results_is_told_and_nothing_else(bundle, tmp_path):
    one, same, other = (
        choose(tmp_path, BatchRequest(models=(str(bundle),), **given), no_registry).as_settings()
        for given in ({}, {"accept_out_of_range": True}, {"threshold_spread": 0.2})
    )
    assert one == same != other
    assert str(tmp_path) not in str(one)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, SettingsRefused, "E_USAGE: give --defect"),
        ({"defects": ("voids",)}, InputRefused, "E_NO_BUNDLE: no champion of voids"),
        ({"defects": ("all",)}, SettingsRefused, "those of params.yaml"),
        ({"defects": ("viods",)}, SettingsRefused, "did you mean 'voids'"),
        ({"models": ("voids/2",)}, InputRefused, "E_VERSION"),
        ({"models": ("voids/1", "voids/1")}, SettingsRefused, "two models of one type"),
        ({"models": ("voids/1",), "defects": ("precipitates",)}, SettingsRefused, "not name"),
        ({"models": ("x",), "threshold_spread": 0.5}, SettingsRefused, "--threshold-spread"),
        ({"models": ("x",), "pixel_size_sd_nm": -1.0}, SettingsRefused, "--pixel-size-sd-nm"),
        (
            {"models": ("x",), "uncalibrated": True, "pixel_size_nm": 1.0},
            SettingsRefused,
            "contradicts",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(given, error, said, registry, tmp_path):
    with pytest.raises(error, match=said):
        choose(tmp_path, BatchRequest(**given), lambda: registry)


def test_a_manifest_speaks_of_files_beside_it_or_in_micrographs(tmp_path):
    (tmp_path / "micrographs").mkdir()
    for name in ("a.tif", "micrographs/b.tif"):
        (tmp_path / name).write_bytes(b"x")
    table = tmp_path / "m.csv"
    table.write_text("image,thickness_nm\na.tif,50\nb.tif,60\n")
    rows = told_by(table)
    assert [Path(p).relative_to(tmp_path).as_posix() for p in rows] == [
        "a.tif",
        "micrographs/b.tif",
    ]
    assert [r.thickness_nm for r in rows.values()] == [50.0, 60.0]
    table.write_text("image\n../a.tif\n")
    with pytest.raises(ManifestRefused, match="E_PATH"):
        told_by(table)
