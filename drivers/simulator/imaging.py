"""The specimen through the simulated optics: noise-free light on the camera, one slot at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.simulator.light import LedErrors, true_orientation
from drivers.simulator.scene import Scene, View
from pipeline.experiment import Condenser, Experiment, SimulatorMicroscope
from pipeline.frames import FrameKey
from pipeline.optics.forward import spectrum_camera_intensity, thin_specimen
from pipeline.optics.illumination import Source, channel_source
from pipeline.optics.pupil import check_aberrations


@contextmanager
def _one_thread() -> Iterator[None]:
    """Elementwise functions round differently at the ends of each thread's share: with one
    thread the same frame has the same bits on any machine's number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SimulatedOptics:
    """Images of the scene for every channel and focus.

    The last view's spectrum is kept: all frames of a slot share one rendering and one FFT, but
    for a lens that changes the magnification: each focus then sees the specimen with pixels of its own size.
    """

    def __init__(
        self,
        experiment: Experiment,
        microscope: SimulatorMicroscope,
        errors: LedErrors | None,
        scene: Scene,
    ) -> None:
        check_aberrations(microscope.imperfections.aberration_rad)
        self._experiment = experiment
        self._microscope = microscope
        self._scene = scene
        self._plan = experiment.plan()
        self._sources = {c.name: self._source(c.name, errors) for c in self._plan.channels}
        self._last: tuple[View, torch.Tensor] | None = None

    def _source(self, channel: str, errors: LedErrors | None) -> Source:
        if errors is None or isinstance(self._experiment.illumination, Condenser):
            return channel_source(self._experiment, channel)
        return channel_source(
            self._experiment,
            channel,
            true_orientation(self._microscope),
            led_sines=errors.sines,
            led_intensity=errors.intensity,
        )

    def intensity(self, key: FrameKey, channel: str) -> NDArray[np.float64]:
        """``[Y, X]`` of a channel's light at a frame's place and focus; 1 is its light if all passed the pupil."""
        scene = self._scene
        z_um = scene.true_focus_um(key)
        pixel_um = scene.sampling_um(z_um)
        with _one_thread(), torch.inference_mode():
            image = spectrum_camera_intensity(
                self._spectrum(scene.view(key.slot, pixel_um)),
                pixel_um,
                self._experiment.optics,
                self._sources[channel],
                z_um,
                frame_shape=scene.padded,
                aberration=self._microscope.imperfections.aberration_rad,
            )
        (top, left), (y, x) = scene.start(), self._plan.frame_shape
        seen = image[top : top + y, left : left + x].numpy().astype(np.float64)
        return np.maximum(seen, 0, out=seen)  # rounding leaves a dark pixel a little below zero

    def _spectrum(self, view: View) -> torch.Tensor:
        if self._last is None or self._last[0] != view:
            drawn = self._scene.drawn(view)
            rows, columns = self._scene.fade()
            faded = (
                torch.from_numpy(image * rows[:, None] * columns)
                for image in (drawn.phase, drawn.absorption)
            )
            self._last = view, torch.fft.fft2(thin_specimen(*faded))
        return self._last[1]
