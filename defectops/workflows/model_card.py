"""What a reader has to know of one version of a model, on one page of Markdown.

A card is written once, when the version is registered, and says what was known then. It never
speaks of the test side: that is opened after a promotion, and its numbers are in the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from defectops.imaging.appearance import allowed_ranges

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.learning.bundle import Bundle

_MOST_PLACES = 12
_ABSENT = "not known"

_PIXELS = (
    ("iou", "IoU"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("pixel_accuracy", "pixel accuracy"),
)
_SHAPES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "particle": (("object_f1", "F1 of objects"),),
    "line": (
        ("line_completeness", "completeness of lines"),
        ("line_correctness", "correctness of lines"),
    ),
}
_ERRORS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "particle": (
        ("number_density_error_percent", "number density"),
        ("mean_diameter_error_percent", "mean diameter"),
        ("sd_diameter_error_percent", "standard deviation of the diameter"),
    ),
    "line": (("dislocation_density_error_percent", "dislocation density"),),
}
_TAGS = (
    ("git.commit", "git commit"),
    ("measured_with", "measured with"),
)


def model_card(
    defect: DefectType, bundle: Bundle, metrics: Mapping[str, float], tags: Mapping[str, str]
) -> str:
    """Return the card of a version.

    Parameters
    ----------
    defect : DefectType
    bundle : Bundle
    metrics : mapping of str to float
        On the gate pack, as registered: those of `gate_measuring.gate_scores`; what is absent was
        undefined or not measured, and is said to be so.
    tags : mapping of str to str
        Of the version.

    Returns
    -------
    str
        Markdown; the same for the same input.
    """
    sections = (
        _head(defect, bundle),
        ("## How good it is", *_how_good(defect, bundle, metrics)),
        ("## Where it comes from", *_origin(bundle, tags)),
        ("## What it is for", *_limits(defect, bundle)),
        ("## What was not known", *_unknown(bundle)),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(defect: DefectType, bundle: Bundle) -> Sequence[str]:
    spec = bundle.spec
    shape = "lines" if defect.shape == "line" else "particles"
    return (
        f"# {defect.model_name}",
        "",
        f"Finds {defect.key} ({shape}, {defect.polarity} as recorded) in micrographs: one "
        f"probability a pixel, defect from {bundle.threshold:.4g} on.",
        "",
        *_table(
            ("network", f"{spec.architecture}, width {spec.width:g}, dropout {spec.dropout:g}"),
            ("weights", _plain(_metric(bundle, "weights"))),
            ("a pixel depends on", _square(_metric(bundle, "receptive_field_px"))),
            ("conditioning", _listed(bundle.conditioning)),
        ),
    )


def _how_good(defect: DefectType, bundle: Bundle, metrics: Mapping[str, float]) -> Iterable[str]:
    yield ""
    yield (
        "On the gate pack, all images together. Where the gate pack is a copy of the development "
        "side, epoch and threshold were chosen on it: expect less on other images."
    )
    yield ""
    scores = (*_PIXELS, *_SHAPES[defect.shape])
    errors = _ERRORS[defect.shape]
    yield from _table(
        *((words, _number(metrics.get(name))) for name, words in scores),
        *((f"error of the {words}", _percent(metrics.get(name))) for name, words in errors),
    )


def _origin(bundle: Bundle, tags: Mapping[str, str]) -> Iterable[str]:
    training = bundle.training
    settings = training.get("settings", {})
    yield ""
    yield from _table(
        ("training data, SHA-256", _plain(training.get("data_sha256"))),
        ("preset, seed", f"{_plain(settings.get('preset'))}, {_plain(settings.get('seed'))}"),
        ("epochs, best epoch", _epochs(bundle)),
        ("IoU on train, on dev", _ious(bundle)),
        *((words, tags[key]) for key, words in _TAGS if tags.get(key)),
        *_descent(training.get("study")),
    )
    for side, words in (("train_regions", "Trained on"), ("dev_regions", "Chosen on")):
        yield ""
        yield from _places(words, training.get(side, []))


def _limits(defect: DefectType, bundle: Bundle) -> Iterable[str]:
    yield ""
    yield (
        "Micrographs like those it was trained on. Flagged as out of range, and kept out of "
        "pooled numbers, is what lies outside:"
    )
    yield ""
    ranges = allowed_ranges(bundle.envelope)
    yield from _table(*((words, f"{low:.4g} to {high:.4g}") for words, low, high in ranges))
    if not ranges:
        yield "Nothing is known of the range it was trained on."
    if bundle.envelope.get("pixel_size_nm_low") is None:
        yield ""
        yield "It was trained on uncalibrated micrographs: no pixel size can be out of range."


def _unknown(bundle: Bundle) -> Iterable[str]:
    yield ""
    yield "- How good it is on the test side: opened by `evaluate`, after a promotion."
    yield (
        "- How good it is on other materials, microscopes and imaging conditions. The range above "
        "recognises another noise, magnification, contrast or polarity, not another material; a "
        "blurred picture with fresh noise on it passes."
    )
    yield "- How well the labels are known: errors above are against them, not against the truth."
    images = {str(row[0]) for row in bundle.training.get("train_regions", [])}
    yield f"- How much micrographs differ: it has seen {len(images)}."


def _descent(study: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return where in a study the weights were trained."""
    if study is None:
        return []
    parent = study.get("parent")
    start = "random weights" if parent is None else f"trial {parent}"
    return [
        ("study, trial", f"{study.get('study')}, {study.get('trial')}"),
        ("trained further from", start),
        ("parent, SHA-256", study.get("parent_sha256") or "none"),
        ("epochs with all ancestors", _plain(study.get("cumulative_epochs"))),
    ]


def _places(words: str, rows: Sequence[Sequence[Any]]) -> Iterable[str]:
    if not rows:
        yield f"{words}: {_ABSENT}."
        return
    yield f"{words} (rows, columns in px; digest of the whole micrograph's pixels):"
    yield ""
    for image, top, bottom, left, right, *digest in rows[:_MOST_PLACES]:
        known = f", {str(digest[0])[:12]}" if digest and digest[0] else ""
        yield f"- {_cell(image)}: {top}–{bottom}, {left}–{right}{known}"
    if len(rows) > _MOST_PLACES:
        yield f"- and {len(rows) - _MOST_PLACES} more, all named in the bundle"


def _table(*rows: tuple[str, str]) -> list[str]:
    if not rows:
        return []
    return ["| | |", "|---|---|", *(f"| {words} | {_cell(value)} |" for words, value in rows)]


def _cell(value: object) -> str:
    """Keep a file's name from ending a cell or a line."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _metric(bundle: Bundle, name: str) -> Any:
    return bundle.training.get("metrics", {}).get(name)


def _epochs(bundle: Bundle) -> str:
    return f"{_plain(_metric(bundle, 'epochs_run'))}, {_plain(_metric(bundle, 'best_epoch'))}"


def _ious(bundle: Bundle) -> str:
    return f"{_number(_metric(bundle, 'train_iou_at_best'))}, {_number(_metric(bundle, 'dev_iou'))}"


def _plain(value: Any) -> str:
    return _ABSENT if value is None else str(value)


def _square(side_px: Any) -> str:
    return _ABSENT if side_px is None else f"a square of {side_px} px"


def _number(value: float | None) -> str:
    return "undefined or not measured" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "undefined or not measured" if value is None else f"{value:+.1f} % of the label's"


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(options.items())) or _ABSENT
