"""A ``.npy`` file, memory-mapped: the system reads the pages that are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.recordings.array_layout import axes_by_shape
from drivers.recordings.recording import Recording
from pipeline.errors import DriverError, ExperimentError
from pipeline.frames import FrameKey, Plan


class NumpyRecording(Recording):
    """``[t, c, z, y, x]``, where axes of length one may be absent; one position.

    Raises
    ------
    DriverError
        If it is no readable .npy file.
    ExperimentError
        If the plan does not explain its shape.
    """

    def __init__(self, path: Path, plan: Plan, loop: bool) -> None:
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DriverError(
                f"{path} is not a readable .npy file ({error})", "write it again with numpy.save"
            ) from error
        if not isinstance(array, np.ndarray) or not 2 <= array.ndim <= 5:
            raise ExperimentError(
                f"{path.name} is no array of [t, c, z, y, x]", "save one array of 2 to 5 axes"
            )
        axes = axes_by_shape(path, array.shape[:-2], plan, loop)
        for axis, name in enumerate("tcz"):
            if name not in axes:
                array = np.expand_dims(array, axis)
        self.path = path
        self._array = array
        self.timepoints, self.channels, self.foci = array.shape[:3]
        self.frame_shape = (array.shape[3], array.shape[4])
        self.dtype = array.dtype

    def frame(self, key: FrameKey) -> NDArray[Any]:
        """A view of the file; no copy."""
        pixels: NDArray[Any] = self._array[key.timepoint, key.channel, key.focus]
        return pixels
