"""A git merge of two promotions: the line that says so, and the command that it names."""

import json
import re
import shlex
import subprocess

import pytest

from defectops.cli.main import run
from defectops.cli.promotions import opened
from defectops.experiments.accesses import record_access
from defectops.experiments.champions import Places, read_champion
from defectops.experiments.changing import Note
from defectops.experiments.promotion import Verdict
from defectops.experiments.succession import Candidate, promote

pytestmark = pytest.mark.slow


def git(*words, fine=(0,)):
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=False)
    assert done.returncode in fine, done.stdout + done.stderr


def promoted(root, name):
    path = root / f"{name}.trained"
    path.write_bytes(name.encode())
    places = Places(root, "voids", "defectops-voids")
    candidate = Candidate(path, "", 0.5, {}, {})
    about = Note("ada@lab", f"{name} is better", "2026-01-01T00:00:00Z")
    promote(places, opened(root)[1], candidate, Verdict("pass", ()), about)
    record_access(places, read_champion(places), "t" * 64)
    git("add", "-A")
    git("commit", "-q", "-m", name)


@pytest.fixture
def merged(tmp_path, monkeypatch):
    """A repository in the middle of a merge; its branches share a store in SQLite."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text(
        "defects: {voids: {}}\npromotion: {default: {after: touch told}}\n"
    )
    (tmp_path / ".gitignore").write_text(
        "/.defectops/\n/champions/*/\n!/champions/*.evidence/\n/mlflow.db\n/mlartifacts/\n*.trained\n"
    )
    git("init", "-q", "-b", "main")
    promoted(tmp_path, "first")
    git("checkout", "-q", "-b", "work")
    promoted(tmp_path, "second")
    git("checkout", "-q", "main")
    promoted(tmp_path, "third")
    git("merge", "work", fine=(1,))
    return tmp_path


def test_the_command_that_the_error_names_repairs_it(merged, capsys):
    for words in (["models", "history", "--defect", "voids"], ["doctor"]):
        assert run(words) == 5
    said = capsys.readouterr()
    for text in (said.err, said.out):
        assert "an unresolved git merge" in text
    (command,) = re.findall(r"`defectops (models repair [^`]*)`", said.err)
    assert run(shlex.split(command)) == 0
    out = capsys.readouterr().out
    assert "version 3 " in out
    assert "1 lines of the other side are kept in line 3 of the journal" in out
    assert (merged / "told").exists()
    assert run(["doctor"]) == 0
    capsys.readouterr()
    assert run(["models", "history", "--defect", "voids", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["reason"], r.get("branch")) for r in rows] == [
        ("first is better", None),
        ("third is better", None),
        ("second is better", "merged"),
        ("git merge: kept ours", None),
    ]
    assert run(["models", "history", "--defect", "voids"]) == 0
    said = capsys.readouterr()
    assert "\tpass (merged)\tsecond is better\t" in said.out
    assert "the test side was opened 3 times, by 3 models" in said.err
    assert run(shlex.split(command)) == 2
    assert "E_NO_FORK" in capsys.readouterr().err
