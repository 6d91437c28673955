import os
import random
import shutil
import signal
import time

import pytest
from study_processes import (
    Child,
    die_at,
    gate,
    read,
    run_to_the_end,
    tell_commits,
    until,
    worker,
)
from toy_study import Recorder, plan, toy

from defectops.experiments.studies import close_study, join_study, state_of

pytestmark = pytest.mark.slow

ALIKE = {"sampler": "random", "pruner": "none"}  # by which workers do not influence each other


# SIGKILL at random moments -------------------------------------------------------------------


def begin(act, log):
    """Start a child that tells its commits, and return it with the pipe in which it does."""
    commits, there = os.pipe()

    def tell_and_act():
        tell_commits(there)
        act()

    child = Child(tell_and_act, log)
    os.close(there)
    return child, commits


def wait_for_some_moment(draw, commits):
    """Wait until right at a commit (half of the times), or between two, or while it starts."""
    kind = draw.random()
    if kind < 0.1:
        time.sleep(draw.uniform(0, 0.1))
        return
    for _ in range(draw.randrange(1, 40)):
        if not os.read(commits, 1):
            return
    time.sleep(draw.uniform(0, 0.003 if kind < 0.6 else 0.05))


def kill_often(root, given, kills, log):
    """Carry a study out by workers that are killed at random moments; count the kills."""
    draw = random.Random(kills)
    act = worker(root, "", given, toy(6, 0.01), max_deaths=10**6)
    for done in range(kills):
        child, commits = begin(act, log)
        wait_for_some_moment(draw, commits)
        child.kill()
        os.close(commits)
        if child.wait() != -signal.SIGKILL:
            return done
    return kills


def same_after_kills(tmp_path, given, kills):
    expected = run_to_the_end(tmp_path / "a", "", given, toy(6), tmp_path)
    assert kill_often(tmp_path / "b", given, kills, tmp_path / "log") == kills
    assert run_to_the_end(tmp_path / "b", "", given, toy(6), tmp_path) == expected
    study = join_study(tmp_path / "b", "", given.defect)
    trials = state_of(study).trials
    close_study(study)
    assert "pruned" in {t.state for t in trials}
    assert sum(len(t.attempts) for t in trials) > kills / 2
    assert list((tmp_path / "b/.defectops/studies/voids/trials").iterdir()) == []


def test_30_kills_change_nothing(tmp_path):
    given = plan(trials=20, generations=3, offspring=6, epochs=6)
    same_after_kills(tmp_path, given, 30)


@pytest.mark.kills
def test_200_kills_change_nothing(tmp_path):
    given = plan(trials=100, generations=5, offspring=20, epochs=6)
    same_after_kills(tmp_path, given, 200)


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.kills)])
def test_a_death_at_each_commit_and_change_of_a_folder_changes_nothing(tmp_path, stride):
    given = plan(trials=2, generations=1, seed_from=1, offspring=2, epochs=2)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(2), tmp_path)
    for number in range(1, 1000, stride):
        root = tmp_path / "b"

        def act(root=root, number=number):
            die_at(number)
            worker(root, "", given, toy(2))()

        code = Child(act, tmp_path / "log").wait()
        if code == 0:
            break
        assert code == 137, (tmp_path / "log").read_text()
        assert run_to_the_end(root, "", given, toy(2), tmp_path) == expected, number
        shutil.rmtree(root)
    assert number > 60


# Several workers -----------------------------------------------------------------------------


def race(tmp_path, url, given, evaluate, number):
    """Let so many workers begin together on nothing; return how they ended."""
    with gate() as (wait, let_go):
        children = []
        for i in range(number):

            def act():
                wait()
                worker(tmp_path, url, given, evaluate)()

            children.append(Child(act, tmp_path / f"log-{i}"))
        let_go()
        for child in children:
            child.succeed()


@pytest.mark.parametrize("number", [2, 8])
def test_workers_share_a_study_and_get_what_one_gets(tmp_path, number):
    given = plan(trials=16, generations=1, offspring=8, epochs=3, **ALIKE)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(3), tmp_path)
    (tmp_path / "b").mkdir()
    race(tmp_path / "b", "", given, toy(3, 0.01), number)
    assert read(tmp_path / "b", "", given) == expected
    study = join_study(tmp_path / "b", "", "voids")
    rows = study.rows()
    close_study(study)
    assert sorted(r.user_attrs["index"] for r in rows) == list(range(24))
    assert sorted(r.number for r in rows) == list(range(24))


def test_workers_with_a_sampler_that_learns_count_right_too(tmp_path):
    given = plan(trials=16, generations=1, offspring=6, epochs=3)
    race(tmp_path, "", given, toy(3, 0.01), 8)
    trials = read(tmp_path, "", given)[0]
    assert [t[0] for t in trials] == list(range(22))


def first_starts(tmp_path, rounds):
    given = plan(trials=8, generations=0, epochs=1)
    for number in range(rounds):
        root = tmp_path / str(number)
        root.mkdir()
        race(root, "", given, toy(1), 8)
        assert len(read(root, "", given)[0]) == 8


