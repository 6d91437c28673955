import base64
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from defectops.reporting import maps

COLOURS = np.array([rgb for _, rgb in maps.LEGEND.values()], dtype=np.uint8)


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def rows(**ious):
    return pd.DataFrame(
        [
            {"image": f"{name}.png", "side": "dev", "precision": 0.5, "recall": 0.5, "iou": iou}
            for name, iou in ious.items()
        ]
    )


def stored(folder, stem, size, side="dev"):
    random = np.random.default_rng(0)
    comparison = COLOURS[random.integers(0, len(COLOURS), size)]
    grey = random.integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(comparison).save(folder / f"{stem}_{side}.png")
    Image.fromarray(grey).save(folder / f"{stem}_{side}_micrograph.png")
    return comparison


@given(st.integers(8, 9000), st.one_of(st.none(), st.floats(1e-3, 1e3)))
def test_scale_bar_is_round_and_fits(width, pixel_size_nm):
    bar = maps.scale_bar(width, pixel_size_nm)
    assert 0.09 * width < bar.length_px <= 0.2500001 * width
    number, unit = bar.text.split()
    assert float(number) == pytest.approx(float(f"{float(number):.0e}"))
    assert f"{float(number):.0e}"[0] in "125"
    nm = float(number) * {"nm": 1, "µm": 1000, "px": 1}[unit]
    assert nm == pytest.approx(bar.length_px * (pixel_size_nm or 1.0))
    assert (unit == "px") == (pixel_size_nm is None)


def test_map_keeps_its_colours_exactly(tmp_path):
    comparison = stored(tmp_path, "a", (40, 60))
    ((found,),) = [i.panels for i in maps.image_panels(tmp_path, rows(a=0.5), {"a.png": 0.5})]
    assert (found.width_px, found.height_px) == (60, 40)
    assert np.array_equal(decoded(found.comparison), comparison)
    assert decoded(found.micrograph).shape == (40, 60)
    assert found.scores == "IoU 50.0 %, precision 50.0 %, recall 50.0 %"
    assert found.bar.text == "5 nm"


def test_large_map_shrinks_to_the_same_colours(tmp_path):
    stored(tmp_path, "a", (30, 2100))
    (image,) = maps.image_panels(tmp_path, rows(a=0.5), {})
    shown = decoded(image.panels[0].comparison)
    assert shown.shape == (15, 1024, 3)
    assert {tuple(c) for c in shown.reshape(-1, 3)} == {tuple(c) for c in COLOURS}
    assert image.panels[0].bar == maps.ScaleBar(500.0, "500 px")
    assert image.panels[0].width_px == 2100


def test_sides_are_joined_dev_above_test(tmp_path):
    for side in ("test", "dev"):
        stored(tmp_path, "a", (20, 30), side)
    both = pd.concat([rows(a=0.1).assign(side="test"), rows(a=0.2)])
    (image,) = maps.image_panels(tmp_path, both, {})
    assert [p.side for p in image.panels] == ["dev", "test"]


def test_further_fields_of_one_image_and_side_are_numbered(tmp_path):
    stored(tmp_path, "a", (20, 30))
    stored(tmp_path, "a", (20, 44), "dev_2")
    (image,) = maps.image_panels(tmp_path, pd.concat([rows(a=0.1), rows(a=0.2)]), {})
    assert [(p.width_px, p.scores[:10]) for p in image.panels] == [
        (30, "IoU 10.0 %"),
        (44, "IoU 20.0 %"),
    ]


def test_missing_files_are_left_out(tmp_path):
    assert maps.image_panels(tmp_path, rows(a=0.5), {}) == []
    assert maps.image_panels(tmp_path, pd.DataFrame(), {}) == []
    stored(tmp_path, "a", (20, 30))
    (tmp_path / "a_dev_micrograph.png").unlink()
    (image,) = maps.image_panels(tmp_path, rows(a=0.5), {})
    assert image.panels[0].micrograph == ""


def test_undefined_scores_are_dashes(tmp_path):
    stored(tmp_path, "a", (20, 30))
    (image,) = maps.image_panels(tmp_path, rows(a=float("nan")), {})
    assert image.panels[0].scores.startswith("IoU –, ")


def test_of_many_images_the_worst_and_the_best_are_shown():
    many = rows(**{f"i{n}": n / 10 for n in range(9)}, undefined=float("nan"))
    chosen = maps.chosen_images(many)
    assert chosen == [f"i{n}.png" for n in (0, 1, 2, 6, 7, 8)]
    assert maps.chosen_images(rows(b=0.1, a=0.2)) == ["a.png", "b.png"]


def test_comparison_figure(tmp_path):
    grey = np.arange(600, dtype=np.uint8).reshape(20, 30) % 251
    comparison = COLOURS[np.arange(600).reshape(20, 30) % 4]
    for name in ("a.png", "b.png"):
        maps.draw_comparison(
            grey, comparison, tmp_path / name, pixel_size_nm=0.365, title="cost $5 and $6.png"
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3)
    for rgb in COLOURS[:4]:
        assert (shown == rgb).all(axis=1).sum() > 100


def test_pictures_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="differ"):
        maps.draw_comparison(
            np.zeros((4, 5)), np.zeros((5, 4, 3)), tmp_path / "a.png", pixel_size_nm=None, title=""
        )
