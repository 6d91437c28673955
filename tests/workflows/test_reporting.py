"""The report of made-up projects: full, empty, no test set, uncalibrated, no champion."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from defectops.defects import register
from defectops.errors import IntegrityFault
from defectops.workflows.reporting import report

pytestmark = pytest.mark.slow  # seconds in all, and the quick part stays under a minute

LEGEND = np.array([(0, 0, 0), (255, 0, 0), (255, 255, 0), (64, 224, 208)], dtype=np.uint8)
DEFECTS = register({"dislocations": None, "precipitates": None, "voids": None})
IMAGES = {
    "dislocations": ["bright_01.png", "bright_02.png"],
    "precipitates": ["haadf_01.png", "haadf_02.png"],
    "voids": ["haadf_01.png", "haadf_02.png"],
}
DENSITY = {
    "dislocations": ("dislocation_density_skeleton", "m^-2", 8.6e14),
    "precipitates": ("number_density", "m^-3", 7.4e21),
    "voids": ("number_density", "m^-3", 6.6e20),
}


class Project:
    """Writes what the stages would have written, from a seed."""

    def __init__(self, root, defects=("voids",), size=(24, 48), seed=0):
        self.root, self.size = root, size
        self.images = {d: IMAGES[d] for d in defects}
        self.random = np.random.default_rng(seed)
        self.sides = ("dev", "test")

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def table(self, path, rows):
        self.write(path, pd.DataFrame(rows).to_csv(index=False))

    def data(self, source="synthetic", calibrated=True):
        names = sorted({n for names in self.images.values() for n in names})
        self.table(
            "data/manifest.csv",
            [
                {
                    "image": name,
                    "specimen": f"foil {name[:-4]}",
                    "condition": "irradiated" if "haadf" in name else "pristine",
                    "side": "auto",
                    "pixel_size_nm": 0.365 if calibrated else None,
                    "pixel_size_source": "synthesis" if calibrated else "uncalibrated",
                    "thickness_nm": 136 if calibrated else None,
                    "thickness_sd_nm": 7 if calibrated else None,
                    "licence": "CC0-1.0",
                    "source": source,
                }
                for name in names
            ],
        )
        self.write("data.dvc", "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n")
        for defect, images in self.images.items():
            sizes = [{"image": i, "pixel_size_nm": 0.365 if calibrated else None} for i in images]
            self.table(f"prepared/{defect}/summary.csv", sizes)

    def trained(self, defect):
        epochs = np.arange(1, 31)
        rise = 1 - np.exp(-epochs / 6)
        dev = 0.55 * rise + self.random.normal(0, 0.01, 30)
        self.table(
            f"results/curves/{defect}.csv",
            {"epoch": epochs, "train_iou": 0.62 * rise, "dev_iou": dev, "loss": 1 - rise},
        )
        numbers = {"dev_iou": float(dev.max()), "threshold": 0.5, "weights": 349342}
        self.write(f"results/train/{defect}.json", json.dumps(numbers))
        pixels = {"train": 6291456, "dev": 1048576, "test": 1048576 * ("test" in self.sides)}
        record = {
            "options": {"scheme": "paper", "guard_band_px": 0},
            "sides": {
                side: {
                    "images": IMAGES[defect] if count else [],
                    "fields": 2 if count else 0,
                    "pixels": count,
                    "defect_pixels": count // 10,
                    "ignored_pixels": 0,
                }
                for side, count in pixels.items()
            },
            "gate_is": "dev",
            "unused_fraction": 0.0,
            "audit": {
                "content_and_overlap": "no leak",
                "specimen": "not asked by the scheme",
                "specimens_on_several_sides": ["foil haadf_01"],
            },
        }
        self.write(f"split/{defect}/split.json", json.dumps(record))

    def judged(self, defect, outcome, message):
        finding = {"rule": "floor", "outcome": outcome, "message": message}
        found = {"outcome": outcome, "findings": [finding], "moved": False}
        self.write(f"results/promotion/{defect}.json", json.dumps(found))
        self.write(f"results/runs/{defect}.json", json.dumps({"sha256": "ef" * 32}))

    def promoted(self, defect):
        champion = {
            "model": f"defectops-{defect}",
            "version": 1,
            "run_id": "f00dfeed",
            "sha256": "ab" * 32,
            "threshold": 0.465,
            "verdict": "pass",
            "journal_sha256": "cd" * 32,
            "journal_length": 1,
        }
        self.write(f"champions/{defect}.json", json.dumps(champion))

    def evaluated(self, defect, undefined=()):
        rows = []
        for image in IMAGES[defect]:
            for side in self.sides:
                rows.append(self._score(defect, image, side, (image, side) in undefined))
        self.table(f"results/maps/{defect}/scores.csv", rows)
        self.table(f"results/timing/{defect}.csv", [{"image": "a", "step": "s", "seconds": 1.5}])

    def _score(self, defect, image, side, undefined):
        noise = self.random.normal(size=self.size)
        smooth = _smooth(self.random.normal(size=self.size))
        label, found = smooth > 0.8, smooth + 0.1 * noise > 0.9
        if undefined:
            label = found = np.zeros(self.size, bool)
        tp, fp, fn = (label & found).sum(), (~label & found).sum(), (label & ~found).sum()
        folder = self.root / "results" / "maps" / defect
        folder.mkdir(parents=True, exist_ok=True)
        codes = 3 * (label & found) + (~label & found) + 2 * (label & ~found)
        stem = f"{image[:-4]}_{side}"
        Image.fromarray(LEGEND[codes]).save(folder / f"{stem}.png")
        grey = np.clip(90 + 40 * smooth + 18 * noise, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{stem}_micrograph.png")
        ratio = lambda a, b: None if b == 0 else a / b  # noqa: E731
        total = label.size
        return {
            "image": image,
            "side": side,
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": total - tp - fp - fn,
            "pixel_accuracy": 1 - (fp + fn) / total,
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, tp + fn),
            "iou": ratio(tp, tp + fp + fn),
        }

    def quantified(self, defect, truth=True, calibrated=True):
        name, unit, value = DENSITY[defect]
        wanted = [(name, unit, value), ("area_fraction", "1", 0.126)]
        wanted.append(("mean_diameter", "nm" if calibrated else "px", 14.3))
        if not calibrated:
            wanted[0] = (name, unit, None)
            wanted.append(("areal_density", "px^-2", 3.1e-5))
        rows = []
        for quantity, unit, value in wanted:
            for image in (*IMAGES[defect], "pooled"):
                for region in (*self.sides, "dev+test"):
                    for source in ("label", "prediction", *(["truth"] if truth else [])):
                        rows += self._quantity(image, region, source, quantity, value, unit)
        self.table(f"results/quantities/{defect}.csv", rows)
        edges, bins = np.arange(0, 30, 3), "nm" if calibrated else "px"
        counts = [4, 12, 30, 41, 33, 18, 8, 3, 1]
        self.table(
            f"results/histograms/{defect}.csv",
            [
                {"source": s, f"bin_low_{bins}": a, f"bin_high_{bins}": b, "count": c + i}
                for i, s in enumerate(("label", "prediction"))
                for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)
            ],
        )

    def _quantity(self, image, region, source, quantity, value, unit):
        row = {"image": image, "region": region, "source": source, "quantity": quantity}
        row |= {"unit": unit, "level": 0.95, "n": 120}
        if value is None:
            reason = "no pixel size, so no volume"
            return [row | {"value": None, "interval": "material", "method": reason}]
        value *= {"label": 1.0, "prediction": 1.06, "truth": 1.02}[source]
        value *= 1 + self.random.normal(0, 0.01)
        kinds = {"label": ["material"], "prediction": ["material", "model"], "truth": [""]}
        width = {"material": 0.18, "model": 0.07, "": np.nan}
        return [
            row
            | {
                "value": value,
                "low": value * (1 - width[k]),
                "high": value * (1 + width[k]),
                "interval": k,
                "method": "counted",
            }
            for k in kinds[source]
        ]

    def erred(self, defect):
        quantity, unit, value = DENSITY[defect]
        parts = {"label": value, "invented": 0.2 * value, "missed": -0.1 * value}
        parts["prediction"] = 1.1 * value
        same = {"image": "pooled", "region": "dev+test", "quantity": quantity, "unit": unit}
        rows = [same | {"part": part, "value": moved} for part, moved in parts.items()]
        self.table(f"results/error_budget/{defect}.csv", rows)

    def itemised(self, defect, counting=12.0):
        rows = [("dev+test", "prediction", "counting", counting)]
        rows += [
            ("dev+test", "prediction", "thickness", 5.0),
            ("dev", "prediction", "fields", 77.7),
        ]
        rows += [("dev+test", "label", "counting", 88.8)]
        same = {"image": "pooled", "quantity": DENSITY[defect][0], "method": "counted"}
        names = ("region", "source", "component", "relative_sd_percent")
        table = [same | dict(zip(names, row, strict=True)) for row in rows]
        self.table(f"results/budget/{defect}.csv", table)

    def all(self, **options):
        self.data()
        for defect in self.images:
            self.trained(defect)
            self.promoted(defect)
            self.evaluated(defect)
            self.quantified(defect, **options)
        return self

    def report(self):
        report(self.root, [DEFECTS[d] for d in self.images])
        return (self.root / "report" / "index.html").read_text(encoding="utf-8")


def _smooth(plane):
    """Blobs of unit variance, by a Fourier low pass."""
    f = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in plane.shape), indexing="ij"))
    blobs = np.fft.ifft2(np.fft.fft2(plane) * np.exp(-((f * 40) ** 2))).real
    return blobs / blobs.std()


VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Collects what can be checked of a page, and that its tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.text = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [v for k, v in attributes if k in ("href", "src", "xlink:href")]
        self.images += [given] if tag == "img" else []

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def check(html):
    """Check what holds for every page, and return it."""
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert link.startswith(("data:image/", "#"))
        assert not link.startswith("#") or link[1:] in page.ids
    assert all(image["alt"] and image["width"] for image in page.images)
    assert "http" not in html
    assert "<script" not in html
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.words)
    return page


def test_full_project(tmp_path):
    html = Project(tmp_path, defects=IMAGES).all().report()
    page = check(html)
    assert "The data are synthetic." in page.words
    assert "0123456789abcdef0123456789abcdef.dir" in page.words
    assert "10²¹ m⁻³" in page.words
    assert "paper, other data" in page.words
    assert "ab" * 32 in page.words
    assert "f00dfeed" not in html  # a run id differs from run to run
    assert "Nothing: every score and every quantity" in page.words
    assert len(page.images) == 2 * 3 * 2 * 2
    assert "scale bar 2 nm" in page.images[0]["alt"]
    assert "on several sides: foil haadf_01" in page.words


def test_same_bytes_from_another_folder_and_on_the_second_run(tmp_path):
    outputs = []
    for name in ("a", "b", "b"):
        project = Project(tmp_path / name).all()
        project.report()
        files = [*project.root.glob("report/*"), *project.root.glob("results/evaluation/*")]
        outputs.append({f.name: f.read_bytes() for f in files})
    assert outputs[0] == outputs[1] == outputs[2]
    assert str(tmp_path).encode() not in b"".join(outputs[0].values())


def test_times_are_merged_and_stay_out_of_the_page(tmp_path):
    project = Project(tmp_path).all()
    before = project.report()
    project.table("results/timing/voids.csv", [{"image": "z", "step": "quantify", "seconds": 9.75}])
    assert project.report() == before
    times = pd.read_csv(tmp_path / "results" / "timing.csv")
    assert list(times.columns) == ["defect", "image", "step", "seconds"]
    assert times.iloc[-1].tolist() == ["voids", "z", "quantify", 9.75]


def test_table_1_beside_the_page(tmp_path):
    Project(tmp_path, defects=IMAGES).all().report()
    folder = tmp_path / "results" / "evaluation"
    numbers = json.loads((folder / "summary.json").read_text())
    table = pd.read_csv(tmp_path / "results/maps/voids/scores.csv")
    iou = table[table["side"] == "test"]["iou"]
    assert numbers["voids"]["iou"]["mean"] == pytest.approx(iou.mean(), abs=1e-6)
    assert numbers["voids"]["iou"]["sd"] == pytest.approx(iou.std(ddof=1), abs=1e-6)
    assert numbers["voids"]["iou"]["n"] == 2
    rows = [numbers[d]["iou"]["mean"] for d in DEFECTS]
    assert numbers["overall"]["iou"]["mean"] == pytest.approx(np.mean(rows), abs=1e-6)
    expected = f"{100 * iou.mean():.2f} ± {100 * iou.std(ddof=1):.2f}"
    assert expected in (folder / "table1.md").read_text(encoding="utf-8")


def test_project_where_nothing_was_run(tmp_path):
    page = check(Project(tmp_path).report())
    assert "no manifest found" in page.words
    assert "Voids: no champion: no model was trained" in page.words
    assert "No test set." in page.words
    assert "synthetic" not in page.words
    assert json.loads((tmp_path / "results/evaluation/summary.json").read_text()) == {}
    assert (tmp_path / "results/timing.csv").read_text() == "defect,image,step,seconds\n"


def test_no_champion_because_floors_were_missed(tmp_path):
    project = Project(tmp_path, defects=("voids", "precipitates")).all()
    nobody = dict.fromkeys(("version", "run_id", "sha256", "threshold")) | {"verdict": "none"}
    project.write("champions/voids.json", json.dumps(nobody))
    project.judged("voids", "fail", "iou 0.12 is below the floor 0.2")
    for name in ("maps/voids/scores.csv", "quantities/voids.csv", "histograms/voids.csv"):
        (tmp_path / "results" / name).unlink()
    page = check(project.report())
    why = "no champion: floors or margins missed (iou 0.12 is below the floor 0.2)"
    assert f"Voids: {why}; nothing was segmented" in page.words
    assert f"Voids {why}" in page.words
    assert "Voids not measured; see why" in page.words
    assert "No maps: nothing was segmented for this defect type." in page.words


def test_champion_that_was_not_trained_last_is_said(tmp_path):
    project = Project(tmp_path).all()
    project.judged("voids", "inconclusive", "iou is undefined")
    said = "the model trained last is not the champion: the gate did not decide (iou is undefined)."
    assert said in check(project.report()).words
    project.write("results/runs/voids.json", json.dumps({"sha256": "ab" * 32}))
    assert "trained last is not" not in check(project.report()).words


def test_no_test_set(tmp_path):
    project = Project(tmp_path)
    project.sides = ("dev",)
    page = check(project.all().report())
    assert "No test set. No evaluated image lies on the test side" in page.words
    assert "Voids: no test set." in page.words
    assert "Development side, apart" in page.words
    assert "Table 1. Test images" not in page.words
    assert "dev, all images" in page.words
    assert "dev+test" not in page.words


def test_uncalibrated_real_micrographs(tmp_path):
    project = Project(tmp_path)
    project.data(source="SEM, laboratory A", calibrated=False)
    for defect in project.images:
        project.trained(defect)
        project.promoted(defect)
        project.evaluated(defect)
        project.quantified(defect, truth=False, calibrated=False)
    page = check(project.report())
    assert "synthetic" not in page.words
    assert "10⁻⁵ px⁻²" in page.words
    assert "Equivalent-circle diameter / px" in page.words
    assert "scale bar 10 px" in page.images[0]["alt"]
    assert (
        "Number density, dev+test: undefined in label (no pixel size, so no volume)" in page.words
    )
    assert "Truth" not in page.words


def test_one_micrograph_without_a_source_is_enough_not_to_call_the_data_synthetic(tmp_path):
    project = Project(tmp_path).all()
    path = tmp_path / "data/manifest.csv"
    table = pd.read_csv(path)
    table.loc[0, "source"] = None
    table.to_csv(path, index=False)
    assert "The data are synthetic." not in check(project.report()).words


def test_sizes_in_nm_are_said_to_be_in_nm_though_another_image_is_uncalibrated(tmp_path):
    project = Project(tmp_path).all()
    path = tmp_path / "results/quantities/voids.csv"
    table = pd.read_csv(path)
    loose = table[table["quantity"] == "mean_diameter"].assign(image="loose.png", unit="px")
    pd.concat([table, loose]).to_csv(path, index=False)
    page = check(project.report())
    assert "Equivalent-circle diameter / nm" in page.words
    assert "Equivalent-circle diameter / px" not in page.words


def test_densities_per_volume_that_are_absent_have_a_reason(tmp_path):
    project = Project(tmp_path).all()
    path = tmp_path / "results" / "quantities" / "voids.csv"
    table = pd.read_csv(path)
    table[table["quantity"] != "number_density"].to_csv(path, index=False)
    page = check(project.report())
    assert "Voids: no density per volume, because no foil thickness is given" in page.words


def test_the_errors_that_moved_the_density_are_drawn_and_said(tmp_path):
    project = Project(tmp_path).all()
    assert "Label and prediction were not compared." in check(project.report()).words
    project.erred("voids")
    html = project.report()
    page = check(html)
    assert (
        "Number density: Percent of the label's value: invented +20.0, missed −10.0" in page.words
    )
    assert "were not compared" not in page.words
    assert "Voids: from label to prediction" in html


def test_the_budget_of_the_headline_is_drawn_and_printed(tmp_path):
    project = Project(tmp_path, defects=("voids", "precipitates")).all()
    project.itemised("voids")
    html = project.report()
    page = check(html)
    words = page.words.partition("Uncertainty: what the material intervals")[2]
    words = words.partition("Errors: which")[0]
    assert "Number density / % dev+test, all images" in words
    assert re.search(r"Counting 12\.0 .* Thickness 5\.0 .* Combined 13\.0", words)
    assert "77.7" not in words  # another region
    assert "88.8" not in words  # the label's
    assert "Precipitates" not in words
    assert "Voids: components of the uncertainty" in html
    assert page.links.count("#budget") == 2


def test_a_budget_with_an_undefined_component_has_no_sum_and_no_bar(tmp_path):
    project = Project(tmp_path).all()
    project.itemised("voids", counting=None)
    words = check(project.report()).words
    assert re.search(r"Counting – .* Thickness 5\.0 .* Combined –", words)
    assert "nothing counted, so no relative uncertainty" in words


@pytest.mark.parametrize("left", ["no file", "a header", "nothing of the prediction"])
def test_without_a_budget_its_section_is_left_out(tmp_path, left):
    project = Project(tmp_path).all()
    if left != "no file":
        project.itemised("voids")
        path = tmp_path / "results" / "budget" / "voids.csv"
        table = pd.read_csv(path)
        kept = table[:0] if left == "a header" else table[table["source"] == "label"]
        kept.to_csv(path, index=False)
    page = check(project.report())
    assert "budget" not in page.ids
    assert "#budget" not in page.links
    assert "Uncertainty" not in page.words


def test_undefined_score_is_counted_and_said(tmp_path):
    project = Project(tmp_path).all()
    project.evaluated("voids", {("haadf_01.png", "test")})
    page = check(project.report())
    assert "Voids: IoU is undefined on 1 test image" in page.words
    assert "(n = 1)" in page.words


def test_names_from_outside_are_escaped(tmp_path):
    project = Project(tmp_path).all()
    path = tmp_path / "data" / "manifest.csv"
    path.write_text(path.read_text().replace("foil haadf_01", "<b onload=x()>R&D</b>"))
    page = check(project.report())
    assert "<b onload=x()>R&D</b>" in page.words


def test_empty_tables_with_a_header_are_like_none(tmp_path):
    project = Project(tmp_path).all()
    scores = tmp_path / "results/maps/voids/scores.csv"
    for path in (scores, *tmp_path.glob("results/*/voids.csv")):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    page = check(project.report())
    assert "Voids: no training curves were recorded." in page.words
    assert "Voids: no test set." in page.words
    assert "No quantity was measured." in page.words


def test_broken_result_is_one_line(tmp_path):
    project = Project(tmp_path).all()
    project.write("champions/voids.json", "{")
    with pytest.raises(IntegrityFault, match=r"voids\.json: E_RESULT"):
        project.report()
    assert not (tmp_path / "report").exists()
