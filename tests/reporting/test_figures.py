import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from defectops.reporting import figures

COLOURS = st.integers(0, 0xFFFFFF).map(lambda n: f"#{n:06x}")


def contrast(colour):
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def drawing():
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.plot([1, 2], [3, 4], marker="o", label="line & <mark>")
    axes.legend()
    return figure


@given(COLOURS)
def test_every_colour_stands_out_from_white(colour):
    drawn = figures.on_white(colour)
    assert contrast(drawn) > 2.98  # rounding to 8 bit may cost a little
    if contrast(colour) >= 3.0:
        assert drawn == colour


def test_inline_svg_is_self_contained():
    with figures.style("a"):
        svg = figures.inline_svg(drawing())
    assert svg.startswith("<svg")
    assert "http" not in svg
    assert "<style" not in svg
    assert "&lt;mark&gt;" in svg
    named = re.findall(r' id="([^"]+)"', svg)
    assert not [name for name in named if re.search(r"_\d+$", name)]
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= set(named)


def test_two_figures_of_one_page_share_no_name():
    names = []
    for salt in ("a", "b"):
        with figures.style(salt):
            names.append(set(re.findall(r' id="([^"]+)"', figures.inline_svg(drawing()))))
    assert names[0]
    assert not names[0] & names[1]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files_are_the_same_bytes(tmp_path, suffix):
    for name in "ab":
        with figures.style("a"):
            figures.save(drawing(), tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{n}{suffix}").read_bytes() for n in "ab")
    assert first == second
    assert b"atplotlib" not in first.replace(b"matplotlib.axis", b"")


def test_png_has_the_asked_size(tmp_path):
    with figures.style("a"):
        figures.save(drawing(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (450, 300)
