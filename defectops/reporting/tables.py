"""Table 1: how well pixels were found, averaged over images, beside the paper's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from defectops.reporting.numbers import UNDEFINED, percent, plural

METRICS = ("pixel_accuracy", "precision", "recall", "iou")
METRIC_NAMES = ("Pixel accuracy", "Precision", "Recall", "IoU")
OVERALL = "overall"
ALL_IMAGES = "all_images"


@dataclass(frozen=True)
class Score:
    """Mean and spread of one metric over images.

    Parameters
    ----------
    mean : float or None
        None if the metric is undefined on every image.
    sd : float or None
        Sample standard deviation (n - 1); None for fewer than two images.
    n : int
        Images that count.
    undefined : int
        Images left out because the metric is undefined there (0 / 0: the class is absent).
    """

    mean: float | None
    sd: float | None
    n: int
    undefined: int

    @property
    def text(self) -> str:
        """Mean ± sample standard deviation in percent, for example ``44.34 ± 0.63``."""
        if self.mean is None or self.sd is None:
            return percent(self.mean, 2)
        return f"{percent(self.mean, 2)} ± {percent(self.sd, 2)}"


Scores = Mapping[str, Score]


@dataclass(frozen=True)
class ScoreRow:
    """One row of Table 1 as it is printed: its name, its cells in percent, how many images."""

    name: str
    cells: tuple[str, ...]
    n: str
    paper: bool = False


def scores(evaluation: pd.DataFrame, side: str) -> dict[str, Score]:
    """Average each metric over the images of one side.

    Parameters
    ----------
    evaluation : DataFrame
        Columns ``side`` and the metrics, fractions from 0 to 1; an empty cell is undefined.
    side : str
        For example ``test``.

    Returns
    -------
    dict of str to Score
        Empty if the side has no image.
    """
    if evaluation.empty:
        return {}
    rows = evaluation[evaluation["side"] == side]
    return {m: _score(rows[m].astype(float)) for m in METRICS} if len(rows) else {}


def overall(rows: Mapping[str, Scores]) -> dict[str, Score]:
    """Average the rows of the defect types as the paper does: its means and its deviations.

    The mean of the standard deviations is not the deviation of the pooled images; the paper's
    Table 1 was recomputed to find that this is its convention [1]_.

    References
    ----------
    .. [1] Roberts et al., Sci. Rep. 9, 12744 (2019), doi:10.1038/s41598-019-49105-0
    """
    present = [r for r in rows.values() if r]
    if not present:
        return {}
    return {m: _mean_of_rows([r[m] for r in present]) for m in METRICS}


def all_images(evaluations: Mapping[str, pd.DataFrame], side: str) -> dict[str, Score]:
    """Average each metric over the images of all defect types taken together."""
    filled = [e for e in evaluations.values() if not e.empty]
    return scores(pd.concat(filled, ignore_index=True), side) if filled else {}


def summary(evaluations: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return Table 1 as numbers, for ``dvc metrics show``.

    Parameters
    ----------
    evaluations : mapping of str to DataFrame
        Evaluation table of each defect type.

    Returns
    -------
    dict
        ``{<defect>, overall, all_images}`` to metric to ``{mean, sd, n, undefined}``, of the
        test side, fractions rounded to six decimals, None where undefined. ``overall`` averages
        the rows as the paper does, ``all_images`` pools the images. A defect type without a
        test side is left out.
    """
    rows: dict[str, Scores] = {d: scores(e, "test") for d, e in evaluations.items()}
    rows[OVERALL] = overall(rows)
    rows[ALL_IMAGES] = all_images(evaluations, "test")
    return {name: {m: _plain(s) for m, s in row.items()} for name, row in rows.items() if row}


def paper_scores(table: pd.DataFrame) -> dict[str, dict[str, Score]]:
    """Return the paper's Table 1 as scores.

    Parameters
    ----------
    table : DataFrame
        Columns ``defect`` and, in percent, each metric and its ``_sd``; ``iu`` is the paper's
        name of the IoU.
    """
    renamed = table.rename(columns={"iu": "iou", "iu_sd": "iou_sd"})
    return {
        str(row["defect"]): {
            m: Score(float(row[m]) / 100, float(row[f"{m}_sd"]) / 100, 2, 0) for m in METRICS
        }
        for row in renamed.to_dict("records")
    }


