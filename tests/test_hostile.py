"""The hostile corpus that lies beside a developer's checkout, each case in this process."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from defectops.cli.main import run
from defectops.errors import ArchiveRefused
from defectops.imaging.archives import unpack

GIANTS = ("m17", "z03")  # take a second to make
COMMANDS = {
    "micrograph": ("data", "validate"),
    "sidecar": ("data", "validate"),
    "numpy": ("data", "validate"),
    "manifest": ("data", "validate"),
    "dm": ("data", "validate"),
    "pair": ("data", "validate"),
    "config": ("config", "check"),
    "model": ("models", "verify"),
    "mlflow_model": ("models", "verify"),
}


@pytest.fixture(scope="module")
def corpus(shared, tmp_path_factory):
    """The cases without the giants, made by the generator beside the checkout."""
    source = (shared / "hostile" / "gen_dev.py").read_text()
    ids = re.findall(r'@C\.case\("(\w+)"', source)
    return generated(shared, tmp_path_factory, [i for i in ids if i not in GIANTS])


def generated(shared, tmp_path_factory, ids):
    out = tmp_path_factory.mktemp("hostile")
    maker = shared / "hostile" / "gen_dev.py"
    subprocess.run(
        [sys.executable, str(maker), str(out), "--only", *ids], check=True, capture_output=True
    )
    return out, json.loads((out / "expected_dev.json").read_text())


def verdict(folder, case, capsys, into):
    """Run one case; return its exit code and what it said on stderr."""
    main = folder / "dev" / case["files"][0]
    if case["kind"] == "archive":
        try:
            unpack(main, into / case["id"])
        except ArchiveRefused as error:
            return error.exit_code, f"{error}\n"
        return 0, ""
    target = folder / "dev" / case["id"] if case["kind"] == "pair" else main
    code = run([*COMMANDS[case["kind"]], str(target)])
    return code, capsys.readouterr().err


def complaint(folder, case, code, err):
    """Say what is wrong with an outcome; empty if nothing is."""
    if case.get("canary") and (folder / "dev" / case["id"] / case["canary"]).exists():
        return "code ran"
    if case.get("escape") and list(folder.rglob(case["escape"])):
        return "escaped"
    if case["outcome"] == "accept" or (case["outcome"] == "reject_or_accept" and code == 0):
        return "" if code == 0 and err == "" else f"exit {code}: {err}"
    names = [f.rsplit("/", 1)[-1].split("\n")[-1] for f in case["files"]]
    good = (
        code == 2
        and err.count("\n") == 1
        and any(n in err for n in names)
        and (re.search(case["must_match"], err, re.IGNORECASE) or case.get("also"))
    )
    return "" if good else f"exit {code}: {err}"


def wanted(case):
    known = case["kind"] in COMMANDS or case["kind"] == "archive"
    return known and not (case.get("needs") == "dm4" and find_spec("rsciio") is None)


@pytest.mark.slow
def test_every_case_meets_its_outcome(corpus, capsys, tmp_path):
    folder, cases = corpus
    bad = {}
    for case in filter(wanted, cases):
        code, err = verdict(folder, case, capsys, tmp_path)
        said = complaint(folder, case, code, err)
        if said:
            bad[case["id"]] = said
    assert not bad
    assert len([c for c in cases if wanted(c)]) >= 40


@pytest.mark.slow
def test_the_giants(shared, tmp_path_factory, capsys, tmp_path):
    folder, cases = generated(shared, tmp_path_factory, GIANTS)
    for case in cases:
        code, err = verdict(folder, case, capsys, tmp_path)
        assert complaint(folder, case, code, err) == ""


def test_controls_have_the_right_values(corpus, capsys):
    folder, cases = corpus
    controls = [c for c in cases if c.get("expect") and c["kind"] in ("micrograph", "pair")]
    assert len(controls) == 4
    for case in controls:
        main = folder / "dev" / (case["id"] if case["kind"] == "pair" else case["files"][0])
        assert run(["data", "validate", str(main), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["shape"] == case["expect"]["shape"]
        if "px_nm" in case["expect"]:
            assert found["pixel_size_nm"] == pytest.approx(case["expect"]["px_nm"], rel=1e-6)
