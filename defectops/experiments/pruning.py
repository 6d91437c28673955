"""When a trial is given up: compared only with its own kind, and not while it may still catch up.

Kin are the trials of the same generation that started with the same number of epochs behind them.
A cold trial beside one that started from good weights says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

import numpy as np

from defectops.errors import SettingsRefused

PrunerName = Literal["median", "hyperband", "patient", "none"]


@dataclass(frozen=True)
class PruningOptions:
    """How patient a pruner is.

    Parameters
    ----------
    warm_up : int
        Epochs that every trial may train; at least 1.
    kin_needed : int
        Curves of its kind that a trial is compared with at least.
    reach : float
        A trial that lags is kept if at its recent pace it would reach this quantile of what its kin
        ended with; 1 is the best of them.
    patience : int
        Epochs without a gain of more than `least_gain`, for ``patient``.
    least_gain : float
    reduction : int
        One of so many goes on at each rung, for ``hyperband``.
    """

    warm_up: int = 4
    kin_needed: int = 1
    reach: float = 1.0
    patience: int = 2
    least_gain: float = 0.002
    reduction: int = 3


DEFAULTS = PruningOptions()


def should_prune(
    name: str,
    own: Sequence[float],
    kin: Sequence[Sequence[float]],
    epochs: int,
    options: PruningOptions = DEFAULTS,
) -> str:
    """Say why a trial should be given up after its last epoch so far, ``""`` if it should not.

    Parameters
    ----------
    name : {"median", "hyperband", "patient", "none"}
        ``median``: worse than the median of its kin at the same epoch. ``hyperband``: not among the
        best third at a rung (4, 12, 36 ... epochs). ``patient``: as ``median``, and without a gain
        for some epochs. All three keep a trial that can still catch up.
    own : sequence of float
        Value by epoch, higher is better.
    kin : sequence of sequence of float
        Curves of the same kind, ended or not.
    epochs : int
        Of a whole trial.
    options : PruningOptions

    Returns
    -------
    str
        One line with the numbers that it rests on.

    Raises
    ------
    SettingsRefused
        Unknown name.

    Notes
    -----
    Running best values are compared, because a trial counts by its best epoch. A trial that is best
    among its kin is never given up, nor is one without kin.
    """
    if name not in get_args(PrunerName):
        allowed = ", ".join(get_args(PrunerName))
        raise SettingsRefused("pruner", "E_CONFIG", f"must be one of {allowed}, got {name!r}")
    done = len(own)
    if name == "none" or done < options.warm_up or done >= epochs:
        return ""
    mine = _running_best(own)
    others = [_running_best(c) for c in kin if _finite(c)]
    there = sorted(c[done - 1] for c in others if len(c) >= done)
    if len(there) < options.kin_needed:
        return ""
    bar, behind = _BARS[name](mine, there, options)
    if mine[-1] >= bar:
        return ""
    ended = [c[-1] for c in others if len(c) >= epochs]
    goal = max(bar, float(np.quantile(ended, options.reach))) if ended else bar
    hope = mine[-1] + _pace(mine) * (epochs - done)
    if hope >= goal:
        return ""
    return (
        f"{mine[-1]:.4f} is under {behind} {bar:.4f} after {done} epochs; at its pace it would end "
        f"at {hope:.4f}, under {goal:.4f}"
    )


def has_risen(curve: Sequence[float]) -> bool:
    """Whether a trial with fresh weights has learned: its second half has passed the first epoch.

    Random weights and the best threshold can be worth more than what learners reach in their first
    epochs, by luck of the contrast. Such a trial gets worse with training, or stands still; it
    would be the yardstick for all others, and a parent. A curve of one epoch or none says nothing
    yet: True.
    """
    return len(curve) < 2 or max(curve[len(curve) // 2 :]) > curve[0]


def _median(
    mine: Sequence[float], there: Sequence[float], options: PruningOptions
) -> tuple[float, str]:
    return float(np.median(there)), f"the median of {len(there)} kin,"


def _rung(
    mine: Sequence[float], there: Sequence[float], options: PruningOptions
) -> tuple[float, str]:
    rung = options.warm_up
    while rung < len(mine):
        rung *= options.reduction
    if rung != len(mine):
        return -math.inf, ""
    places = max(1, (len(there) + 1) // options.reduction)
    return there[-places], f"the best {places} of {len(there) + 1},"


def _standstill(
    mine: Sequence[float], there: Sequence[float], options: PruningOptions
) -> tuple[float, str]:
    before = mine[-1 - options.patience] if len(mine) > options.patience else -math.inf
    if mine[-1] - before > options.least_gain:
        return -math.inf, ""
    return _median(mine, there, options)


_BARS = {"median": _median, "hyperband": _rung, "patient": _standstill}


def _pace(best: Sequence[float]) -> float:
    """Return the gain an epoch over the last half: curves flatten, so this is generous."""
    span = min(len(best) - 1, max(1, math.ceil(len(best) / 2)))
    return (best[-1] - best[-1 - span]) / span if span else 0.0


def _running_best(curve: Sequence[float]) -> list[float]:
    return list(accumulate(curve, max))


def _finite(curve: Sequence[float]) -> bool:
    return bool(curve) and all(math.isfinite(v) for v in curve)
