"""How long the trials of a generation train."""

from hypothesis import given
from hypothesis import strategies as st

from defectops.experiments.trial_lengths import epochs_of


def test_by_hand():
    assert [epochs_of(g, 8, 16) for g in range(4)] == [8, 32, 128, 128]
    assert [epochs_of(g, 5, 6) for g in range(4)] == [5, 20, 30, 30]  # a limit between two steps


@given(st.integers(0, 1000), st.integers(1, 100), st.integers(1, 1000))
def test_never_shorter_than_before_and_never_over_the_limit(generation, epochs, stretch):
    now, later = (epochs_of(g, epochs, stretch) for g in (generation, generation + 1))
    assert epochs <= now <= later <= min(4 * now, epochs * stretch)
    assert epochs_of(generation, epochs, 1) == epochs
