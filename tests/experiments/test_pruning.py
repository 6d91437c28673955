"""Fair pruning: late bloomers live, the hopeless die, and only kin are compared."""

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import SettingsRefused
from defectops.experiments.pruning import PruningOptions, has_risen, should_prune

EPOCHS = 10
ACTIVE = ("median", "hyperband", "patient")


def saturating(end, epochs=EPOCHS, pace=1.5):
    return [end * (1 - math.exp(-(e + 1) / pace)) for e in range(epochs)]


EARLY = [saturating(end) for end in (0.50, 0.49, 0.52, 0.47, 0.51)]
LATE_BLOOMER = [0.07 * (e + 1) for e in range(EPOCHS)]  # ends at 0.70: it wins
HOPELESS = saturating(0.1)


def pruned_at(own, kin, name="median", epochs=EPOCHS):
    """Epochs after which a trial is given up, checked after each as a worker does; else None."""
    for done in range(1, len(own) + 1):
        if should_prune(name, own[:done], kin, epochs):
            return done
    return None


def optuna_prunes_at(own, others):
    """The same, by Optuna's MedianPruner, which compares a trial with all others."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for curve in others:
        trial = study.ask()
        for epoch, value in enumerate(curve):
            trial.report(value, epoch)
        study.tell(trial, max(curve))
    trial = study.ask()
    for epoch, value in enumerate(own):
        trial.report(value, epoch)
        if trial.should_prune():
            return epoch + 1
    return None


def test_the_plain_median_kills_a_late_bloomer_that_wins_and_ours_does_not():
    assert max(LATE_BLOOMER) > max(map(max, EARLY))
    assert optuna_prunes_at(LATE_BLOOMER, EARLY) is not None
    for name in ACTIVE:
        assert pruned_at(LATE_BLOOMER, EARLY, name) is None


@pytest.mark.parametrize(("name", "latest"), [("median", 4), ("hyperband", 4), ("patient", 8)])
def test_a_hopeless_trial_dies_early_among_its_kin(name, latest):
    assert pruned_at(HOPELESS, EARLY, name) <= latest


def test_a_cold_trial_beside_warm_ones_is_judged_by_cold_ones():
    warm = [[0.6 + 0.01 * e for e in range(EPOCHS)] for _ in range(5)]
    good_cold = saturating(0.55)
    assert optuna_prunes_at(good_cold, EARLY[:3] + warm) is not None
    assert pruned_at(good_cold, EARLY) is None
    assert pruned_at(HOPELESS, EARLY) is not None


def test_a_late_riser_that_cannot_make_it_dies_too():
    slow = [0.02 * (e + 1) for e in range(EPOCHS)]  # rises to the end, to 0.2
    assert pruned_at(slow, EARLY) <= EPOCHS // 2


def test_a_trial_that_has_stopped_rising_loses_its_hope():
    stalled = [0.1, 0.2, 0.3] + [0.31] * (EPOCHS - 3)
    assert 4 < pruned_at(stalled, EARLY) < EPOCHS


def test_the_reason_names_the_numbers():
    said = should_prune("median", HOPELESS[:4], EARLY, EPOCHS)
    assert "0.0931 is under the median of 5 kin, 0.4653" in said
    assert "after 4 epochs" in said
    assert "\n" not in said


def test_hyperband_asks_only_at_its_rungs():
    options = PruningOptions(warm_up=2, reduction=3)
    asked = [
        done
        for done in range(1, 20)
        if should_prune("hyperband", [0.0] * done, [[1.0] * 20] * 6, 20, options)
    ]
    assert asked == [2, 6, 18]


def test_hyperband_keeps_a_third():
    kin = [[v] * 4 for v in (0.1, 0.2, 0.3, 0.4, 0.5)]  # six with the trial itself: two places

    def kept(value):
        return not should_prune("hyperband", [value] * 4, kin, 10)

    assert kept(0.4)
    assert not kept(0.35)


def test_patient_waits_for_a_standstill():
    # The hope is gone at once, but each epoch still brings a little.
    creeping = [0.05 + 0.005 * e for e in range(EPOCHS)]
    assert pruned_at(creeping, EARLY, "median") == 4
    assert pruned_at(creeping, EARLY, "patient") is None
    assert pruned_at([*creeping[:3], *[creeping[2]] * 7], EARLY, "patient") == 5


def test_an_epoch_that_falls_back_does_not_count_against_a_trial():
    shaky = [0.2, 0.48, 0.1, 0.1, 0.53, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert pruned_at(shaky, EARLY) is None


def test_a_curve_that_is_not_finite_is_no_kin():
    assert not should_prune("median", [0.0] * 5, [[math.nan] * 5] * 9, EPOCHS)
    assert not should_prune("median", [0.0] * 5, [[]] * 9, EPOCHS)


def test_a_trial_in_its_last_epoch_is_left_to_end():
    assert not should_prune("median", HOPELESS, EARLY, EPOCHS)


def test_an_unknown_pruner_is_refused():
    with pytest.raises(SettingsRefused, match="must be one of median, hyperband, patient, none"):
        should_prune("medain", [], [], 5)


# Multiples of 1/64: sums with a whole constant are exact, so that a law is not broken by rounding.
values = st.integers(0, 64).map(lambda n: n / 64)
curves = st.lists(values, min_size=1, max_size=12)
families = st.lists(curves, max_size=8)
pruners = st.sampled_from(ACTIVE)


@given(pruners, curves, families, st.integers(-3, 3))
def test_adding_a_constant_to_all_curves_changes_nothing(name, own, kin, constant):
    moved = [[v + constant for v in curve] for curve in kin]
    before = should_prune(name, own, kin, 12)
    after = should_prune(name, [v + constant for v in own], moved, 12)
    assert bool(before) == bool(after)


@given(pruners, curves, families)
def test_the_best_of_its_kin_is_never_given_up(name, own, kin):
    rivals = [max(c[: len(own)]) for c in kin if len(c) >= len(own)]
    if max(own) >= max(rivals, default=0.0):
        assert not should_prune(name, own, kin, 12)


@given(pruners, curves)
def test_without_kin_nothing_is_given_up(name, own):
    assert not should_prune(name, own, [], 12)


@given(curves, families)
def test_none_gives_up_nothing(own, kin):
    assert not should_prune("none", own, kin, 12)


@given(pruners, curves, families, st.randoms(use_true_random=False))
def test_the_order_of_the_kin_does_not_matter(name, own, kin, random):
    shuffled = random.sample(kin, len(kin))
    assert should_prune(name, own, kin, 12) == should_prune(name, own, shuffled, 12)


@pytest.mark.parametrize(
    ("curve", "risen"),
    [
        ((), True),
        ((0.4,), True),
        ((0.4, 0.4), False),
        ((0.4, 0.3), False),
        ((0.4, 0.41), True),
        ((0.4, 0.41, 0.3, 0.2), False),
    ],
)
def test_who_never_got_above_the_first_epoch_has_learned_nothing(curve, risen):
    assert has_risen(curve) is risen
