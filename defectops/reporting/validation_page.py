"""The findings of `defectops data validate` as one offline page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def validation_page(findings: Mapping[str, Any]) -> str:
    """Return the findings as HTML, nothing loaded from elsewhere.

    Parameters
    ----------
    findings : mapping
        ``path``, ``warnings``, ``images`` and ``labels``, as printed by ``--json``.
    """
    environment = Environment(
        loader=PackageLoader("defectops.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("validation.html.j2").render(found=findings)
