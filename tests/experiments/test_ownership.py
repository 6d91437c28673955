"""Whether the process of a run lives."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from defectops.experiments.ownership import life, owner_of, started, this_process

HERE = this_process()


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def end(process):
    process.kill()
    process.wait()
    process.stdin.close()


def test_this_process_is_alive():
    assert HERE.pid == str(os.getpid())
    assert life(HERE, HERE) == "alive"


def test_tags_lead_back_to_the_owner():
    assert owner_of({**HERE.tags(), "preset": "quick"}) == HERE
    assert set(HERE.tags()) == {
        f"owner.{k}" for k in ("host", "boot", "namespace", "pid", "started")
    }


@pytest.mark.parametrize(
    "tags", [{}, {"owner.host": "lab"}, {"owner.host": "lab", "owner.pid": "x"}]
)
def test_tags_without_an_owner(tags):
    assert owner_of(tags) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"host": "other"}, "elsewhere"),
        ({"host": "other", "boot": "before"}, "elsewhere"),
        ({"boot": "before"}, "gone"),
        ({"namespace": "pid:[1]"}, "elsewhere"),
        ({"pid": "4194305"}, "gone"),  # above the largest process id of Linux
        ({"started": "1"}, "gone"),  # the id was used again
        ({"started": ""}, "alive"),
    ],
)
def test_every_part_of_an_owner_counts(change, expected):
    assert life(replace(HERE, **change), HERE) == expected


def test_a_killed_process_is_gone_even_as_a_zombie():
    process = sleeper()
    owner = replace(HERE, pid=str(process.pid), started=started(str(process.pid)))
    assert life(owner, HERE) == "alive"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped
    assert life(owner, HERE) == "gone"
    end(process)
    assert life(owner, HERE) == "gone"


def test_a_process_with_blanks_and_parentheses_in_its_name(tmp_path):
    program = tmp_path / "a) R (b"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        start = started(str(process.pid))
        assert start is not None
        assert int(start) >= int(HERE.started)
    finally:
        end(process)


def test_systems_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr("defectops.experiments.ownership._PROC", tmp_path)
    here = this_process()
    assert (here.boot, here.namespace, here.started) == ("", "", "")
    assert life(here, here) == "alive"
    process = sleeper()
    end(process)
    assert life(replace(here, pid=str(process.pid)), here) == "gone"
