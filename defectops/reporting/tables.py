"""Table 1: how well pixels were found, averaged over images, beside the paper's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from defectops.measurement.agreement import SCORES, overall, summarise
from defectops.reporting.numbers import UNDEFINED, percent, plural

if TYPE_CHECKING:
    from defectops.measurement.agreement import Summary

SCORE_NAMES = ("Pixel accuracy", "Precision", "Recall", "IoU")
OVERALL = "overall"
ALL_IMAGES = "all_images"

PAPER_NOTE = (
    "The paper's rows (other data: two test images per defect type of HT-9 steel, Roberts et al., "
    "Sci. Rep. 9, 12744, 2019, Table 1) are printed for orientation. Overall is the mean of the "
    "rows, of their deviations too, which is the paper's convention."
)
_HEAD = (
    "# Table 1: segmentation of the test images\n\n"
    "In percent, mean ± sample standard deviation (n − 1) over the test images. A score that is "
    "0 / 0 on an image (no such pixel) is undefined there, left out and counted.\n\n"
)

Scores = Mapping[str, "Summary"]


@dataclass(frozen=True)
class ScoreRow:
    """One row of Table 1 as it is printed: its name, its cells in percent, how many images."""

    name: str
    cells: tuple[str, ...]
    images: str
    paper: bool = False


def scores(evaluation: pd.DataFrame, side: str) -> dict[str, Summary]:
    """Average each score over the images of one side.

    Parameters
    ----------
    evaluation : DataFrame
        Columns ``side`` and the scores, fractions from 0 to 1; an empty cell is undefined.
    side : str
        For example ``test``.

    Returns
    -------
    dict of str to Summary
        Empty if the side has no image.
    """
    rows = _of_side(evaluation, side)
    if rows.empty:
        return {}
    return summarise(rows[list(SCORES)].astype(float).to_dict("records"))  # type: ignore[arg-type]


def summary(evaluations: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return Table 1 as numbers, for ``dvc metrics show``.

    Parameters
    ----------
    evaluations : mapping of str to DataFrame
        Evaluation table of each defect type.

    Returns
    -------
    dict
        ``{<defect>, overall, all_images}`` to score to ``{mean, sd, n, undefined}``, of the test
        side, fractions rounded to six decimals, None where undefined. ``overall`` averages the
        rows as the paper does, its counts are defect types; ``all_images`` pools the images.
        A defect type without a test side is left out.
    """
    rows: dict[str, Scores] = {d: scores(e, "test") for d, e in evaluations.items()}
    rows[OVERALL] = _overall(rows)
    rows[ALL_IMAGES] = scores(_together(evaluations), "test")
    return {name: {m: _plain(s) for m, s in row.items()} for name, row in rows.items() if row}


def score_rows(
    evaluations: Mapping[str, pd.DataFrame], side: str, paper: Mapping[str, Scores]
) -> list[ScoreRow]:
    """Return the rows of Table 1 of one side, the paper's row under each of ours.

    A defect type without an image on this side keeps its row, with dashes, so that nobody
    overlooks it. Without any image there is no row.
    """
    ours: dict[str, Scores] = {d: scores(e, side) for d, e in evaluations.items()}
    if not any(ours.values()):
        return []
    rows = []
    for name, row in ours.items():
        rows.append(_row(title(name), row, len(_of_side(evaluations[name], side))))
        rows += _paper_row(paper.get(name))
    together = _together(evaluations)
    images = len(_of_side(together, side))
    present = [name for name, row in ours.items() if row]
    mean_of = "the rows" if len(present) == len(ours) else f"{len(present)} of {len(ours)} rows"
    rows.append(_row(f"Overall: mean of {mean_of}", _overall(ours), images, count=False))
    if set(present) | {OVERALL} == set(paper):  # else its overall row averages other types
        rows += _paper_row(paper[OVERALL])
    rows.append(_row("All images taken together", scores(together, side), images))
    return rows


def table1_markdown(rows: Sequence[ScoreRow]) -> str:
    """Return Table 1 in Markdown; without rows the statement that there is no test set."""
    if not rows:
        return _HEAD + "No test set: no evaluated image lies on the test side of a split.\n"
    lines = [
        "| " + " | ".join(("Defect type", *SCORE_NAMES, "Images")) + " |",
        "|" + "|".join([":---", *["---:"] * len(SCORES), "---:"]) + "|",
        *("| " + " | ".join((r.name, *r.cells, r.images)) + " |" for r in rows),
    ]
    return _HEAD + "\n".join(lines) + "\n\n" + PAPER_NOTE + "\n"


def undefined_sentences(name: str, row: Scores) -> list[str]:
    """Say of each score on how many test images it is undefined; empty if on none."""
    return [
        f"{title(name)}: {label} is undefined on {plural(row[score].undefined, 'test image')} "
        "(0 / 0: no such pixel in label or prediction); left out of the mean."
        for score, label in zip(SCORES, SCORE_NAMES, strict=True)
        if row and row[score].undefined
    ]


def title(key: str) -> str:
    """Return the name of a defect type as a heading.

    >>> title("gamma_prime")
    'Gamma prime'
    """
    return key.replace("_", " ").capitalize()


def score_text(score: Summary) -> str:
    """Return mean ± sample standard deviation in percent, for example ``44.34 ± 0.63``."""
    if score.mean is None or score.sd is None:
        return percent(score.mean, 2)
    return f"{percent(score.mean, 2)} ± {percent(score.sd, 2)}"


def _of_side(evaluation: pd.DataFrame, side: str) -> pd.DataFrame:
    return evaluation if evaluation.empty else evaluation[evaluation["side"] == side]


def _together(evaluations: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    filled = [e for e in evaluations.values() if not e.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _overall(rows: Mapping[str, Scores]) -> dict[str, Summary]:
    present = [row for row in rows.values() if row]
    return overall(present) if present else {}


def _plain(score: Summary) -> dict[str, float | int | None]:
    return {
        "mean": None if score.mean is None else round(score.mean, 6),
        "sd": None if score.sd is None else round(score.sd, 6),
        "n": score.n,
        "undefined": score.undefined,
    }


def _row(name: str, row: Scores, images: int, *, count: bool = True) -> ScoreRow:
    if not row:
        return ScoreRow(name, (UNDEFINED,) * len(SCORES), UNDEFINED)
    return ScoreRow(name, tuple(_cell(row[s], count) for s in SCORES), str(images))


def _cell(score: Summary, count: bool) -> str:
    # n is shown only where it differs from the row's: on some images the score is undefined.
    return (
        f"{score_text(score)} (n = {score.n})" if count and score.undefined else score_text(score)
    )


def _paper_row(row: Scores | None) -> list[ScoreRow]:
    if row is None:
        return []
    cells = tuple(score_text(row[s]) for s in SCORES)
    return [ScoreRow("paper, other data", cells, UNDEFINED, paper=True)]
