"""params.yaml: defaults, overrides, and names that nobody knows."""

from dataclasses import dataclass

import pytest

from defectops.errors import SettingsRefused
from defectops.workflows.parameters import load_parameters


@dataclass(frozen=True)
class Options:
    width: float = 1.0
    height: float = 2.0


@pytest.fixture
def params(tmp_path):
    def write(text):
        (tmp_path / "params.yaml").write_text(text)
        return load_parameters(tmp_path)

    return write


def test_what_one_type_says_wins_over_the_default(params):
    given = params("defects: {voids: {}}\nx: {default: {width: 3, height: 4}, voids: {width: 5}}")
    assert given.options("x", "voids", Options) == Options(5, 4)


@pytest.mark.parametrize("section", ["", "x:", "x: {}", "x: {default: }", "x: {voids: }"])
def test_what_is_not_there_is_empty(params, section):
    given = params(f"defects: {{voids: {{}}}}\n{section}")
    assert given.options("x", "voids", Options) == Options()


def test_defects_keep_the_order_of_the_file(params):
    given = params("defects: {voids: {}, dislocations: {}}")
    assert list(given.defects) == ["voids", "dislocations"]


def test_a_type_of_the_users_own_is_known(params):
    given = params("defects: {gamma_prime: {shape: particle, polarity: dark}}")
    kind = given.defect("gamma_prime")
    assert (kind.shape, kind.polarity, kind.model_name) == (
        "particle",
        "dark",
        "defectops-gamma_prime",
    )


def test_a_type_that_the_file_does_not_name_is_refused_with_the_nearest(params):
    given = params("defects: {voids: {}, dislocations: {}}")
    with pytest.raises(SettingsRefused, match=r"dislocatons.*did you mean 'dislocations'"):
        given.defect("dislocatons")


def test_an_override_for_nobody_is_refused(params):
    given = params("defects: {voids: {}}\nx: {default: {}, viods: {width: 5}}")
    with pytest.raises(SettingsRefused, match=r"x.*viods.*did you mean 'voids'"):
        given.options("x", "voids", Options)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("defects: [voids]", "params.yaml: defects"),
        ("defects: {voids: {}}\nx: 3", "params.yaml: x"),
        ("defects: {voids: {}}\nx: {default: 3}", "params.yaml: x.default"),
        ("defects: {voids: {}}\nx: {voids: [3]}", "params.yaml: x.voids"),
    ],
)
def test_what_must_be_a_mapping_and_is_not_is_refused(params, text, where):
    with pytest.raises(SettingsRefused, match=rf"^{where}: E_CONFIG: must be a mapping"):
        params(text).options("x", "voids", Options)


def test_an_unknown_option_names_file_section_and_type(params):
    given = params("defects: {voids: {}}\nx: {voids: {widht: 5}}")
    with pytest.raises(SettingsRefused, match=r"params.yaml: x.voids.*widht.*did you mean 'width'"):
        given.options("x", "voids", Options)
