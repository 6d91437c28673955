"""The findings of `defectops data validate` as one offline page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from defectops.reporting.html import filled


def validation_page(findings: Mapping[str, Any]) -> str:
    """Return the findings as HTML, nothing loaded from elsewhere.

    Parameters
    ----------
    findings : mapping
        ``path``, ``warnings``, ``images`` and ``labels``, as printed by ``--json``.
    """
    return filled("validation.html.j2", found=findings)
