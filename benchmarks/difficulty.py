"""Is the synthetic set as hard as reality? Two baselines that see no context, and statistics.

Run: python benchmarks/difficulty.py [--data FOLDER] [--shared FOLDER] [--json]

Without --data the set is drawn first (preset paper). The split is the paper's; thresholds are
chosen on dev, scores are pooled over the test rectangles of both micrographs of a defect.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from defectops.defects import BUILT_IN
from defectops.micrograph import Region
from defectops.workflows.synthesising import synthesise

Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SEED = 20190905
IMAGES = {
    "dislocations": ("ht9_dislocations_1", "ht9_dislocations_2"),
    "precipitates": ("ht9_irradiated_1", "ht9_irradiated_2"),
    "voids": ("ht9_irradiated_1", "ht9_irradiated_2"),
}
TRAIN = (Region(0, 1024, 0, 1024), Region(0, 1024, 1024, 2048), Region(1024, 2048, 0, 1024))
DEV = Region(1024, 1536, 1024, 2048)
TEST = Region(1536, 2048, 1024, 2048)

# A global threshold may reach this at most; a pixel classifier must stay below the paper's row.
THRESHOLD_LIMIT = {"dislocations": 0.25, "precipitates": 0.40, "voids": 0.60}
PAPER_IOU = {"dislocations": 0.4434, "precipitates": 0.5985, "voids": 0.8119}

SCALES_PX = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Score:
    """One baseline on one defect: its dev and test IoU, and the most it may reach."""

    defect: str
    baseline: str
    setting: str
    dev_iou: float
    test_iou: float
    limit: float

    @property
    def hard_enough(self) -> bool:
        """Whether the baseline stays within its limit."""
        return self.test_iou <= self.limit


@dataclass(frozen=True)
class Texture:
    """Statistics of one picture, all in parts of its grey range (1st to 99th percentile).

    Parameters
    ----------
    noise : float
        Standard deviation from pixel to pixel, from a Laplacian difference.
    background : float
        Standard deviation of the picture smoothed by 8 px, outside the labels.
    contrast : float
        Mean difference between labelled pixels and a ring around them; empty without label.
    contrast_to_noise : float
        The same difference over the standard deviation inside that ring.
    """

    picture: str
    noise: float
    background: float
    contrast: float | None
    contrast_to_noise: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; exit status 1 if a baseline passes its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="data folder; drawn if not given")
    parser.add_argument("--shared", type=Path, default=_shared(), help="real pictures to compare")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--defects", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    parser.add_argument("--no-forest", action="store_true", help="leave the slow baseline out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or Path(folder)
        if given.data is None:
            synthesise(data, "paper", given.seed)
        scores = list(_scores(data, given.defects, not given.no_forest))
        textures = list(_textures(data, given.shared))
    _show(scores, textures, given)
    return 0 if all(s.hard_enough for s in scores) else 1


def _shared() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("DEFECTOPS_SHARED", beside))


def _scores(data: Path, defects: Sequence[str], forest: bool) -> Iterator[Score]:
    for defect in defects:
        pictures = [_load(data, defect, stem) for stem in IMAGES[defect]]
        yield best_threshold(defect, pictures)
        if forest:
            yield pixel_forest(defect, pictures)


def _load(data: Path, defect: str, stem: str) -> tuple[Plane, Mask]:
    """Return a micrograph in which the defect is bright, and its label."""
    pixels = _grey(data / "micrographs" / f"{stem}.png")
    label = _grey(data / "labels" / defect / f"{stem}.png") > 127
    return (pixels if BUILT_IN[defect].polarity == "bright" else -pixels), label


def _grey(path: Path) -> Plane:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32)


def best_threshold(defect: str, pictures: Sequence[tuple[Plane, Mask]]) -> Score:
    """Take the best of nine pre-treatments: background widths times smoothing widths, on dev."""
    best: tuple[float, float, str] = (-1.0, 0.0, "")
    for background_px in (16, 48, 128):
        for smooth_px in (0, 1.5, 3):
            flat = [_flat(p, background_px, smooth_px) for p, _ in pictures]
            threshold, dev = _choose(flat, pictures)
            if dev > best[0]:
                test = _iou(flat, pictures, TEST, threshold)
                best = (dev, test, f"background {background_px} px, smoothed {smooth_px} px")
    dev, test, setting = best
    return Score(defect, "threshold", setting, dev, test, THRESHOLD_LIMIT[defect])


def _flat(pixels: Plane, background_px: float, smooth_px: float) -> Plane:
    flat = pixels - ndimage.gaussian_filter(pixels, background_px, truncate=3)
    smoothed: Plane = ndimage.gaussian_filter(flat, smooth_px)
    return smoothed


def pixel_forest(defect: str, pictures: Sequence[tuple[Plane, Mask]]) -> Score:
    """Train a random forest on single pixels, each described at five scales."""
    random = np.random.default_rng(0)
    described = [_features(pixels) for pixels, _ in pictures]
    rows, truth = [], []
    for features, (_, label) in zip(described, pictures, strict=True):
        for region in TRAIN:
            x, y = _sample(random, features[(..., *region.slices)], label[region.slices])
            rows.append(x)
            truth.append(y)
    forest = RandomForestClassifier(
        n_estimators=60, min_samples_leaf=8, max_features="sqrt", n_jobs=1, random_state=0
    )
    forest.fit(np.concatenate(rows), np.concatenate(truth))
    chances = [_chances(forest, f) for f in described]
    threshold, dev = _choose(chances, pictures)
    test = _iou(chances, pictures, TEST, threshold)
    setting = f"{len(forest.estimators_)} trees, {described[0].shape[0]} features"
    return Score(defect, "pixel forest", setting, dev, test, PAPER_IOU[defect])


def _features(pixels: Plane) -> npt.NDArray[np.float32]:
    """Intensity, slope, curvatures and local spread at each scale; shape (features, H, W)."""
    flat = pixels - ndimage.gaussian_filter(pixels, 96, truncate=3)
    flat /= flat.std()
    planes = []
    for sigma in SCALES_PX:
        smooth = ndimage.gaussian_filter(flat, sigma)
        down, right = np.gradient(smooth)
        hrr, hrc = np.gradient(down)
        _, hcc = np.gradient(right)
        middle, spread = (hrr + hcc) / 2, np.hypot((hrr - hcc) / 2, hrc)
        square = ndimage.gaussian_filter(flat * flat, sigma)
        planes += [smooth, np.hypot(down, right), middle + spread, middle - spread]
        planes.append(np.sqrt(np.maximum(square - smooth * smooth, 0)))
    return np.stack(planes).astype(np.float32)


def _sample(
    random: np.random.Generator, features: npt.NDArray[np.float32], label: Mask
) -> tuple[npt.NDArray[np.float32], Mask]:
    """Draw 20,000 pixels of a rectangle, up to half of them defect."""
    flat = label.ravel()
    defect, rest = np.flatnonzero(flat), np.flatnonzero(~flat)
    chosen = random.permutation(defect)[:10_000]
    chosen = np.concatenate([chosen, random.permutation(rest)[: 20_000 - chosen.size]])
    return features.reshape(features.shape[0], -1)[:, chosen].T, flat[chosen]


def _chances(forest: RandomForestClassifier, features: npt.NDArray[np.float32]) -> Plane:
    """Probability of the defect in dev and test; 0 elsewhere, where nobody asks."""
    out = np.zeros(features.shape[1:], dtype=np.float32)
    for region in (DEV, TEST):
        x = features[(..., *region.slices)].reshape(features.shape[0], -1).T
        out[region.slices] = forest.predict_proba(x)[:, 1].reshape(region.shape)
    return out


def _choose(planes: Sequence[Plane], pictures: Sequence[tuple[Plane, Mask]]) -> tuple[float, float]:
    """Return the threshold with the best IoU on dev, and that IoU."""
    values = np.concatenate([p[DEV.slices].ravel() for p in planes])
    candidates = np.unique(np.quantile(values, np.linspace(0.5, 0.9995, 250)))
    scores = [_iou(planes, pictures, DEV, t) for t in candidates]
    best = int(np.argmax(scores))
    return float(candidates[best]), scores[best]


def _iou(
    planes: Sequence[Plane],
    pictures: Sequence[tuple[Plane, Mask]],
    region: Region,
    threshold: float,
) -> float:
    both = either = 0
    for plane, (_, label) in zip(planes, pictures, strict=True):
        found, true = plane[region.slices] > threshold, label[region.slices]
        both += int(np.count_nonzero(found & true))
        either += int(np.count_nonzero(found | true))
    return both / max(either, 1)


def _textures(data: Path, shared: Path) -> Iterator[Texture]:
    """Our pictures beside real ones; ours also reduced to the scale of the paper's figures."""
    for defect, factor in (("dislocations", 3.48), ("voids", 3.41)):
        for stem in IMAGES[defect]:
            pixels = _grey(data / "micrographs" / f"{stem}.png")
            label = _grey(data / "labels" / defect / f"{stem}.png") > 127
            yield _texture(f"{stem} ({defect})", pixels, label, None)
            small, small_label = _reduced(pixels, factor), _reduced(label * 255.0, factor) > 100
            yield _texture(f"{stem} ({defect}), figure scale", small, small_label, None)
    crops = shared / "data" / "defectsegnet-figure-crops"
    for name in ("dislocation_dev_half", "void_training1"):
        if (crops / name).is_dir():
            label, ignore = (
                _grey(crops / name / f"{n}.png") > 127 for n in ("ground_truth", "ignore")
            )
            yield _texture(f"REAL {name}", _grey(crops / name / "image.png"), label, ignore)
    for pattern in ("cosmic-clean-bf-tem/images/*.png", "ti-loops-insitu-tem/images/*.jpg"):
        for path in sorted((shared / "data").glob(pattern))[:4]:
            yield _texture(f"REAL {path.parts[-3]}/{path.name}", _grey(path), None, None)


