"""What a study costs beside its training, and what a second worker brings.

Usage:  python benchmarks/tuning_overhead.py [--trials 3] [--epochs 4] [--rounds 2] [--json]

Both on the default network and preset, on synthetic precipitates of 1024 x 1024 pixels. Takes some
four minutes on two idle cores; on a busy machine the second figure says nothing.

- **Overhead.** Before or after each epoch of a study, in turn, the bare loop trains the same epoch
  from the same weights in the same process. All that the study takes beyond that is overhead:
  claims, reports and prune checks in the study store, runs, curves and artifacts in MLflow,
  checkpoints, best weights, comparison maps. What comes once a study (registration, figures) is
  told apart. Exit status 1 above 5 %.
- **Workers.** One worker with two threads and two workers with one thread each carry out equal
  studies in processes of their own, in turn. Trials an hour are summed over workers, each from its
  first trial's beginning to its last one's end. Exit status 1 below 1.1 times.
"""

from __future__ import annotations

import os

# Before torch is imported, as in every worker: threads that wait for each other sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from defectops.dataset.patches import epoch_batches
from defectops.dataset.synthesis import draw, small
from defectops.defects import register
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.studies import Choice, Outcome, Step, close_study, open_study, state_of
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.learning import machine
from defectops.learning.networks import build, multiple_px
from defectops.learning.training import EpochRecord, fit
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration, Field, Region, save_fields
from defectops.settings import tracking_uri
from defectops.workflows import study_worker
from defectops.workflows.study_plan import make_plan
from defectops.workflows.study_worker import Shells, carry_out
from defectops.workflows.trials import Evaluator, Ground, load_ground, settings_of
from defectops.workflows.tune_settings import TuneOptions
from defectops.workflows.tuning import Session, tune

KEY, SHAPE_PX, PIXEL_SIZE_NM = "precipitates", (1024, 1024), 0.365
MOST_OVERHEAD, LEAST_GAIN = 0.05, 1.1
CONDITIONING = ConditioningOptions()


def write_project(root: Path) -> None:
    """Draw one micrograph a side and write what a study reads."""
    options = replace(small(SHAPE_PX)[2], pixel_size_nm=PIXEL_SIZE_NM)
    for number, side in enumerate(("train", "dev")):
        drawn = draw(replace(options, name=f"{side}.png"), number)
        plane = condition(drawn.micrograph.pixels, register({KEY: {}})[KEY].polarity, CONDITIONING)
        label = drawn.labels[KEY]
        field = Field(
            f"{side}.png",
            Region(0, SHAPE_PX[0], 0, SHAPE_PX[1]),
            plane,
            label,
            label & False,
            Calibration(PIXEL_SIZE_NM, "synthesis"),
        )
        save_fields(root / "split" / KEY / f"{side}.npz", [field])
    (root / "params.yaml").write_text(json.dumps({"defects": {KEY: {}}}))


class Paired(Evaluator):
    """Trains each epoch twice: as a study does, and by the bare loop beside it."""

    bare_s: list[float]

    def __call__(self, choice: Choice) -> Generator[Step, None, Outcome]:
        """Yield the study's epochs; collect the bare loop's seconds."""
        bare = self._bare(choice)
        inner = super().__call__(choice)
        for epoch in range(self.plan.epochs):
            if epoch % 2:
                self._time(bare)
            step = next(inner)
            if not epoch % 2:
                self._time(bare)
            yield step
        return (yield from inner)

    def _time(self, bare: Iterator[EpochRecord]) -> None:
        started = time.perf_counter()
        next(bare)
        self.bare_s.append(time.perf_counter() - started)

    def _bare(self, choice: Choice) -> Iterator[EpochRecord]:
        chosen = settings_of(self.ground, self.plan, choice)
        seed, train = chosen.training.seed, self.ground.train
        return fit(
            build(chosen.network, seed),
            lambda epoch: epoch_batches(train, chosen.patches, (seed, epoch)),
            self.ground.dev,
            chosen.training,
            multiple_px=multiple_px(chosen.network),
        )


def ground_of(root: Path) -> Ground:
    """Return what the trials share."""
    return load_ground(root, register({KEY: {}})[KEY], {}, CONDITIONING, MeasureOptions())


