"""The commands that bring data in say what they did, and what to type next."""

import json

import numpy as np
import pytest
from PIL import Image

from defectops.cli.main import run

PARAMS = "defects:\n  voids: {}\nsplit:\n  default: {scheme: paper}\n  voids: {}\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    for i, name in enumerate("ab"):
        for folder in ("scans", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (40, 50)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "scans" / f"{name}.png")
        Image.fromarray((pixels > 200).astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


IMPORT = ["data", "import", "scans", "--labels", "masks", "--defect", "voids"]


def test_import_then_info_then_leak_check(project, capsys):
    options = ["--pixel-size-nm", "0.365", "--side", "train", "--side", "b=dev"]
    assert run([*IMPORT, *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["image\tside\tpixel size\tlabels", "a.png\ttrain\t0.365 nm\tvoids"]
    assert said[-4:] == [
        "  dvc add data",
        "  git add data.dvc params.yaml",
        "  git commit -m 'Import 2 micrographs of voids'",
        "  dvc repro",
    ]

    assert run(["data", "info", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["defects"] == ["voids"]
    assert [(i["image"], i["rows"], i["columns"]) for i in info["images"]] == [
        ("a.png", 40, 50),
        ("b.png", 40, 50),
    ]
    assert info["images"][0]["defect_fraction"]["voids"] == pytest.approx(54 / 255, abs=0.05)

    assert run(["data", "leak-check"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "voids\tmanifest\t2\t2\tno leak"


def test_leak_check_ends_with_6(project, capsys):
    cut = np.asarray(Image.open("scans/a.png"))[:, 5:]
    Image.fromarray(cut).save("scans/b.png")
    Image.fromarray(np.zeros_like(cut)).save("masks/b.png")
    assert run([*IMPORT, "--uncalibrated", "--side", "train", "--side", "b=dev"]) == 0
    capsys.readouterr()

    assert run(["data", "leak-check"]) == 6
    shown = capsys.readouterr()
    assert "a.png and b.png share pixels on train and dev" in shown.out
    assert shown.err.startswith("leak-check: E_LEAK: 1 leak(s)")
    assert shown.err.endswith("; mend sides or specimens in the manifest\n")
    assert shown.err.count("\n") == 1


def test_a_refusal_is_one_line_and_2(project, capsys):
    assert run(IMPORT) == 2
    error = capsys.readouterr().err
    assert error.startswith("a.png: E_PX_MISSING")
    assert error.count("\n") == 1
    assert not (project / "data").exists()
    assert run(["data", "import"]) == 2
    assert "E_USAGE" in capsys.readouterr().err


def test_notes_go_to_stderr_and_json_to_stdout(project, capsys):
    assert run([*IMPORT, "--uncalibrated", "--into", "other", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["defect_pixels"]["voids"] > 0
    assert shown.err == ""
    assert run([*IMPORT, "--uncalibrated"]) == 0
    assert "for 2048 x 2048 only" in capsys.readouterr().err


def test_synth_draws_the_small_set(project, capsys):
    assert run(["data", "synth", "--preset", "small", "--into", "data"]) == 0
    assert run(["data", "info"]) == 0
    assert "ht9_irradiated_2.png\t256\t320\tauto\t0.365 nm\t159.1 nm" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["import", "synth", "leak-check", "info"])
def test_help_has_an_example(command, capsys):
    assert run(["data", command, "--help"]) == 0
    assert f"defectops data {command}" in capsys.readouterr().out
