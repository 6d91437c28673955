"""One thread, so that sums add up in one order; a small bundle; `small` is importable."""

import sys
from pathlib import Path

import pytest
import torch

from defectops.learning.bundle import Bundle
from defectops.learning.networks import build

sys.path.insert(0, str(Path(__file__).parent))
from small import TINY


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bundle():
    return Bundle(
        spec=TINY,
        weights=build(TINY, 3).state_dict(),
        defect={"key": "voids", "shape": "particle", "polarity": "bright", "colour": "#8ac926"},
        conditioning={"background_sigma_px": 8.0, "variance_sigma_px": 16.0, "clip_sd": 6.0},
        threshold=0.41,
        envelope={"pixel_size_nm_low": 0.3, "pixel_size_nm_high": None},
        training={"settings": {"seed": 3}, "metrics": {"dev_iou": 0.7}},
    )
