"""`defectops quantify` as one types it: results, refusals, going on, starting over, kills."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from defectops.atomic import replacing
from defectops.batch.ledger import Ledger
from defectops.cli.main import run
from defectops.defects import BUILT_IN
from defectops.experiments.champions import Champion, Places, write_champion
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.workflows import batch_measuring as module

SPEC = NetworkSpec(width=0.1)
ALONE = ("--threshold-spread", "0", "--no-mirrored-views")
CONDITIONING = {"background_sigma_px": 8.0, "variance_sigma_px": 16.0, "clip_sd": 4.0}


def save_model(path, key, seed=3, threshold=0.6):
    kind = asdict(BUILT_IN[key])
    weights = build(SPEC, seed).state_dict()
    return save_bundle(path, Bundle(SPEC, weights, kind, CONDITIONING, threshold))


def save_picture(path, seed, *, calibrated=True):
    random = np.random.default_rng(seed)
    plane = random.normal(1000, 30, (64, 72))
    for row, column in random.integers(8, 56, (5, 2)):
        plane[row - 4 : row + 4, column - 4 : column + 4] += 250
    scale = {"resolution": (2, 2), "metadata": {"unit": "nm"}} if calibrated else {}
    tifffile.imwrite(path, plane.astype(np.uint16), imagej=True, **scale)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin")
    (folder / "in").mkdir()
    save_model(folder / "voids.safetensors", "voids")
    save_model(folder / "lines.safetensors", "dislocations")
    for seed, name in enumerate(("a.tif", "=1+1.tif", "ü b.tif", "a.tiff")):
        save_picture(folder / "in" / name, seed)
    save_picture(folder / "in/raw.tif", 9, calibrated=False)
    (folder / "in/note.tif").write_text("hello")
    return folder


@pytest.fixture(autouse=True)
def _own_folder(origin, tmp_path, monkeypatch):
    for path in origin.rglob("*"):
        target = tmp_path / path.relative_to(origin)
        if path.is_file():
            target.parent.mkdir(exist_ok=True)
            os.link(path, target)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(0)


def quantify(*words, out="out", model="voids.safetensors"):
    return run(["quantify", "in", "--model", model, "--out", out, "--check", "0", *words])


def tree(folder):
    found = {p.relative_to(folder): p for p in Path(folder).rglob("*") if p.is_file()}
    return {str(n): p.read_bytes() for n, p in found.items() if n.name != "timing.csv"}


def test_good_files_have_rows_bad_ones_a_reason_and_the_code_is_2(capsys):
    assert quantify("--thickness-nm", "100+-10") == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("note.tif: E_UNREADABLE: ")
    assert lines[1].startswith("raw.tif: E_PX_MISSING: ")
    assert "4 of 6 images measured, 2 refused" in out
    assert "number_density" in out
    with Path("out/images.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["image"] for r in rows] == ["'=1+1.tif", "a.tif", "a.tiff", "ü b.tif"]
    refused = pd.read_csv("out/quarantine.csv")
    assert list(refused.columns) == ["image", "code", "reason"]
    assert list(refused["image"]) == ["note.tif", "raw.tif"]
    labels = {p.name for p in Path("out/labels").iterdir()}
    assert len(labels) == len({p.name for p in Path("out/overlays").iterdir()}) == 4
    assert "ü b_voids.tif" in labels


def test_the_same_command_again_ends_with_the_same_bytes(capsys):
    quantify()
    before = tree("out")
    assert quantify() == 2
    assert tree("out") == before
    assert "4 of 6 images measured" in capsys.readouterr().out


def test_json_is_one_list_of_rows(capsys):
    quantify("--json", *ALONE)
    rows = json.loads(capsys.readouterr().out)
    table = pd.read_csv("out/quantities.csv")
    assert [r["value_id"] for r in rows] == list(table["value_id"])
    assert set(rows[0]) == set(table.columns)
    assert rows[-1]["image"] == "pooled"


@pytest.mark.slow
def test_uncalibrated_pictures_are_measured_in_pixels_when_asked():
    assert quantify("--uncalibrated") == 2
    table = pd.read_csv("out/images.csv").set_index("image")
    assert table.loc["raw.tif", "status"] == "uncalibrated"
    assert "areal_density_per_px2" in table.columns


def test_several_types_share_a_run_and_a_manifest_tells_the_scale():
    Path("in/m.csv").write_text(
        "image,pixel_size_nm,thickness_nm\nraw.tif,0.5,80\nü b.tif,0.5,\n", "utf-8"
    )
    words = ["quantify", "--manifest", "in/m.csv", "--out", "out", *ALONE]
    assert run([*words, "--model", "voids.safetensors", "--model", "lines.safetensors"]) == 0
    table = pd.read_csv("out/images.csv")
    assert list(table["image"]) == ["raw.tif"] * 2 + ["ü b.tif"] * 2
    assert list(table["pixel_size_source"]) == ["manifest"] * 4
    assert table["number_density_per_m3"].notna().sum() == 1
    assert table["dislocation_density_skeleton_per_m2"].notna().sum() == 1


def test_the_champion_is_taken_by_its_digest(capsys):
    Path("params.yaml").write_text("defects: {voids: {}, precipitates: {}}\n")
    places = Places(Path(), "voids", "defectops-voids")
    sha256 = save_model(places.bundle, "voids")
    write_champion(places, Champion("defectops-voids", 7, "r", sha256, 0.6, "pass"))
    assert run(["quantify", "in/a.tif", "--defect", "all", "--out", "out"]) == 0
    assert "precipitates has no champion" in capsys.readouterr().err
    row = pd.read_csv("out/images.csv").iloc[0]
    assert (row["model"], row["model_version"]) == ("defectops-voids", 7)
    assert row["model_sha256"] == sha256
    save_model(places.bundle, "voids", seed=4)
    assert run(["quantify", "in/a.tif", "--defect", "voids", "--out", "out"]) == 2
    assert "E_MODEL_HASH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--defect", "voids"], "E_NO_BUNDLE: no champion of voids"),
        (["--defect", "bubbles"], "unknown key 'bubbles'"),
        ([], "E_USAGE: give --defect"),
        (["--model", "nothing.safetensors"], "E_VERSION"),
        (["--model", "voids.safetensors", "--model", "voids.safetensors"], "two models of one"),
        (["--model", "voids.safetensors", "--defect", "precipitates"], "is a model of voids"),
        (["--model", "voids.safetensors", "--manifest", "none.csv"], "none.csv: E_IO"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_no_table(words, said, capsys):
    assert run(["quantify", "in/a.tif", "--out", "out", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert not Path("out/images.csv").exists()


@pytest.mark.slow
def test_other_settings_or_another_model_are_noticed(capsys):
    quantify(*ALONE)
    before = tree("out")
    capsys.readouterr()
    assert quantify(*ALONE, "--border", "all") == 2
    assert "models.voids.options.border was 'gundersen', now 'all'" in capsys.readouterr().err
    save_model("other.safetensors", "voids", seed=5)
    assert quantify(*ALONE, model="other.safetensors") == 2
    assert "models.voids.sha256 was" in capsys.readouterr().err
    assert quantify(*ALONE, "--mirrored-views") == 2
    assert "models.voids.mirrored_views was False, now True" in capsys.readouterr().err
    assert quantify(*ALONE, "--new", model="none.safetensors") == 2
    assert tree("out") == before
    assert quantify(*ALONE, "--border", "all", "--new") == 2
    quantify(*ALONE, "--border", "all", out="fresh")
    assert tree("out") == tree("fresh")


def test_the_second_of_two_in_one_folder_gets_a_conflict(capsys):
    with Ledger(Path("out")).held():
        assert quantify() == 3
    assert "E_LOCKED" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_is_exit_4_and_the_next_run_goes_on(monkeypatch, capsys):
    words = ALONE
    quantify(*words, out="fresh")
    commit = replacing._commit

    def full(self):
        if self.path.name == "images.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        commit(self)

    with monkeypatch.context() as patch:
        patch.setattr(replacing, "_commit", full)
        assert quantify(*words) == 4
    assert "No space left on device" in capsys.readouterr().err
    assert not Path("out/images.csv").exists()
    assert not list(Path("out").rglob("*.tmp"))
    assert quantify(*words) == 2
    assert tree("out") == tree("fresh")


@pytest.mark.slow
def test_a_bug_in_one_picture_is_exit_1_and_the_others_are_measured(monkeypatch, capsys):
    original = module.label_map

    def broken(mask, measured, ignore):
        if mask.sum() == worst:
            raise ZeroDivisionError("of ours")
        return original(mask, measured, ignore)

    sums = []
    monkeypatch.setattr(module, "label_map", lambda m, *a: sums.append(m.sum()) or original(m, *a))
    quantify(*ALONE, out="first")
    worst = max(sums)
    capsys.readouterr()
    monkeypatch.setattr(module, "label_map", broken)
    assert quantify(*ALONE) == 1
    assert "E_BUG: ZeroDivisionError: of ours; a bug of ours" in capsys.readouterr().err
    assert list(Path(".defectops/log").iterdir())
    assert "E_BUG" in set(pd.read_csv("out/quarantine.csv")["code"])
    assert len(pd.read_csv("out/images.csv")) == 3


# As a process ------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-c", "import sys; from defectops.cli.main import run; sys.exit(run())"]


def start(*words, out="out"):
    given = ["quantify", "in", "--model", "voids.safetensors", "--out", out, "--check", "0", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *given], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    )


def wait_for(path, process):
    until = time.monotonic() + 60
    while not list(Path().glob(path)) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.kills),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_stop_is_quick_and_the_next_run_goes_on(number, code):
    process = start()
    wait_for("out/.work/*/record.json", process)
    asked = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert time.monotonic() - asked < 5
    assert b"Traceback" not in err
    quantify()
    quantify(out="fresh")
    assert tree("out") == tree("fresh")


@pytest.mark.kills
def test_a_killed_parent_takes_its_child_along():
    process = start()
    wait_for("out/.work/*/record.json", process)
    process.kill()
    process.communicate(timeout=30)
    time.sleep(0.5)
    with Ledger(Path("out")).held() as ledger:
        assert ledger.settings


@pytest.mark.kills
def test_forty_kills_at_random_moments_cost_nothing_but_time():
    quantify(out="fresh")
    wanted = tree("fresh")
    random = np.random.default_rng(0)
    finished = 0
    for round_ in range(40):
        process = start(out=f"out{round_ // 4}")
        wait_for(f"out{round_ // 4}/.work", process)
        time.sleep(float(random.uniform(0, 6)))
        process.kill()
        process.communicate(timeout=30)
        finished += process.returncode == 2
        if round_ % 4 == 3:
            assert quantify(out=f"out{round_ // 4}") == 2
            assert tree(f"out{round_ // 4}") == wanted
    assert finished < 35
