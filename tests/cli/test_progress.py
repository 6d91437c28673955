"""A training as it is seen: plain lines in a pipe, a bar in a terminal."""

import io
import re
import sys

from defectops.cli.progress import plain_line, scores, training_progress
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
