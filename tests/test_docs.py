"""The reference pages say what the code does: commands, error codes, parameters with values."""

import ast
import importlib
import importlib.util
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from defectops.cli.main import NOUNS
from defectops.dataset import synthesis
from defectops.dataset.splits import SplitOptions
from defectops.defects import DefectType
from defectops.errors import DefectopsError
from defectops.experiments.promotion import PromotionOptions
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning.views import ViewOptions
from defectops.measurement.objects import ObjectOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material
from defectops.workflows.checking import SECTIONS, StudyFile
from defectops.workflows.tune_settings import TuneOptions

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CODE = re.compile(r"(?<![A-Z_])[EN]_[A-Z][A-Z_]+(?![a-z])")


def text(name):
    return (DOCS / name).read_text("utf-8")


def tables(page, heading):
    """Rows of the tables below a heading, as lists of cells without the backticks of code."""
    body = re.split(r"^#{1,3} ", page, flags=re.MULTILINE)
    (section,) = [part for part in body if part.partition("\n")[0].strip() == heading]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row.strip("|").split(" | ")] for row in rows]


# Commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cli_page", DOCS / "make_cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_what_the_commands_say(script):
    assert script.page() == text("reference/cli.md"), "run python docs/make_cli_reference.py"


def test_every_command_is_on_the_page_with_an_example(script):
    paths = [context.command_path for context in script.contexts()]
    assert {f"defectops {noun}" for noun in NOUNS} < set(paths)
    assert len(paths) == len(set(paths)) > len(NOUNS) + 1
    page = text("reference/cli.md")
    for context in script.contexts():
        assert f"# `{context.command_path}`\n" in page
        shown = [e for e in script.examples(context.command) if e.startswith("defectops ")]
        assert shown, context.command_path
        assert all(example.startswith(context.command_path) for example in shown)
        assert all(example in page for example in shown)


# Errors --------------------------------------------------------------------------------------


