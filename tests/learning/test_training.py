"""The training loop: plateau rule, best weights, the same weights again, resumption, divergence."""

import hashlib
import itertools
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import TINY, blobs, field

from defectops.dataset.patches import Batch, random_batches
from defectops.errors import ModelRefused, SettingsRefused, TrainingDiverged
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.networks import build
from defectops.learning.training import (
    TrainingOptions,
    TrainingState,
    evaluate_dev,
    fit,
    load_state,
    save_state,
)

QUICK = TrainingOptions(epochs=4, learning_rate=0.01, positive_weight=3.0, precision="float32")
TRAIN, DEV = [blobs(seed=1)], [blobs((33, 47), seed=2)]


def batches(epoch, count=4, seed=0):
    return random_batches(TRAIN, patch_px=32, batch=2, count=count, key=(seed, epoch))


def run(options=QUICK, spec=TINY, state=None, dev=DEV, source=batches, seed=0):
    return list(fit(build(spec, seed), source, dev, options, state=state))


def digest(tensors):
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].numpy().tobytes())
    return found.hexdigest()


def rows(records):
    return [r.row() for r in records]


# Rules of the schedule -------------------------------------------------------------------------


def unimprovable():
    """All pixels are defect, so the first epoch's IoU is 1 and cannot be beaten."""
    return [field(np.zeros((8, 8)), np.ones((8, 8), bool))]


def one_step(epoch):
    image = torch.zeros(1, 1, 16, 16)
    return [Batch(image, image, torch.ones_like(image))]


