"""Weights of an earlier training as the start of another: all of them, checked, or none."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import ModelRefused
from defectops.learning.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    from torch import nn

    from defectops.learning.networks import NetworkSpec


def start_from(network: nn.Module, spec: NetworkSpec, parent: Path, sha256: str) -> None:
    """Load a parent's weights into a freshly built network.

    Parameters
    ----------
    network : Module
        Built from `spec`; changed in place, or left as it is when the parent is refused.
    spec : NetworkSpec
        May differ from the parent's in its dropout, which has no weights.
    parent : Path
        A bundle.
    sha256 : str
        Digest it must have.

    Raises
    ------
    ModelRefused
        Missing, truncated, of another digest, not finite, or of another network. Nothing is ever
        loaded in part.
    """
    bundle = load_parent(parent, sha256)
    given, wanted = replace(bundle.spec, dropout=0.0), replace(spec, dropout=0.0)
    if given != wanted:
        other = [f"{n} {v}" for n, v in asdict(given).items() if v != asdict(wanted)[n]]
        raise ModelRefused(
            parent.name,
            "E_MODEL_ARCH",
            f"the parent is another network ({', '.join(other)}); its weights do not fit",
        )
    network.load_state_dict(bundle.weights, strict=True)


def load_parent(parent: Path, sha256: str) -> Bundle:
    """Read the bundle that a training starts from; `ModelRefused` if missing or another one."""
    if not parent.is_file():
        raise ModelRefused(
            parent.name, "E_NO_BUNDLE", "the parent's weights are missing; nothing to start from"
        )
    return load_bundle(parent, sha256)
