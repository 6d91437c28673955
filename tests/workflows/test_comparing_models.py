"""Finding, describing, comparing and exporting models: by name or path, whole or not at all."""

import json
from dataclasses import asdict, replace

import pytest
from drawing import LINES, VOIDS, discs, field

from defectops.errors import InputRefused, IntegrityFault, ModelRefused
from defectops.experiments.registry import RecordingRegistry
from defectops.imaging.appearance import appearances, envelope_of
from defectops.learning.bundle import Bundle, load_bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.learning.verifying import freeze
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import save_fields
from defectops.workflows.comparing_models import as_mapping, compare
from defectops.workflows.describing_models import described, differences
from defectops.workflows.exporting_models import card_of, export_model
from defectops.workflows.model_finding import find_model
from defectops.workflows.verifying_models import verify_path

TINY = NetworkSpec(width=0.1)
MODEL = "defectops-voids"
LABEL = discs((96, 128), (20, 30), (60, 90), (70, 20), radius=7)
GATE = [field(LABEL, 3.0 * LABEL), field(LABEL.T[:96], 3.0 * LABEL.T[:96], image="b.png")]


def made(seed, kind=VOIDS, trained_on="train.png", **settings):
    """Return an untrained model that answers otherwise for each seed."""
    piece = field(LABEL, 3.0 * LABEL)
    return freeze(
        Bundle(
            TINY,
            build(TINY, seed).state_dict(),
            asdict(kind),
            {"clip_sd": 6.0},
            0.5,
            envelope_of(appearances(piece.intensity), [0.5]),
            {
                "settings": {"preset": "quick", "seed": seed, **settings},
                "train_regions": [[trained_on, 0, 96, 0, 128, ""]],
                "metrics": {"dev_iou": 0.5},
            },
        ),
        [piece],
    )


class Shop:
    """A project with registered versions and a gate pack."""

    def __init__(self, root):
        self.root, self.registry = root, RecordingRegistry()
        save_fields(root / "split/voids/gate.npz", GATE)

    def add(self, bundle, card=""):
        path = self.root / "new.safetensors"
        save_bundle(path, bundle)
        tags = {"preset": "quick"}
        number = self.registry.submit(MODEL, path, "run", {"iou": 0.5}, tags, card)
        return self.find(f"voids/{number}")

    def find(self, text):
        kinds = {"voids": VOIDS, "dislocations": LINES}
        return find_model(text, lambda: (kinds, self.registry), self.root / "scratch")

    def compare(self, one, two):
        return compare(self.root, one, two, MeasureOptions())


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def no_store():
    raise AssertionError("a path needs no registry")


def test_a_version_is_found_with_its_aliases(shop):
    shop.add(made(1), "# Card\n")
    shop.registry.set_alias(MODEL, "champion", 1)
    found = shop.find("voids@champion")
    assert (found.name, found.defect.key, found.aliases) == (f"{MODEL}/1", "voids", ("champion",))
    assert found.card == card_of(found) == "# Card\n"
    assert load_bundle(found.path, found.sha256).threshold == found.bundle.threshold


def test_a_path_needs_no_registry(shop, tmp_path):
    exported = export_model(shop.add(made(1), "# Card\n"), tmp_path / "out")
    for text in (str(exported), str(exported / "model.safetensors")):
        found = find_model(text, no_store, tmp_path)
        assert (found.name, found.version, found.defect.key) == (text, None, "voids")
    assert find_model(str(exported), no_store, tmp_path).card == "# Card\n"


def test_a_damaged_version_is_not_found(shop):
    shop.add(made(1))
    shop.registry.stored[MODEL, 1] += b"\0"
    with pytest.raises(IntegrityFault, match="E_DIGEST"):
        shop.find("voids/1")


def test_what_is_known_is_plain_and_complete(shop):
    facts = described(shop.add(made(7, epochs=3)))
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["version"]["name"] == f"{MODEL}/1"
    assert facts["training"] == {"epochs": 3, "preset": "quick", "seed": 7, "threads": None}
    assert facts["scores"] == {"iou": 0.5}
    assert facts["range"]["pixel_size_nm_low"] == 0.5
    assert facts["data"]["trained_on"][0]["image"] == "train.png"
    assert facts["operation"]["frozen_test_px"] == [96, 96]


