"""A training as it is seen: plain lines in a pipe, a bar in a terminal."""

import io
import re
import sys

from defectops.cli import progress
from defectops.cli.progress import Pace, batch_progress, plain_line, scores, training_progress
from defectops.learning.training import EpochRecord, TrainingState


def _record(epoch=0, *, improved=True, stopped=""):
    return EpochRecord(
        epoch=epoch,
        train_iou=0.41234,
        dev_iou=0.3,
        threshold=0.5,
        loss=0.98765,
        l2=0.1,
        learning_rate=0.001,
        positive_weight=4.0,
        seconds=2.0,
        images_per_s=12.34,
        improved=improved,
        stopped=stopped,
        state=TrainingState({}),
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_tells_loss_iou_and_speed():
    assert plain_line("voids", 24, _record(2)) == (
        "voids epoch 3/24 loss 0.988 IoU train 0.412 dev 0.300 best 12.3 images/s"
    )


def test_best_stands_only_where_it_is():
    assert "best" not in scores(_record(improved=False))


def test_an_undefined_train_iou_is_said_as_such():
    record = _record()
    object.__setattr__(record, "train_iou", float("nan"))
    assert "IoU train nan dev" in scores(record)


def test_a_pipe_gets_one_plain_line_an_epoch(monkeypatch, capsys):
    with training_progress("voids", 2) as listen:
        listen(_record(0))
        listen(_record(1, stopped="the last epoch"))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" loss")[0] for line in err.splitlines()] == [
        "voids epoch 1/2",
        "voids epoch 2/2",
    ]
    assert "\x1b" not in err
    assert "\r" not in err


def test_a_terminal_gets_a_bar_with_scores(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with training_progress("voids", 4) as listen:
        listen(_record(0))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "voids" in shown
    assert "1/4" in shown
    assert "loss 0.988 IoU train 0.412 dev 0.300 best 12.3 images/s" in shown


def test_a_training_that_stops_early_fills_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with training_progress("voids", 40) as listen:
        listen(_record(6, stopped="no gain any more"))
    assert "7/7" in terminal.getvalue()


def test_the_bar_is_taken_down_when_a_training_fails(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    try:
        with training_progress("voids", 4):
            raise RuntimeError
    except RuntimeError:
        pass
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is shown again


# A batch ------------------------------------------------------------------------------------------


def test_speed_and_time_left_are_those_of_images_that_were_worked_on():
    now = [0.0]
    pace = Pace(8, lambda: now[0])
    assert pace.line() == "images 0/8"
    for at, fresh in ((0.1, False), (2.1, True), (2.2, False), (4.2, True)):
        now[0] = at
        pace.count(fresh)
    assert pace.line() == "images 4/8 0.5 images/s, 0:00:08 left"
    pace.total = 5000
    assert pace.speed() == "0.5 images/s, 2:46:32 left"


def test_a_quick_batch_in_a_pipe_says_nothing(capsys):
    with batch_progress(2) as listen:
        listen(True)
        listen(False)
    assert capsys.readouterr() == ("", "")


def test_a_slow_batch_in_a_pipe_says_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with batch_progress(2) as listen:
        listen(True)
    assert re.fullmatch(r"images 1/2 \S+ images/s, 0:00:00 left\n", capsys.readouterr().err)


def test_a_batch_in_a_terminal_has_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with batch_progress(3) as listen:
        listen(True)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "1/3" in shown
    assert "images/s" in shown
