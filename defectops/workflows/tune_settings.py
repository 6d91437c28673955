"""What a study is told: section ``tune`` of params.yaml, and the space that it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from defectops.errors import SettingsRefused
from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.study_trials import Objective, Pruner, Sampler
from defectops.settings import read, unknown_key

# Keys of `train` that a study may change beside those of the default space. What decides how much
# an epoch costs is not among them: epochs are the currency in which trials are compared.
_MORE = {
    "architecture": Dimension("architecture", "choice", choices=("defectsegnet",), structural=True),
    "width": Dimension("width", "float", 0.5, 1.5, structural=True),
    "loss": Dimension("loss", "choice", choices=("weighted_cross_entropy",)),
    "plateau_epochs": Dimension("plateau_epochs", "int", 1, 20),
    "warm_up_steps": Dimension("warm_up_steps", "int", 0, 200),
}


@dataclass(frozen=True)
class TuneOptions:
    """What a study tries, and for how long.

    Parameters
    ----------
    trials : int
        Configurations of generation 0, which begin with fresh weights; the first is the project's
        own.
    generations : int
        At most so many further ones, whose trials begin with the weights of the best before.
    epochs : int
        Of each trial of generation 0.
    stretch : int
        Each generation trains four times as long as the one before, at most so many times `epochs`.
    seed_from : int
        How many of the best trials seed a generation.
    offspring : int
        Trials of such a generation.
    sampler : {"tpe", "random", "gp", "cmaes"}
        How configurations are drawn.
    pruner : {"median", "hyperband", "patient", "none"}
        When a trial is given up.
    objective : {"iou", "density", "pareto"}
        What is best; see docs/concepts/metrics.md.
    seed : int
    tolerance, patience
        The study stops after `patience` generations in a row that gain no more than `tolerance`.
    space : mapping
        By key of ``train``: ``{low, high, log}`` for a number, a list for a choice, null to leave
        it as ``train`` has it. What is not named is as in the paper's space.
    """

    trials: int = 12
    generations: int = 2
    epochs: int = 8
    stretch: int = 4
    seed_from: int = 1
    offspring: int = 2
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    objective: Objective = "iou"
    seed: int = 0
    tolerance: float = 0.002
    patience: int = 2
    space: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = {
            "trials": (1, 100_000),
            "generations": (0, 1000),
            "epochs": (1, 100_000),
            "stretch": (1, 1000),
            "seed_from": (1, 1000),
            "offspring": (1, 1000),
            "seed": (0, 2**32 - 1),
            "tolerance": (0.0, 1.0),
            "patience": (1, 1000),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsRefused(
                    f"tune.{name}",
                    "E_CONFIG",
                    f"must be {low:g} to {high:g}, got {getattr(self, name)}",
                )
        for name, literal in (("sampler", Sampler), ("pruner", Pruner), ("objective", Objective)):
            if getattr(self, name) not in get_args(literal):
                raise SettingsRefused(
                    f"tune.{name}",
                    "E_CONFIG",
                    f"must be one of {', '.join(get_args(literal))}, got {getattr(self, name)!r}",
                )
        self.as_space()

    def as_space(self) -> Space:
        """Return the space that is searched.

        Raises
        ------
        SettingsRefused
            A key that cannot be searched, or a range that is none.
        """
        dimensions = {d.name: d for d in Space.default().dimensions}
        for name, given in self.space.items():
            known = dimensions | _MORE
            if name not in known:
                raise unknown_key("tune.space", str(name), list(known))
            if given is None:
                dimensions.pop(name, None)
            else:
                dimensions[name] = _changed(known[name], given)
        if not dimensions:
            raise SettingsRefused("tune.space", "E_CONFIG", "nothing is left to search")
        return Space(tuple(dimensions.values()))


def read_tune_options(given: Mapping[str, Any], where: str) -> TuneOptions:
    """Read ``tune.default`` overridden by ``tune.<defect>``.

    Raises
    ------
    SettingsRefused
        An unknown key (with the nearest match), or a value out of range.
    """
    return read(given, TuneOptions, where)


def changed(options: TuneOptions, given: Mapping[str, object]) -> TuneOptions:
    """Return options with what the command line says in their place; None says nothing."""
    named = {f.name for f in fields(TuneOptions)}
    return replace(options, **{k: v for k, v in given.items() if v is not None and k in named})  # type: ignore[arg-type]


def including(space: Space, own: Mapping[str, Any]) -> tuple[Space, dict[str, float | int | str]]:
    """Widen a space to a project's own settings, so that these can be a trial like any other.

    Returns
    -------
    Space
    dict
        The project's own value of each dimension; without what no widening can hold, such as 0 on
        a scale of factors.
    """
    dimensions, values = [], {}
    for dimension in space.dimensions:
        value = own[dimension.name]
        wider = _widened(dimension, value)
        if wider.holds(value):
            values[dimension.name] = value
        dimensions.append(wider)
    return Space(tuple(dimensions)), values


def _widened(dimension: Dimension, value: Any) -> Dimension:
    if dimension.kind == "choice":
        return replace(dimension, choices=tuple(dict.fromkeys((*dimension.choices, str(value)))))
    if dimension.log and value <= 0:
        return dimension
    return replace(dimension, low=min(dimension.low, value), high=max(dimension.high, value))


def _changed(dimension: Dimension, given: object) -> Dimension:
    """Return a dimension as the settings say; what they leave out stays."""
    where = f"tune.space.{dimension.name}"
    if dimension.kind == "choice":
        if not isinstance(given, list) or not given or not all(isinstance(n, str) for n in given):
            raise SettingsRefused(where, "E_CONFIG", f"give a list of names, got {given!r:.100}")
        return replace(dimension, choices=tuple(dict.fromkeys(given)))
    if not isinstance(given, Mapping):
        raise SettingsRefused(where, "E_CONFIG", f"give low and high, or null; got {given!r:.100}")
    for key, value in given.items():
        if key not in {"low", "high", "log"}:
            raise unknown_key(where, str(key), ["low", "high", "log"])
        if isinstance(value, bool) != (key == "log") or not isinstance(value, (int, float)):
            raise SettingsRefused(where, "E_CONFIG", f"{key} cannot be {value!r}")
    try:
        return Dimension(**{**asdict(dimension), **given})
    except SettingsRefused as error:
        raise SettingsRefused(where, "E_CONFIG", error.message) from error