def test_eight_first_starts_at_once(tmp_path):
    first_starts(tmp_path, 3)


@pytest.mark.kills
def test_eight_first_starts_at_once_20_times(tmp_path):
    first_starts(tmp_path, 20)


def test_one_of_three_workers_dies_and_its_trial_goes_on_from_its_checkpoint(tmp_path):
    given = plan(trials=9, generations=0, epochs=4, **ALIKE)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(4), tmp_path)
    trained = tmp_path / "trained"
    trained.touch()

    def note(choice, epoch):
        with trained.open("a") as stream:
            stream.write(f"{choice.index} {choice.attempt} {epoch} {os.getpid()}\n")

    def lines():
        return [tuple(int(n) for n in line.split()) for line in trained.read_text().splitlines()]

    act = worker(tmp_path / "b", "", given, toy(4, 0.05, note))
    children = [Child(act, tmp_path / f"log-{i}") for i in range(3)]
    until(lambda: any(pid == children[0].pid and epoch == 2 for _, _, epoch, pid in lines()))
    children[0].kill()
    assert children[0].wait() == -signal.SIGKILL
    for child in children[1:]:
        child.succeed()
    assert read(tmp_path / "b", "", given) == expected
    repeated = [(index, epoch) for index, attempt, epoch, _ in lines() if attempt == 2]
    (index,) = {index for index, _ in repeated}
    assert min(epoch for _, epoch in repeated) >= 2
    study = join_study(tmp_path / "b", "", "voids")
    dead = state_of(study).trials[index].attempts
    close_study(study)
    assert [a.attempt for a in dead] == [1]
    assert dead[0].reason == f"process {children[0].pid} ended without a word"


def test_a_worker_that_was_paused_too_long_cannot_touch_its_successors_trial(tmp_path):
    given = plan(trials=3, generations=0, epochs=4, **ALIKE)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(4), tmp_path)
    heard = tmp_path / "heard"

    class Teller(Recorder):
        def ended(self, choice, ending, reason, outcome):
            with heard.open("a") as stream:
                stream.write(f"{choice.index} {choice.attempt} {ending}\n")

    def pause(choice, epoch):
        if (choice.attempt, epoch) == (1, 2):
            os.kill(os.getpid(), signal.SIGSTOP)

    # It gives no sign of life that could fall on the moment of its pause.
    paused = worker(tmp_path / "b", "", given, toy(4, 0.0, pause), Teller(), beat_s=60)
    late = Child(paused, tmp_path / "log-late")
    until(lambda: os.waitpid(late.pid, os.WUNTRACED | os.WNOHANG)[0] == late.pid)
    go_on = worker(tmp_path / "b", "", given, toy(4), Teller(), beat_s=0.1, grace_s=0.5)
    Child(go_on, tmp_path / "log").succeed()
    assert read(tmp_path / "b", "", given) == expected
    late.kill(signal.SIGCONT)
    late.succeed()
    assert read(tmp_path / "b", "", given) == expected
    told = heard.read_text().splitlines()
    assert sorted(told) == ["0 1 lost", "0 2 complete", "1 1 complete", "2 1 complete"]
    assert told[-1] == "0 1 lost"


@pytest.mark.parametrize("stops", [12, pytest.param(60, marks=pytest.mark.kills)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_at_any_moment_ends_cleanly_and_changes_nothing(tmp_path, number, code, stops):
    given = plan(trials=stops, generations=1, offspring=10, epochs=6)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(6), tmp_path)
    draw = random.Random(code)
    act = worker(tmp_path / "b", "", given, toy(6, 0.02))
    for _ in range(stops):
        child, commits = begin(act, tmp_path / "log")
        wait_for_some_moment(draw, commits)
        child.kill(number)
        begun = time.monotonic()
        ended = child.wait()
        os.close(commits)
        assert time.monotonic() - begun < 5
        assert ended == code, (tmp_path / "log").read_text()
    assert run_to_the_end(tmp_path / "b", "", given, toy(6), tmp_path) == expected
    study = join_study(tmp_path / "b", "", "voids")
    reasons = {a.reason for t in state_of(study).trials for a in t.attempts}
    close_study(study)
    assert {"stopped by SIGTERM", "stopped by Ctrl-C"} & reasons


def test_a_trial_that_kills_its_process_is_given_up(tmp_path):
    given = plan(trials=3, generations=0, epochs=2, **ALIKE)

    def die(choice, epoch):
        if choice.index == 1 and epoch == 1:
            os._exit(137)

    codes = []
    while 0 not in codes:
        act = worker(tmp_path, "", given, toy(2, 0.0, die), max_deaths=3)
        codes.append(Child(act, tmp_path / "log").wait())
    study = join_study(tmp_path, "", "voids")
    state = state_of(study)
    close_study(study)
    # The first death came after a whole epoch; three more without one are enough.
    assert codes == [137] * 4 + [0]
    assert [t.state for t in state.trials] == ["complete", "failed", "complete"]
    assert state.trials[1].reason.startswith("its process died 3 times in a row")
