"""A study as a real one looks, with invented learning curves: no training, the same every time."""

import math
from hashlib import sha256

import numpy as np

from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.study_trials import Plan, StudyState, Trial

SPACE = Space(
    (
        Dimension("learning_rate", "float", 1e-5, 1e-2, log=True),
        Dimension("positive_weight", "float", 1.0, 50.0, log=True),
        Dimension("positive_weight_decay", "float", 0.5, 1.0),
        Dimension("l2", "float", 1e-7, 1e-2, log=True),
        Dimension("dropout", "float", 0.0, 0.5),
        Dimension("learning_rate_factor", "float", 0.1, 0.9),
        Dimension("loss", "choice", choices=("cross_entropy", "dice")),
    )
)
OWN = {
    "learning_rate": 1e-3,
    "positive_weight": 20.0,
    "positive_weight_decay": 0.9,
    "l2": 1e-5,
    "dropout": 0.1,
    "learning_rate_factor": 0.5,
    "loss": "cross_entropy",
}


def plan(**changes):
    given = {"defect": "precipitates", "seed": 1, "space": SPACE, "trials": 12, "generations": 4}
    given |= {"epochs": 8, "seed_from": 3, "offspring": 3, "first": (OWN,)}
    return Plan(**given | changes)


def draw(random, around=None):
    params = {}
    for d in SPACE.dimensions:
        box = d if around is None else d.around(around[d.name], 0.25)
        if d.kind == "choice":
            params[d.name] = str(random.choice(box.choices))
        elif d.log:
            params[d.name] = float(10 ** random.uniform(*np.log10((box.low, box.high))))
        else:
            params[d.name] = float(random.uniform(box.low, box.high))
    return params


def ceiling(params):
    """What a parameter set reaches in the end: mostly a matter of the learning rate."""
    off = abs(math.log10(params["learning_rate"]) + 2.7)
    return 0.84 - 0.16 * off - 0.12 * params["dropout"] - 0.04 * (params["loss"] == "dice")


def curve(params, before, epochs, random):
    top, at = ceiling(params), np.arange(before + 1, before + epochs + 1)
    pace = 3.5 + 2 * abs(math.log10(params["learning_rate"]) + 2.5)
    noise = 0.012 * random.standard_normal(epochs)
    values = np.clip((top + 0.002 * before) * (1 - np.exp(-at / pace)) + noise, 0.01, 0.95)
    return {i: round(float(v), 4) for i, v in enumerate(values)}


def trial(index, generation, params, parent, random, *, pruned=False, failed=False):
    before = parent.cumulative_epochs if parent else 0
    epochs = 2 if failed else 3 if pruned else 8
    found = curve(params, before, epochs, random)
    state = "failed" if failed else "pruned" if pruned else "complete"
    top = max(found.values())
    error = round(abs(0.9 - top) ** 1.5 + 0.09 * float(random.random()), 4)
    whole = state == "complete"
    return Trial(
        index=index,
        generation=generation,
        state=state,
        params=params,
        values=(top, error) if whole else (),
        curve=found,
        epochs=epochs,
        cumulative_epochs=before + epochs,
        pruned_at=2 if pruned else None,
        parent=parent.index if parent else None,
        parent_sha256=parent.checkpoint_sha256 if parent else "",
        checkpoint_sha256=sha256(b"%d" % index).hexdigest() if whole else "",
        reason={"pruned": "0.210 after 3 epochs, its kind reached 0.500", "failed": "nan"}.get(
            state, ""
        ),
        seconds=3.7 * epochs,
        cumulative_seconds=3.7 * (before + epochs),
    )


def trials(generations=4, seed=4):
    random = np.random.default_rng(seed)
    found = []
    for i in range(12):
        params = OWN if i == 0 else draw(random)
        hopeless = ceiling(params) < 0.58
        found.append(trial(i, 0, params, None, random, pruned=hopeless, failed=i == 5))
    for generation in range(1, generations + 1):
        whole = [t for t in found if t.state == "complete"]
        taken = {t.parent for t in whole}
        best = sorted((t for t in whole if t.index not in taken), key=lambda t: -t.values[0])[:3]
        for place, parent in enumerate(best):
            params = parent.params if not place else draw(random, parent.params)
            weak = generation > 1 and place == 2
            found.append(trial(len(found), generation, params, parent, random, pruned=weak))
    return found


def one_value(found):
    return Trial(**{**vars(found), "values": found.values[:1]})


def study(*, objective="iou", generations=4, seed=4):
    found = trials(generations, seed)
    if objective != "pareto":
        found = [one_value(t) for t in found]
    whole = [t for t in found if t.state == "complete"]
    best = max(whole, key=lambda t: (t.values[0], -t.index))
    front = [
        t
        for t in whole
        if not any(o.values[0] >= t.values[0] and o.values[-1] < t.values[-1] for o in whole)
    ]
    stopped = "generation 4 gained 0.0012 over generation 3, less than 0.0020"
    return StudyState(
        "precipitates", found, stopped, best, front if objective == "pareto" else [best]
    )
