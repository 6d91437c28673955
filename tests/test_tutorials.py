"""The tutorials run as they stand, and what they say in words is what comes out."""

import runpy
from pathlib import Path

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"


def test_from_mask_to_number(capsys):
    ran = runpy.run_path(str(TUTORIALS / "from-mask-to-number.py"))
    out = capsys.readouterr().out
    truth, density = ran["truth"], ran["value"]["number_density"]
    assert ran["plain"]["number_density"].value > 1.3 * truth  # the naive number is far too high
    assert density.low < truth < density.high
    items = {
        c.component: c.relative_sd
        for c in ran["found"].components
        if c.quantity == "number_density"
    }
    assert max(items, key=items.get) == "counting"
    assert ran["finding"].verdict == "impossible"
    assert ran["model"].high < density.value  # the label lies outside the model's interval
    assert "inside the interval" in out
