import dataclasses
import json
import math
import os
import sqlite3
import time

import optuna
import pytest
from toy_study import SPACE, Recorder, listing, plan, toy

from defectops.errors import EnvironmentFault, InputRefused, SettingsRefused, TrainingDiverged
from defectops.experiments.leases import Lease
from defectops.experiments.studies import (
    Choice,
    Outcome,
    Plan,
    Step,
    close_study,
    default_url,
    exported,
    join_study,
    open_study,
    state_of,
    work,
)

pytestmark = pytest.mark.slow  # seconds in all, and the quick part stays under a minute


@pytest.fixture
def opened():
    """Open studies, and give their connections back."""
    handles = []

    def open_(*args, **kwargs):
        handles.append(open_study(*args, **kwargs))
        return handles[-1]

    yield open_
    for handle in handles:
        close_study(handle)


@pytest.fixture
def run(opened, tmp_path):
    """Carry a study out with one worker in a folder of its own and return it."""

    def run_(given=None, evaluate=None, listener=None, folder="a", **kwargs):
        study = opened(tmp_path / folder, "", "voids", given or plan())
        work(study, evaluate or toy(), listener, **kwargs)
        return study

    return run_


SMALL = {"trials": 2, "generations": 0, "epochs": 2}


# The same again ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_export_to_the_byte(run):
    one, two = run(folder="a"), run(folder="b")
    texts = [json.dumps(exported(state_of(s), s.plan)) for s in (one, two)]
    assert texts[0] == texts[1]
    assert listing(one) == listing(two)


@pytest.mark.slow
def test_another_seed_gives_other_trials(run):
    assert listing(run(folder="a")) != listing(run(plan(seed=8), folder="b"))


@pytest.mark.slow
def test_a_study_that_is_stopped_in_every_epoch_comes_to_the_same(run, opened, tmp_path):
    expected = listing(run(folder="a"))
    seen = set()

    def once(choice, epoch):
        if (choice.index, epoch) not in seen:
            seen.add((choice.index, epoch))
            raise KeyboardInterrupt

    study = opened(tmp_path / "b", "", "voids", plan())
    stops = 0
    for _ in range(200):
        try:
            work(study, toy(each=once))
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == len(seen) > 30
    assert listing(study) == expected
    assert sum(len(t.attempts) for t in state_of(study).trials) == stops


def test_a_study_that_is_done_is_not_gone_on_with(run, opened, tmp_path):
    study = run(plan(**SMALL), toy(2))
    before = listing(study)
    recorder = Recorder()
    work(study, toy(2), recorder)
    assert recorder.heard == []
    assert recorder.done == [before[2]]
    assert listing(study) == before


# Generations -------------------------------------------------------------------------------


def test_indices_have_no_gap_and_children_follow_their_parents(run):
    study = run()
    trials = state_of(study).trials
    assert [t.index for t in trials] == list(range(11))
    assert [t.generation for t in trials] == [0] * 5 + [1] * 3 + [2] * 3
    for t in trials[5:]:
        parent = trials[t.parent]
        assert parent.generation < t.generation
        assert t.parent_sha256 == parent.checkpoint_sha256
        assert t.cumulative_epochs == parent.cumulative_epochs + t.epochs
        assert t.cumulative_seconds == parent.cumulative_seconds + t.seconds
    assert trials[5].params == trials[trials[5].parent].params


def test_the_first_trials_are_those_that_the_plan_gives(run):
    first = ({"learning_rate": 1e-4}, {"learning_rate": 2e-4, "dropout": 0.5})
    study = run(plan(first=first, **SMALL), toy(2))
    trials = state_of(study).trials
    assert trials[0].params["learning_rate"] == 1e-4
    assert 0 <= trials[0].params["dropout"] <= 0.5
    assert trials[1].params == {"learning_rate": 2e-4, "dropout": 0.5}


def test_an_evaluator_sees_its_parent_and_its_own_seed(run):
    seen = {}

    def note(choice, epoch):
        seen[choice.index] = choice

    study = run(plan(), toy(each=note))
    trials = state_of(study).trials
    assert len({c.seed for c in seen.values()}) == 11
    assert all(isinstance(c, Choice) and c.attempt == 1 for c in seen.values())
    assert seen[0].parent is None
    parent = seen[5].parent
    assert (parent.index, parent.checkpoint_sha256) == (
        trials[5].parent,
        trials[5].parent_sha256,
    )
    assert (parent.epochs, parent.seconds) == (4, 2.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"generations": 0}, "generation 0 is done"),
        ({"generations": 2}, "all 2 generations are done"),
        ({"tolerance": 0.5}, "generation 1 gained 0.1"),
        ({"tolerance": 0.5, "patience": 2}, "generation 2 gained 0.0"),
    ],
)
def test_it_says_why_it_stopped(run, changes, why):
    recorder = Recorder()
    study = run(plan(**changes), listener=recorder)
    assert state_of(study).done.startswith(why)
    assert recorder.done == [state_of(study).done]


