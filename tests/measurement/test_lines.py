"""Lengths, crossings and segments of lines drawn with known ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from defectops.measurement import line_crossings
from defectops.measurement import line_widths as widths
from defectops.measurement.line_crossings import join_paths
from defectops.measurement.line_widths import line_widths
from defectops.measurement.lines import line_table, steps, trace
from defectops.measurement.objects import thin_lines


def traced(mask, centre=None):
    lines = trace(thin_lines(mask) if centre is None else centre)
    return lines, join_paths(lines, *line_widths(lines, mask))


def cut(mask, ignore=None):
    return steps(*traced(mask), ignore)


def picture(text):
    return np.array([[c == "#" for c in row] for row in text.split()])


def pixel_steps(centre):
    """Naive length: sum of steps of 1 and sqrt 2."""
    lines = trace(centre)
    rows, columns = np.divmod(lines.pixels[lines.node], lines.shape[1])
    same = lines.path[1:] == lines.path[:-1]
    return np.hypot(np.diff(rows), np.diff(columns))[same].sum()


@pytest.mark.parametrize("angle", [*range(0, 180, 9), 22.5, 26.57, 45.5])
def test_straight_lines_at_any_angle_are_within_a_percent(draw, angle):
    mask, true = draw.through((211, 260), angle + 0.13, np.array([105.2, 129.7]))
    assert cut(mask).length_px.sum() == pytest.approx(true, rel=0.006)


def test_pixel_steps_read_five_percent_long_where_ours_is_unbiased(draw):
    ours, naive = [], []
    for angle in np.arange(0.7, 180, 4.0):
        mask, true = draw.through((160, 181), angle, np.array([80.2, 90.7]))
        ours.append(cut(mask).length_px.sum() / true - 1)
        naive.append(pixel_steps(thin_lines(mask)) / true - 1)
    assert abs(np.mean(ours)) < 0.002
    assert np.mean(naive) == pytest.approx(8 / np.pi * (np.sqrt(2) - 1) - 1, abs=0.012)


@pytest.mark.parametrize(("radius", "most"), [(20, 0.015), (40, 0.005), (70, 0.003)])
def test_circles(radius, most):
    rows, columns = np.indices((160, 170))
    ring = np.abs(np.hypot(rows - 80.2, columns - 84.7) - radius) <= 1.5
    found = cut(ring)
    assert found.length_px.sum() == pytest.approx(2 * np.pi * radius, rel=most)
    np.testing.assert_allclose(found.start[0], found.stop[-1])  # closed


@pytest.mark.parametrize("angle", [20, 30, 45, 60, 90])
def test_crossing_lines_keep_their_length_and_are_two(draw, angle):
    one, first = draw.through((200, 230), 10.3, np.array([99.6, 115.2]))
    other, second = draw.through((200, 230), 10.3 + angle, np.array([99.6, 115.2]))
    lines, joined = traced(one | other)
    assert np.unique(joined.line).size == 2
    found = steps(lines, joined).length_px.sum()
    assert found == pytest.approx(first + second, rel=0.01)


def test_paths_of_a_plus():
    plus = picture("...#... ...#... ...#... ####### ...#... ...#... ...#...")
    lines = trace(plus)
    assert lines.n_paths == 4
    assert sorted(lines.degree) == [1] * 4 + [2] * 8 + [4]
    np.testing.assert_allclose(lines.path_length_px, 3)
    assert np.unique(traced(plus, plus)[1].line).size == 2


def test_a_corner_is_no_junction():
    corner = picture("#... #... #... ####")
    lines = trace(corner)
    assert lines.n_paths == 1
    assert lines.degree.max() == 2


def test_small_shapes_are_traced_once():
    dot, pair = picture("... .#. ..."), picture("#. .#")
    assert trace(dot).path_length_px.tolist() == [0]
    assert trace(pair).path_length_px == pytest.approx([np.sqrt(2)])
    loop = picture("..... ..#.. .#.#. ..#.. .....")
    assert trace(loop).n_paths == 1
    # One pixel between two junctions: both ends of its path are junctions.
    bridge = trace(picture("#...# .#.#. ..#.. .#.#. #...#"))
    assert bridge.n_paths == 4


def test_nothing_to_trace():
    lines, joined = traced(np.zeros((5, 7), dtype=bool))
    assert lines.n_paths == joined.n_lines == 0
    found = steps(lines, joined)
    assert found.length_px.size == 0
    assert line_table(lines, joined, found, 1.0, "px").empty


def test_ignored_stretches_do_not_count(draw):
    mask, _ = draw.through((60, 120), 0.0, np.array([30.0, 50.0]))
    ignore = np.zeros((60, 120), dtype=bool)
    ignore[:, 40:70] = True
    found = cut(mask, ignore)
    assert found.length_px.sum() == pytest.approx(90, abs=0.1)


def test_line_table_in_its_unit(draw):
    mask = draw.line((90, 140), (20, 20), (20, 120)) | draw.line((90, 140), (30, 60), (80, 60))
    lines, joined = traced(mask)
    table = line_table(lines, joined, steps(lines, joined), 0.5, "nm")
    assert table["length_nm"].to_numpy() == pytest.approx([50, 25], abs=1.5)
    assert table["direction_deg"].to_numpy()[1] == pytest.approx(90, abs=1)
    assert min(table["direction_deg"][0], 180 - table["direction_deg"][0]) < 1
    assert table["centroid_row_px"].to_numpy() == pytest.approx([20, 55], abs=1)
    assert not table["touches_border"].any()


def test_a_line_on_the_border_says_so(draw):
    mask, _ = draw.through((60, 80), 35, np.array([30.0, 40.0]))
    lines, joined = traced(mask)
    assert line_table(lines, joined, steps(lines, joined), 1.0, "px")["touches_border"].all()


def links(plane):
    """Neighbouring pixels, diagonal ones only where no orthogonal way joins them; plain."""
    found = set()
    rows, columns = plane.shape
    for r, c in np.argwhere(plane):
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
            y, x = r + dr, c + dc
            if not (0 <= y < rows and 0 <= x < columns and plane[y, x]):
                continue
            if dr and dc and (plane[r, x] or plane[y, c]):
                continue
            found.add(frozenset((int(r * columns + c), int(y * columns + x))))
    return found


@settings(max_examples=150, deadline=None)
@given(plane=hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 12))))
def test_every_link_is_walked_exactly_once(plane):
    lines = trace(plane)
    same = lines.path[1:] == lines.path[:-1]
    pixel = lines.pixels[lines.node]
    walked = [frozenset(p.tolist()) for p in np.column_stack([pixel[1:], pixel[:-1]])[same]]
    assert len(walked) == len(set(walked))
    assert set(walked) == links(plane)
    assert set(pixel.tolist()) == set(np.flatnonzero(plane).tolist())
    # Inner points of a path are no junctions, and its ends are where the path says.
    inner = np.flatnonzero(same[1:] & same[:-1]) + 1
    assert (lines.degree[lines.node[inner]] == 2).all()
    joined = traced(plane, plane)[1]
    assert joined.line.size == lines.n_paths
    assert (steps(lines, joined).length_px >= 0).all()


@settings(max_examples=30, deadline=None)
@given(plane=hnp.arrays(bool, (14, 17)), ignore=hnp.arrays(bool, (14, 17)))
def test_counted_and_ignored_lengths_add_up(plane, ignore):
    lines, joined = traced(plane, plane)
    whole = steps(lines, joined)
    parts = [steps(lines, joined, i) for i in (ignore, ~ignore)]
    ends = whole.length_px.max(initial=0)  # the half step beyond the border may count in both
    total = sum(p.length_px.sum() for p in parts)
    assert total >= whole.length_px.sum() - 1e-9
    assert total <= whole.length_px.sum() + ends * (lines.degree == 1).sum() + 1e-9


def test_in_a_tangle_nothing_goes_straight_on(monkeypatch):
    # Two lines that cross have four ends: with a limit of three they are left as they are.
    cross = np.eye(41, dtype=bool) | np.eye(41, dtype=bool)[:, ::-1]
    assert traced(cross)[1].n_lines == 2
    monkeypatch.setattr(line_crossings, "_MOST_ENDS", 3)
    lines, apart = traced(cross)
    assert apart.n_lines == lines.n_paths
    assert apart.chords.size == 0


@pytest.mark.parametrize("covered", [0.0, 0.3, 0.9, 1.0])
def test_distances_are_the_same_by_looking_around_and_by_a_map(covered, monkeypatch):
    noise = ndimage.uniform_filter(np.random.default_rng(3).random((90, 130)), 5)
    mask = noise <= np.quantile(noise, covered) if covered else np.zeros(noise.shape, bool)
    at = np.flatnonzero(mask)
    found = []
    for reach in (0, 1000):
        monkeypatch.setattr(widths, "_LOOK_AROUND_PX", reach)
        found.append(widths._distances(mask, at, 15))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
