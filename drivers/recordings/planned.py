"""A recording as an experiment's plan sees it: every frame by its planned key, in camera counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.recordings.recording import RecordedFrame, Recording, describe
from pipeline.errors import DriverError, ExperimentError
from pipeline.experiment import Experiment
from pipeline.frames import FrameKey

_PIXEL_TOLERANCE = 0.02
_FOCUS_TOLERANCE_UM = 1e-3


class PlannedRecording:
    """Matches a recording to a plan, or refuses it before anything runs.

    Channels are matched by name where the recording names them, foci by their µm where it knows
    them. Where it does not, their number must be the plan's exactly: then, and only then, order
    decides.

    Parameters
    ----------
    loop
        Whether the recording begins again when the plan has more timepoints.

    Raises
    ------
    ExperimentError
        If the recording can't be what the experiment describes; with the fix.
    """

    def __init__(self, recording: Recording, experiment: Experiment, loop: bool = False) -> None:
        self.recording = recording
        self.plan = experiment.plan()
        self.remarks = list(recording.remarks)
        self._name = recording.path.name
        self._check_camera()
        self._channels = self._match_channels()
        self._foci = self._match_foci()
        self._check_extent(loop)
        self._check_pixel(experiment.pixel_um)
        # A frame shown twice has no time or number of its own: repeating them would be a lie.
        self.repeats = self.plan.timepoints > recording.timepoints

    def frame(self, key: FrameKey) -> NDArray[np.unsignedinteger] | None:
        """Counts ``[Y, X]`` of a planned frame, of the plan's type; None where the source lacks it.

        Raises
        ------
        DriverError
            If it can't be read, or is not what this camera could have delivered.
        """
        pixels = self.recording.frame(self._source_key(key))
        return None if pixels is None else self._as_counts(pixels, key)

    def about(self, key: FrameKey) -> RecordedFrame:
        """What the recording says of a planned frame; `led` counts the plan's channels."""
        if self.repeats:
            return RecordedFrame()
        about = self.recording.about(self._source_key(key))
        led = self._channels.index(about.led) if about.led in self._channels else -1
        return replace(about, led=led)

    def close(self) -> None:
        """Let the recording's files go."""
        self.recording.close()

    def _source_key(self, key: FrameKey) -> FrameKey:
        return FrameKey(
            key.timepoint % self.recording.timepoints,
            key.position,
            self._channels[key.channel],
            self._foci[key.focus],
        )

    def _as_counts(self, pixels: NDArray[Any], key: FrameKey) -> NDArray[np.unsignedinteger]:
        where = f"{self._name}, {describe(key)}"
        if pixels.shape != self.plan.frame_shape:
            raise DriverError(
                f"{where}: a frame of {pixels.shape}, not {self.plan.frame_shape}",
                "the recording is damaged: record or export it again",
            )
        if pixels.dtype.kind == "f":
            if not np.isfinite(pixels).all():
                raise DriverError(
                    f"{where}: the frame has NaN or infinite pixels",
                    "repair or leave out this frame: a camera delivers whole counts",
                )
            if (pixels != np.rint(pixels)).any():
                raise DriverError(
                    f"{where}: the frame has fractions of counts",
                    "give the camera's own integer counts, not processed images",
                )
        most = 2**self.plan.bit_depth - 1
        # An unsigned type that can't exceed the camera's range needs no look at every pixel.
        fits = pixels.dtype.kind == "u" and np.iinfo(pixels.dtype).max <= most
        if not fits:
            low, high = pixels.min(), pixels.max()
            if low < 0 or high > most:
                wrong = low if low < 0 else high
                raise DriverError(
                    f"{where}: a pixel has {wrong:g} counts, a {self.plan.bit_depth}-bit camera "
                    f"gives 0 to {most}",
                    "set microscope.camera.bit_depth to the recording camera's",
                )
        return pixels.astype(self.plan.dtype, copy=False)

    def _check_camera(self) -> None:
        r, plan = self.recording, self.plan
        if r.frame_shape != plan.frame_shape:
            y, x = r.frame_shape
            raise ExperimentError(
                f"{self._name} has frames of {y} x {x} pixels, microscope.camera.shape_px says "
                f"{plan.frame_shape[0]} x {plan.frame_shape[1]}",
                f"set microscope.camera.shape_px: [{y}, {x}]",
            )
        if r.dtype.kind not in "uif":
            raise ExperimentError(
                f"{self._name} has pixels of type {r.dtype}", "give frames in whole camera counts"
            )
        bits = r.bit_depth
        if bits is None and r.dtype.kind in "ui" and r.dtype.itemsize == 1 and plan.bit_depth > 8:
            bits = 8
        if bits is not None and bits != plan.bit_depth:
            raise ExperimentError(
                f"{self._name} was recorded with {bits} bits, microscope.camera.bit_depth says "
                f"{plan.bit_depth}",
                f"set microscope.camera.bit_depth: {bits}",
            )

    def _match_channels(self) -> tuple[int, ...]:
        wanted = [c.name for c in self.plan.channels]
        names = self.recording.channel_names
        if names is not None and len(set(names)) == len(names):
            if all(name in names for name in wanted):
                return tuple(names.index(name) for name in wanted)
            # One channel of one can't be mixed up, whatever it is called.
            if not len(names) == len(wanted) == 1:
                lost = next(name for name in wanted if name not in names)
                raise ExperimentError(
                    f"{self._name} has no channel '{lost}': it has {', '.join(names)}",
                    "name the experiment's channels as the recording does",
                )
        if self.recording.channels != len(wanted):
            raise ExperimentError(
                f"{self._name} has {self.recording.channels} channels, the experiment "
                f"{len(wanted)} ({', '.join(wanted)})",
                "list in sequence.channels the recording's channels in its order",
            )
        return tuple(range(len(wanted)))

    def _match_foci(self) -> tuple[int, ...]:
        wanted, known = self.plan.foci_um, self.recording.foci_um
        if known is not None:
            found = [_nearest_focus(known, z) for z in wanted]
            if None in found:
                lost_um = wanted[found.index(None)]
                raise ExperimentError(
                    f"{self._name} has no focus {lost_um:g} µm: it has "
                    f"{', '.join(f'{z:g}' for z in known)}",
                    "set sequence.foci_um to foci that were recorded",
                )
            return tuple(i for i in found if i is not None)
        if self.recording.foci != len(wanted):
            raise ExperimentError(
                f"{self._name} has {self.recording.foci} foci, sequence.foci_um has {len(wanted)}",
                "list in sequence.foci_um the recording's foci in its order",
            )
        return tuple(range(len(wanted)))

    def _check_extent(self, loop: bool) -> None:
        r, plan = self.recording, self.plan
        if len(plan.positions) > r.positions:
            raise ExperimentError(
                f"{self._name} has {_count(r.positions, 'position')}, the experiment asks for "
                f"{len(plan.positions)}",
                "list in sequence.positions only what was recorded",
            )
        if r.timepoints == 0:
            raise ExperimentError(f"{self._name} has no timepoint", "give a recording with frames")
        if plan.timepoints > r.timepoints and not loop:
            raise ExperimentError(
                f"{self._name} has {_count(r.timepoints, 'timepoint')}, the experiment asks for "
                f"{plan.timepoints}",
                f"set sequence.timepoints: {r.timepoints}, or microscope.loop: true to repeat it",
            )

    def _check_pixel(self, nominal_um: float) -> None:
        pixel = self.recording.pixel_um
        if pixel is not None and abs(pixel / nominal_um - 1) > _PIXEL_TOLERANCE:
            self.remarks.append(
                f"{self._name} says its pixel is {pixel:g} µm at the sample, the experiment "
                f"{nominal_um:g} µm: the experiment's is used"
            )


def _nearest_focus(known: tuple[float, ...], wanted_um: float) -> int | None:
    index = min(range(len(known)), key=lambda i: abs(known[i] - wanted_um))
    return index if abs(known[index] - wanted_um) <= _FOCUS_TOLERANCE_UM else None


def _count(number: int, noun: str) -> str:
    return f"only 1 {noun}" if number == 1 else f"{number} {noun}s"