def used_codes():
    """Codes in the strings of the package and its stages, docstrings included."""
    found = set()
    for folder in ("defectops", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.update(CODE.findall(node.value))
    return found


def test_every_error_code_is_documented_and_no_other():
    page = text("reference/error-codes.md")
    used = used_codes()
    assert {"E_TRUNCATED", "E_BUG", "N_NO_BUNDLE"} < used
    assert set(CODE.findall(page)) == used
    listed = re.findall(r"^\| `(E_\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(c for c in used if c.startswith("E_"))


def test_exit_codes_of_the_pages_are_those_of_the_classes():
    def subclasses(cls):
        return {cls} | {s for sub in cls.__subclasses__() for s in subclasses(sub)}

    codes = {str(cls.exit_code) for cls in subclasses(DefectopsError)}
    listed = re.findall(r"^\| (\d+) \|", text("reference/exit-codes.md"), re.MULTILINE)
    assert listed == sorted(listed, key=int)
    assert codes | {"0", "130", "143"} == set(listed)
    page = text("reference/error-codes.md")
    used = re.findall(r"^\| `E_\w+` \| ([^|]+) \|", page, re.MULTILINE)
    assert {code for cell in used for code in cell.split(" or ")} <= set(listed)


# Parameters ----------------------------------------------------------------------------------

PARAMS = text("reference/params.md")
DEFAULTS = {
    "material": [Material],
    "prepare": [ConditioningOptions],
    "split": [SplitOptions],
    "promotion": [PromotionOptions],
    "quantify": [MeasureOptions, ObjectOptions],
    "study": [StudyFile],
    "tune": [TuneOptions],
    "views": [ViewOptions],
}


def default(field):
    return field.default if field.default_factory is MISSING else field.default_factory()


def value(cell):
    return YAML(typ="safe").load(cell)


def plain(found):
    return list(found) if isinstance(found, tuple) else found


def test_every_section_has_a_heading_and_its_owner_is_tested():
    headings = re.findall(r"^## (\w+)$", PARAMS, re.MULTILINE)
    assert set(headings) == {"defects", *SECTIONS}
    assert set(DEFAULTS) | {"train"} == set(SECTIONS)


@pytest.mark.parametrize("section", DEFAULTS)
def test_every_key_of_a_section_is_listed_with_its_default(section):
    listed = {row[0]: row[1] for row in tables(PARAMS, section) if len(row) == 3}
    owned = [field for owner in DEFAULTS[section] for field in fields(owner)]
    assert list(listed) == [f.name for f in sorted(owned, key=lambda f: list(listed).index(f.name))]
    for field in owned:
        expected = default(field)
        if expected is MISSING:
            assert listed[field.name] == "required"
        elif is_dataclass(expected):
            assert listed[field.name] == "see below"
        else:
            assert value(listed[field.name]) == plain(expected), field.name


def test_every_field_of_a_defect_type_is_listed():
    listed = {row[0]: row[1] for row in tables(PARAMS, "defects")}
    assert list(listed) == [f.name for f in fields(DefectType) if f.name != "key"]
    assert value(listed["colour"]) == DefectType.colour


@pytest.mark.slow
def test_every_key_of_a_training_is_listed_with_the_values_of_both_presets():
    # Loaded here: the module brings PyTorch, which no other test of this file needs.
    owner = importlib.import_module("defectops.workflows.train_settings")
    rows = tables(PARAMS, "train")
    for column, preset in enumerate(owner.PRESETS, 1):
        expected = owner.read_train_settings({"preset": preset}, "train").flat()
        listed = {row[0]: value(row[column]) for row in rows}
        assert listed == expected
    assert list(owner.PRESETS) == ["quick", "paper"]


# Pages that follow the tree ------------------------------------------------------------------


def test_every_module_has_its_place_on_the_page_of_the_architecture():
    named = set(re.findall(r"`(?:\w+/)*(\w+)(?:\.py)?/?`", text("concepts/architecture.md")))
    stages = {path.stem for path in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    modules = {
        path.stem
        for path in (ROOT / "defectops").rglob("*.py")
        if path.stem != "__init__" and path.parent.name != "cli"
    }
    # The parts of the synthesis stand there by what is behind their common name.
    modules = {re.sub("^synthesis_", "_", name) for name in modules}
    assert {"quantities", "_foil", "reading"} <= modules
    assert (modules | stages) - named == set()


def test_every_decision_is_in_the_list_of_decisions():
    listed = re.findall(r"^\| (\d+) \| \[.+\]\((\d{4})-", text("decisions/README.md"), re.MULTILINE)
    there = sorted(path.name[:4] for path in (DOCS / "decisions").glob("0*.md"))
    assert [number for _, number in listed] == there
    assert [int(n) for n, _ in listed] == [int(name) for name in there]
    for name in there:
        (path,) = (DOCS / "decisions").glob(f"{name}-*.md")
        assert path.read_text("utf-8").startswith(f"# {int(name)}. ")


def test_the_data_card_says_what_is_drawn():
    raised = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

    def power(density):
        mantissa, exponent = f"{density:.3g}".split("e+")
        return f"{float(mantissa):g} × 10{exponent.translate(raised)}"

    card = {row[0]: row[1:] for row in tables(text("data-card.md"), "What is in it")}
    drawn = synthesis.paper()
    assert list(card) == [options.name for options in drawn]
    for options in drawn:
        foil, content = card[options.name]
        assert foil == f"{options.foil.thickness_nm:g} ± {options.foil.thickness_sd_nm:g}"
        if options.lines_labelled:
            assert f"dislocations, {power(options.lines.density_m2)} m⁻²" in content
        for kind in options.particles:
            size = f"{kind.diameter_nm:g} ± {kind.diameter_sd_nm:g} nm"
            assert f"{kind.defect}, {power(kind.density_m3)} m⁻³, {size}" in content
