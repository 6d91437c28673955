"""The rules of the gate: each judges an interval and says pass, fail or inconclusive, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from defectops.experiments.promotion import (
    ERRORS,
    Finding,
    Outcome,
    PromotionOptions,
    Verdict,
    conclude,
)

# Beyond this many more images, images alone are no answer.
_MOST_IMAGES = 1000
_Z = 1.959964  # of 95 %, two-sided


class Estimated(Protocol):
    """A number with its interval, as whoever measured it hands it over."""

    @property
    def estimate(self) -> float:
        """NaN where undefined, as the ends of the interval."""

    @property
    def low(self) -> float:
        """Lower end of the two-sided 95 % interval."""

    @property
    def high(self) -> float:
        """Upper end."""

    @property
    def n(self) -> int:
        """How many were resampled or measured."""

    @property
    def over(self) -> str:
        """What: ``tiles``, ``images``."""

    @property
    def one_object(self) -> float:
        """What one labelled object more or less changes; 0 where nothing hangs on objects."""


@dataclass(frozen=True)
class Evidence:
    """All that was measured of a candidate on the gate pack.

    Parameters
    ----------
    scores : mapping of str to Estimated
        Every score that this type of defect has, and the size of every material error.
    images : int
        Images of the gate pack.
    change : mapping of str to Estimated, optional
        Against the champion on the same images: of scores the difference, positive is better; of
        errors the change of their size, positive is worse. None without a champion to compare.
    experts : mapping of str to Estimated
        Size of an error less that of the experts; positive is worse.
    costs : mapping of str to Estimated
        ``seconds_per_megapixel, size_mb``.
    """

    scores: Mapping[str, Estimated]
    images: int
    change: Mapping[str, Estimated] | None = None
    experts: Mapping[str, Estimated] = field(default_factory=dict)
    costs: Mapping[str, Estimated] = field(default_factory=dict)


def judge(options: PromotionOptions, evidence: Evidence) -> Verdict:
    """Judge a candidate by every rule that is set and that its type of defect can answer.

    An interval that reaches the limit whole passes, one that misses it whole fails, and one that
    holds the limit is inconclusive. Undefined is inconclusive.

    Returns
    -------
    Verdict
        The worst of all findings; without any rule pass, and the verdict says that nothing was
        asked.
    """
    court = _Court(evidence.images, options.seed)
    found = [
        court.at_least(f"floor {name}", name, evidence.scores[name], limit)
        for name, limit in sorted(options.floors.items())
        if name in evidence.scores
    ]
    found += [
        court.at_most(f"ceiling {name}", f"size of {name}", evidence.scores[name], limit)
        for name, limit in sorted(options.ceilings.items())
        if name in evidence.scores
    ]
    found += _changes(court, options.margins, evidence.change or {})
    if options.panel:
        found += _experts(court, evidence.experts)
    for name, most in (
        ("seconds_per_megapixel", options.max_seconds_per_megapixel),
        ("size_mb", options.max_size_mb),
    ):
        if most is not None:
            found.append(court.at_most(f"most {name}", name, evidence.costs.get(name), most))
    return conclude(found)


@dataclass(frozen=True)
class _Court:
    """Turns an interval and a limit into a finding."""

    images: int
    seed: int

    def at_least(
        self, rule: str, name: str, found: Estimated | None, limit: float, more: str = ""
    ) -> Finding:
        """Ask a number to reach a limit from above."""
        if not _defined(found):
            return _undefined(rule, name, limit)
        outcome = _outcome(found.low - limit, found.high - limit)
        said = {"pass": "is at least", "fail": "is below", "inconclusive": "may be below"}
        text = f"{name} {_text(found)} {said[outcome]} {limit:.4g}{more}"
        return self._finding(rule, outcome, found, limit, text)

    def at_most(
        self, rule: str, name: str, found: Estimated | None, limit: float, more: str = ""
    ) -> Finding:
        """Ask a number to stay at or below a limit."""
        if not _defined(found):
            return _undefined(rule, name, limit)
        outcome = _outcome(limit - found.high, limit - found.low)
        said = {"pass": "is at most", "fail": "is above", "inconclusive": "may be above"}
        text = f"{name} {_text(found)} {said[outcome]} {limit:.4g}{more}"
        return self._finding(rule, outcome, found, limit, text)

    def _finding(
        self, rule: str, outcome: Outcome, found: Estimated, limit: float, text: str
    ) -> Finding:
        needed = self._needed(found, limit) if outcome == "inconclusive" else None
        if outcome == "inconclusive":
            text += f" ({_how_to_settle(needed, found)})"
        return Finding(
            rule,
            outcome,
            round(found.estimate, 6),
            limit,
            text,
            round(found.low, 6),
            round(found.high, 6),
            found.n,
            self.seed,
            needed,
        )

    def _needed(self, found: Estimated, limit: float) -> int | None:
        """Return how many more images bring the nearer end of the interval to the limit."""
        away = abs(found.estimate - limit)
        half = found.estimate - found.low if found.estimate > limit else found.high - found.estimate
        times = _times_as_many(half, away, found.one_object)
        if not self.images or times > 1 + _MOST_IMAGES / self.images:
            return None
        return max(1, math.ceil(self.images * (times - 1)))


def _times_as_many(half: float, away: float, one_object: float) -> float:
    """Return with how many times as many images a half interval is as long as `away`.

    The half is ``d + sqrt(h^2 + (z d)^2)`` (see `model_comparison.paired_change`). With k times as
    many images h is ``sqrt(k)`` times smaller and d, what one object changes, k times; this is the
    equation solved for k.
    """
    if half <= 0:
        return 0.0
    if away <= 1e-6 * half:
        return math.inf
    # In units of the half, so that no square is too small for a float.
    away, d = away / half, min(one_object / half, 1 / (1 + _Z))
    scatter = max((1 - d) ** 2 - (_Z * d) ** 2, 0.0)
    linear = scatter + 2 * away * d
    root = math.sqrt(linear**2 + 4 * away**2 * (_Z**2 - 1) * d**2)
    return (linear + root) / (2 * away**2)


def _changes(
    court: _Court, margins: Mapping[str, float], change: Mapping[str, Estimated]
) -> list[Finding]:
    """Ask a candidate to be no worse than the champion by more than the margins."""
    findings = []
    for name, margin in sorted(margins.items()):
        if name not in change:
            continue
        found, rule = change[name], f"not worse {name}"
        if name in ERRORS:
            more = f" allowed points; {_verdict(-found.high, -found.low)}"
            subject = f"change of the size of {name}"
            findings.append(court.at_most(rule, subject, found, margin, more))
        else:
            more = f" allowed; {_verdict(found.low, found.high)}"
            findings.append(court.at_least(rule, f"change of {name}", found, -margin, more))
    return findings


def _experts(court: _Court, experts: Mapping[str, Estimated]) -> list[Finding]:
    """Ask a candidate's errors to be no larger than those of the experts."""
    if not experts:
        text = "the panel holds no experts' errors of a quantity that this type of defect has"
        return [Finding("experts", "inconclusive", None, None, text)]
    return [
        court.at_most(f"experts {name}", f"size of {name} less the experts'", found, 0.0)
        for name, found in sorted(experts.items())
    ]


def _outcome(nearest: float, farthest: float) -> Outcome:
    """Judge an interval by how far its ends lie on the right side of the limit."""
    if nearest >= 0:
        return "pass"
    return "fail" if farthest < 0 else "inconclusive"


def _verdict(low: float, high: float) -> str:
    """Say what an interval of a gain tells of two models."""
    if low > 0:
        return "better than the champion"
    return "worse than the champion" if high < 0 else "no difference from the champion can be told"


def _defined(found: Estimated | None) -> TypeGuard[Estimated]:
    return found is not None and all(map(math.isfinite, (found.estimate, found.low, found.high)))


def _text(found: Estimated) -> str:
    return f"{found.estimate:.4g} [{found.low:.4g}, {found.high:.4g}]"


def _how_to_settle(needed: int | None, found: Estimated) -> str:
    if needed is None:
        return f"{found.n} {found.over}; more images alone will hardly settle it"
    images = "1 more image" if needed == 1 else f"{needed} more images"
    return f"{found.n} {found.over}; about {images} of this size would settle it"


def _undefined(rule: str, name: str, limit: float) -> Finding:
    text = f"{name} or its interval is undefined: too little to measure on the gate pack"
    return Finding(rule, "inconclusive", None, limit, text)