def _reduced(pixels: npt.NDArray[Any], factor: float) -> Plane:
    size = tuple(round(n / factor) for n in pixels.shape[::-1])
    picture = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(picture.resize((size[0], size[1]), Image.Resampling.BOX), dtype=np.float32)


def _texture(picture: str, pixels: Plane, label: Mask | None, ignore: Mask | None) -> Texture:
    low, high = np.percentile(pixels, (1, 99))
    scaled = (pixels - low) / max(float(high - low), 1.0)
    counts = np.ones(pixels.shape, dtype=bool) if ignore is None else ~ignore
    outside = counts if label is None else counts & ~ndimage.binary_dilation(label, iterations=3)
    # Immerkaer 1996 (doi:10.1006/cviu.1996.0060): blind to planes and edges of any direction.
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6
    noise = 1.4826 * float(np.median(np.abs(ndimage.convolve(scaled, mask)[counts])))
    background = float(ndimage.gaussian_filter(scaled, 8)[outside].std())
    if label is None:
        return Texture(picture, noise, background, None, None)
    near = ndimage.binary_dilation(label, iterations=3)
    ring = ndimage.binary_dilation(label, iterations=7) & ~near & counts
    difference = abs(float(scaled[label & counts].mean() - scaled[ring].mean()))
    ratio = difference / float(scaled[ring].std())
    return Texture(picture, noise, background, difference, ratio)


