"""One doubt about one field, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from defectops.measurement.quantities import MeasureOptions

Array = npt.NDArray[Any]

MISSED, INVENTED, MERGED, SPLIT = "missed", "invented", "merged", "split"
WIDENED, COVERED = "widened", "covered"
KINDS = (MISSED, INVENTED, MERGED, SPLIT, WIDENED, COVERED)

COLUMNS = (
    "kind",
    "top_px",
    "bottom_px",
    "left_px",
    "right_px",
    "label",
    "other_label",
    "over",
    "chance",
    "objects",
    "length_px",
    "density_percent",
    "diameter_percent",
    "score",
)

# A model never says nothing: below one chance in twenty are all the shadows of a micrograph.
LEAST_CHANCE = 0.05


@dataclass(frozen=True, eq=False)
class Seen:
    """One field as a model sees it.

    Parameters
    ----------
    chance : ndarray of float32, shape (H, W)
        Of a defect, one half at the model's threshold.
    found : ndarray of bool, shape (H, W)
        The mask.
    counted : ndarray of bool, shape (H, W)
        False where nothing counts.
    options : MeasureOptions
    instances : ndarray of int, shape (H, W), or None
        Particles as they were measured.
    """

    chance: Array
    found: Array
    counted: Array
    options: MeasureOptions
    instances: Array | None = None

    def mean(self, at: Array) -> float:
        """Mean chance of some pixels, given by flat index."""
        return float(self.chance.ravel()[at].mean(dtype=np.float64))

    def counts(self, at: Array) -> bool:
        """Whether at least half of some pixels, given by flat index, count."""
        return bool(2 * self.counted.ravel()[at].sum() >= at.size)


@dataclass(frozen=True)
class Effect:
    """What another reading would change.

    Parameters
    ----------
    objects, length_px : float
        The count, by the border rule, and the length of lines.
    density_percent, diameter_percent : float
        The density and the mean diameter, relative to the field's own.
    """

    objects: float = 0.0
    length_px: float = 0.0
    density_percent: float = 0.0
    diameter_percent: float = 0.0

    @property
    def percent(self) -> float:
        """Of the number that moves more, without its sign."""
        return max(abs(self.density_percent), abs(self.diameter_percent))


@dataclass(frozen=True, eq=False)
class Doubt:
    """Another reading of some pixels.

    Parameters
    ----------
    kind : str
        Of `KINDS`.
    at : ndarray of int64, shape (n,)
        Flat indices of the pixels it is about, at least one.
    chance : float
        That this reading is right.
    effect : Effect
    label, other_label : int
        Particles concerned; 0 for none.
    over : str
        The other defect type it lies on; empty for none.
    """

    kind: str
    at: Array
    chance: float
    effect: Effect
    label: int = 0
    other_label: int = 0
    over: str = ""

    @property
    def score(self) -> float:
        """Chance times effect, in percent of the number that moves most."""
        return self.chance * self.effect.percent

    def row(self, columns_px: int) -> dict[str, Any]:
        """Return the doubt as a row of `COLUMNS`, in a plane of so many columns."""
        box = dict(zip(COLUMNS[1:5], box_of(self.at, columns_px), strict=True))
        values = {**vars(self), **asdict(self.effect), **box, "score": self.score}
        return {name: values[name] for name in COLUMNS}


def doubt_table(doubts: Sequence[Doubt], columns_px: int) -> pd.DataFrame:
    """Return doubts as a table, in their order."""
    return pd.DataFrame([doubt.row(columns_px) for doubt in doubts], columns=list(COLUMNS))


def box_of(at: Array, columns_px: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of some pixels, half-open; zeros for none."""
    if not at.size:
        return 0, 0, 0, 0
    rows, columns = np.divmod(at, columns_px)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def pixels_by_number(numbered: Array, n: int) -> list[Array]:
    """Return the flat indices of the pixels of each number from 1 to n, ascending."""
    at = np.flatnonzero(numbered)
    of = numbered.ravel()[at]
    order = np.argsort(of, kind="stable")
    return np.split(at[order], np.searchsorted(of[order], np.arange(2, n + 1)))[:n]
