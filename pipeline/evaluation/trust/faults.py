"""What goes wrong in front of a camera, and what a network might make up: done to frames and to phases."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]
Counts = NDArray[np.uint16]

# Of the field's area.
_SHARE = 0.01
_GRAINS = (1, 4)
_DEPTH = (0.1, 0.6)
_SCRATCH_PX = (2.0, 4.0)
# Blurred as by a speck close to the sensor.
_EDGE_PX = 0.8
# Finer than this is detail: a camera pixel's blur, so periods below some five of them.
DETAIL_PX = 1.0
# What belongs to a cell.
_CELL_RAD = 0.15


def dusty(frame: Floats, rng: np.random.Generator) -> Floats:
    """One to four grains that cover 1 % of the field and take 10 to 60 % of the light."""
    count = int(rng.integers(*_GRAINS, endpoint=True))
    y, x = (np.arange(n, dtype=np.float32) for n in frame.shape)
    covered = np.zeros(frame.shape, np.float32)
    radius = math.sqrt(_SHARE * frame.size / count / math.pi)
    for _ in range(count):
        stretch, turn = rng.uniform(0.7, 1.4), rng.uniform(0, math.pi)
        # Whole grains, and within the part of the frame that light from outside doesn't reach.
        cy, cx = (rng.uniform(2 * radius, n - 2 * radius) for n in frame.shape)
        along = (y[:, None] - cy) * math.sin(turn) + (x - cx) * math.cos(turn)
        across = (y[:, None] - cy) * math.cos(turn) - (x - cx) * math.sin(turn)
        inside = (along / stretch) ** 2 + (across * stretch) ** 2 < radius**2
        covered = np.maximum(covered, inside.astype(np.float32))
    return _darkened(frame, covered, rng.uniform(*_DEPTH))


def scratched(frame: Floats, rng: np.random.Generator) -> Floats:
    """A line that covers 1 % of the field and takes 10 to 60 % of the light."""
    width = rng.uniform(*_SCRATCH_PX)
    length = min(_SHARE * frame.size / width, 0.8 * min(frame.shape))
    width = _SHARE * frame.size / length
    turn = rng.uniform(0, math.pi)
    y, x = (np.arange(n, dtype=np.float32) - n * rng.uniform(0.4, 0.6) for n in frame.shape)
    along = y[:, None] * math.sin(turn) + x * math.cos(turn)
    across = y[:, None] * math.cos(turn) - x * math.sin(turn)
    line = (np.abs(along) < length / 2) & (np.abs(across) < width / 2)
    return _darkened(frame, line.astype(np.float32), rng.uniform(*_DEPTH))


def clipped(raw: Counts, share: float = _SHARE) -> Counts:
    """Counts with the brightest share of the pixels all at one level, as in a well that is full."""
    return np.minimum(raw, np.uint16(np.quantile(raw, 1 - share)))


def with_foreign_detail(phase: Floats, other: Floats, upsampling: int) -> Floats:
    """A phase whose cells have another phase's fine detail in place of their own.

    Everything coarser than about five camera pixels stays, and so does the background.

    Parameters
    ----------
    phase, other
        ``[s·Y, s·X]`` radians.
    upsampling
        s: phase pixels per camera pixel.
    """
    blur = DETAIL_PX * upsampling
    coarse = gaussian_filter(phase, blur)
    inside = gaussian_filter((coarse > _CELL_RAD).astype(np.float32), blur / 2)
    foreign = other - gaussian_filter(other, blur)
    return np.asarray(phase + inside * (foreign - (phase - coarse)), np.float32)


def _darkened(frame: Floats, covered: Floats, depth: float) -> Floats:
    return np.asarray(frame * (1 - depth * gaussian_filter(covered, _EDGE_PX)), np.float32)