def _show(scores: list[Score], textures: list[Texture], given: argparse.Namespace) -> None:
    if given.json:
        rows = [asdict(s) | {"hard_enough": s.hard_enough} for s in scores]
        json.dump({"scores": rows, "textures": [asdict(t) for t in textures]}, sys.stdout, indent=1)
        print()
        return
    print(f"{'defect':14}{'baseline':14}{'dev IoU':>9}{'test IoU':>9}{'limit':>8}  verdict")
    for s in scores:
        verdict = "ok" if s.hard_enough else "TOO EASY"
        numbers = f"{s.dev_iou:9.3f}{s.test_iou:9.3f}{s.limit:8.3f}"
        print(f"{s.defect:14}{s.baseline:14}{numbers}  {verdict}; {s.setting}")
    print(f"\n{'picture':58}{'noise':>8}{'backgr.':>8}{'contrast':>9}{'CNR':>7}")
    for t in textures:
        pair = ("" if v is None else f"{v:.3f}" for v in (t.contrast, t.contrast_to_noise))
        print(f"{t.picture:58}{t.noise:8.3f}{t.background:8.3f}{next(pair):>9}{next(pair):>7}")
    if not (given.shared / "data").is_dir():
        print("(no real pictures beside this checkout: set --shared or DEFECTOPS_SHARED)")


if __name__ == "__main__":
    sys.exit(main())