def test_training_ends_sixty_epochs_after_the_last_gain():
    options = replace(QUICK, epochs=100, learning_rate=1e-8, learning_rate_factor=0.5)
    records = run(options, dev=unimprovable(), source=one_step)
    assert [r.dev_iou for r in records] == [1.0] * 61
    assert [r.improved for r in records] == [True] + [False] * 60
    assert [r.stopped for r in records[:-1]] == [""] * 60
    assert records[-1].stopped == "learning-rate decay 6 reached"
    assert records[-1].state.best_epoch == 0
    rates = [1e-8 * 0.5 ** ((e - 1) // 10) if e else 1e-8 for e in range(61)]
    assert [r.learning_rate for r in records] == pytest.approx(rates)


def test_a_gain_starts_the_count_of_the_plateau_anew():
    """The last gain at epoch 3 ends training after epoch 3 + 2 * 2."""
    better = iter([0.1, 0.2, 0.2, 0.5, 0.5, 0.1, 0.5, 0.4, 0.4, 0.4])

    def answers(network):
        # The dev side is won by degrees: more and more of its pixels are called.
        share = next(better)
        network.answer = (torch.arange(100.0) < 100 * share).view(1, 1, 10, 10) * 20 - 10

    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(1, 1, 1)

        def forward(self, image):
            if self.training:
                return self.layer(image)
            answers(self)
            return self.answer

    options = replace(QUICK, epochs=50, plateau_epochs=2, max_decays=2)
    dev = [field(np.zeros((10, 10)), np.ones((10, 10), bool))]
    records = list(fit(Told(), one_step, dev, options, multiple_px=1))
    assert [r.improved for r in records] == [True, True, False, True, *[False] * 4]
    assert records[-1].state.best_epoch == 3
    assert records[-1].stopped == "learning-rate decay 2 reached"
    assert [r.learning_rate for r in records[-3:]] == pytest.approx([0.01, 0.005, 0.005])


def test_all_epochs_done_is_said():
    assert [r.stopped for r in run()] == ["", "", "", "all epochs done"]


def test_final_decay_falls_in_a_line_and_not_below_a_twentieth():
    options = replace(QUICK, epochs=6, final_decay_epochs=3)
    rates = [r.learning_rate / 0.01 for r in run(options, source=one_step)]
    assert rates == pytest.approx([1, 1, 1, 3 / 4, 2 / 4, 1 / 4])
    long = replace(QUICK, epochs=40, final_decay_epochs=39, max_decays=1000)
    rates = [r.learning_rate / 0.01 for r in run(long, source=one_step, dev=unimprovable())]
    # Ten epochs without a gain halve the rate as well; the floor of a twentieth is on top.
    assert rates[-1] == pytest.approx(0.05 * 0.5**3)


def test_warm_up_scales_the_first_steps():
    """Adam's first step moves each weight by the rate, whatever its gradient."""
    moved = []
    for steps in (0, 10):
        before = build(TINY, 0).state_dict()
        options = replace(QUICK, epochs=1, warm_up_steps=steps, l2=0.0)
        (record,) = run(options, source=lambda e: batches(e, count=2))
        after = record.state.tensors
        name = "layers.3.0.weight"
        moved.append(float((after[f"network/{name}"] - before[name]).abs().max()))
    assert moved == pytest.approx([0.01, 0.001], rel=1e-3)


def test_warm_up_goes_on_where_the_last_epoch_left_it():
    """One and the same step an epoch: under Adam each moves a weight by the rate of that step."""
    same = list(batches(0, count=2))
    options = replace(QUICK, learning_rate=1e-5, warm_up_steps=3, l2=0.0, positive_weight_decay=1.0)
    places = [build(TINY, 0).state_dict()["layers.3.0.weight"]]
    places += [
        r.state.tensors["network/layers.3.0.weight"] for r in run(options, source=lambda e: same)
    ]
    moved = [float((b - a).abs().max()) for a, b in itertools.pairwise(places)]
    assert moved == pytest.approx([1e-5 / 3, 2e-5 / 3, 1e-5, 1e-5], rel=0.05)


def test_the_weight_of_a_positive_pixel_decays_towards_one_and_is_recorded():
    options = replace(QUICK, positive_weight=5.0, positive_weight_decay=0.5)
    assert [r.positive_weight for r in run(options)] == [5.0, 3.0, 2.0, 1.5]


def test_the_decaying_weight_reaches_the_loss():
    """One batch, again and again, and weights that hardly move: only the weight lowers the loss."""
    same = list(batches(0, count=2))
    options = replace(QUICK, learning_rate=1e-8, positive_weight=9.0, positive_weight_decay=0.5)
    losses = [r.loss for r in run(options, source=lambda e: same)]
    steps = [a - b for a, b in itertools.pairwise(losses)]
    assert steps[0] > 0
    assert steps[1] / steps[0] == pytest.approx(0.5, rel=1e-2)
    assert steps[2] / steps[1] == pytest.approx(0.5, rel=1e-2)


# What is active --------------------------------------------------------------------------------


def norm_of_convolutions(record):
    held = record.state.tensors
    return sum(
        float(t.square().sum()) for n, t in held.items() if n.startswith("network/") and t.ndim == 4
    )


def test_l2_is_added_to_what_is_minimised():
    free, bound = run(replace(QUICK, l2=0.0)), run(replace(QUICK, l2=1.0))
    assert norm_of_convolutions(bound[-1]) < 0.9 * norm_of_convolutions(free[-1])
    assert [r.l2 for r in free] == [0.0] * 4
    assert [r.l2 for r in bound] == sorted((r.l2 for r in bound), reverse=True)
    assert bound[0].l2 > 0


def test_dropout_changes_training_and_leaves_the_first_weights_alone():
    spec = replace(TINY, dropout=0.5)
    assert digest(build(spec, 0).state_dict()) == digest(build(TINY, 0).state_dict())
    assert rows(run(spec=spec)) != rows(run())


def test_dev_is_judged_without_dropout_and_on_kept_statistics():
    network = build(replace(TINY, dropout=0.5), 0)
    network.train()
    first = evaluate_dev(network, DEV, 8, "float32")
    assert not network.training
    assert evaluate_dev(network, DEV, 8, "float32") == first
    assert evaluate_dev(network, [*DEV, *TRAIN], 8, "float32") != first


def test_ignored_pixels_do_not_count_on_dev():
    network, (whole,) = build(TINY, 0), DEV
    ignore = np.zeros_like(whole.label)
    ignore[:, 20:] = True
    spoiled = replace(whole, label=whole.label ^ ignore, ignore=ignore)
    assert evaluate_dev(network, [spoiled], 8, "float32") == evaluate_dev(
        network, [replace(whole, ignore=ignore)], 8, "float32"
    )


@pytest.mark.parametrize("loss", ["dice", "tversky", "focal", "cldice"])
def test_every_loss_trains(loss):
    records = run(replace(QUICK, loss=loss))
    assert records[-1].loss < records[0].loss


def test_train_iou_is_that_of_the_patches_at_one_half():
    """A network that calls everything a defect has the defect's share as IoU."""
    network = build(TINY, 0)
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.fill_(3.0)
    (record,) = fit(network, batches, DEV, replace(QUICK, epochs=1, learning_rate=1e-8))
    seen = list(batches(0))
    share = sum(float(b.label.sum()) for b in seen) / sum(float(b.valid.sum()) for b in seen)
    assert record.train_iou == pytest.approx(share)


def test_a_batch_without_any_defect_or_call_leaves_train_iou_undefined():
    network = build(TINY, 0)
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.fill_(-3.0)
    (record,) = fit(network, one_step, DEV, replace(QUICK, epochs=1, learning_rate=1e-8))
    assert math.isnan(record.train_iou)


# Best weights, the same weights ----------------------------------------------------------------


def test_the_best_weights_are_those_of_the_best_epoch():
    records = run(replace(QUICK, epochs=8, learning_rate=0.3, l2=0.01))
    best = max(range(8), key=lambda e: records[e].dev_iou)
    assert best < 7, "the set-up should get worse after its best"
    network = records[best].state.tensors
    held = {n.removeprefix("network/"): t for n, t in network.items() if n.startswith("network/")}
    last = records[-1].state
    assert digest(last.best_weights()) == digest(held)
    assert (last.best_epoch, last.best_iou) == (best, records[best].dev_iou)
    assert last.best_threshold == records[best].threshold
    # The threshold that is stored is the one at which the stored weights reach the stored IoU.
    judged = build(TINY)
    judged.load_state_dict(last.best_weights())
    point = evaluate_dev(judged, DEV, 8, "float32")
    assert (point.threshold, point.iou) == (last.best_threshold, last.best_iou)


def test_the_network_learns():
    records = run(replace(QUICK, epochs=12), spec=replace(TINY, width=0.3))
    assert records[-1].state.best_iou > 0.6 > records[0].dev_iou
    assert records[-1].loss < 0.7 * records[0].loss


def test_records_are_not_changed_by_later_epochs():
    found = []
    for record in fit(build(TINY, 0), batches, DEV, QUICK):
        found.append((record, digest(record.state.tensors)))
    assert all(digest(r.state.tensors) == d for r, d in found)
    assert len({d for _, d in found}) == 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_bundle(precision, tmp_path):
    options = replace(QUICK, epochs=2, precision=precision)
    spec = replace(TINY, dropout=0.3)
    digests = []
    for seed in (1, 1, 2):
        last = run(replace(options, seed=seed), spec=spec, seed=seed)[-1].state
        kind = {"key": "voids", "shape": "particle", "polarity": "bright"}
        made = Bundle(spec, last.best_weights(), kind, {}, last.best_threshold)
        digests.append(save_bundle(tmp_path / "m", made))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resuming_at_any_epoch_leads_to_the_same_weights_and_curve(precision, tmp_path):
    options = replace(
        QUICK,
        epochs=5,
        precision=precision,
        plateau_epochs=1,
        warm_up_steps=7,
        final_decay_epochs=2,
        learning_rate=0.1,
    )
    spec = replace(TINY, dropout=0.4)
    whole = run(options, spec)
    for record in whole[:-1]:
        save_state(tmp_path / "state", record.state, "this")
        state = load_state(tmp_path / "state", "this")
        torch.manual_seed(99)  # another process has another random state, and other first weights
        rest = run(options, spec, state, seed=5)
        assert rows(rest) == rows(whole[record.epoch + 1 :])
        assert digest(rest[-1].state.tensors) == digest(whole[-1].state.tensors)
        assert digest(rest[-1].state.best_weights()) == digest(whole[-1].state.best_weights())
        assert rest[-1].state.decays == whole[-1].state.decays


def test_a_finished_training_does_not_go_on():
    assert run(state=run()[-1].state) == []


# Checkpoints -----------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    state = run(replace(QUICK, epochs=1))[0].state
    save_state(tmp_path / "state", state, "this")
    return tmp_path / "state", state


def test_a_checkpoint_comes_back_whole(checkpoint):
    path, state = checkpoint
    back = load_state(path, "this")
    assert digest(back.tensors) == digest(state.tensors)
    assert replace(back, tensors={}) == replace(state, tensors={}) or vars(
        replace(back, tensors={})
    ) == vars(replace(state, tensors={}))


def test_no_checkpoint_or_one_of_another_training_is_none(checkpoint, tmp_path):
    path, _ = checkpoint
    assert load_state(path, "another") is None
    assert load_state(tmp_path / "absent", "this") is None


def test_a_truncated_checkpoint_is_refused_wherever_it_is_cut(checkpoint):
    path, _ = checkpoint
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for cut in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(ModelRefused, match="E_MODEL_CORRUPT: damaged checkpoint"):
            load_state(path, "this")


@pytest.mark.parametrize(
    "text",
    [b"[]", b"{}", b'{"__metadata__": null}', b'{"__metadata__": {"defectops": "[1]"}}',
     b'{"__metadata__": {"defectops": "\\"x\\""}}',
     b'{"__metadata__": {"defectops": "{\\"identity\\": \\"this\\", \\"more\\": 1}"}}'],
)  # fmt: skip
def test_a_checkpoint_of_nonsense_is_refused(text, tmp_path):
    path = tmp_path / "state"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelRefused, match="E_MODEL_CORRUPT"):
        load_state(path, "this")


def test_a_failed_write_leaves_the_old_checkpoint(checkpoint, monkeypatch):
    path, state = checkpoint
    before = path.read_bytes()
    monkeypatch.setattr("defectops.learning.training.save_tensors", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_state(path, replace(state, epoch=2), "this")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["state"]


# Divergence and refusals -----------------------------------------------------------------------


def poisoned(epoch):
    for batch in batches(epoch):
        image = batch.image.clone()
        if epoch == 2:
            image[0, 0, 0, 0] = torch.inf
        yield replace(batch, image=image)


def test_a_loss_that_is_not_finite_stops_and_leaves_the_records_before():
    found = []

    def all_records():
        for record in fit(build(TINY, 0), poisoned, DEV, QUICK):
            found.append((record.state, digest(record.state.tensors)))

    with pytest.raises(
        TrainingDiverged, match=r"loss is nan in epoch 2, step \d, at learning rate"
    ):
        all_records()
    assert len(found) == 2
    for state, before in found:
        assert digest(state.tensors) == before
        assert all(torch.isfinite(t).all() for t in state.tensors.values())


def test_weights_spoiled_by_the_last_step_of_an_epoch_are_noticed_on_dev():
    network = build(TINY, 0)

    def last_step_overflows(epoch):
        yield from batches(epoch)
        with torch.no_grad():  # runs after the last step, before dev
            network.layers[0][0].weight.fill_(torch.nan if epoch else 0.1)

    records = fit(network, last_step_overflows, DEV, QUICK)
    first = next(records)
    with pytest.raises(TrainingDiverged, match=r"a\.png \(dev\) is not finite"):
        next(records)
    assert all(torch.isfinite(t).all() for t in first.state.best_weights().values())


def test_a_dev_side_without_defect_is_refused():
    empty = field(np.zeros((16, 16)), np.zeros((16, 16), bool))
    full = np.ones((16, 16), bool)
    hidden = field(np.zeros((16, 16)), full, ignore=full)
    for dev in ([], [empty], [hidden], [empty, hidden]):
        with pytest.raises(SettingsRefused, match="no labelled defect pixel"):
            run(dev=dev)
    assert run(replace(QUICK, epochs=1), dev=[empty, *DEV])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate_factor", 1.5),
        ("plateau_epochs", 0),
        ("max_decays", 0),
        ("warm_up_steps", -1),
        ("final_decay_epochs", -1),
        ("l2", -1e-9),
        ("positive_weight", 0.0),
        ("positive_weight_decay", 1.01),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(SettingsRefused, match=rf"train\.{name}: E_CONFIG: must be"):
        TrainingOptions(**{name: value})


def test_the_defaults_are_the_papers():
    options = TrainingOptions()
    assert (options.epochs, options.plateau_epochs, options.max_decays) == (100, 10, 6)
    assert options.loss == "weighted_cross_entropy"
    assert options.final_decay_epochs == options.warm_up_steps == 0


def test_best_weights_of_a_fresh_state_are_none():
    assert TrainingState({}).best_weights() == {}
