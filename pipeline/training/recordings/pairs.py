"""Training pairs out of a recording: TIE phase as the label, the binned frame as the input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.errors import ExperimentError, SlotError
from pipeline.frames import SlotKey
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.fit import true_conditions, why_unfit
from pipeline.methods.dl_srqpi.record import OpticsRecord, WeightsRecord
from pipeline.methods.fill import fill_invalid
from pipeline.methods.tie.magnification import EvenMagnification
from pipeline.optics.forward import predict_frames
from pipeline.optics.sensor import bin_pixels
from pipeline.training.recordings.label import LabelMaker
from pipeline.training.recordings.settings import RecordingSettings
from pipeline.training.recordings.stack import Stack

_CONTENT_RAD = 0.15


@dataclass(frozen=True)
class Pair:
    """One input with its label, border cut off.

    Parameters
    ----------
    frame
        ``[Y, X]`` float32, the camera's noise in it, divided by its mean.
    phase
        ``[u·Y, u·X]`` float32 radians.
    """

    slot: SlotKey
    frame: torch.Tensor
    phase: torch.Tensor
    conditions: Conditions


@dataclass(frozen=True)
class LeftOut:
    """A slot that is not trained on, and why."""

    slot: SlotKey
    reason: str


class PairMaker:
    """Pairs of one recording, at one of its foci.

    Decision. Frames are corrected pixel by pixel and then averaged over the block, not summed raw and then
    corrected, as a camera would bin: so a bad or saturated pixel is replaced by its neighbours before it could
    spoil its block, and the flat is divided out where it was measured. Where the flat is even within a
    block both are the same; a spread of 1 % there changes a contrast of 0.1 by 0.0003, less than noise.

    Parameters
    ----------
    upsampling
        Camera pixels of the recording per pixel of the input, along each axis.
    focus
        Index of the input's focus.

    Raises
    ------
    ExperimentError
        If nothing is left of the field within the margin.
    """

    def __init__(
        self, stack: Stack, upsampling: int, focus: int, settings: RecordingSettings
    ) -> None:
        self._stack, self._settings = stack, settings
        self._u, self._focus = upsampling, focus
        self.label = LabelMaker(stack, focus, settings)
        self.conditions = binned_conditions(stack, focus, upsampling)
        self.inner = _inner(stack, upsampling, settings.margin_um)
        # The label is of the magnification of focus 0, a lens may change it.
        grown = 1 + (stack.calibration.magnification_per_um or 0.0) * stack.true_foci_um[[focus]]
        self._even = EvenMagnification(grown, stack.experiment.plan().frame_shape)

    def __call__(self, slot: SlotKey) -> Pair | LeftOut:
        """The pair of a slot, or why there is none."""
        given = self._stack.frames_of(slot)
        if given is None:
            return LeftOut(slot, "a frame is missing")
        frames, valid = given
        if self._saturated(valid) > self._settings.most_saturated:
            return LeftOut(slot, "a frame is saturated")
        try:
            phase = torch.from_numpy(self.label(frames, valid))
        except SlotError as error:
            return LeftOut(slot, error.cause)
        frame = self._input(frames[[self._focus]], valid[[self._focus]])
        inner = phase[self.inner]
        reason = self._why_useless(frame, phase, inner)
        return (
            LeftOut(slot, reason)
            if reason
            else Pair(slot, frame, inner.contiguous(), self.conditions)
        )

    def _why_useless(self, frame: torch.Tensor, phase: torch.Tensor, inner: torch.Tensor) -> str:
        """What is wrong with a label, or nothing."""
        if not bool(torch.isfinite(phase).all()):
            return "the label is not finite"
        if float((inner > _CONTENT_RAD).float().mean()) < self._settings.least_content:
            return "no specimen"
        # Not written as `>`: a NaN is refused, too.
        if not self._unexplained(frame, phase) <= self._settings.most_unexplained:
            return "the label does not explain the frame"
        return ""

    def _saturated(self, valid: torch.Tensor) -> float:
        """Greatest share of a frame's pixels that are invalid, known bad ones aside."""
        bad = self._stack.calibration.bad_pixels
        wrong = ~valid if bad is None else ~valid & ~torch.from_numpy(bad)
        return float(wrong.float().mean((-2, -1)).max())

    def _input(self, frame: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """``[1, Y, X]`` of the camera → ``[y, x]``, binned and cut."""
        full = self._even(fill_invalid(frame[None], valid[None]))[0, 0]
        binned = bin_pixels(full[self.inner], self._u)
        return binned / binned.mean()

    def _unexplained(self, frame: torch.Tensor, phase: torch.Tensor) -> float:
        """Share of the input's contrast, root mean square, that the label does not predict."""
        k = self._stack.frames[self._focus]
        predicted = predict_frames(
            phase, None, self._stack.experiment, self._stack.calibration, [k]
        )[0]
        expected = bin_pixels(predicted[self.inner], self._u)
        difference = frame - expected / expected.mean()
        return float(difference.std() / frame.std().clamp_min(1e-9))


def input_foci(stack: Stack, upsampling: int, optics: OpticsRecord) -> list[int]:
    """Indices of the foci that a training for some optics is about.

    Raises
    ------
    ExperimentError
        If there is none: with how the recording and the optics differ.
    """
    # Nothing but the optics decides whether conditions fit.
    known: dict[str, Any] = {"optics": optics}
    trained = WeightsRecord.model_construct(**known)
    foci = range(len(stack.true_foci_um))
    reasons = [why_unfit(trained, binned_conditions(stack, k, upsampling)) for k in foci]
    found = [k for k, reason in zip(foci, reasons, strict=True) if not reason]
    if not found:
        # What is wrong with all of them is wrong with the one that comes nearest.
        nearest = int(np.abs(stack.true_foci_um - optics.z_um).argmin())
        raise ExperimentError(
            f"no frame of {stack.path.name}, binned {upsampling}x{upsampling}, was taken as those that the "
            f"network is trained for: {reasons[nearest]}",
            "record with the optics of --experiment, a focus at its defocus, and pixels as much "
            "finer as the phase is to be",
        )
    return found


def binned_conditions(stack: Stack, focus: int, upsampling: int) -> Conditions:
    """What a frame is taken under once it is binned."""
    known = true_conditions(stack.experiment, stack.calibration, focus)
    return Conditions(
        wavelength_um=known.wavelength_um,
        numerical_aperture=known.numerical_aperture,
        refractive_index=known.refractive_index,
        pixel_um=stack.pixel_um * upsampling,
        z_um=known.z_um,
        coherence=known.coherence,
    )


def _inner(stack: Stack, upsampling: int, margin_um: float) -> tuple[slice, slice]:
    """The field without its border, whole blocks."""
    margin = math.ceil(margin_um / (stack.pixel_um * upsampling))
    blocks = [n // upsampling - 2 * margin for n in stack.experiment.plan().frame_shape]
    if min(blocks) < 1:
        raise ExperimentError(
            f"the frames of {stack.path.name} are smaller than the border of {margin_um:g} µm on "
            "each side that TIE gets wrong",
            "record larger fields",
        )
    y, x = (slice(margin * upsampling, (margin + n) * upsampling) for n in blocks)
    return y, x
