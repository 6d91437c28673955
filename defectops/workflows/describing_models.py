"""What is known of one model, as names and values in sections; and what two models differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from defectops.learning.verifying import FROZEN_TOLERANCE

if TYPE_CHECKING:
    from defectops.learning.bundle import Bundle
    from defectops.workflows.model_finding import FoundModel

Facts = dict[str, dict[str, Any]]


def described(found: FoundModel) -> Facts:
    """Return what is known of a model.

    Parameters
    ----------
    found : FoundModel

    Returns
    -------
    dict
        Sections ``version`` (name, model, number, aliases, run, digest, size), ``scores`` (on the
        gate pack, as registered; empty for a path), ``operation`` (threshold, polarity,
        conditioning), ``range`` (of the training data), ``data`` (digest, rectangles), ``lineage``
        (in a study; empty for a model of the pipeline), ``network``, ``training`` (settings,
        threads), ``results`` (of the training), ``tags`` (of the version).
    """
    bundle, version = found.bundle, found.version
    training = bundle.training
    frozen = None if bundle.frozen is None else list(bundle.frozen.input.shape)
    return {
        "version": {
            "name": found.name,
            "model": found.defect.model_name,
            "number": None if version is None else version.number,
            "aliases": ", ".join(found.aliases),
            "run_id": None if version is None else version.run_id,
            "sha256": found.sha256,
            "size_bytes": found.path.stat().st_size,
        },
        "scores": {} if version is None else dict(sorted(version.metrics.items())),
        "operation": {
            "threshold": bundle.threshold,
            "polarity": bundle.defect["polarity"],
            **dict(sorted(bundle.conditioning.items())),
            "frozen_test_px": frozen,
            "frozen_test_tolerance": FROZEN_TOLERANCE,
        },
        "range": dict(sorted(bundle.envelope.items())),
        "data": _data(bundle),
        "lineage": dict(training.get("study", {})),
        "network": asdict(bundle.spec),
        "training": {
            **dict(sorted(training.get("settings", {}).items())),
            "threads": training.get("threads"),
        },
        "results": dict(sorted(training.get("metrics", {}).items())),
        "tags": {} if version is None else dict(sorted(version.tags.items())),
    }


def differences(first: Facts, second: Facts, everything: bool = False) -> list[dict[str, Any]]:
    """Return a row for each fact that differs between two models, in the order of the sections.

    Parameters
    ----------
    first, second : Facts
        From `described`.
    everything : bool
        Also what is the same.

    Returns
    -------
    list of dict
        ``section, name, a, b, same``; a value that one of them does not have is None.
    """
    rows = []
    for section in first:
        one, two = first[section], second[section]
        for name in dict.fromkeys([*one, *two]):
            a, b = one.get(name), two.get(name)
            if everything or (a != b and name != "name"):
                rows.append({"section": section, "name": name, "a": a, "b": b, "same": a == b})
    return rows


def _data(bundle: Bundle) -> dict[str, Any]:
    training = bundle.training
    return {
        "data_sha256": training.get("data_sha256"),
        "trained_on": _places(training.get("train_regions", [])),
        "chosen_on": _places(training.get("dev_regions", [])),
    }


def _places(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return rectangles of a bundle under names."""
    found = []
    for image, top, bottom, left, right, *digest in rows:
        place = {"image": image, "top": top, "bottom": bottom, "left": left, "right": right}
        found.append({**place, "pixels_sha256": str(digest[0]) if digest else ""})
    return found
