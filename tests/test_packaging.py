"""What is installed, from which locks, under which licences, and what the repository says of it."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]

# GPL in name, usable without conditions on our licence all the same.
USABLE = {
    "pygit2": "GPL-2 with an exception that allows linking under any licence",
    "asyncssh": "EPL-2.0 or GPL-2.0-or-later: taken under EPL-2.0, used unchanged",
    "dulwich": "Apache-2.0 or GPL-2.0-or-later: taken under Apache-2.0",
    "grandalf": "EPL-1.0 or GPL-2: taken under EPL-1.0, used unchanged",
}
# No licence in the metadata; read in the licence file that the wheel carries.
UNDECLARED = {"huey": "Permission is hereby granted, free of charge"}

COPYLEFT = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)


def pins(name):
    """Lines of one lock file, without what it includes: name to version."""
    lines = (REQUIREMENTS / name).read_text("utf-8").splitlines()
    found = [line for line in lines if line and not line.startswith(("#", "-"))]
    assert found
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in found), found
    return dict(line.split("==") for line in found)


LOCKED = pins("lock.txt")
TOOLS = pins("lock-test.txt")
DOCS = pins("lock-docs.txt")


def unmet(requirements, locked):
    """Requirements that a lock does not satisfy."""
    missing = []
    for need in map(Requirement, requirements):
        found = locked.get(canonicalize_name(need.name))
        if found is None or not need.specifier.contains(found):
            missing.append(str(need))
    return missing


@pytest.mark.parametrize(
    ("requirements", "locked"),
    [
        (PYPROJECT["project"]["dependencies"], LOCKED),
        (PYPROJECT["build-system"]["requires"], LOCKED),
        (EXTRAS["test"], LOCKED | TOOLS),
        (EXTRAS["docs"], DOCS),
    ],
    ids=["default", "build", "test", "docs"],
)
def test_a_lock_satisfies_what_pyproject_asks_for(requirements, locked):
    assert unmet(requirements, locked) == []


def test_unmet_sees_a_missing_package_and_an_old_one():
    assert unmet(["a>=2", "b", "c"], {"a": "1.9", "c": "3"}) == ["a>=2", "b"]


def test_a_package_has_one_version_wherever_it_is_locked():
    everything = LOCKED | TOOLS
    assert {name: DOCS[name] for name in DOCS if name in everything} == {
        name: everything[name] for name in DOCS if name in everything
    }
    assert not set(LOCKED) & set(TOOLS)


def test_torch_is_pinned_without_a_build():
    assert LOCKED["torch"] == "2.13.0"


def test_the_environment_of_these_tests_is_the_locked_one():
    """A figure measured here is a figure of the lock."""
    everything = LOCKED | TOOLS
    # The build back end is not needed at run time: an environment may have another one.
    names = sorted(set(everything) - {"setuptools"})
    here = {name: Version(version(name)).public for name in names}
    assert here == {name: Version(everything[name]).public for name in names}


def licence(name):
    """What the metadata of an installed package says about its licence, in one line."""
    data = distribution(name).metadata
    # Only the first line of the old free field: some packages put all their licences there.
    said = [data.get("License-Expression") or "", (data.get("License") or "").partition("\n")[0]]
    said += [c for c in data.get_all("Classifier", []) if c.startswith("License ::")]
    return " | ".join(filter(None, said))


def licence_file(name):
    files = [f for f in distribution(name).files or [] if "LICEN" in f.name.upper()]
    return "\n".join(Path(f.locate()).read_text("utf-8") for f in files)


def test_no_locked_package_is_under_gpl_or_agpl():
    stated = {name: licence(name) for name in LOCKED if name != "setuptools"}
    silent = sorted(name for name, text in stated.items() if not text)
    assert silent == sorted(UNDECLARED)
    assert {n for n in silent if UNDECLARED[n] not in " ".join(licence_file(n).split())} == set()
    assert sorted(name for name, text in stated.items() if COPYLEFT.search(text)) == sorted(USABLE)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0-only", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("LGPL-2.1-or-later", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("BSD-3-Clause", False),
    ],
)
def test_the_licence_filter(text, refused):
    assert bool(COPYLEFT.search(text)) is refused


def test_rosettasciio_is_an_extra_and_in_no_lock():
    assert any("rosettasciio" in need for need in EXTRAS["microscope"])
    assert "rosettasciio" not in LOCKED | TOOLS | DOCS
    for other in (PYPROJECT["project"]["dependencies"], EXTRAS["test"], EXTRAS["docs"]):
        assert not any("rosettasciio" in need for need in other)


# The image -----------------------------------------------------------------------------------


def instructions(text):
    """Instructions of a Dockerfile: (word, rest), continuation lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


DOCKERFILE = instructions((ROOT / "Dockerfile").read_text("utf-8"))


def last_stage():
    start = max(i for i, (word, _) in enumerate(DOCKERFILE) if word == "FROM")
    return DOCKERFILE[start:]


def value(stage, word):
    return [rest for name, rest in stage if name == word]


def test_the_image_is_built_in_stages_and_the_last_one_only_copies():
    assert len(value(DOCKERFILE, "FROM")) == 2
    assert value(last_stage(), "RUN") == []
    assert value(last_stage(), "COPY") == ["--from=builder /opt/venv /opt/venv"]


