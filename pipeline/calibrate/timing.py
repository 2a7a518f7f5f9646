"""Light and camera: does each frame see its own light?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from drivers.taking import Microscope, Taken
from pipeline.calibrate.light_lag import code
from pipeline.calibrate.light_verdict import LightTiming, judge
from pipeline.calibrate.nominal_light import brightest_channel, brightfield_channels
from pipeline.calibrate.shots import EMPTY_FIELD, frames_in_memory, nearest_focus_um
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment, MicroManagerMicroscope
from pipeline.experiment.illumination import LightChannel
from pipeline.experiment.micromanager import LightDevice
from pipeline.experiment.vary import vary
from pipeline.frames import FrameStatus

# Times that the code is run through, where memory allows.
_ROUNDS = 3
# A lit frame may have so many saturated pixels: dirt that scatters. More bend the shares.
_SATURATED = 0.01
_DARKER = 4.0
_SHOTS = 4
# Of the first frame's light, beyond what the rest shows.
_FIRST_FRAME = 0.1
_NO_ANSWER = {
    "light never changes": "check lamp, shutter and trigger cable, and the light's values in microscope.light",
    "random": "check the trigger line for noise and for triggers faster than the light can step",
}


@dataclass
class Timing:
    """Takes a coded sequence of lit and dark frames and finds whose light each frame caught."""

    channel: str | None = None
    """Whose light; none: the brightest brightfield channel's."""
    name: str = "timing"
    subject: Subject = "anything"
    purpose: str = (
        "whether each frame sees its own light: one that is late, mixed or cut by a rolling shutter makes "
        "phase out of another pattern's image"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """Not where the light never changes, nor where nothing but its own firmware can change it."""
        if len(experiment.channel_names) == 1:
            return "one light that stays on has nothing to be in step with"
        microscope = experiment.microscope
        if isinstance(microscope, MicroManagerMicroscope):
            if microscope.light is None:
                return "livephase does not switch this microscope's light (microscope.light)"
            if microscope.light.firmware is not None and microscope.light.firmware.order:
                return "the light's firmware has a sequence of its own, which can't be coded"
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`; a fault is found, named and kept, not refused."""
        name = self._light(experiment, known)
        taken, light = _coded(
            microscope, experiment, name, experiment.illumination.channels[name].exposure_ms
        )
        t, _, c, _ = taken.records.shape
        order = taken.records.reshape(t * c)
        there = order["status"] == FrameStatus.WRITTEN
        timing = judge(
            taken.frames.reshape(t * c, *taken.frames.shape[-2:]),
            np.tile(lit_first(), t),
            there=there,
            starts=_starts(order),
            offset_counts=experiment.microscope.camera.offset_counts,
        )
        figures = _figures(timing, light, name, int(there.sum()), int((~there).sum()))
        warnings = tuple(_advice(timing, experiment))
        summary = (
            f"light and camera: {timing.verdict} ({there.sum()} frames of {light.exposure_ms:g} ms)"
        )
        return Finding(replace(known, timing=timing.verdict), figures, summary, warnings)

    def _light(self, experiment: Experiment, known: Calibration) -> str:
        if self.channel is None:
            return brightest_channel(experiment, known)
        names = brightfield_channels(experiment, known)
        if self.channel not in names:
            raise CalibrationRefusedError(
                f"channel '{self.channel}' is no brightfield channel of this experiment",
                f"name one that is lit without a specimen: {', '.join(names) or 'there is none'}",
            )
        return self.channel


def lit_first() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """``[31]`` the code, turned so that it begins with a lit frame after a dark one: a burst's first is special."""
    bits = code()
    return np.roll(bits, -int(np.flatnonzero(bits & ~np.roll(bits, 1) & ~np.roll(bits, -1))[0]))


def _coded(
    microscope: Microscope, experiment: Experiment, name: str, exposure_ms: float
) -> tuple[Taken, LightChannel]:
    """The code with a channel's light, exposed so that it does not saturate."""
    own = experiment.illumination.channels[name]
    bits = lit_first()
    rounds = int(np.clip(frames_in_memory(experiment) // len(bits), 1, _ROUNDS))
    top = 2**experiment.microscope.camera.bit_depth - 1
    for _ in range(_SHOTS):
        lit = own.model_copy(update={"exposure_ms": exposure_ms})
        dark = lit.model_copy(update={"brightness": 0.0})
        channels = {
            f"{name}@code{i}" if bit else f"dark@code{i}": lit if bit else dark
            for i, bit in enumerate(bits)
        }
        taken = microscope.take(
            vary(
                experiment,
                channels=channels,
                timepoints=rounds,
                foci_um=[nearest_focus_um(experiment)],
                specimen=EMPTY_FIELD,
            )
        )
        written = (taken.records["status"] == FrameStatus.WRITTEN).mean()
        if written < 0.8:
            raise CalibrationRefusedError(
                f"the camera lost {1 - written:.0%} of the frames",
                "mend the camera's connection or its buffer first: `livephase devices`",
            )
        saturated = (taken.frames >= top).mean((-2, -1)).max()
        if saturated <= _SATURATED:
            return taken, lit
        exposure_ms /= _DARKER
    raise CalibrationRefusedError(
        f"{saturated:.0%} of a frame's pixels are saturated even at {exposure_ms * _DARKER:g} ms",
        "dim the light, or lower exposure_ms",
    )


def _starts(records: np.ndarray[Any, np.dtype[np.void]]) -> list[int]:
    """The first frame of each burst: there the camera's own numbers begin anew."""
    numbers = records["image_number"]
    there = np.flatnonzero(numbers >= 0)
    anew = there[1:][np.diff(numbers[there]) <= 0]
    return [0, *(int(n) for n in anew)]


def _figures(
    timing: LightTiming, light: LightChannel, channel: str, taken: int, lost: int
) -> dict[str, Any]:
    return {
        "verdict": timing.verdict,
        "late_frames": timing.late_frames,
        "mixed_share": round(timing.mixed_share, 5),
        "rolling_share": round(timing.rolling_share, 5),
        "rolling_way": timing.rolling_way,
        "rows_affected": round(timing.rows_affected, 4),
        "share_sigma": round(timing.sigma, 6),
        "slips_after_frame": [n - 1 for n in timing.slips.at],
        "slips_by_frames": list(timing.slips.by),
        "stray_frames": list(timing.slips.strays),
        "first_frame_share": round(timing.first_frame_share, 4),
        "dark_counts": round(timing.dark_counts, 2),
        "lit_counts": round(timing.lit_counts, 2),
        "channel": channel,
        "exposure_ms": light.exposure_ms,
        "frames": taken,
        "frames_lost": lost,
    }


def _advice(timing: LightTiming, experiment: Experiment) -> list[str]:
    """What to do about each fault."""
    microscope = experiment.microscope
    light = microscope.light if isinstance(microscope, MicroManagerMicroscope) else None
    for beginning, fix in _NO_ANSWER.items():
        if timing.verdict.startswith(beginning):
            return [f"{timing.verdict}: {fix}"]
    advice = []
    if timing.late_frames:
        advice.append(_shifted(timing.late_frames, light))
    if timing.mixed_share:
        fix = "let the camera's exposure signal gate the light (blanking)"
        if light is not None:
            fix += ", or raise microscope.light.settle_ms"
        advice.append(
            f"{abs(timing.mixed_share):.1%} of each frame's light is another frame's: {fix}"
        )
    if timing.rolling_share:
        advice.append(
            f"a rolling shutter overlaps the light in {timing.rows_affected:.0%} of the rows, by up to "
            f"{timing.rolling_share:.1%} of the exposure: use the global shutter, or light only while all rows are "
            "exposed (the camera's signal 'all rows'), with a pause as long as the readout"
        )
    if timing.slips.at:
        advice.append(
            f"triggers are missed (after frame {timing.slips.at[0] - 1}): lengthen exposure or pause so that the light "
            "can follow, and check the trigger line"
        )
    elif timing.slips.strays:
        advice.append(
            f"{len(timing.slips.strays)} frames show another light: check the trigger line for noise"
        )
    if not advice and abs(timing.first_frame_share - 1) > _FIRST_FRAME:
        advice.append(
            f"the first frame of a burst gets {timing.first_frame_share:.0%} of its light: give the light time "
            "(microscope.light.settle_ms)"
        )
    return advice


def _shifted(late: int, light: LightDevice | None) -> str:
    """Light that is late, or early, by whole frames."""
    fault = f"the light is {abs(late)} frame{'s' if abs(late) > 1 else ''} {'late' if late > 0 else 'early'}"
    if light is None:
        return f"{fault}: step the light where each exposure starts, not where it ends (trigger polarity)"
    phase = light.phase - late
    if light.sequencing == "software":
        return f"{fault}: raise microscope.light.settle_ms, the light steps when the exposure has begun"
    if -1 <= phase <= 1:
        return f"{fault}: set microscope.light.phase: {phase}"
    return f"{fault}: count the camera's triggers, the light is off by more than one"
