"""The instrument: who drives it and what its camera is.

One model per driver, chosen by `driver`. Each carries only what its driver understands.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.experiment.strict import Strict

# What a pixel of a common scientific camera holds. With a gain that ignores the bit depth, a
# default exposure would saturate a 12-bit camera and hardly lift a 16-bit one off its offset.
_FULL_WELL_E = 30_000.0


class Camera(Strict):
    """The camera as the run uses it."""

    shape_px: tuple[PositiveInt, PositiveInt]
    """(y, x) of a frame, after binning and region of interest."""
    pixel_um: PositiveFloat
    """Edge of one physical pixel on the sensor, in micrometers."""
    binning: PositiveInt = Field(default=1, le=64)
    """Physical pixels per frame pixel along each axis."""
    bit_depth: Literal[8, 10, 12, 14, 16] = 12
    frame_rate_hz: PositiveFloat | None = None
    """The most the camera gives; none: limited by the exposure alone."""
    gain_e_per_count: PositiveFloat = Field(
        default_factory=lambda known: _FULL_WELL_E / 2 ** known.get("bit_depth", 12)
    )
    """Nominal; a calibration says better. Not given: a pixel of 30,000 electrons fills the range."""
    read_noise_e: NonNegativeFloat = 2.0
    """Nominal standard deviation, in electrons."""
    offset_counts: NonNegativeFloat = Field(
        default_factory=lambda known: min(100.0, 2 ** known.get("bit_depth", 12) / 40)
    )
    """Nominal dark level. Not given: 100, and less below 12 bits."""

    @property
    def readout_s(self) -> float:
        """Least seconds from one frame to the next, however short the exposure."""
        return 0.0 if self.frame_rate_hz is None else 1 / self.frame_rate_hz


class Imperfections(Strict):
    """What is wrong with the simulated instrument. All zero: a perfect one."""

    vignetting: float = Field(default=0.0, ge=0, lt=1)
    """Share of the light lost in the corners."""
    led_position_sigma_mm: NonNegativeFloat = 0.0
    led_intensity_sigma: float = Field(default=0.0, ge=0, lt=0.5)
    """Relative spread of the LEDs' brightness."""
    z_scale: PositiveFloat = 1.0
    """True µm of focus per µm commanded."""
    aberration_rad: dict[str, float] = Field(default_factory=dict)
    """Coefficients, rms radians over the pupil: astigmatism_0, astigmatism_45, coma_x, coma_y, spherical, defocus."""
    light_late_frames: NonNegativeInt = Field(default=0, le=1)
    """1: each frame sees the light that was asked for one frame earlier."""
    light_mixing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each frame's light that still comes from the frame before."""
    bad_pixel_share: float = Field(default=0.0, ge=0, lt=0.1)


class Faults(Strict):
    """What goes wrong on request: by frame or slot number, or with a seeded probability."""

    drop_share: float = Field(default=0.0, ge=0, lt=1)
    """Probability that the camera drops a frame."""
    drop_frames: tuple[NonNegativeInt, ...] = ()
    """Numbers of planned frames (counted from 0 over the whole run) that the camera drops."""
    overflow_at_frame: tuple[NonNegativeInt, ...] = ()
    """The camera's buffer overflows here: the rest of that slot and of the next is lost, the burst ends."""
    stall_at_frame: NonNegativeInt | None = None
    """The camera stops delivering here for `stall_s`."""
    stall_s: NonNegativeFloat = 0.0
    slow_lens_ms: NonNegativeFloat = 0.0
    """The lens takes this much longer to settle at each focus."""
    disconnect_at_frame: NonNegativeInt | None = None
    """The camera goes away here, for good."""


class CellSpecimen(Strict):
    """Living cells in culture: they grow, move and divide."""

    kind: Literal["cells"] = "cells"
    cells_per_mm2: NonNegativeFloat = 600.0
    diameter_um: PositiveFloat = 22.0
    peak_phase_rad: PositiveFloat = 2.0
    """Typical phase at the thickest place, at the experiment's wavelength."""
    absorption: float = Field(default=0.02, ge=0, lt=1)
    """Amplitude lost in the densest places, relative."""
    timepoint_min: PositiveFloat = 5.0
    """Minutes of the cells' lives from one timepoint to the next (a demonstration does not wait for them)."""


class TargetSpecimen(Strict):
    """A phase target that does not change: a known truth for tests and calibrations."""

    kind: Literal["target"]
    shape: Literal["beads", "bars", "microlenses", "blank"] = "beads"
    size_um: PositiveFloat = 10.0
    phase_rad: float = 1.0


Specimen = Annotated[CellSpecimen | TargetSpecimen, Field(discriminator="kind")]


class SimulatorMicroscope(Strict):
    """A microscope made of physics."""

    driver: Literal["simulator"] = "simulator"
    camera: Camera
    seed: NonNegativeInt = 0
    specimen: Specimen = Field(default_factory=CellSpecimen)
    electrons: PositiveFloat = 15000.0
    """In the background of a brightfield frame at exposure 10 ms and brightness 1, per camera pixel."""
    oversampling: PositiveInt | None = None
    """Specimen samples per camera pixel along each axis; none: as many as the optics need."""
    paced: bool = True
    """Frames come at the camera's own rate; false: as fast as they can be computed."""
    imperfections: Imperfections = Field(default_factory=Imperfections)
    faults: Faults = Field(default_factory=Faults)


class ReplayMicroscope(Strict):
    """A recording takes the microscope's place."""

    driver: Literal["replay"]
    camera: Camera
    source: str
    """A run folder, OME-Zarr, TIFF, .npy or .mat; relative to the experiment file or to $LIVEPHASE_DATA."""
    pace: Literal["recorded", "fast"] | PositiveFloat = "recorded"
    """At the recording's own times, as fast as possible, or at this many frames a second."""
    loop: bool = False
    """Begin again at the end of the recording (a demonstration on few frames)."""


Microscope = Annotated[SimulatorMicroscope | ReplayMicroscope, Field(discriminator="driver")]
