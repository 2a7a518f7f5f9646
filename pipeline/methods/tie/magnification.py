"""Foci of one magnification: a lens that focuses often magnifies, which looks like light that moves."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

# Frames whose corners move by less than this many pixels stay as they are.
_STILL_PX = 0.02


class EvenMagnification:
    """Resamples each focus about the field's middle to the magnification of true focus 0.

    By splines: torch's own bicubic interpolation does not even reproduce a straight line, and an error of
    1e-4 of the light bends the whole field. A spline of a whole line is a matrix, the same for each line.

    Parameters
    ----------
    grown
        ``[K]`` magnification of each focus, relative to that of focus 0.
    """

    def __init__(
        self, grown: NDArray[np.float64], shape: tuple[int, int], device: torch.device | str = "cpu"
    ) -> None:
        self._lines: tuple[torch.Tensor, ...] | None = None
        if abs(grown - 1).max() * max(shape) / 2 > _STILL_PX:
            self._lines = tuple(
                torch.from_numpy(np.stack([_spline(float(g), n) for g in grown])).to(device)
                for n in shape
            )

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """``[B, K, Y, X]`` of even magnification; beyond the field its edge goes on."""
        if self._lines is None:
            return frames
        rows, columns = self._lines
        even: torch.Tensor = rows @ frames @ columns.transpose(-1, -2)
        return even


def _spline(grown: float, samples: int) -> NDArray[np.float32]:
    """``[N, N]`` that takes a line's samples to those of the same line as large as at focus 0."""
    middle = (samples - 1) / 2
    line = affine_transform(
        np.eye(samples), [grown, 1.0], [middle * (1 - grown), 0.0], order=5, mode="nearest"
    )
    return np.asarray(line, np.float32)
