"""Settings: strict reading into dataclasses, and YAML that tries to do more than hold values."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import pytest

from defectops import settings
from defectops.dataset.patches import PatchOptions
from defectops.dataset.splits import SplitOptions
from defectops.errors import SettingsRefused
from defectops.experiments.promotion import PromotionOptions
from defectops.imaging.conditioning import ConditioningOptions
from defectops.imaging.tiling import TilingOptions
from defectops.learning.networks import NetworkSpec
from defectops.learning.training import TrainingOptions
from defectops.measurement.quantities import MeasureOptions


@dataclass(frozen=True)
class Inner:
    depth: int = 1
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    kind: Literal["x", "y"] = "x"
    on: bool = False
    pair: tuple[int, int] = (1, 2)
    inner: Inner = field(default_factory=Inner)
    more: Mapping[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    "owner",
    [
        ConditioningOptions,
        SplitOptions,
        PromotionOptions,
        MeasureOptions,
        TilingOptions,
        PatchOptions,
        TrainingOptions,
        NetworkSpec,
    ],
)
def test_every_section_can_be_read_and_names_what_it_does_not_know(owner):
    assert settings.read(None, owner, "here") == owner()
    name = fields(owner)[0].name
    with pytest.raises(SettingsRefused, match=f"unknown key '{name}x' .did you mean '{name}'"):
        settings.read({name + "x": 1}, owner, "here")


def test_values_arrive_with_their_types():
    given = {"name": "b", "kind": "y", "on": True, "pair": [3, 4], "inner": {"share": 1}}
    found = settings.read(given, Outer, "here")
    assert found == Outer("b", "y", on=True, pair=(3, 4), inner=Inner(1, 1.0))
    assert isinstance(found.inner.share, float)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"on": 1}, "on: Input should be a valid boolean, got 1"),
        ({"on": "true"}, "on: .* got 'true'"),
        ({"name": 5}, "name: .* got 5"),
        ({"kind": "z"}, "kind: Input should be 'x' or 'y', got 'z'"),
        ({"pair": [1]}, "pair"),
        ({"pair": [1, 2, 3]}, "pair"),
        ({"pair": [1, 2.5]}, "pair"),
        ({"inner": {"depth": True}}, "inner.depth: .* got True"),
        ({"inner": {"depth": "1"}}, "inner.depth: .* got '1'"),
        ({"inner": {"depth": 1.0}}, "inner.depth"),
        ({"inner": {"share": float("nan")}}, "inner.share: .*finite"),
        ({"inner": {"share": float("inf")}}, "inner.share: .*finite"),
        ({"inner": {"share": 10**400}}, "inner.share"),
        ({"inner": 5}, "inner"),
        ({"inner": None}, "inner"),
        ({"more": {"a": "b"}}, "more.a"),
        ({"nmae": 1}, r"here: E_CONFIG: unknown key 'nmae' \(did you mean 'name'\?\)"),
        ({"inner": {"depht": 1}}, r"here\.inner: E_CONFIG: unknown key 'depht' .*'depth'"),
        ({"zzz": 1}, "allowed are inner, kind, more, name, on, pair"),
        ({1: 2}, "unknown key '1'"),
        ({"more": {(1, 2): 3}}, "invalid key"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(wrong, says):
    with pytest.raises(SettingsRefused, match=says) as caught:
        settings.read(wrong, Outer, "here")
    assert caught.value.code == "E_CONFIG"
    assert "\n" not in str(caught.value)


def test_a_long_value_is_shown_in_part():
    with pytest.raises(SettingsRefused) as caught:
        settings.read({"on": "x" * 100_000}, Outer, "here")
    assert len(str(caught.value)) < 300


def refused(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.perf_counter()
    with pytest.raises(SettingsRefused, match="E_CONFIG") as caught:
        settings.load_yaml(path)
    assert time.perf_counter() - started < 5
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch CANARY']",
        "a: !<tag:yaml.org,2002:python/name:os.system> x",
        "a: !unknown b",
        "a: !!bool maybe",  # a KeyError inside the constructor
        "a: !!int ''",  # an IndexError
        "a: !!float ''",
        "a: !!float abc",
        "a: !!timestamp foo",
        "a: 2001-99-99",
        "a: !!str [1]",
        "a: !!omap [1]",
        "? {a: b}\n: c",
        "a: *nobody",
        "a: &a [*a]",
        "a: &a {b: 1}\nc:\n  <<: *a",
        "a: 1\na: 2",
        "a: " + "9" * 5000,
        "\ta: b",
        "%YAML 9.9\n---\na: 1",
        "a\n---\nb",
        "[1, 2]",
        "5",
        "\0",
        b"\xff\xfea",
        "a: " + "[" * 60 + "]" * 60,
        "a: [" + "1," * 50_000 + "]",
        "a: " + "x" * 1_000_001,
    ],
)
def test_yaml_that_is_more_than_values_is_refused(text, tmp_path):
    refused(tmp_path, text)
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


def test_aliases_that_multiply_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "aliases multiply" in refused(tmp_path, "\n".join(lines))


def test_an_alias_that_does_no_harm_is_allowed(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: &a [1, 2]\nb: *a\n")
    assert settings.load_yaml(path) == {"a": [1, 2], "b": [1, 2]}


def test_an_empty_file_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"")
    assert settings.load_yaml(path) == {}
    path.write_bytes(b"\xef\xbb\xbfa: 1e-3\n")
    assert settings.load_yaml(path) == {"a": 0.001}


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(SettingsRefused, match="no such file"):
        settings.load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(SettingsRefused, match="not a regular file"):
        settings.load_yaml(tmp_path)


def test_editing_keeps_comments_and_order(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("# first\nb: 1  # why\na:\n  - 2\n")
    yaml, data = settings.edit_yaml(path)
    data["b"] = 5
    assert settings.dump_yaml(yaml, data).startswith("# first\nb: 5  # why\na:\n")


def test_the_store_of_a_folder_with_odd_characters_is_quoted(tmp_path, monkeypatch):
    odd = tmp_path / "50% why?"
    assert settings.tracking_uri(odd).endswith("/50%25 why%3F/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert settings.tracking_uri(odd) == "http://there"
