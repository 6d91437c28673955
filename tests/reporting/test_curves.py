import math

import pandas as pd
import pytest

from defectops.reporting.curves import draw_iou_curves, iou_curves, iou_curves_svg


def frame(dev, train=None):
    return pd.DataFrame(
        {"epoch": range(1, len(dev) + 1), "train_iou": train or dev, "dev_iou": dev, "loss": 1.0}
    )


def test_best_is_the_first_of_the_highest_dev():
    data = iou_curves(frame([0.1, 0.4, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6]))
    assert data.best == 1
    assert data.summary == (
        "4 epochs; the development IoU is highest at epoch 2 with 0.400, the training IoU there "
        "is 0.800; at the end they are 0.400 and 0.600."
    )


def test_epochs_are_put_in_order():
    data = iou_curves(frame([0.1, 0.2, 0.3]).iloc[[2, 0, 1]])
    assert data.epochs == (1, 2, 3)
    assert data.dev == (0.1, 0.2, 0.3)
    assert data.best == 2


def test_undefined_epochs_are_never_best():
    data = iou_curves(frame([math.nan, 0.2, math.nan]))
    assert data.best == 1
    nothing = iou_curves(frame([math.nan, math.nan]))
    assert nothing.best is None
    assert "No epoch" in nothing.summary


@pytest.mark.parametrize("dev", [[], [0.3], [math.nan, math.nan], [0.1, 0.5, 0.5]])
def test_draws_every_case(tmp_path, dev):
    for name in ("a.png", "b.png", "a.svg"):
        draw_iou_curves(frame(dev), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert ("no epoch recorded" in (tmp_path / "a.svg").read_text()) == (not dev)


def test_frame_without_columns_is_empty():
    assert iou_curves(pd.DataFrame()).epochs == ()


def test_best_value_is_written_beside_its_dot():
    svg = iou_curves_svg(iou_curves(frame([0.1, 0.456])), "#2e86ab", "x")
    assert "0.456" in svg
    assert ">dev<" in svg
    assert ">train<" in svg
