"""A batch of small drawn micrographs, measured by a model that sees what is bright."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import tifffile
from drawing import discs

from defectops.batch.engine import run
from defectops.batch.items import find_items
from defectops.batch.ledger import Ledger, Parts
from defectops.defects import register
from defectops.experiments import journal
from defectops.experiments.champions import Champion, Places, write_champion
from defectops.learning.bundle import Bundle, file_sha256, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.learning.views import ViewOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material
from defectops.workflows.batch_choosing import BatchRequest, Bench, Segmenter
from defectops.workflows.batch_measuring import Source, measure_image
from defectops.workflows.batch_summary import write_results

SHAPE = (150, 190)
TYPES = register({"voids": {}, "dislocations": {"polarity": "bright"}})
SPEC = NetworkSpec(width=0.1)
CENTRES = ((30, 30), (30, 90), (75, 60), (110, 120), (60, 150), (120, 30))


def picture(seed):
    """Return bright discs, one of them faint, on noise, 8 bit."""
    random = np.random.default_rng(seed)
    plane = random.normal(60, 3, SHAPE)
    centres = [(r + seed, c + 2 * seed) for r, c in CENTRES]
    plane[discs(SHAPE, *centres[:-1], radius=9)] += 120
    plane[discs(SHAPE, centres[-1], radius=9)] += 60
    plane[138:142, 20:160] += 120
    plane[6:10, 60:170] += 120
    return plane.clip(0, 255).astype(np.uint8)


def sees(plane):
    """Return what the model says: surer where brighter."""
    return (1 / (1 + np.exp(-(plane - 1.0) * 2))).astype(np.float32)


def model(defect, threshold=0.5, envelope=None):
    """Return a loaded model."""
    kind = {"polarity": defect.polarity}
    conditioning = {"background_sigma_px": 0.0, "variance_sigma_px": 0.0}
    bundle = SimpleNamespace(
        threshold=threshold, envelope=envelope or {}, defect=kind, conditioning=conditioning
    )
    return SimpleNamespace(bundle=bundle, probability=sees)


def bench(root, *keys, envelope=None, **request):
    """Return what a batch is carried out with; champions as `promote` in a folder."""
    segmenters = []
    for key in keys or ("voids",):
        defect = TYPES[key]
        places = Places(root, key, defect.model_name)
        sha256 = file_sha256(places.bundle) if places.bundle.is_file() else "0" * 64
        seen = model(defect, envelope=envelope)
        options = MeasureOptions(detail="main")
        views = ViewOptions(mirrored=request.get("mirrored_views", False))
        segmenters.append(
            Segmenter(defect, seen, defect.model_name, 3, sha256, options, Material(), views)
        )
    told = BatchRequest(**{"defects": ("all",), "check": 1, **request})
    return Bench(told, tuple(segmenters), "none")


def promoted(root, key="voids", data="d" * 64, version=3):
    """Write a champion with its journal."""
    defect = TYPES[key]
    places = Places(root, key, defect.model_name)
    places.bundle.parent.mkdir(parents=True, exist_ok=True)
    kind = {n: getattr(defect, n) for n in ("key", "shape", "polarity", "colour")}
    weights = build(SPEC, version).state_dict()
    bundle = Bundle(SPEC, weights, kind, {}, 0.5, {}, {"data_sha256": data})
    sha256 = save_bundle(places.bundle, bundle)
    line = journal.Entry(
        "2026-11-22T05:00:00Z",
        "tester",
        None,
        version,
        "",
        "pass",
        "e" * 64,
        {"to_sha256": sha256, "data_sha256": data},
    )
    head = journal.append(places.journal, line)
    length = len(journal.read(places.journal))
    write_champion(
        places,
        Champion(defect.model_name, version, "r", sha256, 0.5, "pass", head.sha256, length),
    )


def write_pictures(folder, count=2, sidecar=True):
    """Write micrographs with their calibration beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"pixel_size_nm": 0.5, "thickness_nm": 100.0, "thickness_sd_nm": 10.0}
    for seed in range(count):
        tifffile.imwrite(folder / f"p{seed}.tif", picture(seed))
        if sidecar:
            (folder / f"p{seed}.json").write_text(json.dumps(told))


def carry_out(folder, out, tools, row=None):
    """Measure the pictures of a folder, all with one row of a manifest; write the tables."""
    items = find_items([str(folder)], (".tif",), out)
    with Ledger(out).held() as ledger:
        ledger.begin(tools.as_settings(), items, [[] for _ in items])

        def work(item, digests):
            sha256 = hashlib.sha256(item.path.read_bytes()).hexdigest()
            found = measure_image(Source(item.path, item.name, item.stem, sha256, row), tools)
            return Parts(found.record, found.files, found.kept)

        refused = run(items, work, ledger)
        return write_results(
            out, lambda: iter([k for k in map(ledger.kept, items) if k]), refused, tools
        )
