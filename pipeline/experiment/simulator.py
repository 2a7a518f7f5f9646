"""The simulated microscope: what is wrong with it, what goes wrong, what it looks at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from pipeline.experiment.camera import Camera
from pipeline.experiment.strict import Strict


class Imperfections(Strict):
    """What is wrong with the simulated instrument. By default nothing: a perfect one."""

    # Light
    vignetting: float = Field(default=0.0, ge=0, lt=1)
    """Share of the light lost in the corners."""
    channel_intensity: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Channel → its true brightness, relative to what it should be."""
    led_position_sigma_mm: NonNegativeFloat = 0.0
    led_intensity_sigma: float = Field(default=0.0, ge=0, lt=0.5)
    """Relative spread of the LEDs' brightness."""
    led_flip_x: bool = False
    led_swap_xy: bool = False
    led_rotation_deg: float = 0.0
    """How the array really lies to the camera: see `pipeline.calibration.LedOrientation`."""
    light_late_frames: NonNegativeInt = Field(default=0, le=1)
    """1: each frame sees the light that was asked for one frame earlier."""
    light_missed_triggers: tuple[NonNegativeInt, ...] = ()
    """Numbers of planned frames (counted from 0 over the whole run) whose trigger the light missed: from there on it is
    one frame later each time."""
    light_mixing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each frame's light that still comes from the frame before."""
    rolling_shutter: float = Field(default=0.0, ge=0, lt=1)
    """Share of the exposure by which the last row lags behind the first: so much of its light is the next frame's."""
    # Lens
    z_scale: float = 1.0
    """True µm of focus per µm commanded; negative: the lens runs the other way."""
    z_zero_um: float = 0.0
    """True focus where 0 is commanded."""
    focus_drift_um_per_timepoint: float = 0.0
    """True focus that is lost to drift from one planned interval to the next; nothing reports it."""
    magnification_per_um: float = 0.0
    """Relative change of the magnification per µm of true focus."""
    pixel_scale: PositiveFloat = 1.0
    """True pixel at the sample, relative to its nominal size."""
    aberration_rad: dict[str, float] = Field(default_factory=dict)
    """Coefficients, rms radians over the pupil: astigmatism_0, astigmatism_45, coma_x, coma_y, spherical, defocus."""
    # Camera
    gain_scale: PositiveFloat = 1.0
    """True electrons per count, relative to the nominal."""
    offset_pattern_counts: NonNegativeFloat = 0.0
    """Standard deviation of the pixels' dark levels about the offset."""
    dark_e_per_s: NonNegativeFloat = 0.0
    """Dark current."""
    nonlinearity: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the signal that is missing where the camera's range ends; grows in proportion to the signal."""
    bad_pixel_share: float = Field(default=0.0, ge=0, lt=0.1)

    @field_validator("z_scale")
    @classmethod
    def _the_lens_moves(cls, value: float) -> float:
        if value == 0:
            raise ValueError("z_scale is 0: a lens that does not move has no focus to scale")
        return value


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
    """The camera goes away here. Opened again and armed with this frame's timepoint first, it is there again; in the
    run's first timepoint it goes away each time."""
    break_at_frame: tuple[NonNegativeInt, ...] = ()
    """The driver breaks here, with an error that nobody foresaw. As `disconnect_at_frame`, it works again in the next
    session."""
    stuck_share: float = Field(default=0.0, ge=0, lt=1)
    """Probability, each time that a timepoint is taken, that the camera gets stuck in it: nothing more comes, which a
    paced camera finds out after `stall_s`."""
    disconnect_share: float = Field(default=0.0, ge=0, lt=1)
    """Probability, each time that a timepoint is taken, that the camera goes away in it."""
    away_tries: NonNegativeInt = 0
    """A camera that went away is in vain opened again up to so many times (seeded, 0 to this many)."""


class CellSpecimen(Strict):
    """Living cells in culture: they grow, move and divide."""

    kind: Literal["cells"] = "cells"
    cells_per_mm2: NonNegativeFloat = 600.0
    diameter_um: PositiveFloat = 22.0
    peak_phase_rad: PositiveFloat = 2.0
    """Typical phase at the thickest place, at the experiment's wavelength."""
    absorption: float = Field(default=0.005, ge=0, lt=1)
    """Amplitude lost in the densest places, relative; unstained cells lose some thousandths."""
    timepoint_min: PositiveFloat = 5.0
    """Minutes of the cells' lives from one timepoint to the next (a demonstration does not wait for them)."""


class TargetSpecimen(Strict):
    """A target that does not change: a known truth for tests and calibrations."""

    kind: Literal["target"]
    shape: Literal["beads", "bars", "microlenses", "grating", "blank"] = "beads"
    size_um: PositiveFloat = 10.0
    """Of a bead or microlens, of the widest bar; a grating's period."""
    phase_rad: float = 1.0
    """Not a grating's: it absorbs."""
    rotation_deg: float = 0.0
    """A grating's: of the direction across its lines, from x towards y."""
    line_share: float = Field(default=0.5, gt=0, lt=1)
    """A grating's: width of a dark line, in periods. A half is a Ronchi ruling, less a stage ruler's lines."""


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
    lamp_file: str | None = None
    """A file that plays the lamp's switch: every change of the light is appended to it, as a line of JSON with its time
    on the monotonic clock. Like a real lamp it stays as it is when the process that switched it dies."""
    paced: bool = True
    """Frames come at the camera's own rate; false: as fast as they can be computed."""
    imperfections: Imperfections = Field(default_factory=Imperfections)
    faults: Faults = Field(default_factory=Faults)
