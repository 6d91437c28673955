"""The champion on dev and test: scores, maps, masks, and who opens what."""

import numpy as np
import pandas as pd
import pytest
from drawing import VOIDS, champion, discs, field, write_split
from PIL import Image

from defectops.errors import GateFailed, IntegrityFault
from defectops.experiments.accesses import Accesses, read_accesses, summed
from defectops.experiments.champions import places_of
from defectops.learning.views import VIEWS, ViewOptions
from defectops.micrograph import load_fields, save_fields
from defectops.workflows import evaluating
from defectops.workflows.evaluating import COLUMNS, evaluate

TURQUOISE, BLACK, RED, YELLOW, GREY = (
    (64, 224, 208),
    (0, 0, 0),
    (255, 0, 0),
    (255, 255, 0),
    (96, 96, 96),
)


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """Evaluate sides with a champion that sees the intensity."""

    def run(dev, test, model=None, views=None):
        save_fields(tmp_path / "split/voids/dev.npz", dev)
        save_fields(tmp_path / "split/voids/test.npz", test)
        write_split(tmp_path, dev=dev, test=test)
        monkeypatch.setattr(evaluating, "load_champion", lambda root, defect, conditioning: model)
        return evaluate(tmp_path, VOIDS, None, views)

    return run


def _case(**more):
    # Two rows of three: both, only predicted, only labelled / neither, and two ignored.
    label = np.array([[1, 0, 1], [0, 1, 0]], bool)
    shown = np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.9]], np.float32)
    ignore = np.array([[0, 0, 0], [0, 1, 1]], bool)
    return field(label, shown, ignore=ignore, **more)


def test_scores_of_a_hand_counted_case_without_the_ignored_pixels(judge):
    table = judge([], [_case()], champion())
    (row,) = table.to_dict("records")
    assert (row["image"], row["side"]) == ("a.png", "test")
    assert [row[n] for n in ("tp", "fp", "fn", "tn")] == [1, 1, 1, 1]
    assert [row[n] for n in ("pixel_accuracy", "precision", "recall")] == [0.5, 0.5, 0.5]
    assert row["iou"] == pytest.approx(1 / 3, abs=1e-6)


def test_the_map_has_the_exact_colours(judge, tmp_path):
    judge([], [_case()], champion())
    drawn = np.array(Image.open(tmp_path / "results/maps/voids/a_test.png"))
    assert drawn.tolist() == [
        [list(TURQUOISE), list(RED), list(YELLOW)],
        [list(BLACK), list(GREY), list(GREY)],
    ]
    with Image.open(tmp_path / "results/maps/voids/a_test_micrograph.png") as grey:
        assert (grey.mode, grey.size) == ("L", (3, 2))


def test_a_probability_that_just_reaches_the_threshold_is_defect(judge):
    shown = np.array([[0.7, 0.7 - 1e-6]], np.float32)
    table = judge([field([[1, 1]], shown)], [], champion(float(np.float32(0.7))))
    assert table.loc[0, ["tp", "fn"]].tolist() == [1, 1]