def test_each_generation_trains_four_times_as_long_as_the_one_before_up_to_a_limit(run):
    def evaluate(choice):
        for epoch in range(choice.epochs):
            yield Step(epoch, 0.1, 1.0)
        return Outcome((0.5 + 0.1 * choice.generation,), f"{choice.index:064d}")

    line = plan(trials=1, offspring=1, generations=3, epochs=3, stretch=8)
    trials = state_of(run(line, evaluate)).trials
    assert [t.epochs for t in trials] == [3, 12, 24, 24]
    assert [t.planned_epochs for t in trials] == [t.epochs for t in trials]
    assert [t.cumulative_epochs for t in trials] == [3, 15, 39, 63]


def test_several_values_are_a_pareto_set(run):
    two = plan(objective="pareto", sampler="random", pruner="none")
    values = iter([(0.5, 0.5), (0.6, 0.6), (0.4, 0.7), (0.6, 0.6), (0.7, 0.9), *[(0.5, 0.5)] * 6])
    study = run(two, toy(outcome=lambda choice: next(values)))
    state = state_of(study)
    assert [t.index for t in state.pareto] == [0, 1, 4]
    assert state.best.index == 4
    assert state.done == "generation 1 gained 0.0000, not more than 0"


def test_the_error_of_a_quantity_is_minimised(run):
    study = run(
        plan(objective="density", **SMALL), toy(2, outcome=lambda c: ((0.3, 0.2)[c.index],))
    )
    assert state_of(study).best.index == 1


# Pruning -----------------------------------------------------------------------------------


def hopeless(choice):
    """Yield a curve that is flat and low from the fourth trial on."""
    level = 0.8 if choice.index < 3 else 0.1
    for epoch in range(6):
        yield Step(epoch, level + 0.01 * (choice.index < 3) * epoch, 1.0)
    return Outcome((level,), "0" * 64)


def test_a_hopeless_trial_is_given_up_with_the_reason_and_the_epoch(run):
    study = run(plan(trials=4, generations=0, epochs=6), hopeless)
    trial = state_of(study).trials[3]
    assert trial.state == "pruned"
    assert trial.pruned_at == max(trial.curve) < 5
    assert "kin" in trial.reason
    assert trial.values == ()
    assert run(plan(trials=4, generations=0, epochs=6, pruner="none"), hopeless, folder="b")


@pytest.mark.slow
def test_an_evaluator_that_is_given_up_may_clean_up(run):
    closed = []

    def evaluate(choice):
        try:
            return (yield from hopeless(choice))
        finally:
            closed.append(choice.index)

    run(plan(trials=4, generations=0, epochs=6), evaluate)
    assert closed == [0, 1, 2, 3]


def test_trials_of_another_generation_are_no_kin(run):
    # Warm trials that are all far below the cold ones: among each other nobody is behind.
    def evaluate(choice):
        level = 0.1 if choice.generation else 0.8
        for epoch in range(5):
            yield Step(epoch, level, 1.0)
        return Outcome((level,), "0" * 64)

    study = run(plan(trials=5, generations=1, offspring=5, epochs=5, seed_from=1), evaluate)
    assert [t.state for t in state_of(study).trials] == ["complete"] * 10


def test_a_cold_trial_that_never_learned_is_no_yardstick_for_learners(run):
    # A constant answer is worth more at first than what learns slowly, and is overtaken.
    def evaluate(choice):
        for epoch in range(8):
            yield Step(epoch, 0.5 if choice.index < 3 else 0.07 * epoch, 1.0)
        return Outcome((0.5,), "0" * 64)

    study = run(plan(trials=5, generations=0, epochs=8), evaluate)
    assert [t.state for t in state_of(study).trials] == ["complete"] * 5


# Trials that fail --------------------------------------------------------------------------


def fail(choice, epoch):
    if epoch == 1:
        if choice.index == 1:
            raise MemoryError
        if choice.index == 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9")
        if choice.index == 3:
            raise OSError(28, "No space left on device")
        if choice.index == 4:
            raise TrainingDiverged("voids", "E_DIVERGED", "loss is nan in epoch 1")
        if choice.index == 5:
            raise ValueError("two\nlines")
        if choice.index == 6:
            raise AssertionError


