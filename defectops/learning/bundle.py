"""A trained model as one safetensors file: weights, specification, operating point, a test."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from defectops.atomic import replacing
from defectops.defects import DefectType
from defectops.errors import DefectopsError, ModelRefused
from defectops.learning.networks import NetworkSpec, build

FORM = 2
EARLIER_FORM = "E_MODEL_FORM"  # code of the refusal
_MAX_HEADER_BYTES = 10_000_000
_MAX_FILE_BYTES = 2_000_000_000
_FROZEN_INPUT, _FROZEN_OUTPUT = "frozen.input", "frozen.output"  # no name of a layer has "frozen"
_MAX_FROZEN_PX = 1024


@dataclass(frozen=True, eq=False)
class Frozen:
    """A piece of training data and what the model answers to it, float32 of the same shape (H, W).

    Parameters
    ----------
    input : Tensor
        Conditioned; its sides are what every network takes.
    output : Tensor
        Probability of the defect, computed in float32 on a CPU when the bundle was made.
    """

    input: Tensor
    output: Tensor


@dataclass(frozen=True, eq=False)
class Bundle:
    """Everything that is needed to segment a micrograph as the model was meant to.

    Parameters
    ----------
    spec : NetworkSpec
    weights : dict of str to Tensor
        State of the network, float32.
    defect : dict
        ``key``, ``shape``, ``polarity``, ``colour`` of the defect type.
    conditioning : dict
        Options of `defectops.imaging.conditioning` the training data went through.
    threshold : float
        Operating point: a pixel is defect where the probability reaches it. Chosen on dev.
    envelope : dict
        The range of what the model was trained on, see `defectops.imaging.appearance.envelope_of`:
        pixel sizes (null if uncalibrated), noise, structure, asymmetry.
    training : dict
        Data digest, preset, epochs, dev IoU, seed: for the model card.
    frozen : Frozen or None
        What it answers to a piece of training data, so that any machine can check that it answers
        the same, see `defectops.learning.verifying`.
    """

    spec: NetworkSpec
    weights: dict[str, Tensor]
    defect: dict[str, str]
    conditioning: dict[str, Any]
    threshold: float
    envelope: dict[str, float | None] = default(default_factory=dict)
    training: dict[str, Any] = default(default_factory=dict)
    frozen: Frozen | None = None

    def network(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode."""
        network = build(self.spec)
        network.load_state_dict(self.weights, strict=True)
        return network.eval()


def bundle_bytes(bundle: Bundle) -> bytes:
    """Return a bundle as the content of its file; the same bundle gives the same bytes."""
    head = {
        "form": FORM,
        "spec": asdict(bundle.spec),
        "defect": bundle.defect,
        "conditioning": bundle.conditioning,
        "threshold": bundle.threshold,
        "envelope": bundle.envelope,
        "training": bundle.training,
    }
    tensors = {n: t.detach().cpu().contiguous() for n, t in bundle.weights.items()}
    if bundle.frozen is not None:
        tensors[_FROZEN_INPUT] = bundle.frozen.input.contiguous()
        tensors[_FROZEN_OUTPUT] = bundle.frozen.output.contiguous()
    # One metadata key only: the order of several is not fixed in the file.
    return save_tensors(tensors, {"defectops": json.dumps(head, sort_keys=True)})


