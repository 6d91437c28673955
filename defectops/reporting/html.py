"""Fills in a template of HTML: nothing unescaped, nothing undefined, the same page each time."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def filled(template: str, **values: object) -> str:
    """Return the page of a file in ``templates/`` with values in it.

    Raises
    ------
    jinja2.UndefinedError
        The template asks for more than was given.
    """
    environment = Environment(
        loader=PackageLoader("defectops.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
