"""Bundles: what is saved comes back; what is damaged or hostile is refused, and runs nothing."""

import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from defectops.errors import ModelRefused
from defectops.learning.bundle import file_sha256, load_bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build


@pytest.fixture
def saved(bundle, tmp_path):
    path = tmp_path / "model.safetensors"
    save_bundle(path, bundle)
    return path


def head_of(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["defectops"])


def rewrite(path, weights=None, head=None):
    """Write a valid safetensors file with other content."""
    weights = load_file(path) if weights is None else weights
    head = head_of(path) if head is None else head
    save_file(weights, path, {"defectops": json.dumps(head)})


def refused(path, code, match=None):
    with pytest.raises(ModelRefused, match=match) as caught:
        load_bundle(path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_what_is_saved_comes_back(bundle, saved):
    back = load_bundle(saved)
    for name in ("spec", "defect", "conditioning", "threshold", "envelope", "training"):
        assert getattr(back, name) == getattr(bundle, name)
    assert back.weights.keys() == bundle.weights.keys()
    assert all(torch.equal(back.weights[n], t) for n, t in bundle.weights.items())
    assert not back.network().training


@pytest.mark.parametrize("architecture", ["defectsegnet", "unet", "fcdensenet", "fcn"])
def test_every_network_travels(architecture, bundle, tmp_path):
    spec = NetworkSpec(architecture, width=0.1, dropout=0.2, released=architecture == "unet")
    travelled = replace(bundle, spec=spec, weights=build(spec, 1).state_dict())
    save_bundle(tmp_path / "m", travelled)
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(load_bundle(tmp_path / "m").network()(image), travelled.network()(image))


def test_the_same_bundle_gives_the_same_bytes(bundle, saved, tmp_path):
    shuffled = replace(
        bundle,
        defect=dict(reversed(bundle.defect.items())),
        weights=dict(reversed(bundle.weights.items())),
    )
    again = save_bundle(tmp_path / "again", shuffled)
    assert saved.read_bytes() == (tmp_path / "again").read_bytes()
    assert again == file_sha256(saved) == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_a_recorded_digest_is_checked(saved):
    digest = file_sha256(saved)
    assert load_bundle(saved, digest).threshold == 0.41
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ModelRefused, match="E_MODEL_HASH"):
        load_bundle(saved, digest)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_refused_and_run_nothing(protocol, tmp_path):
    canary, path = tmp_path / "CANARY", tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"state_dict": Touch(canary)}, protocol))
    refused(path, "E_MODEL_UNSAFE" if protocol >= 2 else "E_MODEL_CORRUPT", "safetensors")
    assert not canary.exists()


def test_torch_and_zip_files_are_refused(tmp_path):
    canary = tmp_path / "CANARY"
    torch.save({"a": torch.ones(2), "b": Touch(canary)}, tmp_path / "model.pth")
    refused(tmp_path / "model.pth", "E_MODEL_UNSAFE")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    (tmp_path / "model.zip").write_bytes(buffer.getvalue())
    refused(tmp_path / "model.zip", "E_MODEL_UNSAFE")
    assert not canary.exists()


def test_every_truncation_is_refused(saved):
    data = saved.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for cut in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(data) - 1):
        saved.write_bytes(data[:cut])
        refused(saved, "E_MODEL_CORRUPT")
    saved.write_bytes(data + b"\0")
    refused(saved, "E_MODEL_CORRUPT")


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**32, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(length, saved):
    saved.write_bytes(struct.pack("<Q", length) + saved.read_bytes()[8:])
    refused(saved, "E_MODEL_CORRUPT")


