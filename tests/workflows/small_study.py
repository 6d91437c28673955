"""A project whose networks train in hundredths of a second, and studies in this process."""

import json

import numpy as np
from drawing import VOIDS, discs, field, write_split

from defectops.experiments.registry import RecordingRegistry
from defectops.experiments.studies import close_study, open_study, state_of
from defectops.experiments.tracking import RecordingTracker
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning import machine
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import save_fields, sealed
from defectops.workflows.study_plan import make_plan
from defectops.workflows.study_worker import Shells, carry_out
from defectops.workflows.trials import load_ground, sides_of
from defectops.workflows.tune_settings import TuneOptions

TRAIN = {
    "learning_rate": 0.004,
    "patch_px": 32,
    "batch": 2,
    "patches_per_epoch": 4,
    "width": 0.15,
    "warm_up_steps": 0,
    "threads": 1,
}
OPTIONS = {
    "trials": 3,
    "generations": 1,
    "epochs": 2,
    "seed_from": 2,
    "offspring": 2,
    "stretch": 1,
    "patience": 1,
}
OPTIONS |= {"pruner": "none", "sampler": "random", "tolerance": 0.0}
SIDES = ("train", "dev", "gate", "test")


def write_project(root):
    """Write four sides, what tells of them, and a params.yaml."""
    noise = np.random.default_rng(0)
    sides = {}
    for i, side in enumerate(SIDES):
        label = discs((64, 80), (20, 20 + 5 * i), (40, 60))
        shown = 2.0 * label + noise.normal(0, 0.5, label.shape)
        sides[side] = [field(label, shown, image=f"{side}.png")]
        save_fields(root / f"split/voids/{side}.npz", sides[side])
    write_split(root, **sides)
    sections = {"defects": {"voids": {}}, "train": {"default": TRAIN}, "tune": {"default": OPTIONS}}
    (root / "params.yaml").write_text(json.dumps(sections))


class Tuning:
    """Studies of one project in this process, told to stores in memory."""

    def __init__(self, root):
        self.root = root
        self.tracker = RecordingTracker()
        self.registry = RecordingRegistry()
        self.events = []
        self.on_event = lambda event: None

    def ground(self, **train):
        given = {**TRAIN, **train}
        return load_ground(self.root, VOIDS, given, ConditioningOptions(), MeasureOptions())

    def __call__(self, *, mode="either", train=None, deadline=None, **options):
        """Carry out a study as a worker does; return its state and plan."""
        with sealed(*sides_of(self.root, VOIDS)):
            ground = self.ground(**(train or {}))
            plan = make_plan(ground, TuneOptions(**{**OPTIONS, **options}), 1)
            study = open_study(self.root, "", "voids", plan, mode=mode)
            machine.settle(1)
            try:
                shells = Shells(self.tracker, self.registry, self._tell)
                carry_out(self.root, study, ground, shells, deadline)
                return state_of(study), study.plan
            finally:
                close_study(study)

    def _tell(self, event):
        self.events.append(event)
        self.on_event(event)

    def runs(self):
        """Return the runs of trials by (trial, attempt), and that of the study."""
        found = [record.run for record in self.tracker.records.values()]
        of_trials = [run for run in found if "trial" in run.tags]
        (study,) = [run for run in found if "trial" not in run.tags]
        return {(int(r.tags["trial"]), int(r.tags["attempt"])): r for r in of_trials}, study