def save_bundle(path: Path, bundle: Bundle) -> str:
    """Write a bundle and return its SHA-256."""
    data = bundle_bytes(bundle)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def load_bundle(path: Path, sha256: str | None = None) -> Bundle:
    """Read a bundle; nothing in it can run code.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        Digest the file must have.

    Raises
    ------
    ModelRefused
        Not safetensors (a pickle, say), damaged, another digest, weights that do not fit the
        network or are not finite.
    """
    data = _bytes(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelRefused(
            path.name,
            "E_MODEL_HASH",
            f"SHA-256 is {found[:12]}…, {sha256[:12]}… was recorded; fetch the model again",
        )
    head = _head(path.name, data)
    try:
        weights = load_tensors(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelRefused(path.name, "E_MODEL_CORRUPT", f"invalid safetensors: {error}") from error
    for name, tensor in weights.items():
        plain = tensor.float() if tensor.is_floating_point() else tensor  # float8 has no isfinite
        bad = int((~torch.isfinite(plain)).sum())
        if bad:
            raise ModelRefused(
                path.name, "E_MODEL_NONFINITE", f"tensor {name!r} has {bad} NaN or infinite values"
            )
    return _bundle(path.name, head, weights)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ModelRefused(
                path.name, "E_IO", "not a regular file; a .safetensors file is needed"
            )
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise ModelRefused(
                path.name, "E_TOO_LARGE", f"{size} bytes are over the limit of {_MAX_FILE_BYTES}"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelRefused(path.name, "E_IO", f"cannot be read: {error.strerror}") from error


def _head(name: str, data: bytes) -> dict[str, Any]:
    if data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"):
        raise ModelRefused(
            name, "E_MODEL_UNSAFE", "a pickle or zip file; only safetensors weights are loaded"
        )
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else -1
    if not 2 <= length <= min(_MAX_HEADER_BYTES, len(data) - 8):
        raise ModelRefused(
            name,
            "E_MODEL_CORRUPT",
            f"not a safetensors file, or truncated: header says {length} bytes, "
            f"the file has {len(data)}",
        )
    try:
        header = json.loads(data[8 : 8 + length])
        text = header.get("__metadata__", {}).get("defectops")
        return dict(json.loads(text)) if text is not None else {}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelRefused(
            name, "E_MODEL_CORRUPT", f"invalid safetensors header: {error}"
        ) from error


def _bundle(name: str, head: dict[str, Any], tensors: dict[str, Tensor]) -> Bundle:
    _refuse_other_form(name, head)
    weights = dict(tensors)
    parts = weights.pop(_FROZEN_INPUT, None), weights.pop(_FROZEN_OUTPUT, None)
    try:
        bundle = Bundle(
            spec=NetworkSpec(**head["spec"]),
            weights=weights,
            defect=dict(head["defect"]),
            conditioning=dict(head["conditioning"]),
            threshold=float(head["threshold"]),
            envelope=dict(head["envelope"]),
            training=dict(head["training"]),
            frozen=_frozen(*parts),
        )
        DefectType(**head["defect"])
        _refuse_misfits(bundle)
    except (KeyError, TypeError, ValueError, RuntimeError, DefectopsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelRefused(
            name, "E_MODEL_ARCH", f"weights do not fit the architecture: {reason}"
        ) from error
    if not 0 <= bundle.threshold <= 1:
        raise ModelRefused(
            name, "E_MODEL_ARCH", f"invalid threshold {bundle.threshold}: must be 0 to 1"
        )
    return bundle


def _refuse_other_form(name: str, head: dict[str, Any]) -> None:
    form = head.get("form")
    if form == 1:
        raise ModelRefused(
            name,
            EARLIER_FORM,
            "a model of form 1, made by an earlier defectops, without test tensor and range of "
            "appearance; train it anew: `dvc repro`",
        )
    if form != FORM:
        raise ModelRefused(
            name,
            "E_MODEL_ARCH",
            f"missing the key 'defectops' of form {FORM} in its metadata: not a defectops model",
        )


def _frozen(given: Tensor | None, answer: Tensor | None) -> Frozen | None:
    if given is None and answer is None:
        return None
    if given is None or answer is None:
        raise ValueError("one of frozen.input and frozen.output is missing")
    for tensor in (given, answer):
        if tensor.dtype != torch.float32 or tensor.ndim != 2 or tensor.shape != given.shape:
            raise ValueError("frozen.input and frozen.output must be float32 of one shape (H, W)")
    if not 1 <= min(given.shape) <= max(given.shape) <= _MAX_FROZEN_PX:
        raise ValueError(f"the frozen test is {tuple(given.shape)}, at most {_MAX_FROZEN_PX} px")
    return Frozen(given, answer)


def _refuse_misfits(bundle: Bundle) -> None:
    """Refuse weights that do not fit, by dtype too: float16 would be converted silently."""
    needed = build(bundle.spec).state_dict()
    for name in sorted(needed.keys() & bundle.weights.keys()):
        given, wanted = bundle.weights[name].dtype, needed[name].dtype
        if given != wanted:
            raise TypeError(f"{name} has dtype {given}, {wanted} is needed")
    bundle.network()
