"""A page of HTML: nothing unescaped, nothing left out in silence."""

import pytest
from jinja2 import UndefinedError

from defectops.reporting.html import filled


def test_what_a_user_named_is_escaped():
    found = {"path": "<b>&.tif", "warnings": [], "images": [], "labels": []}
    page = filled("validation.html.j2", found=found)
    assert "&lt;b&gt;&amp;.tif" in page
    assert "<b>&.tif" not in page


def test_a_value_that_is_missing_is_no_empty_space():
    with pytest.raises(UndefinedError):
        filled("validation.html.j2")
