"""The rim of the command line: one line an error, the right exit code, nothing heavy loaded."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys

import pytest

from defectops.cli.main import NOUNS, run
from defectops.cli.rim import guarded
from defectops.errors import (
    Conflict,
    EnvironmentFault,
    GateFailed,
    GateInconclusive,
    IntegrityFault,
    SettingsRefused,
)


def fails(error):
    def call():
        raise error

    return call


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def one_line(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsRefused("a.yaml", "E_CONFIG", "wrong"), 2),
        (Conflict("lock", "E_LOCK", "held"), 3),
        (EnvironmentFault("a", "E_IO", "full"), 4),
        (IntegrityFault("a", "E_DIGEST", "differs"), 5),
        (GateFailed("a", "E_GATE", "missed"), 6),
        (GateInconclusive("a", "E_GATE", "unclear"), 7),
        (OSError(errno.ENOSPC, "No space left on device", "x.npz"), 4),
        (OSError(errno.EROFS, "Read-only file system", "x.npz"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "x.npz"), 4),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("a\nb"), 1),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 1),
    ],
)
def test_each_error_is_one_line_and_its_exit_code(capsys, error, code):
    assert guarded(fails(error)) == code
    assert "Traceback" not in one_line(capsys)


def test_a_result_is_its_exit_code(capsys):
    assert guarded(lambda: None) == 0
    assert guarded(lambda: "text") == 0
    assert guarded(lambda: 6) == 6
    assert guarded(lambda: sys.exit(3)) == 3
    assert capsys.readouterr().err == ""


def test_a_bug_names_its_log(capsys, tmp_path):
    assert guarded(fails(KeyError("secret\nline"))) == 1
    said = one_line(capsys)
    (log,) = (tmp_path / ".defectops" / "log").iterdir()
    assert log.name in said
    assert "KeyError" in log.read_text()


def test_a_bug_where_nothing_can_be_written_uses_the_temporary_folder(capsys, tmp_path):
    (tmp_path / ".defectops").write_text("in the way")
    assert guarded(fails(KeyError("x"))) == 1
    assert "traceback-" in one_line(capsys)


def test_debug_shows_the_traceback(capsys):
    assert run(["config", "check", "missing.yaml", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "E_CONFIG" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["datta"], "Did you mean 'data'"),
        (["data"], "Missing command"),
        (["data", "validat"], "Did you mean 'validate'"),
        (["data", "validate"], "Missing argument"),
        (["data", "validate", "a.tif", "--pixel-size-nm", "0,05"], "--pixel-size-nm"),
        (["data", "validate", "a.tif", "--pgae", "1"], "--page"),
        (["data", "validate", "a.tif", "--max-pixels", "0"], "--max-pixels"),
        (["--nonsense"], "--nonsense"),
        (["config", "check", "a", "b\nc"], "b"),
    ],
)
def test_usage_errors_are_one_line(capsys, words, expected):
    assert run(words) == 2
    said = one_line(capsys)
    assert "E_USAGE" in said
    assert expected in said


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_every_noun(capsys, words):
    assert run(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {noun} " in out for noun in NOUNS)
    assert "Example:" in out


def test_every_noun_has_an_example(capsys):
    for noun in NOUNS:
        assert run([noun, "--help"]) == 0
        out = capsys.readouterr().out
        assert "Example" in out
        assert f"defectops {noun}" in out


@pytest.mark.parametrize("words", [["data", "validate"], ["config", "check"]])
def test_every_command_has_an_example(capsys, words):
    assert run([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"  defectops {' '.join(words)}" in out.partition("Options:")[2]


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("defectops ")


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "torch", "pandas", "mlflow", "rich", "pydantic", "PIL", "skimage", "scipy"}
    code = (
        "import sys\nfrom defectops.cli.main import run\nrun(['--help'])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("words", "frozen"), [(None, 1), (["--version"], 0)])
def test_a_process_of_its_own_ends_without_a_last_search_for_cycles(monkeypatch, words, frozen):
    calls = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(1))
    monkeypatch.setattr(sys, "argv", ["defectops", "--version"])
    assert run(words) == 0
    assert len(calls) == frozen


# What is loaded where PyTorch would be, and tells what its OpenMP would have found.
_AT_TORCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        "from defectops.cli.main import run; run(['promote', '--defect', 'voids'])",
        "import pipelines.train",
        "import pipelines.promote",
        "import pipelines.evaluate",
        "import pipelines.quantify",
    ],
)
@pytest.mark.parametrize(("given", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_asleep_from_before_torch_is_loaded(monkeypatch, entry, given, seen):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    command = [sys.executable, "-c", _AT_TORCH + entry]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == seen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_in_order(tmp_path, number, code):
    script = (
        "import sys, time\nfrom defectops.cli.rim import guarded\n"
        "def wait():\n"
        "    try:\n        print('ready', flush=True); time.sleep(30)\n"
        "    finally:\n        open('tidied', 'w').close()\n"
        "sys.exit(guarded(wait))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=tmp_path
    ) as p:
        p.stdout.readline()
        os.kill(p.pid, number)
        assert p.wait(10) == code
    assert (tmp_path / "tidied").exists()


def test_full_disk_on_stdout_is_the_environments_fault(tmp_path):
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full on this system")
    command = [sys.executable, "-c", "import sys; from defectops.cli.main import run; "
               "sys.exit(run(['--version']))"]  # fmt: skip
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.startswith("defectops: E_IO:")


def test_json_of_a_check(capsys, tmp_path):
    (tmp_path / "study.yaml").write_text("study: {name: first, n_trials: 20}\n")
    assert run(["config", "check", "study.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "study.yaml", "sections": ["study"]}
