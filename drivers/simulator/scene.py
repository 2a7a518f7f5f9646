"""What lies before the simulated objective: the specimen, where and when it is looked at. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.course import Course
from pipeline.experiment import Experiment, SimulatorMicroscope
from pipeline.frames import FrameKey, SlotKey
from pipeline.optics.spread import diffraction_spread_um
from pipeline.samples import specimen_for

# Beyond what the camera can see, the specimen fades over this many λ/NA: the guard band's ends meet
# without an edge that would ring.
_FADE = 4

# Of a slot, at an age, where the stage has moved to, in pixels of a size.
View = tuple[SlotKey, float, tuple[float, float], float]


@dataclass(frozen=True)
class Drawn:
    """The specimen over the padded field.

    Parameters
    ----------
    phase, absorption
        ``[s·Y', s·X']`` float32, s the oversampling.
    """

    phase: NDArray[np.float32]
    absorption: NDArray[np.float32]


class Scene:
    """The specimen, drawn larger than the camera's field: what lies beyond its edge diffracts in, and nothing wraps.

    The last drawing is kept.

    Parameters
    ----------
    oversampling
        Samples of the specimen per camera pixel along each axis.
    course
        What the run was steered to.
    """

    def __init__(
        self,
        experiment: Experiment,
        microscope: SimulatorMicroscope,
        oversampling: int,
        course: Course,
    ) -> None:
        self._microscope = microscope
        self._plan = experiment.plan()
        self.oversampling = oversampling
        self._pixel_um = experiment.pixel_um * microscope.imperfections.pixel_scale / oversampling
        self._specimen = specimen_for(
            microscope.specimen,
            seed=microscope.seed,
            wavelength_um=experiment.optics.wavelength_um,
        )
        self.course = course
        wrong = microscope.imperfections
        nominal_um = [wrong.z_zero_um + wrong.z_scale * z for z in self._plan.foci_um]
        optics = experiment.optics
        farthest_um = max(map(abs, nominal_um)) + abs(
            wrong.focus_drift_um_per_timepoint * self._plan.timepoints
        )
        spread = diffraction_spread_um(optics, farthest_um)
        fade = _FADE * optics.wavelength_um / optics.numerical_aperture
        # As many pixels where they are the smallest.
        least_um = min(self.sampling_um(z) for z in (0.0, *nominal_um)) * oversampling
        self._fade_px = math.ceil(fade / least_um)
        guard = math.ceil(spread / least_um) + self._fade_px
        y, x = self._plan.frame_shape
        self.padded = (_smooth_size(y + 2 * guard, y), _smooth_size(x + 2 * guard, x))
        self._last: tuple[View, Drawn] | None = None

    def sampling_um(self, z_um: float) -> float:
        """Of the specimen where the plane in focus lies at `z_um`: magnified more, a pixel sees less of it."""
        return self._pixel_um / (1 + self._microscope.imperfections.magnification_per_um * z_um)

    def truth(self, slot: SlotKey) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Phase (rad) and absorption over the camera's field, ``[s·Y, s·X]`` float32."""
        drawn = self.drawn(self.view(slot, self.sampling_um(0.0)))
        inner = tuple(
            slice(start * self.oversampling, (start + n) * self.oversampling)
            for start, n in zip(self.start(), self._plan.frame_shape, strict=True)
        )
        return drawn.phase[inner].copy(), drawn.absorption[inner].copy()

    def true_focus_um(self, key: FrameKey) -> float:
        """Where the plane in focus really lies: scale, zero and drift, which nothing reports, included."""
        wrong = self._microscope.imperfections
        commanded = self._plan.foci_um[key.focus] + self.course.at(key.slot).focus_um
        drift = wrong.focus_drift_um_per_timepoint * self.course.age(key.timepoint)
        return wrong.z_zero_um + wrong.z_scale * commanded + drift

    def start(self) -> tuple[int, int]:
        """Where the camera's field begins in the padded one, camera pixels."""
        (py, px), (y, x) = self.padded, self._plan.frame_shape
        return (py - y) // 2, (px - x) // 2

    def view(self, key: SlotKey, pixel_um: float) -> View:
        """What is to be drawn for a slot: two of the same show the same."""
        return key, self.course.age(key.timepoint), self.course.at(key).stage_um, pixel_um

    def drawn(self, view: View) -> Drawn:
        """The specimen in a view."""
        if self._last is None or self._last[0] != view:
            key, age, moved_um, pixel_um = view
            self._last = view, self._render(age, key.position, moved_um, pixel_um)
        return self._last[1]

    def fade(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights of the padded field's rows and columns: 1 but for its ends, where the specimen fades."""
        rows, columns = (
            _fade(n * self.oversampling, self._fade_px * self.oversampling) for n in self.padded
        )
        return rows, columns

    def _render(
        self, age: float, position: int, moved_um: tuple[float, float], pixel_um: float
    ) -> Drawn:
        y, x = (n * self.oversampling for n in self.padded)
        # A larger field shows the same cells at the same places: the part that the stage has moved to is cut out.
        down, right = (round(um / pixel_um) for um in moved_um[::-1])
        larger = y + 2 * abs(down), x + 2 * abs(right)
        window = tuple(
            slice(start, start + n) for start, n in ((abs(down) + down, y), (abs(right) + right, x))
        )
        phase, absorption = (
            image[window] for image in self._specimen.render(age, position, larger, pixel_um)
        )
        return Drawn(phase, absorption)


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