def test_a_failure_has_its_reason_and_the_study_goes_on(run):
    recorder = Recorder()
    study = run(plan(trials=8, generations=0), toy(each=fail), recorder)
    trials = state_of(study).trials
    assert [t.state for t in trials] == ["complete", *["failed"] * 6, "complete"]
    assert [t.reason for t in trials[1:7]] == [
        "out of memory",
        "out of memory",
        "no room on the disk: No space left on device",
        "voids: E_DIVERGED: loss is nan in epoch 1",
        "ValueError: two lines",
        "AssertionError",
    ]
    assert all(t.attempts == () for t in trials)
    assert ("failed", 1, "out of memory") in recorder.heard


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_fails_the_trial(run, value):
    def evaluate(choice):
        yield Step(0, 0.5, 1.0)
        yield Step(1, value if choice.index else 0.4, 1.0)
        return Outcome((0.4,), "0" * 64)

    state = state_of(run(plan(**SMALL), evaluate))
    assert state.trials[1].reason == f"value is {value} in epoch 1"
    assert state.trials[1].curve == {0: 0.5}
    assert state.best.index == 0


def test_an_outcome_that_is_not_finite_is_never_the_best(run):
    state = state_of(run(plan(**SMALL), toy(2, outcome=lambda c: ((math.inf, 0.1)[c.index],))))
    assert state.trials[0].reason == "value is inf in the end"
    assert state.best.index == 1
    json.dumps(exported(state, plan()), allow_nan=False)


def test_an_evaluator_that_breaks_the_rules_fails_its_trials(run):
    def evaluate(choice):
        if choice.index == 0:
            yield Step(1, 0.5, 1.0)
        yield Step(0, 0.5, 1.0)
        return None if choice.index == 1 else Outcome((0.5, 0.5), "0" * 64)

    trials = state_of(run(plan(trials=3, generations=0), evaluate)).trials
    assert [t.reason for t in trials] == [
        "told epoch 1 where 0 was due",
        "ended without an outcome",
        "gave 2 values, the study has 1",
    ]


def test_a_function_that_is_no_generator_and_raises_fails_its_trials(run):
    def evaluate(choice):
        raise ValueError("no data")

    state = state_of(run(plan(**SMALL), evaluate))
    assert {t.reason for t in state.trials} == {"ValueError: no data"}
    assert state.done == "no trial came to an end: 2 of 2 failed or were pruned"
    assert (state.best, state.pareto) == (None, [])


@pytest.mark.slow
def test_many_kinds_of_failure_and_the_best_is_sound(run):
    def evaluate(choice):
        kind = choice.index % 20
        yield Step(0, 0.1, 1.0)
        if kind in {2, 7, 11, 15}:
            yield Step(1, math.nan, 1.0)
        if kind in {4, 9}:
            raise MemoryError
        if kind == 13:
            raise RuntimeError("broken")
        yield Step(1, 0.2, 1.0)
        return Outcome((choice.index / 100,), "0" * 64)

    state = state_of(run(plan(trials=40, generations=0, epochs=2, sampler="random"), evaluate))
    reasons = [t.reason for t in state.trials if t.state == "failed"]
    assert len(state.trials) == 40
    assert (reasons.count("value is nan in epoch 1"), reasons.count("out of memory")) == (8, 4)
    assert reasons.count("RuntimeError: broken") == 2
    assert state.best.index == 39
    assert all(t.attempts == () for t in state.trials)


# Stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interruption", "reason"),
    [
        (KeyboardInterrupt(), "stopped by Ctrl-C"),
        (SystemExit(143), "stopped by SIGTERM"),
        (SystemExit(2), "stopped by exit 2"),
    ],
)
def test_a_clean_stop_gives_the_trial_back_at_once(run, opened, tmp_path, interruption, reason):
    def stop(choice, epoch):
        if choice.attempt == 1 and (choice.index, epoch) == (1, 1):
            raise interruption

    recorder = Recorder()
    with pytest.raises(type(interruption)):
        run(plan(**SMALL), toy(2, each=stop), recorder)
    assert recorder.heard[-1] == ("stopped", 1, reason)
    study = opened(tmp_path / "a", "", "voids", plan(**SMALL))
    trial = state_of(study).trials[1]
    assert trial.state == "waiting"
    assert [(a.attempt, a.reason, a.epochs) for a in trial.attempts] == [(1, reason, 1)]
    again = Recorder()
    work(study, toy(2, each=stop), again)
    assert again.heard[0] == ("began", 1, 2)


