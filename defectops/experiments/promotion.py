"""Shall this model become champion? Rules judge the numbers they are handed, nothing else.

Each rule answers pass, fail or inconclusive with the number it looked at. Nothing here reads a
file or asks a registry; `succession` moves what a verdict allows to be moved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from defectops.errors import GateFailed, GateInconclusive

Outcome = Literal["pass", "fail", "inconclusive"]
Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class PromotionOptions:
    """Section ``promotion.<defect>`` of ``params.yaml``.

    Parameters
    ----------
    floors : mapping of str to float
        Least value of a metric on the dev side, for example ``{iou: 0.3}``.
    margins : mapping of str to float
        How much a metric may be below the champion's on the same images, in the metric's unit.
    on_repro : {"gate", "first", "never"}
        What ``dvc repro`` does with a new model: asks the gate, promotes only where there is no
        champion yet, or only registers it as candidate.
    """

    floors: dict[str, float] = field(default_factory=dict)
    margins: dict[str, float] = field(default_factory=lambda: {"iou": 0.02})
    on_repro: Literal["gate", "first", "never"] = "gate"


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
    """

    rule: str
    outcome: Outcome
    estimate: float | None
    limit: float | None
    message: str


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


def judge(options: PromotionOptions, candidate: Metrics, champion: Metrics | None) -> Verdict:
    """Judge a candidate by its floors and, if there is one, against the champion.

    Parameters
    ----------
    options : PromotionOptions
    candidate, champion : mapping of str to float or None
        Metrics of both on the same images; None or NaN where undefined. `champion` is None when
        there is no champion.

    Returns
    -------
    Verdict
        Without any rule: pass, and the verdict says that nothing was asked.
    """
    findings = judge_floors(candidate, options.floors)
    if champion is not None:
        findings += judge_change(candidate, champion, options.margins)
    return conclude(findings)


def judge_floors(candidate: Metrics, floors: Mapping[str, float]) -> list[Finding]:
    """Ask each metric to reach its floor; an undefined one is inconclusive."""
    findings = []
    for name, floor in sorted(floors.items()):
        value = _defined(candidate, name)
        rule = f"floor {name}"
        if value is None:
            findings.append(_undefined(rule, name, floor))
        elif value >= floor:
            text = f"{name} {value:.4g} reaches the floor {floor:.4g}"
            findings.append(Finding(rule, "pass", value, floor, text))
        else:
            text = f"{name} {value:.4g} is below the floor {floor:.4g}"
            findings.append(Finding(rule, "fail", value, floor, text))
    return findings


def judge_change(
    candidate: Metrics, champion: Metrics, margins: Mapping[str, float]
) -> list[Finding]:
    """Ask each metric not to be worse than the champion's by more than its margin.

    The estimate of a finding is candidate minus champion. Where the champion's metric is
    undefined there is nothing to be worse than: pass.
    """
    findings = []
    for name, margin in sorted(margins.items()):
        value, before = _defined(candidate, name), _defined(champion, name)
        rule = f"not worse {name}"
        if before is None:
            text = f"the champion's {name} is undefined, nothing to be worse than"
            findings.append(Finding(rule, "pass", None, -margin, text))
        elif value is None:
            findings.append(_undefined(rule, name, -margin))
        else:
            change = value - before
            outcome: Outcome = "pass" if change >= -margin else "fail"
            text = (
                f"{name} {value:.4g} against the champion's {before:.4g}: change {change:+.4g}, "
                f"at least {-margin:+.4g} asked"
            )
            findings.append(Finding(rule, outcome, change, -margin, text))
    return findings


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


def _defined(metrics: Metrics, name: str) -> float | None:
    value = metrics.get(name)
    return value if value is not None and math.isfinite(value) else None


def _undefined(rule: str, name: str, limit: float) -> Finding:
    text = f"{name} is undefined on these images (no {name} was measured, or the class is absent)"
    return Finding(rule, "inconclusive", None, limit, text)
