"""Small fields, and a champion that sees what it is told: shared by the tests here."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from defectops.defects import register
from defectops.micrograph import Calibration, Field, Region

VOIDS = register({"voids": {}})["voids"]
LINES = register({"dislocations": {}})["dislocations"]
PIXEL = Calibration(0.5, "manifest", 100.0, 10.0)


def field(
    label, intensity=None, *, at=(0, 0), image="a.png", ignore=None, calibration=PIXEL, pixels=""
):
    """Return a field whose intensity shows its label, if nothing else is said."""
    label = np.asarray(label, bool)
    shown = label if intensity is None else intensity
    ignore = np.zeros_like(label) if ignore is None else ignore
    rows, columns = label.shape
    region = Region(at[0], at[0] + rows, at[1], at[1] + columns)
    shown = np.asarray(shown, np.float32)
    return Field(image, region, shown, label, ignore, calibration, pixels_sha256=pixels)


def write_split(root, **sides):
    """Write the split.json of voids; no file of a side."""
    pieces = [
        {
            "image": f.image,
            "region": asdict(f.region),
            "side": side,
            "pixels_sha256": f.pixels_sha256,
        }
        for side, fields in sides.items()
        for f in fields
    ]
    path = root / "split/voids/split.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pieces": pieces}))


def discs(shape, *centres, radius=4):
    """Return a mask of discs."""
    rows, columns = np.indices(shape)
    near = [(rows - r) ** 2 + (columns - c) ** 2 <= radius**2 for r, c in centres]
    return np.any(near, axis=0) if near else np.zeros(shape, bool)


def champion(threshold=0.5):
    """Return a model whose probability is the intensity itself."""
    bundle = SimpleNamespace(threshold=threshold, training={"train_regions": []})
    return SimpleNamespace(bundle=bundle, probability=lambda plane: plane)
