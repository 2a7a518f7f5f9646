"""The simulated instrument: every frame a pure function of the seed and of its indices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.chance import Stream, generator
from drivers.simulator.flaws import (
    amplified,
    offsets,
    stuck_pixels,
    true_calibration,
    true_gain,
    vignetting,
)
from drivers.simulator.light import channel_lights, led_errors
from drivers.simulator.order import frame_key, frame_number
from pipeline.calibration import Calibration
from pipeline.course import Course
from pipeline.errors import DriverError
from pipeline.experiment import (
    Experiment,
    LedIllumination,
    SimulatorMicroscope,
    TargetSpecimen,
)
from pipeline.frames import FrameKey, SlotKey
from pipeline.importing import importing

if TYPE_CHECKING:
    from drivers.simulator.imaging import SimulatedOptics
    from drivers.simulator.scene import Scene

# Images of a target that does not change are kept, up to this.
_MOST_STILL_BYTES = 256e6


class SimulatedInstrument:
    """Specimen, light, lens and camera of an experiment; no clock, no faults.

    Frames can be asked for in any order; those of one slot after another share the specimen.

    Parameters
    ----------
    course
        What the run was steered to, where it was.

    Raises
    ------
    DriverError
        If the experiment's microscope is not the simulator.
    """

    def __init__(self, experiment: Experiment, course: Course | None = None) -> None:
        microscope = experiment.microscope
        if not isinstance(microscope, SimulatorMicroscope):
            raise DriverError(
                f"microscope.driver is {microscope.driver}, not simulator",
                "set microscope.driver: simulator",
            )
        self._experiment = experiment
        self.microscope = self._microscope = microscope
        self._plan = experiment.plan()
        self._course = course or Course(self._plan)
        light = experiment.illumination
        self._errors = led_errors(light, microscope) if isinstance(light, LedIllumination) else None
        self._lights = channel_lights(experiment, microscope, self._errors)
        self._shading = vignetting(self._plan.frame_shape, microscope.imperfections.vignetting)
        self._bad, self._stuck = stuck_pixels(microscope)
        self._offsets = offsets(microscope)
        self._drawing: Scene | None = None
        self._optics: SimulatedOptics | None = None
        self._still: dict[tuple[int, str, float, tuple[float, float]], NDArray[np.float64]] = {}

    @property
    def oversampling(self) -> int:
        """Specimen samples per camera pixel along each axis.

        As asked for; else the fewest that hold what of the specimen can reach the image: λ/2(NA + NA
        of the most oblique light), which is the condenser's, S times the objective's, or that of
        the outermost LED lit.
        """
        if self._microscope.oversampling is not None:
            return self._microscope.oversampling
        optics, light = self._experiment.optics, self._experiment.illumination
        reach = optics.numerical_aperture
        if isinstance(light, LedIllumination):
            na = np.hypot(*light.array.sines().T)
            reach += max(
                float(na[light.leds(light.channels[n].pattern or "", reach)].max())
                for n in self._experiment.channel_names
            )
        else:
            reach += light.coherence * reach
        return max(1, math.ceil(self._largest_pixel_um() * 2 * reach / optics.wavelength_um - 1e-9))

    def _largest_pixel_um(self) -> float:
        """A camera pixel at the sample, at the focus that magnifies the least."""
        wrong = self._microscope.imperfections
        foci = [wrong.z_zero_um + wrong.z_scale * z for z in self._plan.foci_um]
        least = min(1 + wrong.magnification_per_um * z for z in (0.0, *foci))
        return self._experiment.pixel_um * wrong.pixel_scale / least

    def prepare(self) -> None:
        """Import and set up what the first frame needs, and refuse what can't be simulated."""
        self._imaging()

    def steer(self, course: Course) -> None:
        """Take focus, place and the specimen's age from `course`, by slots and timepoints of this instrument's plan."""
        self._course = Course(self._plan, course.settings)
        if self._drawing is not None:
            self._drawing.course = self._course

    def focus_um(self, key: FrameKey) -> float:
        """What the lens was told."""
        return self._plan.foci_um[key.focus] + self._course.at(key.slot).focus_um

    def true_focus_um(self, key: FrameKey) -> float:
        """Where the plane in focus really lay."""
        return self._scene().true_focus_um(key)

    def is_brightfield(self, channel: str) -> bool:
        """Whether the channel has light without a specimen."""
        return self._lights[channel].brightfield

    def calibration(self) -> Calibration:
        """The instrument's true calibration."""
        return true_calibration(self._experiment, self._microscope, self._lights, self._errors)

    def truth(
        self, timepoint: int, position: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Phase (rad) and absorption over the camera's field, ``[s·Y, s·X]``, s the `oversampling`."""
        return self._scene().truth(SlotKey(timepoint, position))

    def lit_channel(self, key: FrameKey) -> int:
        """Index of the channel whose light this frame (mostly) sees: late light is the one before's."""
        return self._earlier(key, self._late_frames(key)).channel

    def frame(self, key: FrameKey) -> NDArray[np.unsignedinteger]:
        """Raw counts, ``[Y, X]``, uint8 up to 8 bits and uint16 above."""
        # On the sensor import hangs torch, which takes seconds that calibration() need not wait for.
        from pipeline.optics.sensor import expose  # noqa: PLC0415

        microscope = self._microscope
        counts = expose(
            self.electrons(key),
            generator(microscope.seed, Stream.NOISE, *key),
            gain_e_per_count=true_gain(microscope),
            read_noise_e=microscope.camera.read_noise_e,
            offset_counts=self._offsets,
            bit_depth=microscope.camera.bit_depth,
            response=lambda collected: amplified(collected, microscope),
        )
        counts[self._bad] = self._stuck[self._bad]
        return counts.astype(self._plan.dtype, copy=False)

    def electrons(self, key: FrameKey) -> NDArray[np.float64]:
        """``[Y, X]`` electrons per pixel that the frame collects on average."""
        wrong = self._microscope.imperfections
        exposure_ms = self._plan.channels[key.channel].exposure_ms
        total = np.zeros(self._plan.frame_shape)
        for channel, share in self._seen(key).items():
            per_ms = self._lights[channel].electrons_per_ms
            if per_ms and share.any():
                total += exposure_ms * per_ms * share * self._image(key, channel)
        return total * self._shading + wrong.dark_e_per_s * exposure_ms / 1e3

    def _seen(self, key: FrameKey) -> dict[str, NDArray[np.float64]]:
        """Channel → share ``[Y, 1]`` of the frame's exposure in which each row sees it lit."""
        wrong = self._microscope.imperfections
        late, mixed = self._late_frames(key), wrong.light_mixing
        # The last row's exposure ends so much after the first's: in the next frame's light.
        after = wrong.rolling_shutter * np.linspace(0, 1, self._plan.frame_shape[0])[:, None]
        shares: dict[str, NDArray[np.float64]] = {}
        for frames_ago, share in (
            (late - 1, after * (1 - mixed)),
            (late, (1 - after) * (1 - mixed) + after * mixed),
            (late + 1, (1 - after) * mixed),
        ):
            name = self._plan.channels[self._earlier(key, frames_ago).channel].name
            shares[name] = shares.get(name, 0) + share
        return shares

    def _late_frames(self, key: FrameKey) -> int:
        """By how many frames the light is late, triggers that it missed so far included."""
        wrong = self._microscope.imperfections
        number = frame_number(self._plan, key)
        return wrong.light_late_frames + sum(n <= number for n in wrong.light_missed_triggers)

    def _image(self, key: FrameKey, channel: str) -> NDArray[np.float64]:
        """The channel's light on the camera at the frame's place and focus: see `SimulatedOptics.intensity`."""
        if not isinstance(self._microscope.specimen, TargetSpecimen):
            return self._imaging().intensity(key, channel)
        # A target does not change: a calibration takes hundreds of frames of the same.
        moved_um = self._course.at(key.slot).stage_um
        still = (key.position, channel, self.true_focus_um(key), moved_um)
        if still not in self._still:
            if sum(image.nbytes for image in self._still.values()) > _MOST_STILL_BYTES:
                self._still.clear()
            self._still[still] = self._imaging().intensity(key, channel)
        return self._still[still]

    def _earlier(self, key: FrameKey, frames_ago: int) -> FrameKey:
        """The frame exposed so many frames before; the run's first has none before itself, its last none after."""
        number = frame_number(self._plan, key) - frames_ago
        return frame_key(self._plan, min(max(number, 0), self._plan.frames - 1))

    def _scene(self) -> Scene:
        if self._drawing is None:
            # Imports scipy, which neither calibration() nor a light keeper need wait for.
            from drivers.simulator.scene import Scene  # noqa: PLC0415

            self._drawing = Scene(
                self._experiment, self._microscope, self.oversampling, self._course
            )
        return self._drawing

    def _imaging(self) -> SimulatedOptics:
        if self._optics is None:
            # Imports torch, which takes seconds that neither calibration() nor truth() need wait for.
            with importing():
                from drivers.simulator.imaging import SimulatedOptics  # noqa: PLC0415

            self._optics = SimulatedOptics(
                self._experiment, self._microscope, self._errors, self._scene()
            )
        return self._optics
