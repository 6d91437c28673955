"""Which part of which micrograph trains, develops and tests; and the audit that nothing leaks.

Pure functions over names, shapes and rectangles: no file is opened here. A *side* is one of
train, dev, test or gate; networks learn from train, choices are made on dev, figures are reported
on test, and a gate judges candidates.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from defectops.errors import LabelRefused, SettingsRefused
from defectops.micrograph import Region

Scheme = Literal["paper", "rectangles", "manifest", "by-image", "by-specimen", "kfold"]
Fractions = tuple[float, float, float, float]

SIDES = ("train", "dev", "test", "gate")
BY_SPECIMEN = ("by-specimen", "kfold")
"""Schemes that promise that no specimen is on two sides."""

PAPER_SHAPE = (2048, 2048)
PAPER_RECTANGLES: tuple[tuple[str, Region], ...] = (
    ("train", Region(0, 1024, 0, 1024)),
    ("train", Region(0, 1024, 1024, 2048)),
    ("train", Region(1024, 2048, 0, 1024)),
    ("dev", Region(1024, 1536, 1024, 2048)),
    ("test", Region(1536, 2048, 1024, 2048)),
)
"""The rectangles of Fig. 3a in Roberts et al., Sci. Rep. 9, 12744 (2019),
doi:10.1038/s41598-019-49105-0."""


@dataclass(frozen=True)
class SplitOptions:
    """How the images of one defect are split.

    Parameters
    ----------
    scheme : str
        ``paper``: the paper's rectangles of each 2048 x 2048 image. ``rectangles``: those given
        below, of each image. ``manifest``: whole images, by the manifest's column ``side``.
        ``by-image``, ``by-specimen``: whole images or specimens, by seeded shares. ``kfold``:
        fold number `fold` is dev, the others train; images of one specimen stay together.
        An image whose ``side`` is not ``auto`` goes to that side as a whole, in every scheme.
    rectangles : mapping of str to list of (top, bottom, left, right)
        For ``rectangles``: fractions of height and width, 0 to 1, by side. What no rectangle
        covers is not used.
    fractions : (train, dev, test)
        For ``by-image`` and ``by-specimen``: shares that sum to 1.
    folds, fold : int
        For ``kfold``: how many, and which one is dev (0 to ``folds - 1``).
    seed : int
        Another seed shuffles differently.
    guard_band_px : int
        Training rectangles keep this distance from the dev, test and gate rectangles of the
        same image; one receptive field of the network (96 px for DefectSegNet) makes them
        independent of each other. 0 leaves them adjacent, as in the paper.
    """

    scheme: Scheme = "paper"
    rectangles: Mapping[str, list[Fractions]] = field(default_factory=dict)
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    folds: int = 5
    fold: int = 0
    seed: int = 0
    guard_band_px: int = 0


@dataclass(frozen=True)
class Candidate:
    """An image that is to be split: its name, shape (rows, columns), side and specimen."""

    image: str
    shape: tuple[int, int]
    side: str = "auto"
    specimen: str = ""

    @property
    def whole(self) -> Region:
        """The rectangle that covers the image."""
        return Region(0, self.shape[0], 0, self.shape[1])


@dataclass(frozen=True)
class Piece:
    """A rectangle of an image and the side it is on."""

    image: str
    region: Region
    side: str


@dataclass(frozen=True)
class Leak:
    """Something that is on two sides and must not be.

    Parameters
    ----------
    kind : {"overlap", "content", "specimen"}
        The same pixels of one image; the same pixels under two names; two images of one specimen.
    one, other : str
        Names of the two images (equal for an overlap).
    sides : (str, str)
    """

    kind: str
    one: str
    other: str
    sides: tuple[str, str]

    def __str__(self) -> str:
        where = f"{self.sides[0]} and {self.sides[1]}"
        if self.kind == "overlap":
            return f"rectangles of {self.one} overlap on {where}"
        what = "have the same pixels" if self.kind == "content" else "are of the same specimen"
        return f"{self.one} and {self.other} {what} on {where}"


def assign(images: Sequence[Candidate], options: SplitOptions) -> list[Piece]:
    """Split images into train, dev, test and gate.

    Parameters
    ----------
    images : sequence of Candidate
        Names are distinct. None gives no pieces.
    options : SplitOptions

    Returns
    -------
    list of Piece
        In the order of the images, then of the rectangles. Pieces of different sides are
        disjoint. The same images, options and seed give the same pieces in any order of images.

    Raises
    ------
    SettingsRefused
        Options that cannot be, or that do not fit the images.
    LabelRefused
        An image that the scheme cannot split (``E_SHAPE`` for the paper's rectangles).
    """
    check_options(options)
    if options.scheme in BY_SPECIMEN:
        _fixed_specimens(images)
    free = [c for c in images if c.side == "auto"]
    by_image = {c.image: [Piece(c.image, c.whole, c.side)] for c in images if c.side != "auto"}
    if free:
        for piece in _SCHEMES[options.scheme](free, images, options):
            by_image.setdefault(piece.image, []).append(piece)
    pieces = [piece for c in images for piece in by_image.get(c.image, [])]
    return guard(pieces, options.guard_band_px) if options.guard_band_px else pieces


def check_options(options: SplitOptions) -> None:
    """Refuse options that cannot be, whatever the images."""
    o = options
    unknown = [s for s in o.rectangles if s not in SIDES]
    problems = (
        (o.guard_band_px < 0, f"guard_band_px must not be negative, got {o.guard_band_px}"),
        (o.folds < 2, f"folds must be at least 2, got {o.folds}"),
        (not 0 <= o.fold < o.folds, f"fold must be 0 to {o.folds - 1}, got {o.fold}"),
        (min(o.fractions) < 0, f"fractions must not be negative, got {list(o.fractions)}"),
        (
            not math.isclose(sum(o.fractions), 1.0, abs_tol=1e-9),
            f"fractions must sum to 1, got {list(o.fractions)}",
        ),
        (min(o.fractions[:2]) <= 0, "fractions must leave something for train and for dev"),
        (bool(unknown), f"rectangles: unknown side {unknown}; allowed are {', '.join(SIDES)}"),
    )
    for wrong, message in problems:
        if wrong:
            raise _refused(message)
    for side, rows in o.rectangles.items():
        for row in rows:
            _check_rectangle(side, row)


def guard(pieces: Sequence[Piece], band_px: int) -> list[Piece]:
    """Shrink training rectangles away from all other sides of the same image.

    Of the two edges that would restore the distance (Chebyshev, in pixels) the one that costs
    less area is moved. A training rectangle that vanishes is left out.

    Raises
    ------
    SettingsRefused
        Nothing is left to train on, though there was something.
    """
    guarded = []
    for piece in pieces:
        region: Region | None = piece.region
        if piece.side == "train":
            rivals = [p.region for p in pieces if p.image == piece.image and p.side != "train"]
            region = _shrunk(piece.region, rivals, band_px)
        if region is not None:
            guarded.append(Piece(piece.image, region, piece.side))
    if _has_train(pieces) and not _has_train(guarded):
        raise _refused(f"a guard band of {band_px} px leaves nothing to train on; use a smaller")
    return guarded


def audit(
    pieces: Sequence[Piece], digests: Mapping[str, str], specimens: Mapping[str, str]
) -> list[Leak]:
    """Look for the same thing on two sides.

    Parameters
    ----------
    pieces : sequence of Piece
    digests : mapping of str to str
        Image to the digest of its pixels (`pixel_digest`); images without one are not compared.
    specimens : mapping of str to str
        Image to specimen; an empty or missing specimen is unknown and matches nothing. Give an
        empty mapping where images of one specimen may be on two sides.

    Returns
    -------
    list of Leak
        Empty if there is none; sorted, each pair of images and sides once. Images with equal
        pixels are one image: only overlapping rectangles of them count.
    """
    found = set()
    for a, b in itertools.combinations(pieces, 2):
        if a.side == b.side:
            continue
        kind = _leak_kind(a, b, digests, specimens)
        if kind:
            (one, s), (other, t) = sorted([(a.image, a.side), (b.image, b.side)])
            found.add((kind, one, other, (s, t)))
    return [Leak(*row) for row in sorted(found)]


def pixel_digest(shape: tuple[int, int], pixels: bytes) -> str:
    """Return the SHA-256 of a picture's pixels: equal for equal pictures, whatever the file.

    Parameters
    ----------
    shape : (rows, columns)
    pixels : bytes
        Row by row, little-endian.
    """
    return hashlib.sha256(f"{shape[0]}x{shape[1]}:".encode() + pixels).hexdigest()


def unused_fraction(images: Sequence[Candidate], pieces: Sequence[Piece]) -> float:
    """Return the share of all pixels that is on no side (pieces do not overlap)."""
    total = sum(c.shape[0] * c.shape[1] for c in images)
    used = sum(p.region.shape[0] * p.region.shape[1] for p in pieces)
    return 1 - used / total if total else 0.0


def _paper(
    free: Sequence[Candidate], images: Sequence[Candidate], options: SplitOptions
) -> list[Piece]:
    for c in free:
        if c.shape != PAPER_SHAPE:
            raise LabelRefused(
                c.image,
                "E_SHAPE",
                f"shape {c.shape[0]} x {c.shape[1]}: the scheme 'paper' is defined for 2048 x "
                "2048 only; use the scheme 'rectangles' with fractions, or give the manifest sides",
            )
    return [Piece(c.image, region, side) for c in free for side, region in PAPER_RECTANGLES]


def _rectangles(
    free: Sequence[Candidate], images: Sequence[Candidate], options: SplitOptions
) -> list[Piece]:
    if not options.rectangles.get("train"):
        raise _refused(
            "the scheme 'rectangles' needs rectangles.train, and more sides, as fractions"
        )
    pieces = []
    for c in free:
        own = [
            Piece(c.image, _region(c, row), side)
            for side in SIDES
            for row in options.rectangles.get(side, [])
        ]
        for a, b in itertools.combinations(own, 2):
            if a.region.overlaps(b.region):
                raise _refused(
                    f"rectangles of {a.side} and {b.side} overlap in {c.image}; they must not"
                )
        pieces += own
    return pieces


def _manifest(
    free: Sequence[Candidate], images: Sequence[Candidate], options: SplitOptions
) -> list[Piece]:
    raise _refused(
        f"{free[0].image} has no side in the manifest, but the scheme is 'manifest'; write train, "
        "dev, test or gate into its column 'side', or choose another scheme"
    )


def _by_image(
    free: Sequence[Candidate], images: Sequence[Candidate], options: SplitOptions
) -> list[Piece]:
    sides = _shares([c.image for c in free], options)
    return [Piece(c.image, c.whole, sides[c.image]) for c in free]


def _by_specimen(
    free: Sequence[Candidate], images: Sequence[Candidate], options: SplitOptions
) -> list[Piece]:
    for c in images:
        if not c.specimen:
            raise _refused(
                f"{c.image} has no specimen in the manifest, but the scheme is 'by-specimen'"
            )
    fixed = _fixed_specimens(images)
    rest = sorted({c.specimen for c in free} - set(fixed))
    sides = {**(_shares(rest, options) if rest else {}), **fixed}
    return [Piece(c.image, c.whole, sides[c.specimen]) for c in free]


def _kfold(
    free: Sequence[Candidate], images: Sequence[Candidate], options: SplitOptions
) -> list[Piece]:
    fixed = _fixed_specimens(images)
    group = {c.image: ("s", c.specimen) if c.specimen else ("i", c.image) for c in free}
    rest = [g for g in group.values() if not (g[0] == "s" and g[1] in fixed)]
    order = _shuffled(sorted({f"{kind}:{name}" for kind, name in rest}), options.seed)
    if len(order) < options.folds:
        raise _refused(
            f"{options.folds} folds need as many images or specimens, there are {len(order)}"
        )
    dev = set(order[options.fold :: options.folds])

    def side(image: str) -> str:
        kind, name = group[image]
        if kind == "s" and name in fixed:
            return fixed[name]
        return "dev" if f"{kind}:{name}" in dev else "train"

    return [Piece(c.image, c.whole, side(c.image)) for c in free]


_SCHEMES: dict[
    str,
    Callable[[Sequence[Candidate], Sequence[Candidate], SplitOptions], list[Piece]],
] = {
    "paper": _paper,
    "rectangles": _rectangles,
    "manifest": _manifest,
    "by-image": _by_image,
    "by-specimen": _by_specimen,
    "kfold": _kfold,
}


def _fixed_specimens(images: Sequence[Candidate]) -> dict[str, str]:
    """Return the sides of specimens of which the manifest fixes at least one image."""
    fixed: dict[str, str] = {}
    for c in images:
        if c.side == "auto" or not c.specimen:
            continue
        if fixed.setdefault(c.specimen, c.side) != c.side:
            raise _refused(
                f"the manifest puts specimen {c.specimen!r} on {fixed[c.specimen]} and on {c.side};"
                " one specimen is on one side"
            )
    return fixed


def _shares(names: Sequence[str], options: SplitOptions) -> dict[str, str]:
    """Give each name a side, by shares rounded so that no wanted side stays empty if possible."""
    order = _shuffled(names, options.seed)
    if len(order) < 2:
        raise _refused(
            f"{len(order)} image or specimen cannot be shared out among train and dev; use the "
            f"scheme 'rectangles' or sides in the manifest ({', '.join(order)})"
        )
    counts = _counts(len(order), options.fractions)
    sides = [side for side, count in zip(SIDES, counts, strict=False) for _ in range(count)]
    return dict(zip(order, sides, strict=True))


def _counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Round shares of `total` by largest remainder; train, then dev, then test get at least 1."""
    exact = [f * total for f in fractions]
    counts = [math.floor(e + 1e-9) for e in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_rest[: total - sum(counts)]:
        counts[i] += 1
    for i, f in enumerate(fractions):
        largest = max(range(len(counts)), key=lambda j: (counts[j], -j))
        if f > 0 and counts[i] == 0 and counts[largest] > 1:
            counts[i], counts[largest] = 1, counts[largest] - 1
    return counts


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Order names by a seeded digest: independent of their order and of the machine."""
    return sorted(names, key=lambda n: hashlib.sha256(f"{seed}:{n}".encode()).digest())


def _check_rectangle(side: str, row: Fractions) -> None:
    top, bottom, left, right = row
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        raise _refused(
            f"rectangles.{side}: [top, bottom, left, right] must be fractions with top < bottom "
            f"and left < right, got {list(row)}"
        )


def _region(c: Candidate, row: Fractions) -> Region:
    height, width = c.shape
    region = Region(
        round(row[0] * height), round(row[1] * height), round(row[2] * width), round(row[3] * width)
    )
    if 0 in region.shape:
        raise _refused(f"a rectangle {list(row)} of {c.image} ({height} x {width}) has no pixel")
    return region


def _shrunk(region: Region, rivals: Iterable[Region], band_px: int) -> Region | None:
    kept: Region | None = region
    for rival in rivals:
        if kept is None:
            return None
        zone = Region(
            rival.top - band_px, rival.bottom + band_px, rival.left - band_px, rival.right + band_px
        )
        if kept.overlaps(zone):
            kept = _largest_outside(kept, zone)
    return kept


def _largest_outside(region: Region, zone: Region) -> Region | None:
    """Return the largest part of a rectangle on one side of a zone, or None."""
    r = region
    parts = [
        Region(r.top, min(r.bottom, zone.top), r.left, r.right),
        Region(max(r.top, zone.bottom), r.bottom, r.left, r.right),
        Region(r.top, r.bottom, r.left, min(r.right, zone.left)),
        Region(r.top, r.bottom, max(r.left, zone.right), r.right),
    ]
    parts = [p for p in parts if min(p.shape) > 0]
    return max(parts, key=lambda p: p.shape[0] * p.shape[1], default=None)


def _has_train(pieces: Iterable[Piece]) -> bool:
    return any(p.side == "train" for p in pieces)


def _leak_kind(
    a: Piece, b: Piece, digests: Mapping[str, str], specimens: Mapping[str, str]
) -> str | None:
    if a.image == b.image:
        return "overlap" if a.region.overlaps(b.region) else None
    digest = digests.get(a.image)
    if digest is not None and digest == digests.get(b.image):
        return "content" if a.region.overlaps(b.region) else None
    specimen = specimens.get(a.image)
    return "specimen" if specimen and specimen == specimens.get(b.image) else None


def _refused(message: str) -> SettingsRefused:
    return SettingsRefused("split", "E_CONFIG", message)
