"""How long the trials of a generation train: longer, the later it is."""

from __future__ import annotations

# From one generation to the next. Two needs more generations for the same length, and each of them
# begins anew with the optimiser and ends with a falling rate.
FACTOR = 4


def epochs_of(generation: int, epochs: int, stretch: int) -> int:
    """Return for how many epochs each trial of a generation trains.

    Four times as long as in the generation before, at most `stretch` times `epochs`: first many
    configurations for a short time each, then few for long.

    Parameters
    ----------
    generation : int
        From 0.
    epochs : int
        Of a trial of generation 0.
    stretch : int
        1: all generations train equally long.

    >>> [epochs_of(g, epochs=8, stretch=64) for g in range(5)]
    [8, 32, 128, 512, 512]
    """
    return epochs * min(stretch, int(FACTOR**generation))
