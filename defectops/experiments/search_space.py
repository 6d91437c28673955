"""Which settings a study tries: the dimensions of its space, and the box around a good trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from defectops.errors import SettingsRefused

Value = float | int | str


@dataclass(frozen=True)
class Dimension:
    """One setting that a study may change.

    Parameters
    ----------
    name : str
        Its key in ``params.yaml: train``.
    kind : {"float", "int", "choice"}
    low, high : float
        Bounds, both included; not for a choice.
    log : bool
        Whether factors matter rather than differences.
    choices : tuple of str
        Only for a choice.
    structural : bool
        Whether it decides what the weights mean, as the architecture does: a trial that starts from
        another's weights keeps it.

    Raises
    ------
    SettingsRefused
        Bounds that are not finite, in the wrong order or not above 0 with `log`; no choices.
    """

    name: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()
    structural: bool = False

    def __post_init__(self) -> None:
        if self.kind == "choice":
            wrong = len(set(self.choices)) != len(self.choices) or not self.choices
            says = "needs different choices, at least one"
        elif self.kind in {"float", "int"}:
            finite = math.isfinite(self.low) and math.isfinite(self.high)
            wrong = not finite or self.low > self.high or (self.log and self.low <= 0)
            says = f"needs low <= high, both finite, above 0 if log; got {self.low}, {self.high}"
        else:
            wrong, says = True, f"must be float, int or choice, got {self.kind!r}"
        if wrong:
            raise SettingsRefused(f"search space, {self.name}", "E_CONFIG", says)

    def distribution(self) -> BaseDistribution:
        """Return it as Optuna writes it."""
        if self.kind == "choice":
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def holds(self, value: Value) -> bool:
        """Say whether a value lies inside."""
        if self.kind == "choice":
            return value in self.choices
        return not isinstance(value, str) and self.low <= value <= self.high

    def share(self, value: float) -> float:
        """Return where a number lies between the bounds, 0 to 1; 0.5 where these agree."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low) if high > low else 0.5

    def at(self, share: float) -> float | int:
        """Return the number at a share; see `share`. An integer is rounded."""
        if self.log:
            value = math.exp(math.log(self.low) * (1 - share) + math.log(self.high) * share)
        else:
            value = self.low + (self.high - self.low) * share
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.kind == "int" else inside

    def around(self, value: Value, width: float) -> Dimension:
        """Return the part of it near a value.

        Parameters
        ----------
        value : float, int or str
            Moved to the nearest bound if it lies outside.
        width : float
            Of the part, as a share of the whole; on the scale of logarithms with `log`. A choice
            stays whole, a structural dimension keeps the value alone.
        """
        if self.kind == "choice" or isinstance(value, str):
            return replace(self, choices=(str(value),)) if self.structural else self
        middle = min(max(value, self.low), self.high)
        if self.structural:
            return replace(self, low=middle, high=middle)
        if self.log:
            factor = (self.high / self.low) ** (width / 2)
            low, high = middle / factor, middle * factor
        else:
            reach = (self.high - self.low) * width / 2
            low, high = middle - reach, middle + reach
        if self.kind == "int":
            low, high = math.floor(low), math.ceil(high)
        return replace(self, low=max(low, self.low), high=min(high, self.high))


@dataclass(frozen=True)
class Space:
    """All settings that a study may change, in a fixed order.

    Raises
    ------
    SettingsRefused
        A name twice.
    """

    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise SettingsRefused(
                "search space", "E_CONFIG", f"a name twice: {', '.join(self.names)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions, in their order."""
        return tuple(d.name for d in self.dimensions)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the space as Optuna writes it, by name."""
        return {d.name: d.distribution() for d in self.dimensions}

    def holds(self, params: Mapping[str, Value]) -> bool:
        """Say whether a parameter set has exactly these names and lies inside."""
        return set(params) == set(self.names) and all(
            d.holds(params[d.name]) for d in self.dimensions
        )

    def around(self, params: Mapping[str, Value], width: float) -> Space:
        """Return the box around a parameter set; see `Dimension.around`.

        Raises
        ------
        SettingsRefused
            A dimension is missing from `params`.
        """
        missing = [n for n in self.names if n not in params]
        if missing:
            raise SettingsRefused(
                "search space", "E_CONFIG", f"the parent does not say {', '.join(missing)}"
            )
        return Space(tuple(d.around(params[d.name], width) for d in self.dimensions))

    def as_json(self) -> list[dict[str, Any]]:
        """Return plain values for JSON."""
        return [asdict(d) | {"choices": list(d.choices)} for d in self.dimensions]

    @classmethod
    def from_json(cls, given: Sequence[Mapping[str, Any]]) -> Space:
        """Build a space from what `as_json` returned.

        Raises
        ------
        SettingsRefused
            An unknown key, or a dimension that cannot be.
        """
        known = {f.name for f in fields(Dimension)}
        for entry in given:
            unknown = set(entry) - known
            if unknown or not {"name", "kind"} <= set(entry):
                raise SettingsRefused(
                    "search space",
                    "E_CONFIG",
                    f"a dimension needs name and kind and may have {', '.join(sorted(known))}; "
                    f"got {', '.join(sorted(entry))}",
                )
        return cls(tuple(Dimension(**{**e, "choices": tuple(e.get("choices", ()))}) for e in given))

    @classmethod
    def default(cls, architectures: Sequence[str] = (), losses: Sequence[str] = ()) -> Space:
        """Return the space of Roberts et al. 2019 (DOI 10.1038/s41598-019-49105-0).

        The learning rate's bounds are the paper's; those of positive weight, its decay, dropout
        and learning-rate factor follow its released configurations. Architecture and loss are
        dimensions where more than one is given.
        """
        dimensions = [
            Dimension("learning_rate", "float", 1e-5, 1e-2, log=True),
            Dimension("positive_weight", "float", 1.0, 50.0, log=True),
            Dimension("positive_weight_decay", "float", 0.5, 1.0),
            Dimension("l2", "float", 1e-7, 1e-2, log=True),
            Dimension("dropout", "float", 0.0, 0.5),
            Dimension("learning_rate_factor", "float", 0.1, 0.9),
        ]
        if len(architectures) > 1:
            dimensions.append(
                Dimension("architecture", "choice", choices=tuple(architectures), structural=True)
            )
        if len(losses) > 1:
            dimensions.append(Dimension("loss", "choice", choices=tuple(losses)))
        return cls(tuple(dimensions))
