"""The specimen through the simulated optics: noise-free light on the camera, one slot at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.simulator.light import LedErrors, true_orientation
from pipeline.course import Course
from pipeline.experiment import Condenser, Experiment, SimulatorMicroscope
from pipeline.frames import FrameKey, SlotKey
from pipeline.optics.forward import (
    diffraction_spread_um,
    spectrum_camera_intensity,
    thin_specimen,
)
from pipeline.optics.illumination import Source, channel_source
from pipeline.optics.pupil import check_aberrations
from pipeline.samples import specimen_for

# Beyond what the camera can see, the specimen fades over this many λ/NA: the guard band's ends meet
# without an edge that would ring.
_FADE = 4


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


@dataclass(frozen=True)
class _Slot:
    phase: NDArray[np.float32]
    absorption: NDArray[np.float32]
    spectrum: torch.Tensor


class SimulatedOptics:
    """Images of the specimen for every channel and focus.

    The specimen is drawn larger than the camera's field, so that what lies beyond its edge diffracts
    in, and nothing wraps around. The last slot is kept: all its frames share one rendering and one FFT, but
    for a lens that changes the magnification: each focus then sees the specimen with pixels of its own size.
    """

    def __init__(
        self,
        experiment: Experiment,
        microscope: SimulatorMicroscope,
        errors: LedErrors | None,
        oversampling: int,
    ) -> None:
        check_aberrations(microscope.imperfections.aberration_rad)
        self._experiment = experiment
        self._microscope = microscope
        self._plan = experiment.plan()
        self._oversampling = oversampling
        self._pixel_um = experiment.pixel_um * microscope.imperfections.pixel_scale / oversampling
        self._specimen = specimen_for(
            microscope.specimen,
            seed=microscope.seed,
            wavelength_um=experiment.optics.wavelength_um,
        )
        self._sources = {c.name: self._source(c.name, errors) for c in self._plan.channels}
        self.course = Course(self._plan)
        wrong = microscope.imperfections
        nominal_um = [wrong.z_zero_um + wrong.z_scale * z for z in self._plan.foci_um]
        optics = experiment.optics
        farthest_um = max(map(abs, nominal_um)) + abs(
            wrong.focus_drift_um_per_timepoint * self._plan.timepoints
        )
        spread = diffraction_spread_um(optics, farthest_um)
        fade = _FADE * optics.wavelength_um / optics.numerical_aperture
        # As many pixels where they are the smallest.
        least_um = min(self._sampling_um(z) for z in (0.0, *nominal_um)) * oversampling
        self._fade_px = math.ceil(fade / least_um)
        guard = math.ceil(spread / least_um) + self._fade_px
        y, x = self._plan.frame_shape
        self._padded = (_smooth_size(y + 2 * guard, y), _smooth_size(x + 2 * guard, x))
        self._slot: tuple[tuple[SlotKey, float, tuple[float, float], float], _Slot] | None = None

    def _sampling_um(self, z_um: float) -> float:
        """Of the specimen where the plane in focus lies at `z_um`: magnified more, a pixel sees less of it."""
        return self._pixel_um / (1 + self._microscope.imperfections.magnification_per_um * z_um)

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

    def truth(self, slot: SlotKey) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Phase (rad) and absorption over the camera's field, ``[s·Y, s·X]`` float32."""
        drawn = self._draw(slot, self._sampling_um(0.0))
        inner = tuple(
            slice(start * self._oversampling, (start + n) * self._oversampling)
            for start, n in zip(self._start(), self._plan.frame_shape, strict=True)
        )
        return drawn.phase[inner].copy(), drawn.absorption[inner].copy()

    def true_focus_um(self, key: FrameKey) -> float:
        """Where the plane in focus really lies: scale, zero and drift, which nothing reports, included."""
        wrong = self._microscope.imperfections
        commanded = self._plan.foci_um[key.focus] + self.course.at(key.slot).focus_um
        drift = wrong.focus_drift_um_per_timepoint * self.course.age(key.timepoint)
        return wrong.z_zero_um + wrong.z_scale * commanded + drift

    def intensity(self, key: FrameKey, channel: str) -> NDArray[np.float64]:
        """``[Y, X]`` of a channel's light at a frame's place and focus; 1 is its light if all passed the pupil."""
        z_um = self.true_focus_um(key)
        pixel_um = self._sampling_um(z_um)
        spectrum = self._draw(key.slot, pixel_um).spectrum
        with _one_thread(), torch.inference_mode():
            image = spectrum_camera_intensity(
                spectrum,
                pixel_um,
                self._experiment.optics,
                self._sources[channel],
                z_um,
                frame_shape=self._padded,
                aberration=self._microscope.imperfections.aberration_rad,
            )
        (top, left), (y, x) = self._start(), self._plan.frame_shape
        seen = image[top : top + y, left : left + x].numpy().astype(np.float64)
        return np.maximum(seen, 0, out=seen)  # rounding leaves a dark pixel a little below zero

    def _start(self) -> tuple[int, int]:
        """Where the camera's field begins in the padded one, camera pixels."""
        (py, px), (y, x) = self._padded, self._plan.frame_shape
        return (py - y) // 2, (px - x) // 2

    def _draw(self, key: SlotKey, pixel_um: float) -> _Slot:
        age, moved_um = self.course.age(key.timepoint), self.course.at(key).stage_um
        drawn = key, age, moved_um, pixel_um
        if self._slot is None or self._slot[0] != drawn:
            self._slot = drawn, self._render(age, key.position, moved_um, pixel_um)
        return self._slot[1]

    def _render(
        self, age: float, position: int, moved_um: tuple[float, float], pixel_um: float
    ) -> _Slot:
        y, x = (n * self._oversampling for n in self._padded)
        # A larger field shows the same cells at the same places: the part that the stage has moved to is cut out.
        down, right = (round(um / pixel_um) for um in moved_um[::-1])
        larger = y + 2 * abs(down), x + 2 * abs(right)
        window = tuple(
            slice(start, start + n) for start, n in ((abs(down) + down, y), (abs(right) + right, x))
        )
        shape = (y, x)
        phase, absorption = (
            image[window] for image in self._specimen.render(age, position, larger, pixel_um)
        )
        rows, columns = (_fade(n, self._fade_px * self._oversampling) for n in shape)
        faded = [torch.from_numpy(a * rows[:, None] * columns) for a in (phase, absorption)]
        with _one_thread(), torch.inference_mode():
            spectrum = torch.fft.fft2(thin_specimen(*faded))
        return _Slot(phase, absorption, spectrum)


def _fade(samples: int, width: int) -> NDArray[np.float32]:
    """1 inside, falling to 0 as a raised cosine over `width` samples at both ends."""
    from_edge = np.minimum(np.arange(samples), np.arange(samples)[::-1]) + 0.5
    return np.square(np.sin(np.pi / 2 * np.minimum(from_edge / width, 1))).astype(np.float32)


def _smooth_size(least: int, like: int) -> int:
    """The next size that FFTs like (no prime above 7) and that leaves the same guard on both sides."""
    size = least
    while not (_is_smooth(size) and (size - like) % 2 == 0):
        size += 1
    return size


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1
