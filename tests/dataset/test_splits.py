"""Sides are disjoint, cover, stay the same for a seed, and keep specimens together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops import settings
from defectops.dataset.splits import (
    PAPER_RECTANGLES,
    Candidate,
    Leak,
    Piece,
    SplitOptions,
    assign,
    audit,
    guard,
    pixel_digest,
    unused_fraction,
)
from defectops.errors import LabelRefused, SettingsRefused
from defectops.micrograph import Region

PAPER = [Candidate("a.png", (2048, 2048)), Candidate("b.png", (2048, 2048))]


def drawn(pieces, image, shape):
    """Count how often each pixel of an image is on some side."""
    counts = np.zeros(shape, int)
    for p in pieces:
        if p.image == image:
            counts[p.region.slices] += 1
    return counts


candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 999).map("im{}.png".format),
        st.tuples(st.integers(8, 40), st.integers(8, 40)),
        st.sampled_from(["auto", "auto", "auto", "train", "dev", "test"]),
        st.sampled_from(["", "S1", "S2", "S3"]),
    ),
    min_size=2,
    max_size=12,
    unique_by=lambda c: c.image,
)


def test_the_papers_rectangles_are_those_of_figure_3a():
    pieces = assign(PAPER, SplitOptions())

    assert [(p.side, p.region) for p in pieces if p.image == "b.png"] == [
        ("train", Region(0, 1024, 0, 1024)),
        ("train", Region(0, 1024, 1024, 2048)),
        ("train", Region(1024, 2048, 0, 1024)),
        ("dev", Region(1024, 1536, 1024, 2048)),
        ("test", Region(1536, 2048, 1024, 2048)),
    ]
    assert (drawn(pieces, "a.png", (2048, 2048)) == 1).all()
    assert unused_fraction(PAPER, pieces) == 0


def test_the_papers_rectangles_want_the_papers_shape():
    with pytest.raises(LabelRefused, match=r"E_SHAPE.*2048 x 1024.*rectangles"):
        assign([Candidate("a.png", (2048, 1024))], SplitOptions())


@pytest.mark.parametrize("scheme", ["paper", "manifest", "rectangles"])
def test_an_explicit_side_is_honoured_whole_in_every_scheme(scheme):
    images = [Candidate("a.png", (30, 20), "train"), Candidate("b.png", (7, 9), "gate")]

    pieces = assign(images, SplitOptions(scheme=scheme))

    assert pieces == [
        Piece("a.png", Region(0, 30, 0, 20), "train"),
        Piece("b.png", Region(0, 7, 0, 9), "gate"),
    ]


def test_scheme_manifest_names_the_image_without_a_side():
    with pytest.raises(SettingsRefused, match=r"b\.png has no side"):
        assign(
            [Candidate("a.png", (9, 9), "train"), Candidate("b.png", (9, 9))],
            SplitOptions(scheme="manifest"),
        )


def test_rectangles_are_fractions_of_a_non_square_image():
    options = SplitOptions(
        scheme="rectangles",
        rectangles={"train": [(0, 0.5, 0, 1)], "dev": [(0.5, 1, 0, 0.75)]},
    )

    pieces = assign([Candidate("a.png", (148, 301))], options)

    assert pieces == [
        Piece("a.png", Region(0, 74, 0, 301), "train"),
        Piece("a.png", Region(74, 148, 0, 226), "dev"),
    ]
    assert unused_fraction([Candidate("a.png", (148, 301))], pieces) == pytest.approx(
        74 * 75 / (148 * 301)
    )


@pytest.mark.parametrize(
    ("rectangles", "message"),
    [
        ({"train": [(0, 0.6, 0, 1)], "dev": [(0.5, 1, 0, 1)]}, "train and dev overlap"),
        ({"train": [(0.5, 0.5, 0, 1)]}, "top < bottom"),
        ({"train": [(0, 50, 0, 100)]}, "fractions"),
        ({"val": [(0, 1, 0, 1)]}, "unknown side"),
        ({"dev": [(0, 1, 0, 1)]}, "needs rectangles.train"),
        ({"train": [(0, 0.01, 0, 1)]}, "no pixel"),
    ],
)
def test_impossible_rectangles_are_refused(rectangles, message):
    with pytest.raises(SettingsRefused, match=message):
        assign(
            [Candidate("a.png", (20, 20))],
            SplitOptions(scheme="rectangles", rectangles=rectangles),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SplitOptions(guard_band_px=-1), "negative"),
        (SplitOptions(folds=1), "at least 2"),
        (SplitOptions(folds=3, fold=3), "0 to 2"),
        (SplitOptions(fractions=(0.5, 0.2, 0.2)), "sum to 1"),
        (SplitOptions(fractions=(1.0, 0.0, 0.0)), "train and for dev"),
        (SplitOptions(fractions=(1.2, -0.2, 0.0)), "negative"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(SettingsRefused, match=message):
        assign(PAPER, options)


@given(candidates, st.integers(0, 5), st.randoms())
def test_by_image_covers_once_and_does_not_depend_on_the_order(images, seed, random):
    if sum(c.side == "auto" for c in images) < 2:
        return
    options = SplitOptions(scheme="by-image", seed=seed)
    pieces = assign(images, options)
    shuffled = random.sample(images, len(images))

    assert {p.image: p.side for p in pieces} == {p.image: p.side for p in assign(shuffled, options)}
    for c in images:
        assert (drawn(pieces, c.image, c.shape) == 1).all()
        if c.side != "auto":
            assert [p.side for p in pieces if p.image == c.image] == [c.side]
    free = {c.image for c in images if c.side == "auto"}
    assert {"train", "dev"} <= {p.side for p in pieces if p.image in free}


def test_shares_of_ten_images_are_the_fractions():
    images = [Candidate(f"{i}.png", (9, 9)) for i in range(10)]

    sides = [p.side for p in assign(images, SplitOptions(scheme="by-image"))]

    assert {s: sides.count(s) for s in sides} == {"train": 6, "dev": 2, "test": 2}


def test_another_seed_gives_another_split():
    images = [Candidate(f"{i}.png", (9, 9)) for i in range(20)]
    splits = {
        tuple(p.side for p in assign(images, SplitOptions(scheme="by-image", seed=seed)))
        for seed in range(5)
    }
    assert len(splits) == 5


def test_one_image_cannot_be_split_by_image():
    with pytest.raises(SettingsRefused, match="rectangles"):
        assign([Candidate("a.png", (9, 9))], SplitOptions(scheme="by-image"))


@given(candidates, st.sampled_from(["by-specimen", "kfold"]), st.integers(0, 3))
def test_no_specimen_is_on_two_sides(images, scheme, seed):
    options = SplitOptions(scheme=scheme, seed=seed, folds=2)
    try:
        pieces = assign(images, options)
    except SettingsRefused:
        return  # too few specimens, one missing, or one fixed on two sides
    specimen = {c.image: c.specimen for c in images}
    sides = {}
    for p in pieces:
        if specimen[p.image]:
            sides.setdefault(specimen[p.image], set()).add(p.side)
    assert all(len(s) == 1 for s in sides.values())
    assert audit(pieces, {}, specimen) == []
    assert {p.image for p in pieces} == {c.image for c in images}


def test_a_specimen_that_the_manifest_puts_on_two_sides_is_refused():
    images = [
        Candidate("a.png", (9, 9), "train", "S1"),
        Candidate("b.png", (9, 9), "dev", "S1"),
        Candidate("c.png", (9, 9), "auto", "S2"),
    ]
    with pytest.raises(SettingsRefused, match="'S1' on train and on dev"):
        assign(images, SplitOptions(scheme="by-specimen"))


def test_each_image_is_dev_in_exactly_one_fold():
    images = [Candidate(f"{i}.png", (9, 9)) for i in range(7)]
    dev = [
        p.image
        for fold in range(3)
        for p in assign(images, SplitOptions(scheme="kfold", folds=3, fold=fold))
        if p.side == "dev"
    ]
    assert sorted(dev) == [c.image for c in images]


def test_the_guard_band_shrinks_only_training_rectangles():
    pieces = assign(PAPER[:1], SplitOptions(guard_band_px=96))

    assert [p.region for p in pieces] == [
        Region(0, 928, 0, 1024),
        Region(0, 928, 1024, 2048),
        Region(1024, 2048, 0, 928),
        *[region for _, region in PAPER_RECTANGLES[3:]],
    ]


rectangle = st.tuples(*[st.integers(0, 40) for _ in range(4)]).map(
    lambda v: Region(min(v[0], v[1]), max(v[0], v[1]) + 1, min(v[2], v[3]), max(v[2], v[3]) + 1)
)


@given(st.lists(rectangle, min_size=1, max_size=4), rectangle, st.integers(1, 12))
def test_guarded_training_keeps_its_distance(evaluated, train, band_px):
    pieces = [Piece("a", train, "train"), *[Piece("a", r, "dev") for r in evaluated]]
    try:
        guarded = guard([*pieces, Piece("b", train, "train")], band_px)
    except SettingsRefused:
        raise AssertionError("image b has no dev, so something is left") from None

    assert Piece("b", train, "train") in guarded
    for p in guarded:
        if p.image == "a" and p.side == "train":
            near = np.zeros((60, 60), bool)
            near[p.region.slices] = True
            for r in evaluated:
                top, left = max(0, r.top - band_px), max(0, r.left - band_px)
                assert not near[top : r.bottom + band_px, left : r.right + band_px].any()


def test_a_guard_band_that_eats_everything_is_refused():
    pieces = [Piece("a", Region(0, 5, 0, 9), "train"), Piece("a", Region(5, 9, 0, 9), "dev")]
    with pytest.raises(SettingsRefused, match="nothing to train on"):
        guard(pieces, 5)


def test_the_audit_finds_each_kind_of_leak_once():
    whole = Region(0, 8, 0, 8)
    pieces = [
        Piece("a", whole, "train"),
        Piece("a2", whole, "dev"),
        Piece("b", Region(0, 5, 0, 8), "train"),
        Piece("b", Region(4, 8, 0, 8), "test"),
        Piece("c", whole, "train"),
        Piece("d", whole, "dev"),
        Piece("e", whole, "dev"),
    ]
    digests = {"a": "x", "a2": "x", "b": "y"}
    specimens = {"c": "S", "d": "S", "e": ""}

    leaks = audit(pieces, digests, specimens)

    assert leaks == [
        Leak("content", "a", "a2", ("train", "dev")),
        Leak("overlap", "b", "b", ("test", "train")),
        Leak("specimen", "c", "d", ("train", "dev")),
    ]
    assert str(leaks[0]) == "a and a2 have the same pixels on train and dev"


def test_equal_pictures_on_one_side_are_no_leak():
    whole = Region(0, 8, 0, 8)
    pieces = [Piece("a", whole, "train"), Piece("b", whole, "train")]
    assert audit(pieces, {"a": "x", "b": "x"}, {"a": "S", "b": "S"}) == []


def test_a_digest_tells_shapes_apart():
    assert pixel_digest((2, 3), b"abcdef") != pixel_digest((3, 2), b"abcdef")


def test_options_are_read_from_a_section_of_params():
    options = settings.read(
        {
            "scheme": "rectangles",
            "rectangles": {"train": [[0, 0.5, 0, 1]], "dev": [[0.5, 1, 0, 1]]},
        },
        SplitOptions,
        "params.yaml: split.voids",
    )
    assert options.rectangles["train"] == [(0, 0.5, 0, 1)]
    with pytest.raises(SettingsRefused, match="did you mean 'scheme'"):
        settings.read({"sceme": "paper"}, SplitOptions, "split")
