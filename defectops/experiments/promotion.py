"""Shall this model become champion? What the gate is asked, what it found, what follows.

`gate_rules` judges the numbers it is handed; `succession` moves what a verdict allows to be moved.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from defectops.errors import GateFailed, GateInconclusive, SettingsRefused

Outcome = Literal["pass", "fail", "inconclusive"]

# All that a rule can ask for; which of them a type of defect has depends on its shape.
SCORES = (
    "iou",
    "precision",
    "recall",
    "pixel_accuracy",
    "object_f1",
    "line_completeness",
    "line_correctness",
)
ERRORS = (
    "number_density_error_percent",
    "mean_diameter_error_percent",
    "sd_diameter_error_percent",
    "dislocation_density_error_percent",
)
# A spread is known half as well as a mean from the same particles (relative standard errors
# 1/sqrt(2 N) and more, against about 0.35/sqrt(N)), hence twice the margin.
MARGINS: Mapping[str, float] = {
    "iou": 0.02,
    "number_density_error_percent": 5.0,
    "dislocation_density_error_percent": 5.0,
    "mean_diameter_error_percent": 5.0,
    "sd_diameter_error_percent": 10.0,
}


@dataclass(frozen=True)
class PromotionOptions:
    """Section ``promotion.<defect>`` of ``params.yaml``.

    Rules for what a type of defect does not have (an `object_f1` of lines) ask nothing of it.

    Parameters
    ----------
    floors : mapping of str to float
        Least value of a score on the gate pack, for example ``{iou: 0.3}``; names of `SCORES`.
    ceilings : mapping of str to float
        Greatest size of a material error against the label; names of `ERRORS`, in percent.
    margins : mapping of str to float
        How much worse than the champion on the same images: how much lower a score may be, by how
        many percentage points larger the size of an error.
    panel : str
        Table of an expert panel, a path in the project as `defectops panel compare` reads it; the
        model's errors must then be no larger than the experts'. Empty: not asked.
    max_seconds_per_megapixel : float or None
        Longest time of segmentation on this machine. None: not asked.
    max_size_mb : float or None
        Largest bundle, in millions of bytes. None: not asked.
    resamples, seed : int
        Of the bootstrap behind all intervals.
    on_repro : {"gate", "first", "never"}
        What ``dvc repro`` does with a new model: asks the gate, promotes only where there is no
        champion yet, or only registers it as candidate.
    after : str
        Program and words to run once a champion has moved, without a shell; what moved is in its
        environment. Empty: none.

    Raises
    ------
    SettingsRefused
        A rule for something that nobody measures, or a number out of range.
    """

    floors: dict[str, float] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    margins: dict[str, float] = field(default_factory=lambda: dict(MARGINS))
    panel: str = ""
    max_seconds_per_megapixel: float | None = None
    max_size_mb: float | None = None
    resamples: int = 1000
    seed: int = 0
    on_repro: Literal["gate", "first", "never"] = "gate"
    after: str = ""

    def __post_init__(self) -> None:
        for section, known in (
            ("floors", SCORES),
            ("ceilings", ERRORS),
            ("margins", SCORES + ERRORS),
        ):
            for name, limit in getattr(self, section).items():
                _require_known(section, name, known)
                if not (math.isfinite(limit) and limit >= 0):
                    raise _refused(f"{section}.{name} must be zero or more, got {limit}")
        if not 100 <= self.resamples <= 100_000:
            raise _refused(f"resamples must be 100 to 100,000, got {self.resamples}")
        if self.seed < 0:
            raise _refused(f"seed must be zero or more, got {self.seed}")


@dataclass(frozen=True)
class Finding:
    """What one rule says.

    Parameters
    ----------
    rule : str
        For example ``floor iou``.
    outcome : {"pass", "fail", "inconclusive"}
    estimate, limit : float or None
        The number judged and what it was compared with; None where undefined.
    message : str
    low, high : float or None
        Ends of the 95 % interval, two-sided.
    n : int or None
        Tiles or images behind the interval.
    seed : int or None
        Of its bootstrap.
    needed : int or None
        About how many more images of this size would settle what is inconclusive; None where
        nothing is open, or where more images alone will hardly settle it.
    """

    rule: str
    outcome: Outcome
    estimate: float | None
    limit: float | None
    message: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    seed: int | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What all rules together say: the worst of them."""

    outcome: Outcome
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether the model may become champion."""
        return self.outcome == "pass"

    @property
    def reason(self) -> str:
        """The messages of the rules that decided."""
        return "; ".join(f.message for f in self.findings if f.outcome == self.outcome)

    def as_mapping(self) -> dict[str, Any]:
        """Return the verdict as plain values for JSON."""
        return {"outcome": self.outcome, "findings": [asdict(f) for f in self.findings]}


def conclude(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict of several findings: fail beats inconclusive beats pass."""
    rows = tuple(findings)
    if not rows:
        text = "no rule is set, so any model passes (params.yaml: promotion)"
        rows = (Finding("no rule", "pass", None, None, text),)
    seen = {f.outcome for f in rows}
    order: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
    return Verdict(next(o for o in order if o in seen), rows)


def may_move(options: PromotionOptions, verdict: Verdict, has_champion: bool) -> bool:
    """Whether ``dvc repro`` promotes the candidate of this verdict."""
    allowed = options.on_repro == "gate" or (options.on_repro == "first" and not has_champion)
    return allowed and verdict.passed


def require_pass(verdict: Verdict, subject: str) -> None:
    """Raise unless the verdict is pass; for commands that ask for a promotion directly.

    Raises
    ------
    GateFailed, GateInconclusive
    """
    if verdict.outcome == "fail":
        raise GateFailed(subject, "E_GATE", f"{verdict.reason}; the champion stays")
    if verdict.outcome == "inconclusive":
        raise GateInconclusive(subject, "E_GATE_OPEN", f"{verdict.reason}; the champion stays")


def _require_known(section: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise _refused(f"{section}: nobody measures {name!r} ({hint})")


def _refused(message: str) -> SettingsRefused:
    return SettingsRefused("params.yaml: promotion", "E_CONFIG", message)
