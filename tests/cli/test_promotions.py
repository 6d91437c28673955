"""How the rules of a gate are shown."""

from defectops.cli.promotions import FINDINGS, finding_row
from defectops.experiments.promotion import Finding


def test_a_rule_is_a_row_of_the_table():
    finding = Finding("floor iou", "inconclusive", 0.4, 0.3, "why", 0.25, 0.55, 32, 0, 5)
    row = dict(zip(FINDINGS, finding_row(finding), strict=True))
    assert row == {
        "rule": "floor iou",
        "outcome": "inconclusive",
        "estimate": "0.4",
        "interval": "0.25 to 0.55",
        "limit": "0.3",
        "n": "32",
        "needed": "+5",
    }


def test_what_has_no_number_has_empty_cells():
    row = finding_row(Finding("champion", "pass", None, None, "was not compared with"))
    assert row == ("champion", "pass", "", "", "", "", "")