def score_rows(
    evaluations: Mapping[str, pd.DataFrame], side: str, paper: Mapping[str, Scores]
) -> list[ScoreRow]:
    """Return the rows of Table 1 of one side, the paper's row under each of ours.

    A defect type without an image on this side keeps its row, with dashes, so that nobody
    overlooks it.
    """
    ours: dict[str, Scores] = {d: scores(e, side) for d, e in evaluations.items()}
    rows = []
    for name, row in ours.items():
        rows += [_row(title(name), row), *_paper_row(paper.get(name))]
    if any(ours.values()):
        rows += [_row("Overall: mean of the rows", overall(ours)), *_paper_row(paper.get(OVERALL))]
        rows.append(_row("All images taken together", all_images(evaluations, side)))
    return rows


def table1_markdown(rows: Sequence[ScoreRow]) -> str:
    """Return Table 1 in Markdown; the statement ``no test set`` if there is no row with images."""
    head = (
        "# Table 1: segmentation of the test images\n\n"
        "In percent, mean ± sample standard deviation (n − 1) over the test images. A metric that "
        "is 0 / 0 on an image (the class is absent) is undefined there, left out and counted.\n\n"
    )
    if not any(row.n != UNDEFINED and not row.paper for row in rows):
        return head + "No test set: no image lies on the test side of any split.\n"
    names = ("", *METRIC_NAMES, "Images")
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + "|".join([":---", *["---:"] * 4, ":---"]) + "|",
        *("| " + " | ".join((r.name, *r.cells, r.n)) + " |" for r in rows),
    ]
    return head + "\n".join(lines) + "\n\n" + PAPER_NOTE + "\n"


PAPER_NOTE = (
    "The paper's rows (other data: two test images per defect type of HT-9 steel, Roberts et al., "
    "Sci. Rep. 9, 12744, 2019, Table 1) are printed for orientation. Overall is the mean of the "
    "rows, of their deviations too, which is the paper's convention."
)


def title(key: str) -> str:
    """Return the name of a defect type as a heading.

    >>> title("gamma_prime")
    'Gamma prime'
    """
    return key.replace("_", " ").capitalize()


def _score(values: pd.Series[float]) -> Score:
    defined = values.dropna()
    n = len(defined)
    return Score(
        float(defined.mean()) if n else None,
        float(defined.std(ddof=1)) if n > 1 else None,
        n,
        len(values) - n,
    )


def _mean_of_rows(rows: Sequence[Score]) -> Score:
    means = [r.mean for r in rows if r.mean is not None]
    deviations = [r.sd for r in rows if r.sd is not None]
    return Score(
        sum(means) / len(means) if means else None,
        sum(deviations) / len(deviations) if deviations else None,
        sum(r.n for r in rows),
        sum(r.undefined for r in rows),
    )


def _plain(score: Score) -> dict[str, float | int | None]:
    return {
        "mean": None if score.mean is None else round(score.mean, 6),
        "sd": None if score.sd is None else round(score.sd, 6),
        "n": score.n,
        "undefined": score.undefined,
    }


def _row(name: str, row: Scores) -> ScoreRow:
    if not row:
        return ScoreRow(name, (UNDEFINED,) * len(METRICS), UNDEFINED)
    return ScoreRow(name, tuple(_cell(row, m) for m in METRICS), _images(row))


def _cell(row: Scores, metric: str) -> str:
    # n is shown in the cell only where it differs from the row's: some images are undefined.
    score = row[metric]
    return f"{score.text} (n = {score.n})" if score.undefined else score.text


def _images(row: Scores) -> str:
    return str(max(s.n + s.undefined for s in row.values()))


def _paper_row(row: Scores | None) -> list[ScoreRow]:
    if row is None:
        return []
    cells = tuple(row[m].text for m in METRICS)
    return [ScoreRow("paper, other data", cells, UNDEFINED, paper=True)]


def undefined_sentences(name: str, row: Scores) -> list[str]:
    """Say of each metric on how many images it is undefined; empty if on none."""
    return [
        f"{title(name)}: {label} is undefined on {plural(row[m].undefined, 'test image')} "
        "(0 / 0: no such pixel in truth or prediction); left out of the mean."
        for m, label in zip(METRICS, METRIC_NAMES, strict=True)
        if row and row[m].undefined
    ]
