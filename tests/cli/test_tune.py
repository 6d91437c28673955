"""``defectops tune``: its options, what is shown while it runs, and how it sums up."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from defectops.cli import tune as command
from defectops.cli.main import run
from defectops.cli.tune_live import study_progress
from defectops.cli.tune_progress import COLUMNS, Progress, columns_for
from defectops.cli.tune_result import next_lines, pareto_rows, setting_rows, show_result, verdict
from defectops.errors import EnvironmentFault
from defectops.experiments.importance import Importance, Worth
from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.study_trials import Plan, StudyState, Trial, exported
from defectops.workflows.tuning import Session, Tuned

PARAMS = "defects:\n  voids: {}\ntune:\n  default: {trials: 3, epochs: 5}\n  voids: {epochs: 2}\n"
SPACE = Space((Dimension("learning_rate", "float"), Dimension("dropout", "float")))


def plan(**changes):
    given = {"defect": "voids", "seed": 0, "space": SPACE, "trials": 2, "generations": 1}
    given |= {"epochs": 4, "seed_from": 1, "offspring": 2, "first": ({"learning_rate": 0.5},)}
    return Plan(**given | changes)


OWN = Trial(
    0, 0, "complete", {"learning_rate": 0.5, "dropout": 0.1}, (0.61,), {3: 0.61}, 4, 4,
    checkpoint_sha256="a" * 64,
)  # fmt: skip
BEST = Trial(
    2, 1, "complete", {"learning_rate": 0.25, "dropout": 0.2}, (0.7,), {0: 0.5, 1: 0.7, 2: 0.6},
    4, 8, parent=0, parent_sha256="a" * 64, checkpoint_sha256="b" * 64,
)  # fmt: skip
PRUNED = Trial(1, 0, "pruned", {"learning_rate": 0.9, "dropout": 0.3}, (), {0: 0.2}, 1, 1, 0)


def state(*trials, best=None, done="generation 1 gained 0.001, not more than 0.002"):
    return StudyState("voids", list(trials), done, best, [best] if best else [])


DONE = state(OWN, PRUNED, BEST, best=BEST)


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(project, monkeypatch):
    """Runs no study; keeps what `tune` was asked for."""
    calls = []

    def fake(root, defect, options, listen, session):
        calls.append((root, defect, options, session))
        listen({"event": "ready", "study": "voids", "threads": 2, "worker": 0})
        listen({"event": "done", "study": "voids", "reason": "enough"})
        return Tuned(DONE, plan(), Path("studies/voids.json"))

    monkeypatch.setattr("defectops.workflows.tuning.tune", fake)
    return calls


# Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing option '--defect'"),
        (["--new", "--resume"], "--new and --resume contradict each other"),
        (["--new", "--join"], "--new and --join contradict each other"),
        (["--resume", "--join"], "--resume and --join contradict each other"),
        (["--join", "--trials", "3"], "--trials cannot be given with --join"),
        (["--join", "--seed", "0", "--pruner", "none"], "--pruner, --seed cannot be given"),
        (["--trials", "0"], "--trials"),
        (["--generations", "-1"], "--generations"),
        (["--epochs", "0"], "--epochs"),
        (["--seed-from", "0"], "--seed-from"),
        (["--seed", "-1"], "--seed"),
        (["--workers", "0"], "--workers"),
        (["--threads", "0"], "--threads"),
        (["--budget-minutes", "0"], "--budget-minutes must be above 0"),
        (["--budget-minutes", "nan"], "--budget-minutes must be above 0"),
        (["--sampler", "grid"], "--sampler"),
        (["--pruner", "axe"], "--pruner"),
        (["--objective", "beauty"], "--objective"),
    ],
)
def test_a_contradiction_is_one_line_and_2(asked, capsys, words, said):
    assert run(["tune", *(["--defect", "voids"] if words else []), *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "E_USAGE" in shown.err
    assert said in shown.err
    assert asked == []


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "torch", "pandas", "mlflow", "optuna", "rich", "sqlalchemy", "matplotlib"}
    code = (
        "import sys\nfrom defectops.cli.main import run\n"
        "assert run(['tune', '--help']) == 0\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_an_unknown_defect_is_refused(asked, capsys):
    assert run(["tune", "--defect", "void"]) == 2
    assert "did you mean 'voids'" in capsys.readouterr().err
    assert asked == []


def test_params_yaml_decides_unless_an_option_does(asked):
    assert run(["tune", "--defect", "voids"]) == 0
    ((_, defect, options, session),) = asked
    assert defect == "voids"
    assert (options.trials, options.epochs, options.sampler) == (3, 2, "tpe")
    assert session == Session()


def test_every_option_reaches_the_study(asked):
    words = (
        "--trials 9 --generations 0 --epochs 7 --sampler random --pruner none --objective pareto "
        "--seed-from 2 --seed 5 --budget-minutes 1.5 --workers 2 --threads 1 "
        "--storage postgresql://u@h/d --new"
    )
    assert run(["tune", "--defect", "voids", *words.split()]) == 0
    ((_, _, options, session),) = asked
    named = ("trials", "generations", "epochs", "sampler", "pruner", "objective", "seed_from")
    assert [getattr(options, n) for n in named] == [9, 0, 7, "random", "none", "pareto", 2]
    assert options.seed == 5
    assert session == Session(
        workers=2, threads=1, storage="postgresql://u@h/d", mode="new", budget_minutes=1.5
    )


@pytest.mark.parametrize("mode", ["new", "resume", "join"])
def test_the_mode_is_passed_on(asked, mode):
    assert run(["tune", "--defect", "voids", f"--{mode}"]) == 0
    assert asked[0][3].mode == mode


def test_the_result_goes_to_stdout_and_progress_to_stderr(asked, capsys):
    assert run(["tune", "--defect", "voids", "--seed", "4"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["voids: worker 0 is ready, 2 threads", "voids: enough"]
    assert "best: trial 2, dev IoU 0.700 after 8 epochs" in shown.out
    assert "  defectops tune --defect voids --seed 4 --apply" in shown.out


def test_json_is_the_exported_study_alone(asked, capsys):
    assert run(["tune", "--defect", "voids", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == exported(DONE, plan())


def test_apply_writes_the_settings_and_keeps_comments(asked, project, capsys):
    before = PARAMS + "train:\n  voids: {dropout: 0.0}  # ours\n"
    (project / "params.yaml").write_text(before)
    assert run(["tune", "--defect", "voids", "--apply"]) == 0
    after = (project / "params.yaml").read_text()
    assert "learning_rate: 0.5" in after
    assert "epochs: 8" in after
    assert "# ours" in after
    assert "--apply" not in [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("  defectops tune")
    ]


@pytest.mark.parametrize(("seed_from", "offspring"), [(1, 2), (5, 5)])
def test_each_of_the_best_has_a_child(asked, seed_from, offspring):
    assert run(["tune", "--defect", "voids", "--seed-from", str(seed_from)]) == 0
    assert (asked[0][2].seed_from, asked[0][2].offspring) == (seed_from, offspring)


def test_who_joined_goes_on_by_joining(asked, capsys):
    assert run(["tune", "--defect", "voids", "--join"]) == 0
    assert "  defectops tune --defect voids --join --apply" in capsys.readouterr().out


def test_a_password_is_not_repeated():
    again = command._again(
        "voids", dict.fromkeys(command._PLANNED), Session(storage="postgresql://u:secret@h/d")
    )
    assert again == "defectops tune --defect voids --storage ..."


# Progress ------------------------------------------------------------------------------------


def began(index, generation=0, parent=None, kin=0, attempt=1):
    return {
        "event": "began",
        "index": index,
        "generation": generation,
        "attempt": attempt,
        "params": {},
        "parent": parent,
        "kin_epochs": kin,
    }


def stepped(index, epoch, value, seconds=3.0):
    return {
        "event": "stepped",
        "index": index,
        "epoch": epoch,
        "value": value,
        "seconds": seconds,
    }


def ended(index, ending, values=(), reason=""):
    return {
        "event": "ended",
        "index": index,
        "ending": ending,
        "reason": reason,
        "values": list(values),
    }


def started(**changes):
    shape = {"trials": 2, "generations": 1, "offspring": 2, "epochs": 4}
    return Progress("voids", **shape | changes)


def told(progress, *events):
    return [progress.heard(event) for event in events]


def test_events_become_lines():
    assert told(
        started(),
        {"event": "ready", "study": "voids.2", "threads": 1, "worker": 1},
        began(0),
        stepped(0, 0, 0.25),
        ended(0, "complete", (0.75,)),
        began(1, 1, parent=0, kin=4),
        stepped(1, 0, 0.5),
        ended(1, "pruned", reason="hopeless"),
        began(2, attempt=2),
        ended(2, "stopped", reason="stopped by the budget"),
        {"event": "line", "text": "worker 0 died (SIGKILL); another one takes its place"},
        {"event": "weather", "text": "unknown"},
        {"event": "done", "reason": "no gain"},
        {"event": "done", "reason": "no gain"},
    ) == [
        "voids.2: worker 1 is ready, 1 thread",
        "voids.2 trial 0 begins",
        "voids.2 trial 0 epoch 1/4 dev IoU 0.250",
        "voids.2 trial 0 complete: dev IoU 0.750",
        "voids.2 trial 1 begins from trial 0 (4 epochs)",
        "voids.2 trial 1 epoch 1/4 dev IoU 0.500, best so far 0.750",
        "voids.2 trial 1 pruned: hopeless",
        "voids.2 trial 2 begins, attempt 2",
        "voids.2 trial 2 stopped: stopped by the budget",
        "worker 0 died (SIGKILL); another one takes its place",
        "",
        "voids.2: no gain",
        "",
    ]


def test_the_view_has_a_row_for_each_trial():
    progress = started()
    told(progress, began(0), stepped(0, 0, 0.3), stepped(0, 1, 0.2), began(1), stepped(1, 0, 0.1))
    told(progress, ended(1, "failed", reason="value is nan in epoch 1"), began(2, 1, 0, 4))
    view = progress.view(10)
    assert view.rows == [
        ("0", "0", "running", "2/4", "0.200", "0.300", "", ""),
        ("1", "0", "failed", "1/4", "0.100", "0.100", "", "value is nan in epoch 1"),
        ("2", "1", "running", "0/4", "", "", "#0, 4 ep", ""),
    ]
    assert view.best is None
    assert all(len(row) == len(COLUMNS) for row in view.rows)


def test_the_best_is_complete_and_of_equals_the_first():
    progress = started()
    told(progress, began(0), ended(0, "complete", (0.5,)), began(1), ended(1, "complete", (0.7,)))
    told(progress, began(2), ended(2, "complete", (0.7,)), began(3), stepped(3, 0, 0.9))
    assert progress.best.index == 1
    assert progress.view(10).best == 1
    assert "best dev IoU 0.700 (trial 1)" in progress.view(10).title


def test_the_best_error_is_the_lowest():
    progress = started(objective="density")
    told(progress, began(0), ended(0, "complete", (0.5,)), began(1), ended(1, "complete", (0.2,)))
    assert progress.best.index == 1
    assert "best error 0.200" in progress.view(10).title


def test_time_left_counts_every_epoch_that_may_come():
    progress = started()
    assert progress.seconds_left() is None
    told(progress, began(0), stepped(0, 0, 0.1, 2.0))
    assert progress.seconds_left() == 2.0 * (3 + 4 + 8)
    told(progress, stepped(0, 1, 0.1, 4.0), ended(0, "pruned"))
    assert progress.seconds_left() == 3.0 * (4 + 8)
    told(progress, began(1), ended(1, "stopped"))
    assert progress.seconds_left() == 3.0 * (4 + 8)
    told(progress, began(2, 1, 0), ended(2, "complete", (0.5,)))
    assert progress.seconds_left() == 3.0 * (4 + 4)
    progress.workers = 2
    assert progress.seconds_left() == 3.0 * 8 / 2
    told(progress, {"event": "done", "reason": "no gain"})
    assert progress.seconds_left() == 0


def test_time_left_knows_that_later_generations_train_longer():
    progress = started(generations=3, stretch=8)
    told(progress, began(0), stepped(0, 0, 0.1, 1.0))
    assert progress.seconds_left() == 3 + 4 + 2 * (16 + 32 + 32)
    told(progress, began(1), ended(1, "pruned"), ended(0, "pruned"))
    told(progress, {**began(2, 1, 0), "epochs": 16}, stepped(2, 0, 0.1, 1.0))
    assert progress.seconds_left() == 15 + 16 + 2 * (32 + 32)


def test_the_pace_is_that_of_the_last_epochs():
    progress = started(trials=1, generations=0, epochs=1000)
    told(progress, began(0), *(stepped(0, e, 0.1, 100.0) for e in range(10)))
    told(progress, *(stepped(0, e, 0.1, 1.0) for e in range(10, 30)))
    assert progress.seconds_left() == 970


def test_the_budget_is_shown_where_it_is_shorter():
    progress = started()
    told(progress, began(0), stepped(0, 0, 0.1, 10.0))
    assert "at most 3 min left" in progress.view(5).title
    assert "at most 50 s left" in progress.view(5, 50.0).title
    assert "at most 3 min left" in progress.view(5, 9999.0).title
    assert "at most 50 s left" in started().view(5, 50.0).title


def test_where_room_is_short_the_running_the_best_and_the_last_stay():
    progress = started(trials=9)
    for i in range(8):
        told(progress, began(i), ended(i, "complete", (0.9 - abs(i - 2) / 10,)))
    told(progress, began(8))
    assert [row[0] for row in progress.view(4).rows] == ["2", "6", "7", "8"]
    assert progress.view(4).best == 0
    assert [row[0] for row in progress.view(1).rows] == ["8"]
    assert progress.view(1).best is None
    assert len(progress.view(0).rows) == 1


def test_a_study_that_was_there_is_taken_over():
    progress = started()
    progress.adopt(DONE, plan(epochs=4))
    assert [row[:7] for row in progress.view(9).rows] == [
        ("0", "0", "complete", "4/4", "0.610", "0.610", ""),
        ("1", "0", "pruned", "1/4", "0.200", "0.200", ""),
        ("2", "1", "complete", "4/4", "0.600", "0.700", "#0, 4 ep"),
    ]
    assert progress.best.index == 2


def test_what_our_own_workers_tell_is_not_overwritten_but_others_trials_are_renewed():
    progress = started()
    theirs = Trial(1, 0, "running", {}, (), {0: 0.1}, 1, 1)
    progress.adopt(state(Trial(0, 0, "running", {}), theirs), plan())
    told(progress, began(0), stepped(0, 0, 0.4))
    finished = Trial(0, 0, "complete", {}, (0.1,))
    progress.adopt(state(finished, PRUNED), plan())
    assert progress.rows[0].state == "running"
    assert progress.rows[0].peak == 0.4
    assert progress.rows[1].state == "pruned"


def test_narrow_terminals_have_no_remarks():
    assert columns_for(80) == COLUMNS
    assert columns_for(71) == COLUMNS[:-1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen(monkeypatch, width, *events):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "20")
    with study_progress(started()) as listen:
        for event in events:
            listen(event)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_the_table_within_its_width(monkeypatch, width):
    reason = "[red]0.036[/red] is under the median of 4 kin, " + "and so on " * 30
    shown = screen(
        monkeypatch,
        width,
        began(0),
        stepped(0, 0, 0.25),
        ended(0, "complete", (0.75,)),
        began(1, 1, 0, 4),
        ended(1, "pruned", reason=reason),
        {"event": "line", "text": "worker 0 died"},
    )
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "best dev IoU 0.750" in shown or width == 60
    for cell in ("trial", "gen", "epoch", "complete", "pruned", "0.250", "0/4", "#0, 4 ep"):
        assert cell in shown
    assert "worker 0 died" in shown
    assert ("[red]0.036" in shown) == (width >= 80)
    assert "begins" not in shown


def test_a_pipe_gets_lines_without_control_characters(capsys):
    with study_progress(started()) as listen:
        listen(began(0))
        listen({"event": "line", "text": "a\x1b[31m"})
    assert capsys.readouterr().err == "voids trial 0 begins\na\\x1b[31m\n"


def test_a_store_that_is_away_does_not_end_the_display(capsys):
    def look(name):
        raise EnvironmentFault(name, "E_STUDY", "away")

    with study_progress(started(), look=look) as listen:
        listen({"event": "ready", "study": "voids", "threads": 1})
    assert "is ready" in capsys.readouterr().err


# Summing up ----------------------------------------------------------------------------------


def test_the_verdict_compares_with_the_projects_own_settings():
    assert verdict(DONE, plan()) == [
        "voids: 3 trials (2 complete, 1 pruned, 0 failed)",
        "stopped: generation 1 gained 0.001, not more than 0.002",
        "best: trial 2, dev IoU 0.700 after 8 epochs",
        "own settings: trial 0, dev IoU 0.610 after 4 epochs; difference +0.090",
    ]
    assert verdict(state(OWN, best=OWN), plan())[-1] == (
        "own settings: they are the best that was found"
    )
    assert verdict(state(PRUNED, done=""), plan())[1:] == [
        "not done: the budget is used up",
        "no trial came to an end, so there is no best one",
    ]


def test_settings_are_listed_by_worth_with_what_is_written():
    found = Importance((Worth("dropout", 0.8, 0.01), Worth("learning_rate", 0.2, 0.5)), 12, "")
    rows = setting_rows(DONE, plan(), {"learning_rate": 0.5, "dropout": 0.1, "epochs": 8}, found)
    assert rows == [
        ("dropout", "0.2", "0.1", "0.1", "80 %"),
        ("learning_rate", "0.25", "0.5", "0.5", "20 % (chance)"),
        ("epochs", "8", "8", "4", ""),
    ]


def test_next_lines_fit_what_was_done():
    again = "defectops tune --defect voids"
    assert f"  {again} --apply" in next_lines(DONE, plan(), "defectops-voids", again, None)[1]
    applied = next_lines(DONE, plan(), "defectops-voids", again, {"epochs": 8})
    assert not any("--apply" in line for line in applied)
    assert any(line.startswith("  dvc repro") for line in applied)
    going_on = next_lines(state(OWN, best=OWN, done=""), plan(), "defectops-voids", again, None)
    assert going_on[1] == f"  {again}  # goes on"
    assert next_lines(state(PRUNED), plan(), "m", again, None) == [
        "kept in studies/voids.json; next:",
        f"  {again}",
    ]


def test_the_pareto_set_is_listed_best_iou_first(capsys):
    trials = [
        Trial(i, 0, "complete", OWN.params, values, cumulative_epochs=4)
        for i, values in enumerate([(0.5, 0.01), (0.7, 0.2), (0.6, 0.1)])
    ]
    front = StudyState("voids", trials, "", trials[1], trials)
    assert pareto_rows(front) == [
        ("1", "0.700", "0.200", "4"),
        ("2", "0.600", "0.100", "4"),
        ("0", "0.500", "0.010", "4"),
    ]
    tuned = Tuned(front, plan(objective="pareto"), Path("x"))
    show_result(tuned, "m", "defectops tune", None, json=False)
    assert "trial\tdev IoU\terror\tepochs\n1\t0.700\t0.200\t4\n" in capsys.readouterr().out
