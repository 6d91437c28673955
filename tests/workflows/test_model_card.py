"""Model cards: what was known is on it, what was not is said, and no name breaks the page."""

from dataclasses import asdict, replace

import pytest

from defectops.defects import register
from defectops.imaging.appearance import Appearance, envelope_of
from defectops.learning.bundle import Bundle
from defectops.learning.networks import NetworkSpec
from defectops.workflows.model_card import model_card

KINDS = register({"voids": {}, "dislocations": {}})
SCORES = {"iou": 0.61234, "precision": 0.7, "recall": 0.8, "pixel_accuracy": 0.99}


@pytest.fixture
def bundle():
    return Bundle(
        NetworkSpec(),
        {},
        asdict(KINDS["voids"]),
        {"clip_sd": 6.0, "background_sigma_px": 96.0},
        0.41,
        envelope_of([Appearance(0.5, 0.1, 0.1, 0.0)], [0.5]),
        {
            "data_sha256": "d" * 64,
            "settings": {"preset": "quick", "seed": 7},
            "metrics": {"dev_iou": 0.65, "epochs_run": 9, "best_epoch": 4},
            "train_regions": [["a.png", 0, 10, 20, 30, "e" * 64]],
            "dev_regions": [["b.png", 0, 10, 20, 30, ""]],
        },
    )


def card(bundle, kind="voids", metrics=SCORES, tags=None):
    return model_card(KINDS[kind], bundle, metrics, tags or {})


@pytest.mark.parametrize(
    "line",
    [
        "# defectops-voids",
        "| IoU | 0.6123 |",
        "| error of the number density | -4.2 % of the label's |",
        "| error of the mean diameter | undefined or not measured |",
        "| preset, seed | quick, 7 |",
        f"| training data, SHA-256 | {'d' * 64} |",
        "| pixel size in nm | 0.4 to 0.625 |",
        "- a.png: 0–10, 20–30, eeeeeeeeeeee",
        "- b.png: 0–10, 20–30",
        "| git commit | abc |",
        "- How good it is on the test side: opened by `evaluate`, after a promotion.",
    ],
)
def test_it_says_what_was_known_and_what_was_not(line, bundle):
    metrics = SCORES | {"number_density_error_percent": -4.21}
    assert line in card(bundle, metrics=metrics, tags={"git.commit": "abc"}).split("\n")


def test_lines_have_scores_of_lines(bundle):
    text = card(bundle, "dislocations", SCORES | {"line_completeness": 0.5})
    assert "| completeness of lines | 0.5000 |" in text
    assert "error of the dislocation density" in text
    assert "object" not in text
    assert "diameter" not in text


def test_a_trial_names_its_descent(bundle):
    study = {"study": "s1", "trial": 4, "parent": 2, "parent_sha256": "f" * 64}
    text = card(replace(bundle, training=bundle.training | {"study": study}))
    assert "| study, trial | s1, 4 |" in text
    assert "| trained further from | trial 2 |" in text
    first = replace(bundle, training=bundle.training | {"study": study | {"parent": None}})
    assert "| trained further from | random weights |" in card(first)


def test_the_same_input_gives_the_same_page(bundle):
    other = replace(bundle, conditioning=dict(reversed(bundle.conditioning.items())))
    assert card(bundle) == card(other, metrics=dict(reversed(SCORES.items())))


def test_many_regions_are_cut_off_and_counted(bundle):
    many = [[f"{i}.png", 0, 1, 0, 1, ""] for i in range(40)]
    text = card(replace(bundle, training=bundle.training | {"train_regions": many}))
    assert "- and 28 more, all named in the bundle" in text
    assert "it has seen 40" in text


def test_a_bare_bundle_has_a_card(bundle):
    text = card(replace(bundle, envelope={}, training={}, conditioning={}), metrics={})
    assert "Nothing is known of the range" in text
    assert "Trained on: not known." in text


def test_a_name_cannot_break_the_page(bundle):
    rows = [["a|b\n# c.png", 0, 1, 0, 1, ""]]
    text = card(replace(bundle, training=bundle.training | {"train_regions": rows}))
    assert "- a\\|b # c.png: 0–1, 0–1" in text
