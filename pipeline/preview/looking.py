"""One look through the microscope: the frames of one slot, corrected and reconstructed, and their figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError, SlotError
from pipeline.experiment import Experiment, nearest
from pipeline.frames import FrameStatus, PlannedChannel, SlotKey
from pipeline.optics.sensor import Correction, scaled_flat
from pipeline.quality import Histogram, histogram, normalised_variance, saturated_share
from pipeline.stages.reconstruction import SlotReconstructor, SlotResult


@dataclass(frozen=True)
class FrameFigures:
    """What a person looks at in a frame before trusting it.

    Parameters
    ----------
    place
        Indices of channel and focus in the slot.
    minimum, median, maximum
        Raw counts.
    saturated
        Share of the pixels.
    background
        Median above the dark, counts.
    target
        What the background should be: what the exposure step aimed at, else what the flat had; None where nothing
        of it is calibrated.
    focus
        `normalised_variance` of the corrected frame.
    """

    place: tuple[int, int]
    channel: str
    focus_um: float
    minimum: int
    median: float
    maximum: int
    saturated: float
    background: float
    target: float | None
    focus: float
    histogram: Histogram

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "channel": self.channel,
            "focus_um": self.focus_um,
            "minimum": self.minimum,
            "median": self.median,
            "maximum": self.maximum,
            "saturated": self.saturated,
            "background": round(self.background, 2),
            "target": None if self.target is None else round(self.target, 2),
            "focus": None if math.isnan(self.focus) else self.focus,
            "histogram": self.histogram.pixels.tolist(),
        }


@dataclass(frozen=True)
class Look:
    """What was seen.

    Parameters
    ----------
    raw
        ``[C, Z, Y, X]`` counts; a frame that was lost is zero.
    corrected
        ``[C, Z, Y, X]`` float32, 1 is the background.
    figures
        Of each frame that came, channel by channel.
    result
        Phase and what else the method yields; None where it reconstructs nothing, for the reason in `remarks`.
    outputs
        Names of the result's images.
    pixel_um
        Of a camera pixel at the sample.
    light_s
        Light that the specimen got from this and earlier looks, in seconds of full brightness.
    remarks
        What the user should read.
    """

    raw: NDArray[np.unsignedinteger]
    corrected: NDArray[np.float32]
    figures: tuple[FrameFigures, ...]
    result: SlotResult | None
    outputs: tuple[str, ...]
    pixel_um: float
    light_s: float
    remarks: tuple[str, ...]

    @property
    def phase(self) -> NDArray[np.float32] | None:
        """``[s·Y, s·X]`` radians."""
        return None if self.result is None else self.result.images[0]

    def phase_range(self) -> tuple[float, float] | None:
        """0.2 % and 99.8 % quantiles of the phase, rad."""
        if self.phase is None:
            return None
        low, high = np.quantile(self.phase, [0.002, 0.998])
        return round(float(low), 4), round(float(high), 4)

    def with_remarks(self, *remarks: str) -> Look:
        """The same look with more to read."""
        return replace(self, remarks=(*self.remarks, *remarks))

    @property
    def residual(self) -> float | None:
        """Reduced χ² of the reconstruction."""
        value = math.nan if self.result is None else self.result.quality["residual"]
        return value if math.isfinite(value) else None


class Looker:
    """Looks through an open microscope as often as it is asked to; the light is off between.

    Parameters
    ----------
    experiment
        With its exposures resolved; its plan says what a slot is.
    reconstruct
        Whether to apply the experiment's method.

    Attributes
    ----------
    light_s
        Light that the specimen got so far, in seconds of full brightness.

    Raises
    ------
    ExperimentError
        If the calibration does not fit the experiment.
    """

    def __init__(
        self,
        microscope: Microscope,
        experiment: Experiment,
        calibration: Calibration,
        *,
        reconstruct: bool,
    ) -> None:
        self._microscope = microscope
        self._experiment = experiment
        self._plan = experiment.plan()
        self._correction = Correction(experiment, calibration, range(self._plan.frames_per_slot))
        self._calibration = calibration
        self._saturation = (
            calibration.saturation_counts or 2.0**experiment.microscope.camera.bit_depth - 1
        )
        self._reconstructor: SlotReconstructor | None = None
        self._no_phase = ""
        self.pixel_um = calibration.pixel_um or experiment.pixel_um
        self.light_s = 0.0
        if reconstruct and experiment.reconstruction.method != "none":
            try:
                self._reconstructor = SlotReconstructor(experiment, calibration)
            except (ExperimentError, MethodError) as error:
                # A frame is worth looking at whether or not it can be reconstructed.
                self._no_phase = f"no phase: {error}"

    def look(self, slot: SlotKey) -> Look:
        """Take one slot and look at it.

        Raises
        ------
        DriverError
            If the microscope fails or no frame comes.
        """
        frames, records = self._microscope.take_slot(self._experiment, slot)
        plan = self._plan
        came = records["status"] == FrameStatus.WRITTEN
        exposed_s = [c.exposure_ms * c.brightness / 1e3 for c in plan.channels]
        # Also what the camera lost was lit.
        self.light_s += sum(exposed_s) * len(plan.foci_um)
        stacked = frames.reshape(plan.slot_shape)
        corrected = self._correction.correct(stacked.copy(), came.ravel())
        shown = corrected.frames.cpu().numpy().reshape(frames.shape)
        remarks = [*self._microscope.driver.messages()]
        lost = int((~came).sum())
        if lost:
            remarks.append(f"{lost} of {came.size} frames did not come")
        result = None
        if self._reconstructor is not None:
            try:
                result = self._reconstructor.reconstruct(stacked, records.ravel())
                if result is None:
                    remarks.append("no phase: a frame that the method needs did not come")
            except SlotError as error:
                remarks.append(f"no phase: {error}")
        elif self._no_phase:
            remarks.append(self._no_phase)
        figures = tuple(
            self._figures((int(c), int(z)), frames[c, z], shown[c, z]) for c, z in np.argwhere(came)
        )
        outputs = () if self._reconstructor is None else self._reconstructor.measurement.outputs
        return Look(
            frames,
            shown,
            figures,
            result,
            outputs if result is not None else (),
            self.pixel_um,
            round(self.light_s, 6),
            tuple(remarks),
        )

    def _figures(
        self,
        place: tuple[int, int],
        raw: NDArray[np.unsignedinteger],
        corrected: NDArray[np.float32],
    ) -> FrameFigures:
        channel, focus_um = self._plan.channels[place[0]], self._plan.foci_um[place[1]]
        camera = self._experiment.microscope.camera
        dark = float(np.median(self._calibration.dark.get(channel.name, camera.offset_counts)))
        median = float(np.median(raw))
        return FrameFigures(
            place,
            channel.name,
            focus_um,
            int(raw.min()),
            median,
            int(raw.max()),
            saturated_share(raw, self._saturation),
            median - dark,
            self._target(channel, dark),
            normalised_variance(corrected),
            histogram(raw, camera.bit_depth),
        )

    def _target(self, channel: PlannedChannel, dark: float) -> float | None:
        exposure = self._calibration.steps.get("exposure", {}).get("figures", {})
        if "target_share" in exposure:
            return float(exposure["target_share"]) * (self._saturation - dark)
        flat = scaled_flat(self._calibration, channel)
        return None if flat is None else float(np.median(flat))


def only_channel(experiment: Experiment, channel: str | None) -> Experiment:
    """The experiment with one of its channels; as it is for None.

    Raises
    ------
    ExperimentError
        If it has no such channel.
    """
    if channel is None:
        return experiment
    known = experiment.illumination.channels
    if channel not in known:
        raise ExperimentError(f"the experiment has no channel '{channel}'", nearest(channel, known))
    sequence = experiment.sequence.model_copy(update={"channels": (channel,)})
    return experiment.model_copy(update={"sequence": sequence})


def position_index(experiment: Experiment, position: str | None) -> int:
    """Which of the plan's positions is meant: by name, or by number from 0; the first for None.

    Raises
    ------
    ExperimentError
        If there is no such position.
    """
    names = [p.name for p in experiment.plan().positions]
    if position is None:
        return 0
    if position in names:
        return names.index(position)
    if position.isdecimal() and int(position) < len(names):
        return int(position)
    raise ExperimentError(f"the experiment has no position '{position}'", nearest(position, names))
