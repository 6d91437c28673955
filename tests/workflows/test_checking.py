"""Settings files: every mistake is one error, and nothing in them runs or explodes."""

import importlib
import os

import pytest

from defectops.errors import SettingsRefused
from defectops.workflows.checking import SECTIONS, check_settings


@pytest.fixture
def check(tmp_path):
    def call(text):
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return check_settings(path)

    return call


GOOD = """
defects: {voids: {}, loops: {shape: particle, polarity: dark}}
prepare: {default: {}}
split: {default: {scheme: by-image}, loops: {scheme: kfold}}
"""


def test_good_files(check):
    assert check(GOOD) == ["defects", "prepare", "split"]
    assert check("defects: {voids: {}}\ntune: {voids: {space: {loss: [dice]}}}")[1] == "tune"
    assert check("study: {name: first, n_trials: 20, seed: 3}") == ["study"]
    assert check("\ufeffstudy: {name: first, n_trials: 20}\r\n") == ["study"]
    assert check("study: {name: &n first, n_trials: 20, defect: *n}") == ["study"]


@pytest.mark.slow
def test_every_section_has_an_owner_that_exists():
    for section in SECTIONS.values():
        assert hasattr(importlib.import_module(section.module), section.name)


def bomb():
    rows = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        rows.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(rows)


def merge_bomb():
    rows = ["a: &a {x: 1}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        rows.append(f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}")
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("- study\n", "mapping"),
        ("hello", "mapping"),
        ("study: 3", "mapping"),
        ("study: [a]", "mapping"),
        ("study:", "name"),
        ("sduty: {}", "did you mean 'study'"),
        ("study: {name: a, n_trails: 20}", "did you mean 'n_trials'"),
        ("study: {name: a, n_trials: .nan}", "n_trials"),
        ("study: {name: a, n_trials: .inf}", "n_trials"),
        ("study: {name: a, n_trials: -1}", "n_trials"),
        ("study: {name: a, n_trials: 0}", "n_trials"),
        ("study: {name: a, n_trials: 1e99}", "n_trials"),
        ("study: {name: a, n_trials: 20.5}", "n_trials"),
        ("study: {name: a, n_trials: '20'}", "n_trials"),
        ("study: {name: a, n_trials: true}", "n_trials"),
        ("study: {name: a, n_trials: null}", "n_trials"),
        (f"study: {{name: a, n_trials: 1{'0' * 5000}}}", "limit"),
        ("study: {name: ../a, n_trials: 3}", "name"),
        ("study: {name: [a], n_trials: 3}", "name"),
        ("study: {name: a, n_trials: 3, seed: -1}", "seed"),
        ("study: {name: a, name: b, n_trials: 3}", "duplicate"),
        ("study: {1: 2}", "unknown key"),
        ("study:\n\tname: a\n", "not valid YAML"),
        ("study: {name: a, n_trials: 3}\n---\nx: 1\n", "not valid YAML"),
        ("study: !!python/object/apply:os.system ['true']", "Python tags"),
        ("%TAG ! tag:yaml.org,2002:python/\n---\nstudy: !name:os.system {}", "Python tags"),
        ("study: !mine {name: a}", "not valid YAML"),
        ("study: &a {name: *a, n_trials: 3}", "limit"),
        (bomb(), "limit"),
        (merge_bomb(), "merge keys"),
        ("study: " + "[" * 5000 + "]" * 5000, "limit"),
        ("{a: " * 3000 + "1" + "}" * 3000, "limit"),
        ("study: *nothing", "not valid YAML"),
        (bytes(range(256)), "cannot be read"),
        ("study: {name: a, n_trials: 3}".encode("utf-16"), "cannot be read"),
        (b"study: {name: 'a\0b', n_trials: 3}", "not valid YAML"),
        (b"a: 1\n" * 300_000, "limit"),
        ("defects: [voids]", "mapping"),
        ("defects: {voids: 3}", "mapping"),
        ("defects: {1: {shape: line, polarity: dark}}", "name"),
        ("defects: {Loops: {shape: line, polarity: dark}}", "lower-case"),
        ("defects: {loops: {shape: line}}", "polarity"),
        ("defects: {voids: {}}\nsplit: {viods: {}}", "did you mean 'voids'"),
        ("defects: {voids: {}}\nsplit: {voids: {shceme: paper}}", "did you mean 'scheme'"),
        ("defects: {voids: {}}\nsplit: {voids: 3}", "mapping"),
        ("defects: {voids: {}}\ntune: {voids: {trails: 3}}", "did you mean 'trials'"),
        ("defects: {voids: {}}\ntune: {voids: {trials: 0}}", "tune.trials"),
        ("defects: {voids: {}}\ntune: {voids: {sampler: grid}}", "'tpe'"),
        (
            "defects: {voids: {}}\ntune: {voids: {space: {dropuot: {low: 0}}}}",
            "did you mean 'dropout'",
        ),
        ("defects: {voids: {}}\ntune: {voids: {space: {l2: {low: 1}}}}", "low <= high"),
    ],
)
def test_bad_files_are_one_error(check, text, expected):
    with pytest.raises(SettingsRefused) as caught:
        check(text)
    assert caught.value.code == "E_CONFIG"
    assert expected in str(caught.value)
    assert "a.yaml" in caught.value.subject
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("pipe", "dir", "loop", "missing"):
        with pytest.raises(SettingsRefused) as caught:
            check_settings(tmp_path / f"{name}.yaml")
        assert caught.value.code == "E_CONFIG"
