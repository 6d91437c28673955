"""The check-me list as pictures and page."""

import io
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from defectops.reporting.doubts import Crop, card, check_page, crop_png, window

ROW = {
    "rank": 3,
    "image": "<b>.tif",
    "defect": "voids",
    "kind": "missed",
    "over": "",
    "top_px": 10,
    "bottom_px": 22,
    "left_px": 30,
    "right_px": 44,
    "chance": 0.164,
    "objects": 1.0,
    "length_px": 0.0,
    "length_nm": None,
    "density_percent": 12.5,
    "diameter_percent": -0.04,
}


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_a_window_is_a_square_around_the_box_inside_the_picture(height, width, data):
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    first, last, begin, end = window((top, bottom, left, right), (height, width))
    assert last - first == end - begin
    assert 0 <= first < last <= height
    assert 0 <= begin < end <= width
    if max(bottom - top, right - left) <= min(height, width):
        assert first <= top < bottom <= last
        assert begin <= left < right <= end


def test_a_crop_shows_the_outline_on_the_right_only():
    rows, columns = np.indices((128, 128))
    disc = np.hypot(rows - 64, columns - 64) <= 30
    pixels = np.where(disc, 200, 90).astype(np.uint16)
    crop = Crop(pixels, [(disc, "#ff0000")], [(34, 95, 34, 95)], 0.365)
    data = crop_png(crop)
    assert data == crop_png(crop)
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert picture.shape == (480, 968, 3)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 60)
    assert not red[:, :480].any()
    seen = np.argwhere(red[:, 488:])
    radius = np.hypot(*(seen - 64.5 * 480 / 128).T) * 128 / 480
    assert 28 < radius.min() < radius.max() < 33
    yellow = (picture[..., 0] > 240) & (abs(picture[..., 1] - 190) < 20) & (picture[..., 2] < 40)
    assert yellow[:, :480].sum() == yellow[:, 488:].sum() > 100


def test_a_card_says_what_would_change():
    found = card([ROW, {**ROW, "rank": 5}], b"")
    assert (found.title, found.chance) == ("Possibly missed", "16 %")
    assert found.effect == "+1 in the count, density +12.5 %"
    assert found.place == "rows 10 to 22, columns 30 to 44 px"
    assert found.more == "also in this picture: number 5"
    line = {**ROW, "kind": "invented", "objects": 0, "length_px": -40.5, "length_nm": -14.78}
    assert card([line], b"").effect.startswith("−14.78 nm of line")
    assert card([{**line, "length_nm": None}], b"").effect.startswith("−40.50 px of line")
    none = {**ROW, "objects": 0, "density_percent": 0.01}
    assert card([none], b"").effect == "changes less than 0.1 %"


def test_a_covered_one_names_what_it_lies_on():
    hidden = {**ROW, "kind": "covered", "over": "precipitates"}
    assert card([hidden], b"").title == "Contrast may cancel: hidden by precipitates?"
    over = card([{**hidden, "objects": -1}], b"")
    assert over.title == "Contrast may cancel: over precipitates"


def test_the_page_needs_nothing_from_elsewhere():
    crop = Crop(np.eye(128), [], [(10, 20, 10, 20)], None)
    page = check_page([card([ROW], crop_png(crop))], 41, 2, {"voids": "#8ac926"})
    assert "41 doubts about 2 micrographs" in page
    assert "&lt;b&gt;.tif" in page
    assert "<b>.tif" not in page
    assert "<script" not in page
    assert all(a.startswith("data:image/jpeg") for a in re.findall(r'(?:src|href)="([^"]*)"', page))


def test_without_a_doubt_the_page_says_so():
    assert "Nothing to check: no doubt about 1 micrograph." in check_page([], 0, 1, {})