def test_differences_are_named_and_nothing_else(shop):
    one, two = (described(shop.add(made(s, **more))) for s, more in ((1, {}), (2, {"epochs": 3})))
    rows = {(r["section"], r["name"]): (r["a"], r["b"]) for r in differences(one, two)}
    assert rows["training", "seed"] == (1, 2)
    assert rows["training", "epochs"] == (None, 3)
    assert ("training", "preset") not in rows
    assert ("network", "width") not in rows
    assert differences(one, one) == []
    everything = differences(one, one, everything=True)
    assert all(r["same"] for r in everything)
    assert ("network", "width") in {(r["section"], r["name"]) for r in everything}


@pytest.mark.slow
def test_two_models_are_measured_on_the_same_fields(shop):
    found = shop.compare(shop.add(made(1)), shop.add(made(2)))
    assert (found.reason, found.images) == ("", ["a.png", "b.png"])
    rows = {row["score"]: row for row in found.scores}
    iou = rows["iou"]
    assert iou["change"] == pytest.approx(iou["b"] - iou["a"])
    assert iou["change_low"] <= iou["change"] <= iou["change_high"]
    assert rows["number_density_error_percent"]["change_unit"] == "percentage points"
    names = [row["quantity"] for row in found.quantities]
    assert {"number_density", "mean_diameter", "sd_diameter"} <= set(names)
    label = next(r for r in found.quantities if r["quantity"] == "mean_diameter")
    assert label["unit"] == "nm"
    assert label["label"] == pytest.approx(7.5, rel=0.1)  # discs of 15 px at 0.5 nm
    assert json.loads(json.dumps(as_mapping(found), allow_nan=False))["reason"] == ""


def test_a_model_against_itself_has_not_changed(shop):
    one = shop.add(made(1))
    for row in shop.compare(one, one).scores:
        assert row["change"] in (0.0, None)
        assert row["a"] == row["b"]


def test_what_cannot_be_compared_says_why(shop, tmp_path):
    one = shop.add(made(1))
    seen = shop.add(made(2, trained_on="b.png"))
    assert "trained on pixels of the gate pack (b.png)" in shop.compare(one, seen).reason
    assert "trained on pixels of the gate pack (b.png)" in shop.compare(seen, one).reason
    other = shop.add(replace(made(3), conditioning={"clip_sd": 3.0}))
    assert "conditioned otherwise" in shop.compare(one, other).reason
    lines = replace(one, defect=LINES)
    assert "not found on the same micrographs" in shop.compare(one, lines).reason
    (tmp_path / "split/voids/gate.npz").unlink()
    assert shop.compare(one, one).reason.startswith("there is no gate pack here")


def test_an_export_is_whole_and_replaces_only_exports(shop, tmp_path):
    found, out = shop.add(made(1)), tmp_path / "deep" / "out"
    assert export_model(found, out) == out
    assert verify_path(out, found.sha256).sha256 == found.sha256
    assert (out / "MODEL_CARD.md").read_text() == card_of(found)
    with pytest.raises(InputRefused, match="out: E_EXISTS: is there already"):
        export_model(found, out)
    second = shop.add(made(2))
    export_model(second, out, force=True)
    assert verify_path(out).sha256 == second.sha256
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_force_never_replaces_what_is_no_export(shop, tmp_path):
    found = shop.add(made(1))
    thesis, file, link = tmp_path / "thesis", tmp_path / "file", tmp_path / "link"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    file.write_text("")
    link.symlink_to(thesis)
    for target, kind in ((thesis, ModelRefused), (file, InputRefused), (link, InputRefused)):
        with pytest.raises(kind):
            export_model(found, target, force=True)
    assert (thesis / "chapter.tex").read_text() == "years of work"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert verify_path(export_model(found, empty, force=True))


def test_an_export_that_fails_leaves_what_was_there(shop, tmp_path):
    found, out = shop.add(made(1)), tmp_path / "out"
    export_model(found, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    found.path.unlink()
    with pytest.raises(OSError, match="safetensors"):
        export_model(found, out, force=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert not list(tmp_path.glob(".out-*"))
