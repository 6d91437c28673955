"""Commit, data digests and versions of a run."""

import subprocess
import sys

import pytest

from defectops.experiments.provenance import dvc_digests, git_tags, run_tags, versions

LOCK = """
schema: '2.0'
stages:
  prepare@voids:
    cmd: python -m pipelines.prepare
    deps:
    - path: data/micrographs
      hash: md5
      md5: 11111111111111111111111111111111.dir
    outs:
    - path: prepared/voids
      md5: 22222222222222222222222222222222.dir
  split@voids:
    deps:
    - path: prepared/voids
      md5: 00000000000000000000000000000000.dir
    outs:
    - path: split/voids/train.npz
      md5: 33333333333333333333333333333333
  split@lines:
    outs:
    - path: split/lines/train.npz
      md5: 55555555555555555555555555555555
"""

DATA = """
outs:
- md5: 44444444444444444444444444444444.dir
  size: 5
  nfiles: 1
  hash: md5
  path: data
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "data.dvc").write_text(DATA)
    (tmp_path / ".dvc").mkdir()
    return tmp_path


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_digests_of_lock_and_data(project):
    assert dvc_digests(project, ["prepare@voids", "no such stage"]) == {
        "data": "4" * 32 + ".dir",
        "prepared/voids": "2" * 32 + ".dir",
    }


def test_no_dvc_and_a_broken_lock(tmp_path):
    assert dvc_digests(tmp_path, ["prepare@voids"]) == {}
    (tmp_path / "dvc.lock").write_text("stages: [1, {")
    (tmp_path / "data.dvc").write_text("outs: 3\n")
    assert dvc_digests(tmp_path, ["prepare@voids"]) == {}


def test_tags_of_a_run(project):
    tags = run_tags(project, "voids", "quick")
    assert {key: tags[key] for key in tags if key.startswith("dvc.")} == {
        "dvc.md5.data": "4" * 32 + ".dir",
        "dvc.md5.prepared/voids": "2" * 32 + ".dir",
        "dvc.md5.split/voids/train.npz": "3" * 32,
    }
    assert (tags["defect"], tags["preset"]) == ("voids", "quick")
    assert tags["version.python"] == ".".join(map(str, sys.version_info[:3]))
    assert not any("lines" in key for key in tags)


def test_commit_and_dirt(project, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    assert git_tags(project) == {"git.commit": "none", "git.dirty": "none"}
    git(project, "init", "-q")
    git(project, "add", "data.dvc")
    git(project, "commit", "-q", "-m", "data")
    clean = git_tags(project)
    assert len(clean["git.commit"]) == 40
    assert clean["git.dirty"] == "false"
    (project / "data.dvc").write_text("outs: []\n")
    assert git_tags(project) == {"git.commit": clean["git.commit"], "git.dirty": "true"}


def test_without_git(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_tags(project) == {"git.commit": "none", "git.dirty": "none"}


def test_versions_of_what_is_not_installed():
    assert list(versions(["no-such-distribution"])) == ["version.python"]
