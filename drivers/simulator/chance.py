"""Random numbers that depend on what they are for, never on what was drawn before."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the numbers are for. Runs are reproduced by these: append, never renumber."""

    NOISE = 0
    DROPS = 1
    LEDS = 2
    BAD_PIXELS = 3
    OFFSETS = 4
    # Far from the instrument's own, which others append to.
    STUCK = 100
    AWAY = 101
    AWAY_FOR = 102


def generator(seed: int, stream: Stream, *indices: int) -> np.random.Generator:
    """The same generator for the same arguments, in any process and any order."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *indices])))
