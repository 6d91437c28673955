"""Gather what the stages left into one page, Table 1 and one table of times."""

from __future__ import annotations

import json
import math
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd

from defectops import settings
from defectops.atomic import write_text
from defectops.errors import IntegrityFault
from defectops.measurement.panel import published_scores
from defectops.reporting import maps, page, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from defectops.defects import DefectType

TIMING_COLUMNS = ("defect", "image", "step", "seconds")


def report(root: Path, defects: Sequence[DefectType]) -> None:
    """Write ``report/index.html``, Table 1 as Markdown and JSON, and the merged times.

    Parameters
    ----------
    root : Path
        Folder of the project. What a stage has not written is reported as absent.
    defects : sequence of DefectType
        In the order of the page.

    Raises
    ------
    IntegrityFault
        A result is there but cannot be read (``E_RESULT``).
    SettingsRefused
        ``data.dvc`` is not YAML.
    """
    project = gather(root, defects)
    evaluations = {d.key: d.evaluation for d in project.defects}
    rows = tables.score_rows(evaluations, "test", project.paper)
    folder = root / "results" / "evaluation"
    write_text(folder / "table1.md", tables.table1_markdown(rows))
    write_text(folder / "summary.json", _json(tables.summary(evaluations)))
    write_text(root / "results" / "timing.csv", times(root, defects).to_csv(index=False))
    write_text(root / "report" / "index.html", page.render(project))


def gather(root: Path, defects: Sequence[DefectType]) -> page.Project:
    """Read everything that the page tells; see `report`."""
    pixel_sizes_nm: dict[str, float | None] = {}
    for defect in defects:
        pixel_sizes_nm |= _pixel_sizes_nm(root / "prepared" / defect.key / "summary.csv")
    return page.Project(
        defects=[_results(root, d, pixel_sizes_nm) for d in defects],
        manifest=_table(root / "data" / "manifest.csv"),
        pixel_sizes_nm=pixel_sizes_nm,
        data_digest=data_digest(root / "data.dvc"),
        paper=published_scores(),
        version=version("defectops"),
    )


def times(root: Path, defects: Sequence[DefectType]) -> pd.DataFrame:
    """Return the seconds of each step for each image, of all defect types.

    Returns
    -------
    DataFrame
        Columns ``defect, image, step, seconds``; no row if nothing was timed.
    """
    found = []
    for defect in defects:
        table = _table(root / "results" / "timing" / f"{defect.key}.csv")
        if len(table):
            found.append(table.assign(defect=defect.key)[list(TIMING_COLUMNS)])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=TIMING_COLUMNS)


def data_digest(path: Path) -> str:
    """Return the digest of the data folder from ``data.dvc``; empty if it is not under DVC."""
    if not path.is_file():
        return ""
    outs = settings.load_yaml(path).get("outs") or [{}]
    return str(outs[0].get("md5", ""))


def _results(
    root: Path, defect: DefectType, pixel_sizes_nm: Mapping[str, float | None]
) -> page.DefectResults:
    key, results = defect.key, root / "results"
    evaluation = _table(results / "maps" / key / "scores.csv")
    return page.DefectResults(
        defect=defect,
        training=_mapping(results / "train" / f"{key}.json"),
        curves=_table(results / "curves" / f"{key}.csv"),
        evaluation=evaluation,
        quantities=_table(results / "quantities" / f"{key}.csv"),
        budget=_table(results / "budget" / f"{key}.csv"),
        histogram=_table(results / "histograms" / f"{key}.csv"),
        errors=_table(results / "error_budget" / f"{key}.csv"),
        champion=_mapping(root / "champions" / f"{key}.json"),
        run=_mapping(results / "runs" / f"{key}.json"),
        promotion=_mapping(results / "promotion" / f"{key}.json"),
        split=_mapping(root / "split" / key / "split.json"),
        panels=maps.image_panels(results / "maps" / key, evaluation, pixel_sizes_nm),
    )


def _pixel_sizes_nm(summary: Path) -> dict[str, float | None]:
    table = _table(summary)
    if table.empty:
        return {}
    sizes = table["pixel_size_nm"].astype(float)
    return {
        str(image): None if math.isnan(size) else float(size)
        for image, size in zip(table["image"], sizes, strict=True)
    }


def _table(path: Path) -> pd.DataFrame:
    """Read a CSV file; a frame without columns if it is not there or has no header."""
    if not path.is_file():
        return pd.DataFrame()
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _mapping(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if it is not there."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(path, error) from error
    return dict(content or {})


def _unreadable(path: Path, error: Exception) -> IntegrityFault:
    return IntegrityFault(
        path.name, "E_RESULT", f"cannot be read ({error}); delete it and run dvc repro again"
    )


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
