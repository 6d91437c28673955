import json
import math

import pandas as pd
import pytest

from defectops.measurement.panel import published_scores
from defectops.reporting import tables


def evaluation(*ious, side="test"):
    return pd.DataFrame(
        [
            {
                "image": f"{i}.png",
                "side": side,
                "pixel_accuracy": 0.9,
                "precision": iou,
                "recall": iou,
                "iou": iou,
            }
            for i, iou in enumerate(ious)
        ]
    )


def test_mean_and_sample_deviation_as_in_the_paper():
    # Voids of the paper, image by image: 78.59 and 83.79 give 81.19 ± 3.68.
    row = tables.score_rows({"voids": evaluation(0.7859, 0.8379)}, "test", {})[0]
    assert row.cells[3] == "81.19 ± 3.68"
    assert row.images == "2"


def test_side_that_has_no_image_has_no_row():
    assert tables.scores(evaluation(0.5, side="dev"), "test") == {}
    assert tables.scores(pd.DataFrame(), "test") == {}
    assert tables.score_rows({"voids": evaluation(0.5, side="dev")}, "test", {}) == []
    assert tables.summary({"voids": pd.DataFrame()}) == {}
    assert "No test set" in tables.table1_markdown([])


def test_undefined_image_is_left_out_and_counted():
    scores = tables.scores(evaluation(0.5, math.nan, 0.7), "test")
    assert scores["iou"].mean == pytest.approx(0.6)
    assert (scores["iou"].n, scores["iou"].undefined) == (2, 1)
    assert (scores["pixel_accuracy"].n, scores["pixel_accuracy"].undefined) == (3, 0)
    row = tables.score_rows({"voids": evaluation(0.5, math.nan, 0.7)}, "test", {})[0]
    assert row.cells == ("90.00 ± 0.00", *["60.00 ± 14.14 (n = 2)"] * 3)
    assert row.images == "3"
    assert len(tables.undefined_sentences("voids", scores)) == 3
    assert "1 test image " in tables.undefined_sentences("voids", scores)[0]


def test_one_image_has_no_deviation():
    row = tables.score_rows({"voids": evaluation(0.5)}, "test", {})[0]
    assert row.cells[3] == "50.00"


def test_summary_is_plain_json_with_both_overalls():
    found = tables.summary(
        {"voids": evaluation(0.8, 0.6), "precipitates": evaluation(0.4), "others": pd.DataFrame()}
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"voids", "precipitates", "overall", "all_images"}
    assert found["voids"]["iou"] == {"mean": 0.7, "sd": 0.141421, "n": 2, "undefined": 0}
    assert found["precipitates"]["iou"]["sd"] is None
    assert found["overall"]["iou"]["mean"] == pytest.approx(0.55)  # mean of the rows
    assert found["all_images"]["iou"]["mean"] == pytest.approx(0.6)  # mean of the images


def test_paper_row_stands_under_ours_and_says_so():
    evaluations = {"voids": evaluation(0.8, 0.6), "new_type": evaluation(0.5)}
    rows = tables.score_rows(evaluations, "test", published_scores())
    assert [r.name for r in rows] == [
        "Voids",
        "paper, other data",
        "New type",
        "Overall: mean of the rows",
        "All images taken together",
    ]
    assert rows[1].cells == ("98.85 ± 0.56", "89.17 ± 1.28", "90.17 ± 5.84", "81.19 ± 3.68")
    text = tables.table1_markdown(rows)
    assert "| paper, other data | 98.85 ± 0.56 |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_paper_overall_stands_only_beside_the_same_types():
    same = dict.fromkeys(("voids", "precipitates", "dislocations"), evaluation(0.8, 0.6))
    names = [r.name for r in tables.score_rows(same, "test", published_scores())]
    assert names[-3:] == [
        "Overall: mean of the rows",
        "paper, other data",
        "All images taken together",
    ]
    fewer = same | {"voids": pd.DataFrame()}
    names = [r.name for r in tables.score_rows(fewer, "test", published_scores())]
    assert names[-2:] == ["Overall: mean of 2 of 3 rows", "All images taken together"]


def test_type_without_test_image_keeps_a_row_of_dashes():
    rows = tables.score_rows({"a": evaluation(0.5), "b": pd.DataFrame()}, "test", {})
    assert rows[1] == tables.ScoreRow("B", ("–",) * 4, "–")
