"""While models are chosen, nothing but what was handed out can be opened."""

import threading

import numpy as np
import pytest

from defectops.errors import GateFailed
from defectops.micrograph import Calibration, Field, Region, load_fields, save_fields, sealed


@pytest.fixture
def sides(tmp_path):
    plane = np.zeros((4, 6), np.float32)
    mask = np.zeros((4, 6), bool)
    field = Field("a.png", Region(0, 4, 0, 6), plane, mask, mask, Calibration(0.5, "manifest"))
    paths = {side: tmp_path / f"{side}.npz" for side in ("train", "dev", "test")}
    for path in paths.values():
        save_fields(path, [field])
    return paths


def refused(path):
    with pytest.raises(GateFailed, match=r"test\.npz: E_LEAK: .*dev\.npz, train\.npz") as caught:
        load_fields(path)
    assert caught.value.exit_code == 6


def test_only_what_was_handed_out_opens_and_only_while_it_lasts(sides):
    with sealed(sides["train"], sides["dev"]):
        assert len(load_fields(sides["train"])) == len(load_fields(sides["dev"])) == 1
        refused(sides["test"])
    assert len(load_fields(sides["test"])) == 1


def test_another_name_for_the_file_does_not_open_it(sides, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(sides["test"].name)
    with sealed(sides["train"], sides["dev"]):
        assert load_fields(tmp_path / "sub" / ".." / "dev.npz")
        for other in ("test.npz", "link"):
            with pytest.raises(GateFailed):
                load_fields(tmp_path / other)


def test_it_holds_in_every_thread(sides):
    seen = []

    def other():
        try:
            load_fields(sides["test"])
        except GateFailed as error:
            seen.append(error.code)

    with sealed(sides["train"]):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == ["E_LEAK"]


def test_a_seal_inside_another_never_opens_more(sides):
    with sealed(sides["train"], sides["dev"]):
        with sealed(sides["dev"], sides["test"]):
            load_fields(sides["dev"])
            for side in ("train", "test"):
                with pytest.raises(GateFailed):
                    load_fields(sides[side])
        load_fields(sides["train"])


def test_an_error_inside_lifts_the_seal(sides):
    with pytest.raises(KeyError), sealed(sides["train"]):
        raise KeyError
    load_fields(sides["test"])