def test_an_undefined_score_is_an_empty_cell(judge, tmp_path):
    nothing = np.zeros((4, 5), bool)
    judge([], [field(nothing), field(discs((9, 9), (4, 4)), image="b.png")], champion())
    lines = (tmp_path / "results/evaluation/voids.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == "a.png,test,0,0,0,20,1.0,,,"
    assert lines[2].endswith(",1.0,1.0,1.0,1.0")


def test_several_fields_of_one_image_have_maps_of_their_own(judge, tmp_path):
    pieces = [field(discs((8, 10), (4, 4)), at=(0, 10 * i)) for i in range(3)]
    table = judge(pieces, [field(discs((8, 10), (4, 4)), at=(8, 0))], champion())
    assert table["side"].tolist() == ["dev", "dev", "dev", "test"]
    maps = {p.name for p in (tmp_path / "results/maps/voids").glob("*.png")}
    for name in ("a_dev", "a_dev_2", "a_dev_3", "a_test"):
        assert {f"{name}.png", f"{name}_micrograph.png"} <= maps


def test_masks_hold_the_probability_and_the_labels_of_the_same_fields(judge, tmp_path):
    judge([_case()], [_case(image="b.png", at=(3, 4))], champion())
    (found,) = load_fields(tmp_path / "results/masks/voids/test.npz")
    given = _case(image="b.png", at=(3, 4))
    assert (found.image, found.region, found.calibration) == (
        "b.png",
        given.region,
        given.calibration,
    )
    np.testing.assert_array_equal(found.intensity, given.intensity)
    np.testing.assert_array_equal(found.label, given.label)
    np.testing.assert_array_equal(found.ignore, given.ignore)


@pytest.mark.parametrize("view", VIEWS)
def test_beside_the_masks_lie_those_of_the_mirrored_fields(judge, tmp_path, view):
    model = champion()
    model.probability = lambda plane: plane * np.float32([1, 2, 4])
    judge([_case()], [_case(image="b.png", at=(3, 4))], model)
    (found,) = load_fields(tmp_path / f"results/masks/voids/{view}/test.npz")
    given = _case(image="b.png", at=(3, 4))
    factors = [1, 2, 4] if view == "top-bottom" else [4, 2, 1]
    np.testing.assert_allclose(found.intensity, given.intensity * np.float32(factors))
    assert (found.image, found.region) == ("b.png", given.region)
    np.testing.assert_array_equal(found.label, given.label)


def test_no_view_is_segmented_or_stays_if_none_is_wanted(judge, tmp_path):
    judge([_case()], [_case()], champion())
    seen, model = [], champion()
    model.probability = lambda plane: seen.append(plane) or plane
    judge([_case()], [_case()], model, ViewOptions(mirrored=False))
    assert len(seen) == 2
    assert sorted(p.name for p in (tmp_path / "results/masks/voids").iterdir()) == [
        "dev.npz",
        "test.npz",
    ]


def test_without_a_test_side_only_dev_is_scored(judge, tmp_path):
    table = judge([_case()], [], champion())
    assert table["side"].tolist() == ["dev"]
    assert load_fields(tmp_path / "results/masks/voids/test.npz") == []


def test_without_a_champion_tables_are_empty_and_every_output_is_there(judge, tmp_path):
    assert judge([_case()], [_case()]).empty
    results = tmp_path / "results"
    assert (results / "evaluation/voids.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert [p.name for p in (results / "maps/voids").iterdir()] == ["scores.csv"]
    assert load_fields(results / "masks/voids/dev.npz") == []


def test_maps_of_an_earlier_evaluation_do_not_stay(judge, tmp_path):
    judge([], [_case(image="gone.png")], champion())
    judge([], [_case()], champion())
    assert not list((tmp_path / "results/maps/voids").glob("gone*"))


def test_the_copy_of_the_scores_beside_the_maps_is_the_same_table(judge, tmp_path):
    judge([_case()], [_case()], champion())
    results = tmp_path / "results"
    assert (results / "maps/voids/scores.csv").read_bytes() == (
        results / "evaluation/voids.csv"
    ).read_bytes()


def test_two_evaluations_write_the_same_bytes(judge, tmp_path):
    def written():
        judge([_case()], [_case(image="b.png")], champion())
        found = sorted(p for p in (tmp_path / "results").rglob("*") if p.is_file())
        return {str(p): p.read_bytes() for p in found}

    assert written() == written()


def test_a_flat_micrograph_is_drawn(judge, tmp_path):
    flat = field(np.zeros((4, 5), bool), np.full((4, 5), 0.25))
    judge([flat], [], champion())
    drawn = np.array(Image.open(tmp_path / "results/maps/voids/a_dev_micrograph.png"))
    assert not drawn.any()


def test_the_table_is_what_was_written(judge, tmp_path):
    table = judge([_case()], [_case()], champion())
    read = pd.read_csv(tmp_path / "results/evaluation/voids.csv")
    pd.testing.assert_frame_equal(table, read, check_dtype=False)


def test_a_champion_that_saw_the_test_side_is_refused_before_it_is_opened(judge, tmp_path):
    seen = champion()
    seen.bundle.training["train_regions"] = [["a.png", 0, 1, 0, 1]]
    with pytest.raises(GateFailed, match=r"E_LEAK.*a\.png.*promote a model"):
        judge([], [_case()], seen)
    assert ledger(tmp_path) == []
    seen.bundle.training["train_regions"] = [["b.png", 0, 1, 0, 1], ["a.png", 50, 60, 0, 1]]
    assert len(judge([], [_case()], seen)) == 1


def ledger(root):
    return read_accesses(places_of(root, VOIDS.key))


def test_each_time_the_test_side_is_opened_is_counted_before_it_is(judge, tmp_path, monkeypatch):
    judge([_case()], [_case()], champion())
    assert [line["version"] for line in ledger(tmp_path)] == [None]

    def crash(path):
        assert len(ledger(tmp_path)) == 2
        raise KeyboardInterrupt

    opened = evaluating.load_fields
    monkeypatch.setattr(
        evaluating, "load_fields", lambda p: crash(p) if p.name == "test.npz" else opened(p)
    )
    with pytest.raises(KeyboardInterrupt):
        judge([_case()], [_case()], champion())
    first, second = ledger(tmp_path)
    assert first["test_sha256"] == second["test_sha256"]
    assert summed([first, second]) == Accesses(2, 1, 1)


def test_nothing_is_counted_without_a_champion_or_a_test_side(judge, tmp_path):
    judge([_case()], [_case()])
    judge([_case()], [], champion())
    assert ledger(tmp_path) == []


def test_what_cannot_be_counted_is_not_opened(judge, tmp_path):
    judge([], [_case()], champion())
    places = places_of(tmp_path, VOIDS.key)
    places.accesses.write_text(places.accesses.read_text().replace("null", "7", 1))
    with pytest.raises(IntegrityFault, match="E_JOURNAL: was edited"):
        judge([], [_case()], champion())
    assert not (tmp_path / "results/masks/voids/test.npz").exists()