def test_the_budget_gives_the_trial_back_and_another_one_goes_on(run, opened, tmp_path):
    now = [0.0]

    def go(choice, epoch):
        now[0] = 10.0 * choice.index + epoch

    study = run(plan(**SMALL), toy(2, each=go), deadline=10.5, clock=lambda: now[0])
    state = state_of(study)
    assert state.done == ""
    assert [t.state for t in state.trials] == ["complete", "waiting"]
    assert [(a.reason, a.epochs) for a in state.trials[1].attempts] == [
        ("stopped by the budget", 2)
    ]
    recorder = Recorder()
    work(study, toy(2), recorder)
    assert recorder.heard[0] == ("began", 1, 2)
    assert state_of(study).done


def test_no_trial_begins_after_the_deadline(run):
    study = run(deadline=0.0)
    assert state_of(study).trials == []


def test_a_listener_that_fails_ends_the_worker_and_not_the_trial(run, opened, tmp_path):
    class Deaf(Recorder):
        def stepped(self, choice, step):
            raise ConnectionError("the tracking server is away")

    with pytest.raises(ConnectionError):
        run(listener=Deaf())
    study = opened(tmp_path / "a", "", "voids", plan())
    (trial,) = state_of(study).trials
    assert trial.state == "waiting"
    assert trial.attempts[0].reason.startswith("stopped by ConnectionError")


def test_a_stop_right_after_a_result_does_not_undo_it(run, opened, tmp_path, monkeypatch):
    end = Lease.end

    def end_and_stop(lease, *args, **kwargs):
        end(lease, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Lease, "end", end_and_stop)
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run(plan(**SMALL), toy(2), recorder)
    assert recorder.heard[-1] == ("complete", 0, "")
    study = opened(tmp_path / "a", "", "voids", plan(**SMALL))
    assert [(t.state, t.attempts) for t in state_of(study).trials] == [("complete", ())]


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_transaction_that_hangs(run, tmp_path):
    holder = []

    def hang_and_stop(choice, epoch):
        holder.append(sqlite3.connect(tmp_path / "a/.defectops/studies/studies.db"))
        holder[0].execute("BEGIN IMMEDIATE")
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(plan(**SMALL), toy(2, each=hang_and_stop))
    assert time.monotonic() - begun < 10
    holder[0].close()


def test_an_evaluator_that_cannot_clean_up_does_not_stop_the_study(run):
    def evaluate(choice):
        try:
            yield from hopeless(choice)
        except GeneratorExit:
            raise OSError("cannot delete") from None
        return Outcome((0.5,), "0" * 64)

    study = run(plan(trials=4, generations=0, epochs=6), evaluate)
    assert [t.state for t in state_of(study).trials] == [*["complete"] * 3, "pruned"]


def test_a_successor_knows_the_run_before_it(run):
    seen = []

    def stop(choice, epoch):
        seen.append((choice.index, choice.attempt, choice.predecessor_run))
        if choice.attempt == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan(**SMALL), toy(2, each=stop), Recorder())
    with pytest.raises(KeyboardInterrupt):
        run(plan(**SMALL), toy(2, each=stop), Recorder())
    assert seen == [(0, 1, None), (0, 2, "run-0-1"), (0, 2, "run-0-1"), (1, 1, None)]


def test_files_of_trials_that_ended_are_deleted_and_of_others_kept(run, tmp_path):
    def stop(choice, epoch):
        if choice.index == 2 and epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(evaluate=toy(each=stop))
    kept = tmp_path / "a/.defectops/studies/voids/trials"
    assert [p.name for p in kept.iterdir()] == ["2"]
    assert [p.name for p in (kept / "2").iterdir()] == ["attempt-1"]
    assert (kept / "2/attempt-1/checkpoint.json").is_file()


def test_no_room_for_a_trials_folder_ends_the_worker_and_spoils_no_trial(run, opened, tmp_path):
    study = opened(tmp_path / "a", "", "voids", plan(**SMALL))
    study.folder.mkdir(parents=True)
    in_the_way = study.folder / "trials"
    in_the_way.write_text("not a folder")
    for _ in range(7):
        with pytest.raises(EnvironmentFault, match=r"attempt-.*E_IO"):
            work(study, toy(2))
    in_the_way.unlink()
    work(study, toy(2))
    assert [t.state for t in state_of(study).trials] == ["complete", "complete"]


# Opening -----------------------------------------------------------------------------------


def test_a_plan_comes_back_from_the_store(run, tmp_path):
    study = run(plan(**SMALL))
    joined = join_study(tmp_path / "a", "", "voids")
    assert joined.plan == study.plan
    assert Plan.from_json(json.loads(json.dumps(study.plan.as_json()))) == study.plan
    close_study(joined)