def overhead(root: Path, trials: int, epochs: int) -> dict[str, float]:
    """Return what a study of so many trials took beyond its training."""
    options = TuneOptions(trials=trials, epochs=epochs, generations=0)
    ground = ground_of(root)
    plan = make_plan(ground, options, len(os.sched_getaffinity(0)))
    tracker = MlflowTracker(tracking_uri(root), root)
    machine.settle(plan.threads)
    Paired.bare_s = []
    study_worker.Evaluator = Paired  # type: ignore[misc]
    moments: list[float] = []
    try:
        with closing(_Closing(open_study(root, "", KEY, plan))) as held:
            shells = Shells(tracker, MlflowRegistry(tracker), lambda event: note(event, moments))
            started = time.perf_counter()
            carry_out(root, held.study, ground, shells)
            ended = time.perf_counter()
            done = [t.state for t in state_of(held.study).trials]
    finally:
        study_worker.Evaluator = Evaluator  # type: ignore[misc]
    bare = sum(Paired.bare_s)
    study = moments[-1] - started - bare
    return {
        "trials": trials,
        "epochs_each": epochs,
        "epochs_trained": len(Paired.bare_s),
        "complete": done.count("complete"),
        "bare_s": bare,
        "study_s": study,
        "overhead": study / bare - 1,
        "once_a_study_s": ended - moments[-1],
    }


def note(event: Mapping[str, Any], moments: list[float]) -> None:
    """Keep when trials ended."""
    if event["event"] == "ended":
        moments.append(time.perf_counter())


class _Closing:
    def __init__(self, study: Any) -> None:
        self.study = study

    def close(self) -> None:
        close_study(self.study)


def trials_an_hour(root: Path, workers: int, threads: int, trials: int, epochs: int) -> float:
    """Return how many trials an hour so many workers carry out."""
    spans: dict[int, list[float]] = {}
    counts: dict[int, int] = {}

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] in {"began", "ended"}:
            spans.setdefault(event["worker"], []).append(time.perf_counter())
        if event["event"] == "ended":
            counts[event["worker"]] = counts.get(event["worker"], 0) + 1

    options = TuneOptions(
        trials=trials, epochs=epochs, generations=0, sampler="random", pruner="none"
    )
    tune(root, KEY, options, listen, Session(workers=workers, threads=threads, mode="new"))
    return sum(3600 * counts[w] / (spans[w][-1] - spans[w][0]) for w in counts)


def workers(root: Path, trials: int, epochs: int, rounds: int) -> dict[str, float]:
    """Return trials an hour of both ways, in turn, and their ratio round by round."""
    ways = [(1, 2), (2, 1)]
    found: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            found[way].append(trials_an_hour(root, *way, trials, epochs))
    ratios = [two / one for one, two in zip(found[1, 2], found[2, 1], strict=True)]
    return {
        "one_worker_two_threads_per_h": statistics.median(found[1, 2]),
        "two_workers_one_thread_per_h": statistics.median(found[2, 1]),
        "gain_median": statistics.median(ratios),
        "gain_low": min(ratios),
        "gain_high": max(ratios),
    }


def main() -> int:
    """Measure, print, and say by the exit status whether both goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_project(root)
        cost = overhead(root, given.trials, given.epochs)
        gain = workers(root, given.trials + 1, max(1, given.epochs // 2), given.rounds)
    if given.json:
        print(json.dumps({"overhead": cost, "workers": gain}, indent=1))
    else:
        print(
            f"study of {cost['epochs_trained']} epochs: {cost['study_s']:.1f} s, bare loop "
            f"{cost['bare_s']:.1f} s, overhead {100 * cost['overhead']:.1f} % (at most 5 %); once "
            f"a study {cost['once_a_study_s']:.1f} s"
        )
        print(
            f"trials an hour: one worker with two threads "
            f"{gain['one_worker_two_threads_per_h']:.0f}, two workers with one thread each "
            f"{gain['two_workers_one_thread_per_h']:.0f}, {gain['gain_median']:.2f} times "
            f"({gain['gain_low']:.2f} to {gain['gain_high']:.2f}; at least 1.1)"
        )
    met = cost["overhead"] <= MOST_OVERHEAD and gain["gain_median"] >= LEAST_GAIN
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
