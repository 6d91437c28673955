"""What the commands about models share: the stores they open and how they show a decision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.cli import output
from defectops.errors import GateFailed, GateInconclusive

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.promotion import Finding, Verdict
    from defectops.experiments.registry import Registry
    from defectops.workflows.direct_promotion import Decision
    from defectops.workflows.parameters import Parameters

# What a table of rules shows; `needed` are further images.
FINDINGS = ("rule", "outcome", "estimate", "interval", "limit", "n", "needed")

_CODES = {"pass": 0, "fail": GateFailed.exit_code, "inconclusive": GateInconclusive.exit_code}


def opened(root: Path) -> tuple[Parameters, Registry]:
    """Return the project's parameters and its registry."""
    from defectops.workflows.parameters import load_parameters
    from defectops.workflows.stores import open_stores

    return load_parameters(root), open_stores(root).registry


def after_move(root: Path, parameters: Parameters, defect: DefectType) -> None:
    """Tell the user's command of each move; what goes wrong is a warning, the move stands."""
    from defectops.experiments.champions import places_of
    from defectops.workflows.after_promotion import hook_of, tell

    for warning in tell(places_of(root, defect.key), hook_of(parameters, defect)):
        output.note(f"{defect.model_name}: N_AFTER: {warning}")


def verdict_code(verdict: Verdict) -> int:
    """Return the exit code of a verdict that was asked for directly."""
    return _CODES[verdict.outcome]


def finding_row(finding: Finding) -> tuple[str, ...]:
    """Return what one rule says as the cells of `FINDINGS`; empty where there is no number."""
    interval = ""
    if finding.low is not None and finding.high is not None:
        interval = f"{_number(finding.low)} to {_number(finding.high)}"
    return (
        finding.rule,
        finding.outcome,
        _number(finding.estimate),
        interval,
        _number(finding.limit),
        "" if finding.n is None else str(finding.n),
        "" if finding.needed is None else f"+{finding.needed}",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def shown(decision: Decision) -> dict[str, Any]:
    """Return a decision as plain values for JSON."""
    return {
        "model": decision.version.model,
        "version": decision.version.number,
        "sha256": decision.version.sha256,
        "metrics": dict(decision.metrics),
        "verdict": decision.verdict.as_mapping(),
        "champion_before": decision.before.version,
        "champion": decision.after.version,
        "moved": decision.moved,
    }
