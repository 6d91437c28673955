"""A cheap evaluator for the tests of studies: a synthetic learning curve with a checkpoint."""

import hashlib
import json
import math
import time

from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.studies import Listener, Outcome, Plan, Step, state_of

SPACE = Space(
    (
        Dimension("learning_rate", "float", 1e-5, 1e-2, log=True),
        Dimension("dropout", "float", 0.0, 0.5),
    )
)


def plan(**changes):
    given = {
        "defect": "voids",
        "seed": 7,
        "space": SPACE,
        "trials": 5,
        "generations": 2,
        "epochs": 4,
        "seed_from": 2,
        "offspring": 3,
        "first": ({"learning_rate": 1e-3, "dropout": 0.25},),
        "tolerance": 0.0,
        "data_sha256": "d" * 64,
        "facts": {"torch": "0"},
    }
    return Plan(**{**given, **changes})


def value_at(choice, epoch, done):
    """What the curve says: better near 1e-3, rising with all epochs of the line of ancestors."""
    peak = 0.9 - 0.08 * abs(math.log10(choice.params["learning_rate"]) + 3)
    peak -= 0.2 * (choice.params["dropout"] - 0.2) ** 2
    noise = hashlib.sha256(f"{choice.seed} {epoch}".encode()).digest()[0] / 255
    return peak * (1 - math.exp(-0.4 * (done + epoch + 1))) + 0.02 * noise


def toy(epochs=4, epoch_s=0.0, each=None, outcome=None):
    """Return an evaluator that saves a checkpoint before it yields and goes on from there.

    `each(choice, epoch)` is called before an epoch is trained, `outcome(choice)` may replace the
    values. The "weights" are the digests of all epochs that they have seen.
    """

    def evaluate(choice):
        checkpoint = choice.folder / "checkpoint.json"
        state = {"curve": [], "weights": choice.parent.checkpoint_sha256 if choice.parent else ""}
        if checkpoint.exists():
            state = json.loads(checkpoint.read_text())
        done = choice.parent.epochs if choice.parent else 0
        for epoch in range(epochs):
            if epoch >= len(state["curve"]):
                if each is not None:
                    each(choice, epoch)
                time.sleep(epoch_s)
                state["curve"].append(value_at(choice, epoch, done))
                seen = f"{state['weights']} {choice.seed} {sorted(choice.params.items())} {epoch}"
                state["weights"] = hashlib.sha256(seen.encode()).hexdigest()
                # No fsync: a killed process loses nothing without it, and tests are quicker.
                temporary = choice.folder / "checkpoint.tmp"
                temporary.write_text(json.dumps(state))
                temporary.replace(checkpoint)
            yield Step(epoch, state["curve"][epoch], 0.5)
        values = outcome(choice) if outcome else (max(state["curve"]),)
        return Outcome(values, state["weights"], {"threshold": 0.5})

    return evaluate


class Recorder(Listener):
    """Remembers what a worker was told."""

    def __init__(self):
        self.heard = []
        self.done = []

    def began(self, choice):
        self.heard.append(("began", choice.index, choice.attempt))
        return f"run-{choice.index}-{choice.attempt}"

    def stepped(self, choice, step):
        self.heard.append(("stepped", choice.index, step.epoch))

    def ended(self, choice, ending, reason, outcome):
        self.heard.append((ending, choice.index, reason))

    def study_done(self, study, reason):
        self.done.append(reason)


def listing(study):
    """What the kill tests compare: all that a trial is, without times, runs and dead attempts."""
    state = state_of(study)
    best = None if state.best is None else (state.best.index, state.best.checkpoint_sha256)
    return (
        [
            (
                t.index,
                t.generation,
                t.state,
                sorted(t.params.items()),
                t.values,
                sorted(t.curve.items()),
                t.pruned_at,
                t.parent,
                t.parent_sha256,
                t.checkpoint_sha256,
                t.reason,
                t.seconds,
            )
            for t in state.trials
        ],
        best,
        state.done,
    )