def test_a_huge_header_is_refused_before_it_is_parsed(tmp_path):
    text = b'{"a":' + b" " * 10_000_001 + b"1}"
    path = tmp_path / "m"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    refused(path, "E_MODEL_CORRUPT")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"5 ",
        b"{]",
        b"\xff\xff",
        b"[" * 100_000,
        b'{"__metadata__": null}',
        b'{"__metadata__": {"defectops": 5}}',
        b'{"__metadata__": {"defectops": "5"}}',
        b'{"__metadata__": {"defectops": "[[1, 2, 3]]"}}',
        b'{"__metadata__": {"defectops": "{"}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 4]}}',
    ],
)
def test_nonsense_headers_are_refused(header, tmp_path):
    path = tmp_path / "m"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(path, "E_MODEL_CORRUPT")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, saved):
    weights = load_file(saved)
    weights["layers.3.0.weight"][0, 0, 1, 1] = value
    rewrite(saved, weights)
    refused(saved, "E_MODEL_NONFINITE", "'layers.3.0.weight' has 1 NaN")


def test_weights_of_another_type_are_refused_not_converted(saved):
    weights = load_file(saved)
    others = (torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int64)
    for dtype in (*others, torch.float8_e4m3fn):
        rewrite(saved, weights | {"layers.0.0.bias": weights["layers.0.0.bias"].to(dtype)})
        refused(saved, "E_MODEL_ARCH", "layers.0.0.bias has dtype")


def test_weights_that_do_not_fit_are_refused(saved):
    weights = load_file(saved)
    first = "layers.0.0.weight"
    rewrite(saved, weights | {"more": torch.zeros(1)})
    refused(saved, "E_MODEL_ARCH", "more")
    rewrite(saved, weights | {first: weights[first].repeat(2, 1, 1, 1)})
    refused(saved, "E_MODEL_ARCH", "size mismatch")
    rewrite(saved, {n: t for n, t in weights.items() if n != first})
    refused(saved, "E_MODEL_ARCH", "Missing")


def test_an_earlier_form_is_refused_with_what_to_do(saved):
    rewrite(saved, head=head_of(saved) | {"form": 1})
    refused(saved, "E_MODEL_FORM", "dvc repro")


def test_foreign_safetensors_are_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "m")
    refused(tmp_path / "m", "E_MODEL_ARCH", "not a defectops model")


@pytest.mark.parametrize(
    "change",
    [
        {"form": 3},
        {"form": None},
        {"spec": {"architecture": "resnet"}},
        {"spec": {"depth": 3}},
        {"spec": {"width": "1"}},
        {"spec": {"width": 1e9}},
        {"spec": None},
        {"defect": {}},
        {"defect": {"key": "voids", "shape": "particle"}},
        {"defect": {"key": "../x", "shape": "particle", "polarity": "bright"}},
        {"defect": {"key": "voids", "shape": "particle", "polarity": "grey"}},
        {"threshold": float("nan")},
        {"threshold": 1.5},
        {"threshold": "high"},
        {"conditioning": 5},
        {"training": None},
    ],
)
def test_metadata_that_make_no_sense_are_refused(change, saved):
    rewrite(saved, head=head_of(saved) | change)
    refused(saved, "E_MODEL_ARCH")


@pytest.mark.parametrize("key", ["spec", "defect", "conditioning", "threshold", "envelope"])
def test_missing_metadata_are_refused(key, saved):
    head = head_of(saved)
    del head[key]
    rewrite(saved, head=head)
    refused(saved, "E_MODEL_ARCH", key)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # would block for ever
    refused(tmp_path / "pipe", "E_IO")
    refused(tmp_path, "E_IO")
    refused(tmp_path / "absent", "E_IO")


@pytest.mark.slow
def test_hostile_models_are_refused_with_their_code(shared, tmp_path):
    maker = shared / "hostile" / "gen_dev.py"
    command = [sys.executable, str(maker), str(tmp_path), "--only", "w01", "w03", "w04"]
    subprocess.run(command, check=True, capture_output=True)
    cases = json.loads((tmp_path / "expected_dev.json").read_text())
    assert [c["id"] for c in cases] == ["w01", "w03", "w04"]
    for case in cases:
        refused(tmp_path / "dev" / case["files"][0], case["code"], f"(?i){case['must_match']}")
    assert not list(tmp_path.rglob("CANARY*"))