def test_another_plan_is_refused_and_says_what_differs(run, opened, tmp_path):
    run(plan(**SMALL))
    with pytest.raises(InputRefused, match=r"E_STUDY.*epochs was 2, is 3; seed was 7, is 9.*--new"):
        opened(tmp_path / "a", "", "voids", plan(**{**SMALL, "epochs": 3, "seed": 9}))


def test_new_begins_another_one_and_keeps_the_first(run, opened, tmp_path):
    first = run(plan(**SMALL))
    before = listing(first)
    for number in (2, 3):
        again = opened(tmp_path / "a", "", "voids", plan(seed=number, **SMALL), mode="new")
        assert again.name == f"voids.{number}"
        assert state_of(again).trials == []
    newest = join_study(tmp_path / "a", "", "voids")
    assert newest.name == "voids.3"
    close_study(newest)
    assert listing(first) == before


def test_there_is_nothing_to_resume_or_join(opened, tmp_path):
    with pytest.raises(InputRefused, match="E_STUDY: no such study"):
        opened(tmp_path, "", "voids", plan(), mode="resume")
    with pytest.raises(InputRefused, match="E_STUDY: no such study"):
        join_study(tmp_path, "", "voids")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.2", "a b"])
def test_a_name_that_is_no_file_name_is_refused(opened, tmp_path, name):
    with pytest.raises(InputRefused, match="E_STUDY"):
        opened(tmp_path, "", name, plan())


def test_a_study_of_somebody_else_is_left_alone(opened, tmp_path):
    opened(tmp_path, "", "mine", plan())
    optuna.create_study(study_name="voids", storage=default_url(tmp_path)).ask()
    with pytest.raises(InputRefused, match="not one of ours"):
        opened(tmp_path, "", "voids", plan())


@pytest.mark.parametrize(
    "changes", [{"trials": 0}, {"tolerance": math.nan}, {"patience": 0}, {"generations": -1}]
)
def test_a_plan_that_cannot_be_is_refused(changes):
    with pytest.raises(SettingsRefused, match="E_CONFIG"):
        plan(**changes)


@pytest.mark.parametrize("first", [{"colour": "red"}, {"learning_rate": 0.0}, {"dropout": "x"}])
def test_a_plan_that_tries_first_what_cannot_be_is_refused(first):
    with pytest.raises(SettingsRefused, match=f"tune.{next(iter(first))}: E_CONFIG"):
        plan(first=(first,))


# For other tools ---------------------------------------------------------------------------


def test_optuna_opens_what_is_written(run, tmp_path):
    study = run(plan(trials=6, generations=1), toy(each=fail))
    loaded = optuna.load_study(study_name="voids", storage=default_url(tmp_path / "a"))
    ours = state_of(study)
    assert [t.user_attrs["index"] for t in loaded.trials] == [t.index for t in ours.trials]
    assert [t.params for t in loaded.trials] == [dict(t.params) for t in ours.trials]
    assert [t.state.name for t in loaded.trials[:6]] == ["COMPLETE", *["FAIL"] * 5]
    assert loaded.best_trial.user_attrs["index"] == ours.best.index
    assert loaded.best_value == ours.best.values[0]
    assert loaded.trials[0].intermediate_values == ours.trials[0].curve
    assert set(loaded.best_trial.distributions) == set(SPACE.names)


def test_rows_that_another_tool_left_running_do_not_count(run, opened, tmp_path):
    opened(tmp_path / "a", "", "voids", plan(**SMALL))
    other = optuna.load_study(study_name="voids", storage=default_url(tmp_path / "a"))
    other.ask()
    study = run(plan(**SMALL), toy(2))
    assert [t.index for t in state_of(study).trials] == [0, 1]
    assert [t.state.name for t in other.trials] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_the_export_is_plain_and_has_no_times_and_runs(run):
    study = run(plan(**SMALL), toy(2), Recorder())
    content = json.loads(json.dumps(exported(state_of(study), study.plan), allow_nan=False))
    assert list(content)[:6] == ["defect", "seed", "threads", "data_sha256", "versions", "best"]
    assert set(content["trials"][0]) >= {
        "index",
        "generation",
        "state",
        "params",
        "value",
        "epochs",
        "pruned_at",
        "parent",
        "checkpoint_sha256",
        "reason",
    }
    for word in ("seconds", "run-0", str(os.getpid())):
        assert word not in json.dumps(content)


def test_exports_differ_where_the_study_does(run):
    study = run(plan(**SMALL), toy(2))
    state = state_of(study)
    changed = dataclasses.replace(state, done="otherwise")
    assert exported(state, study.plan) != exported(changed, study.plan)