def test_the_image_runs_the_command_line_as_a_numbered_user():
    (user,) = value(last_stage(), "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    (entry,) = value(last_stage(), "ENTRYPOINT")
    assert json.loads(entry) == ["defectops"]
    assert "defectops" in PYPROJECT["project"]["scripts"]
    assert json.loads(value(last_stage(), "CMD")[0]) == ["--help"]
    words = [word for word, _ in last_stage()]
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_image_is_installed_from_the_default_lock_alone():
    installs = [rest for rest in value(DOCKERFILE, "RUN") if "pip install" in rest]
    assert len(installs) == 2
    assert installs[0].endswith("-r requirements/lock.txt")
    assert "--no-deps --no-build-isolation" in installs[1]
    assert not any("[" in rest.partition("pip install")[2] for rest in installs)


def test_no_secret_reaches_a_layer():
    names = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|INDEX_URL", re.IGNORECASE)
    for word, rest in DOCKERFILE:
        if word in ("ARG", "ENV", "COPY"):
            assert not names.search(rest), (word, rest)


def test_what_a_library_keeps_goes_to_the_temporary_folder():
    settings = dict(re.findall(r"(\w+)=(\S+)", " ".join(value(last_stage(), "ENV"))))
    for name in ("HOME", "TMPDIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "DVC_SITE_CACHE_DIR"):
        assert settings[name].startswith("/tmp")
    assert settings["DVC_NO_ANALYTICS"] == "1"
    assert settings["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_build_context_is_what_the_dockerfile_copies():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in lines
    admitted = {line.removeprefix("!").rstrip("/") for line in lines if line.startswith("!")}
    copied = set()
    for rest in value(DOCKERFILE, "COPY"):
        if not rest.startswith("--from"):
            copied.update(source.rstrip("/") for source in rest.split()[:-1])
    assert copied == admitted
    assert all((ROOT / source).exists() for source in copied)


# The commands --------------------------------------------------------------------------------


def make(folder, *arguments):
    # A `make test` around us hands its own flags down.
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=quiet, capture_output=True, text=True, check=False
    )


@pytest.fixture
def clone(tmp_path):
    """A folder as fresh as a clone: the Makefile and what it reads, no environment."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(REQUIREMENTS, tmp_path / "requirements")
    return tmp_path


@pytest.mark.parametrize("target", ["repro", "test"])
def test_both_commands_install_the_same_lock(clone, target):
    printed = make(clone, "-n", target).stdout
    assert "-m venv --clear .venv" in printed
    assert "install -q -r requirements/lock.txt" in printed
    assert "install -q --no-deps --no-build-isolation -e ." in printed


def test_a_changed_lock_makes_a_new_environment_and_an_equal_one_does_not(clone):
    wanted = re.search(r"touch (\.venv/\.locked-\d+)", make(clone, "-n", "repro").stdout)[1]
    (clone / ".venv").mkdir()
    (clone / wanted).touch()
    assert "--clear" not in make(clone, "-n", "repro").stdout
    with (clone / "requirements" / "lock.txt").open("a") as lock:
        lock.write("one-more==1.0\n")
    assert "--clear" in make(clone, "-n", "repro").stdout


@pytest.mark.parametrize("python", ["no-such-python", "old"])
def test_a_python_that_does_not_fit_is_one_line(clone, python):
    if python == "old":
        python = clone / "python-old"
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
    done = make(clone, "environment", f"PYTHON={python}")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv").exists()


def shell_commands(text):
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_ci_runs_the_commands_of_the_readme_and_the_tests_last():
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    run = [line for line in lines if line.startswith("make ")]
    assert "set -euo pipefail" in lines
    assert run == ["make repro", "make check", "make test"]
    assert lines[-1] == run[-1]
    assert set(shell_commands((ROOT / "README.md").read_text("utf-8"))) <= set(run)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# The texts -----------------------------------------------------------------------------------


def tracked():
    """Text files of the repository, path to text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            found[name] = data.decode("utf-8", errors="replace")
    return found


def test_nothing_names_a_machine_or_an_index():
    """Paths of the machine it was written on, and hosts that pip's settings decide about."""
    places = rf"{re.escape(str(ROOT))}/|(?<![\w.])/(?:root|home/\w+)/"
    hosts = r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs"
    pattern = re.compile(f"{places}|{hosts}")
    assert pattern.search(f"cd {ROOT}/docs")
    assert not pattern.search("../shared/data, $HOME/somewhere")
    files = tracked()
    assert "pyproject.toml" in files
    hits = {name: found[0] for name, text in files.items() if (found := pattern.search(text))}
    hits.pop("tests/test_packaging.py", None)  # the pattern itself
    assert hits == {}


def test_every_page_is_in_the_navigation_and_the_other_way_round():
    nav = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        inside = entry.values() if isinstance(entry, dict) else entry
        return [page for item in inside for page in pages(item)]

    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert set(pages(nav)) == there


def test_links_between_our_texts_lead_somewhere():
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_documentation_loads_nothing_from_elsewhere():
    theme = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text("utf-8"))["theme"]
    assert theme["font"] is False


def test_citation_and_licence_agree_with_the_package():
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = PYPROJECT["project"]
    assert str(citation["version"]) == project["version"] == version("defectops")
    assert citation["license"] == project["license"] == "BSD-3-Clause"
    assert citation["references"][0]["doi"] == "10.1038/s41598-019-49105-0"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("BSD 3-Clause License")


def test_the_changelog_has_a_place_for_changed_numbers():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in text
    assert "Changed numbers" in text
