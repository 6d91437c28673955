"""The report: one offline page that a materials scientist reads from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from defectops.measurement.error_budget import read_error_rows
from defectops.micrograph import UNCALIBRATED
from defectops.reporting import (
    budget,
    curves,
    error_budget,
    forest,
    maps,
    quantities,
    sizes,
    tables,
)
from defectops.reporting.html import filled
from defectops.reporting.numbers import UNDEFINED, Scale, number, percent

if TYPE_CHECKING:
    from defectops.defects import DefectType

_WITHHELD = {
    "fail": "floors or margins missed",
    "inconclusive": "the gate did not decide",
    "pass": "it passed, but was held back (promotion.on_repro, or an experiment)",
}
SIDE_ORDER = ("train", "dev", "test", "gate")


@dataclass(frozen=True)
class DefectResults:
    """What the stages left for one defect type; a frame or mapping is empty where they left none.

    Parameters
    ----------
    defect : DefectType
    training : mapping of str to float
        Flat numbers of the training.
    curves, evaluation, quantities, budget, histogram, errors : DataFrame
        As in ``results/``.
    champion : mapping
        ``champions/<defect>.json``.
    run, promotion : mapping
        ``results/runs/<defect>.json`` and ``results/promotion/<defect>.json`` of the model that
        was trained last.
    split : mapping
        ``split/<defect>/split.json``.
    panels : sequence of ImagePanels
        Comparison maps to show.
    """

    defect: DefectType
    training: Mapping[str, float] = field(default_factory=dict)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    evaluation: pd.DataFrame = field(default_factory=pd.DataFrame)
    quantities: pd.DataFrame = field(default_factory=pd.DataFrame)
    budget: pd.DataFrame = field(default_factory=pd.DataFrame)
    histogram: pd.DataFrame = field(default_factory=pd.DataFrame)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    champion: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    promotion: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    panels: Sequence[maps.ImagePanels] = ()

    @property
    def key(self) -> str:
        """Key of the defect type."""
        return self.defect.key

    @property
    def title(self) -> str:
        """Its name as a heading."""
        return tables.title(self.defect.key)

    @property
    def no_champion(self) -> str:
        """Why there is no champion, if there is none."""
        if not self.training:
            return "no champion: no model was trained"
        return f"no champion: {_WITHHELD.get(self._outcome, 'nothing was promoted')}{self._reason}"

    @property
    def not_promoted(self) -> str:
        """Why the model trained last is not the champion; empty if it is, or if there is none."""
        last, champion = self.run.get("sha256"), self.champion.get("sha256")
        if not last or not champion or last == champion:
            return ""
        why = _WITHHELD.get(self._outcome, "nothing was promoted")
        return f"{self.title}: the model trained last is not the champion: {why}{self._reason}."

    @property
    def _outcome(self) -> str:
        return str(self.promotion.get("outcome", ""))

    @property
    def _reason(self) -> str:
        findings = self.promotion.get("findings", [])
        said = [str(f["message"]) for f in findings if f["outcome"] == self._outcome != "pass"]
        return f" ({'; '.join(said)})" if said else ""

    def has_side(self, side: str) -> bool:
        """Whether an image was evaluated on a side."""
        return not self.evaluation.empty and bool((self.evaluation["side"] == side).any())


@dataclass(frozen=True)
class Project:
    """Everything the page tells.

    Parameters
    ----------
    defects : sequence of DefectResults
    manifest : DataFrame
        ``data/manifest.csv``; empty if there is none.
    pixel_sizes_nm : mapping of str to float or None
        By image, as the stage ``prepare`` found them; None is uncalibrated.
    data_digest : str
        Of ``data.dvc``; empty if the data are not under DVC.
    paper : mapping
        The paper's Table 1, see `measurement.panel.published_scores`.
    version : str
        Of defectops.
    """

    defects: Sequence[DefectResults]
    manifest: pd.DataFrame
    pixel_sizes_nm: Mapping[str, float | None]
    data_digest: str
    paper: Mapping[str, tables.Scores]
    version: str

    @property
    def synthetic(self) -> bool:
        """Whether the manifest says of every image that it was drawn, not recorded."""
        sources = [_text(row, "source") for row in self.manifest.to_dict("records")]
        return bool(sources) and all("synthe" in s.lower() for s in sources)


def render(project: Project) -> str:
    """Return the page as HTML: no script, no address outside it, the same for the same input."""
    return filled("report.html.j2", **_context(project))


def missing(project: Project) -> list[str]:
    """Say what is undefined or absent, and why: one sentence each, in the order of the page."""
    return [sentence for d in project.defects for sentence in _missing_of(d)]


def _context(project: Project) -> dict[str, Any]:
    evaluations = {d.key: d.evaluation for d in project.defects}
    compared = {d.key: quantities.comparisons(d.quantities) for d in project.defects}
    lead = _headlines(project.defects, compared)
    budgets = [b for b in (_budget(d, lead) for d in project.defects) if b is not None]
    return {
        "project": project,
        "images": _images(project),
        "sources": _texts(project.manifest, "source"),
        "licences": _texts(project.manifest, "licence"),
        "headlines": [
            (d, [g for other, c in lead if other is d for g in quantities.printed([c])])
            for d in project.defects
        ],
        "any_headline": any(c.defined for _, c in lead),
        "has_truth": any("truth" in c.values for rows in compared.values() for c in rows),
        "level": _level([c for rows in compared.values() for c in rows]),
        "forest": _forest(lead),
        "missing": missing(project),
        "test_rows": tables.score_rows(evaluations, "test", project.paper),
        "dev_rows": tables.score_rows(evaluations, "dev", {}),
        "any_test": any(d.has_side("test") for d in project.defects),
        "any_dev": any(d.has_side("dev") for d in project.defects),
        "any_curves": any(len(d.curves) for d in project.defects),
        "any_errors": any(len(d.errors) for d in project.defects),
        "budgets": budgets,
        "any_histogram": any(len(d.histogram) for d in project.defects),
        "metric_names": tables.SCORE_NAMES,
        "paper_note": tables.PAPER_NOTE,
        "legend": [(word, meaning, rgb) for word, (meaning, rgb) in maps.LEGEND.items()],
        "sections": [_section(d, compared[d.key]) for d in project.defects],
    }


def _section(d: DefectResults, rows: Sequence[quantities.Comparison]) -> dict[str, Any]:
    unit = sizes.length_unit(d.histogram)
    curve = curves.iou_curves(d.curves)
    histogram = sizes.histograms(d.histogram)
    errors = error_budget.leading(read_error_rows(d.errors), d.defect)
    return {
        "key": d.key,
        "title": d.title,
        "defect": d.defect,
        "curve": curve if curve.epochs else None,
        "curve_svg": Markup(curves.iou_curves_svg(curve, d.defect.colour, f"curves-{d.key}")),
        "histogram": histogram,
        "histogram_text": sizes.histograms_summary(histogram),
        "histogram_svg": Markup(sizes.histograms_svg(histogram, d.defect, unit, f"sizes-{d.key}")),
        "errors_text": [
            (quantities.NAMES.get(e.quantity, e.quantity), error_budget.waterfall_summary(e))
            for e in errors
        ],
        "errors_svg": Markup(error_budget.waterfall_svg(errors, f"errors-{d.key}")),
        "size_name": sizes.size_name(d.defect),
        "panels": d.panels,
        "images_evaluated": 0 if d.evaluation.empty else d.evaluation["image"].nunique(),
        "pooled": quantities.printed(quantities.pooled(rows)),
        "single": quantities.printed(quantities.single(rows)),
        "model": _model(d),
        "no_champion": d.no_champion,
        "not_promoted": d.not_promoted,
        "split": _split(d.split),
    }


def _headlines(
    defects: Sequence[DefectResults], compared: Mapping[str, Sequence[quantities.Comparison]]
) -> list[tuple[DefectResults, quantities.Comparison]]:
    return [(d, c) for d in defects for c in quantities.headlines(compared[d.key], d.defect)]


def _budget(
    d: DefectResults, lead: Sequence[tuple[DefectResults, quantities.Comparison]]
) -> dict[str, Any] | None:
    rows = budget.of_predictions(d.budget, [c for other, c in lead if other is d])
    if rows.empty:
        return None
    columns = rows[["quantity", "place"]].drop_duplicates()
    return {
        "title": d.title,
        "svg": Markup(budget.bars_svg(budget.complete_bars(rows), f"budget-{d.key}")),
        "columns": list(columns.itertuples(index=False, name=None)),
        "lines": budget.lines(rows),
    }


def _forest(lead: Sequence[tuple[DefectResults, quantities.Comparison]]) -> Markup | None:
    rows = [
        forest.ratio(c, f"{d.title}: {c.name[0].lower()}{c.name[1:]}", d.defect.colour)
        for d, c in lead
    ]
    defined = [row for row in rows if row is not None]
    return Markup(forest.forest_svg(defined, "forest")) if defined else None


def _level(rows: Sequence[quantities.Comparison]) -> str:
    return " and ".join(f"{percent(level, 0)} %" for level in quantities.levels(rows))


def _model(d: DefectResults) -> dict[str, str] | None:
    if not d.champion.get("sha256"):
        return None
    c = d.champion
    return {
        "name": str(c.get("model", d.defect.model_name)),
        "version": str(c.get("version", UNDEFINED)),
        "threshold": number(_float(c.get("threshold")), Scale(0, 3)),
        "verdict": str(c.get("verdict", UNDEFINED)),
        "sha256": str(c.get("sha256", UNDEFINED)),
    }


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _split(split: Mapping[str, Any]) -> dict[str, Any] | None:
    if not split:
        return None
    options, audit = split.get("options", {}), split.get("audit", {})
    shared = audit.get("specimens_on_several_sides", [])
    sides = split.get("sides", {})
    apart = split.get("gate_is") == "gate"
    return {
        "scheme": str(options.get("scheme", UNDEFINED)),
        "guard_band_px": options.get("guard_band_px", 0),
        "sides": [_side(s, sides[s]) for s in SIDE_ORDER if s in sides and (s != "gate" or apart)],
        "unused": percent(_float(split.get("unused_fraction"))),
        "audit": [
            f"same pixels on two sides: {audit.get('content_and_overlap', 'not audited')}",
            f"same specimen on two sides: {audit.get('specimen', 'not audited')}",
            *([f"on several sides: {', '.join(shared)}"] if shared else []),
        ],
    }


def _side(side: str, row: Mapping[str, Any]) -> dict[str, str]:
    pixels = int(row["pixels"])
    if not pixels:
        return {"side": side, "images": "none", "fields": "0", "area": "0", "share": UNDEFINED}
    return {
        "side": side,
        "images": str(len(row["images"])),
        "fields": str(row["fields"]),
        "area": f"{pixels / 1e6:.2f}",
        "share": percent(int(row["defect_pixels"]) / pixels),
    }


def _images(project: Project) -> list[dict[str, str]]:
    return [
        {
            "image": str(row["image"]),
            "specimen": _text(row, "specimen"),
            "condition": _text(row, "condition"),
            "pixel": _pixel_size(row, project.pixel_sizes_nm.get(str(row["image"]))),
            "thickness": _thickness(row),
        }
        for row in project.manifest.to_dict("records")
    ]


def _pixel_size(row: Mapping[Any, Any], prepared_nm: float | None) -> str:
    if _text(row, "pixel_size_source") == UNCALIBRATED:
        return UNCALIBRATED
    # What the file's own tags said is known after the stage `prepare`.
    value = prepared_nm if prepared_nm is not None else _float(row.get("pixel_size_nm"))
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.4g}"


def _thickness(row: Mapping[Any, Any]) -> str:
    value, sd = (_float(row.get(c)) for c in ("thickness_nm", "thickness_sd_nm"))
    if value is None or pd.isna(value):
        return UNDEFINED
    return f"{value:g}" if sd is None or pd.isna(sd) else f"{value:g} ± {sd:g}"


def _text(row: Mapping[Any, Any], column: str) -> str:
    value = row.get(column)
    return UNDEFINED if value is None or pd.isna(value) or value == "" else str(value)


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    if column not in table:
        return []
    return sorted({str(v) for v in table[column].dropna() if str(v)})


def _missing_of(d: DefectResults) -> list[str]:
    found = []
    if not d.champion.get("sha256"):
        found.append(
            f"{d.title}: {d.no_champion}; nothing was segmented, so there are neither scores nor "
            "predicted quantities."
        )
    elif not d.has_side("test"):
        found.append(
            f"{d.title}: no test set. No image lies on the test side of this split; figures of the "
            "development side stand apart, because the threshold and the epoch were chosen on it."
        )
    if d.curves.empty:
        found.append(f"{d.title}: no training curves were recorded.")
    found += tables.undefined_sentences(d.key, tables.scores(d.evaluation, "test"))
    return found + _undefined_quantities(d)


def _undefined_quantities(d: DefectResults) -> list[str]:
    rows = quantities.comparisons(d.quantities)
    found = _no_volume(d, rows)
    for c in quantities.pooled(rows):
        where = c.region if c.image == quantities.POOLED else f"{c.region} of {c.image}"
        if c.undefined:
            sources = " and ".join(f"{s} ({why})" if why else s for s, why in c.undefined.items())
            found.append(f"{d.title}: {c.name}, {where}: undefined in {sources}.")
    return found


def _no_volume(d: DefectResults, rows: Sequence[quantities.Comparison]) -> list[str]:
    wanted = quantities.per_volume(d.defect)
    if not rows or any(c.quantity == wanted for c in rows):
        return []
    if quantities.length_unit(d.quantities) == "px":
        why = "the micrographs are uncalibrated, so every result is in pixels"
    else:
        why = "no foil thickness is given for every micrograph, and none is ever assumed"
    return [f"{d.title}: no density per volume, because {why}."]
