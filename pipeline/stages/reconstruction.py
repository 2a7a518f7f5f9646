"""One slot of frames in, one phase image with its quality out: the core of every reconstruction.

The live reconstruct stage and `pipeline.reprocess` both run exactly this, so what is
reconstructed later is what would have been reconstructed live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import MethodError, SlotError
from pipeline.experiment import Condenser, Experiment
from pipeline.frames import FrameStatus, Measurement, Region, SlotKey, empty_records
from pipeline.instrument import missing_aspects
from pipeline.methods.contract import Method, PartByPart, Reconstruction
from pipeline.methods.fill import fill_invalid
from pipeline.methods.registry import find_method
from pipeline.optics.residual import Agreement
from pipeline.optics.sensor import Corrected, Correction
from pipeline.stages.alarm import Signs, alarm, contrast_skewness, piled_up
from pipeline.stages.reconstruct_copies import HostCopies
from pipeline.stages.residual import ResidualCheck
from pipeline.stages.scale import scale_uncertainty


class SlotResult(NamedTuple):
    """What became of one slot.

    `images` is ``[C, s·Y, s·X]`` float32 in the order of `Measurement.outputs`; `quality` says how
    far to trust them (see `SlotReconstructor.reconstruct`).
    """

    images: NDArray[np.float32]
    quality: dict[str, float]


def open_method(experiment: Experiment) -> tuple[Method, Measurement]:
    """The method that `experiment.reconstruction.method` names, and the frames it wants.

    Raises
    ------
    ExperimentError, MethodError
        If there is no such method, or it refuses the experiment; with the fix.
    """
    method = find_method(experiment.reconstruction.method)
    return method, method.measurement(experiment)


def choose_device(asked: str, number: int | None = None) -> str:
    """``"cuda"`` or ``"cpu"`` for `auto`; anything else as it is.

    Parameters
    ----------
    number
        Of several processes that reconstruct: they take the GPUs in turn.

    Raises
    ------
    MethodError
        If CUDA is asked for and there is none.
    """
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise MethodError(
            f"reconstruction.device is {asked}, but torch finds no CUDA device here",
            "set reconstruction.device to auto or cpu, or install a CUDA build of torch",
        )
    if asked == "cuda" and number is not None:
        return f"cuda:{number % torch.cuda.device_count()}"
    return asked


class Progress(NamedTuple):
    """How far a slot has come: see `pipeline.methods.contract.Part`."""

    done: int
    of: int
    region_done: bool
    images: Callable[[], NDArray[np.float32]]


def _on_host(images: Callable[[], torch.Tensor]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return images().to("cpu", torch.float32).numpy()


class SlotReconstructor:
    """A loaded method with the calibration around it; keeps no state from one slot to the next.

    Parameters
    ----------
    experiment, calibration
        Of the run.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …; the experiment's where None.
    threads
        Of torch on the CPU; its own choice where None. A result's last bits may depend on it.
    whole_field
        Check all of the field against the measured light, whatever it costs (see `ResidualCheck`).

    Attributes
    ----------
    measurement
        The frames that the method takes out of a slot and the images it gives back.
    method
        What makes images of them.

    Raises
    ------
    ExperimentError, MethodError
        If the method refuses the experiment, its weights or the device.
    """

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        device: str | None = None,
        threads: int | None = None,
        *,
        whole_field: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        settings = experiment.reconstruction
        method, self.measurement = open_method(experiment)
        self.device = choose_device(device or settings.device)
        weights = None if settings.weights is None else Path(settings.weights)
        self._name = method.name
        self.method = method.load(experiment, calibration, self.device, weights)
        self._frames = list(self.measurement.frames)
        self._correction = Correction(experiment, calibration, self._frames, self.device)
        self._check = ResidualCheck(
            experiment, calibration, self.measurement, self.device, whole_field=whole_field
        )
        self._uncalibrated = float(bool(missing_aspects(experiment, calibration)))
        self._scale_uncertainty = scale_uncertainty(
            method, experiment, calibration, self.measurement, self.device, weights
        )
        self._z_um = defocus_of_brightfield(experiment, calibration, self.measurement)
        self._pixel_um = calibration.pixel_um or experiment.pixel_um
        y, x = experiment.plan().frame_shape
        s = self.measurement.upsampling
        self._image_shape = (len(self.measurement.outputs), s * y, s * x)
        self._plan = experiment.plan()
        self._copies = HostCopies(self.device, (len(self._frames), y, x), self._plan.dtype)
        # Of dark frames no pixel is saturated: what is invalid then always is.
        dark = np.zeros((len(self._frames), y, x), self._plan.dtype)
        self._usable = self._correction(dark, np.ones(len(dark), bool))[1]

    def warm_up(self) -> None:
        """Reconstruct a slot of nothing: kernels are chosen and memory is taken before the first frame comes."""
        blank = np.full(self._plan.slot_shape, 2 ** (self._plan.bit_depth - 1), self._plan.dtype)
        records = empty_records(self._plan.frames_per_slot)
        records["status"] = FrameStatus.WRITTEN
        # A method may well refuse a field without a specimen: real frames will show.
        with suppress(MethodError):
            self.reconstruct(blank, records)

    def reconstruct(
        self, frames: NDArray[np.unsignedinteger], records: NDArray[np.void]
    ) -> SlotResult | None:
        """Reconstruct one slot.

        Parameters
        ----------
        frames
            ``[K, Y, X]`` raw counts of the whole slot; only read, and not kept.
        records
            ``[K]`` of `pipeline.frames.FRAME_RECORD`.

        Returns
        -------
        SlotResult or None
            None if a frame of the measurement is missing and the method accepts no gaps. `quality`
            has ``residual`` (reduced χ² of predicted against measured counts, see `ResidualCheck`),
            ``unexplained`` (share of the measured structure), ``alarm`` (above 1: look, see
            `pipeline.stages.alarm`), ``scale_uncertainty`` (relative, of the phase, see
            `pipeline.stages.scale`), ``valid_share`` (of the measured pixels that could be used),
            ``uncalibrated`` (1 if the calibration lacks something, else 0) and ``seconds`` of computing.

        Raises
        ------
        SlotError
            If the method can make nothing of these frames: it says so, or gives NaN or infinite
            pixels. The next slot may be as good as any.
        MethodError
            If the method gives images of a wrong shape.
        """
        work = self.begin(frames, records)
        while True:
            try:
                next(work)
            except StopIteration as end:
                result: SlotResult | None = end.value
                return result

    def begin(
        self,
        frames: NDArray[np.unsignedinteger],
        records: NDArray[np.void],
        first: Region | None = None,
    ) -> Generator[Progress, None, SlotResult | None]:
        """`reconstruct` in parts, where the method makes its images so: yields after each but the last.

        Once it has yielded, `frames` are not read any more. `first` is what somebody waits for.
        """
        if not reconstructible(self.measurement, records):
            return None
        began = time.perf_counter()
        with torch.inference_mode():
            chosen, present, measured = self._measured(frames, records)
        paused = 0.0
        if isinstance(self.method, PartByPart):
            parts = self.method.parts(measured.frames, measured.valid, first)
            copied = False
            while True:
                try:
                    part = next(parts)
                except StopIteration as end:
                    made: Reconstruction = end.value
                    break
                if not copied:
                    # The caller's buffer may take the next slot meanwhile.
                    chosen, copied = chosen.copy(), True
                left = time.perf_counter()
                yield Progress(part.done, part.of, part.region_done, partial(_on_host, part.images))
                paused += time.perf_counter() - left
        else:
            with torch.inference_mode():
                made = self.method(measured.frames[None], measured.valid[None])
        with torch.inference_mode():
            out, quality = self._judged(made, chosen, present, measured)
        return SlotResult(out, {**quality, "seconds": time.perf_counter() - began - paused})

    def _judged(
        self,
        made: Reconstruction,
        chosen: NDArray[np.unsignedinteger],
        present: NDArray[np.bool_],
        measured: Corrected,
    ) -> tuple[NDArray[np.float32], dict[str, float]]:
        """The images of a slot, on the host, and their quality."""
        images = made.images
        if tuple(images.shape) != (1, *self._image_shape):
            raise MethodError(
                f"method {self._name} gave images of shape {tuple(images.shape)}, not "
                f"{(1, *self._image_shape)}",
                "its measurement and its reconstruction must agree: repair the method",
            )
        images = images[0].to(torch.float32)
        if not bool(torch.isfinite(images).all()):
            raise SlotError(
                f"method {self._name} gave NaN or infinite pixels",
                "look at the frames, and at reconstruction.settings and weights",
            )
        fetched = self._copies.fetch(images)
        predicted = None if made.predicted is None else made.predicted[0]
        quality = self._quality(chosen, present, measured, images, predicted)
        return fetched(), quality

    @torch.inference_mode()
    def measured(
        self, frames: NDArray[np.unsignedinteger], records: NDArray[np.void]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The measurement of a slot as the method gets it: frames and which pixels are valid, ``[K, Y, X]``."""
        corrected = self._measured(frames, records)[2]
        return corrected.frames, corrected.valid

    @torch.inference_mode()
    def judge(
        self,
        frames: NDArray[np.unsignedinteger],
        records: NDArray[np.void],
        images: NDArray[np.float32],
    ) -> dict[str, float]:
        """The quality, as of `reconstruct`, of given images ``[C, s·Y, s·X]`` of a slot, wherever they are from."""
        chosen, present, measured = self._measured(frames, records)
        return self._quality(
            chosen, present, measured, torch.from_numpy(images).to(self.device, torch.float32)
        )

    def _measured(
        self, frames: NDArray[np.unsignedinteger], records: NDArray[np.void]
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.bool_], Corrected]:
        """The measurement's frames, raw, which of them are there, and corrected."""
        present = records["status"][self._frames] == FrameStatus.WRITTEN
        chosen, sent = self._copies.send(frames, self._frames)
        return chosen, present, self._correction.correct(sent, present)

    def _quality(
        self,
        raw: NDArray[np.unsignedinteger],
        present: NDArray[np.bool_],
        measured: Corrected,
        images: torch.Tensor,
        predicted: torch.Tensor | None = None,
    ) -> dict[str, float]:
        agreement = self._check(measured, images, self._check.window(raw), predicted)
        return {
            "residual": float(agreement.residual[0]),
            "unexplained": float(agreement.unexplained[0]),
            "alarm": alarm(self._signs(raw[present], measured, present, agreement)),
            "scale_uncertainty": self._scale_uncertainty,
            "valid_share": float(measured.valid.float().mean()),
            "uncalibrated": self._uncalibrated,
        }

    def _signs(
        self,
        raw: NDArray[np.unsignedinteger],
        measured: Corrected,
        present: NDArray[np.bool_],
        agreement: Agreement,
    ) -> Signs:
        """What speaks against an image, in figures; `raw` are the frames that are there."""
        there = torch.from_numpy(present).to(self.device)
        usable, valid = self._usable[there], measured.valid[there]
        filled = fill_invalid(measured.frames[None], measured.valid[None])[0]
        return Signs(
            unexplained=float(agreement.unexplained[0]),
            worst_block=float(agreement.worst_block[0]),
            saturated=max(1 - float(valid.sum() / usable.sum()), piled_up(raw)),
            skewness=contrast_skewness(filled, self._z_um, self._pixel_um),
        )


def reconstructible(measurement: Measurement, records: NDArray[np.void]) -> bool:
    """Whether a slot with these records ``[K]`` has the frames that the method needs."""
    present = records["status"][list(measurement.frames)] == FrameStatus.WRITTEN
    return bool(present.any() if measurement.accepts_gaps else present.all())


def defocus_of_brightfield(
    experiment: Experiment, calibration: Calibration, measurement: Measurement
) -> list[float]:
    """True z of each frame of a measurement under a condenser, µm; 0 under single LEDs, whose light is oblique."""
    foci = experiment.sequence.foci_um
    if not isinstance(experiment.illumination, Condenser):
        return [0.0] * len(measurement.frames)
    nominal = [foci[k % len(foci)] for k in measurement.frames]
    return [calibration.true_focus_um(z) if z else 0.0 for z in nominal]


def not_reconstructed(key: SlotKey) -> str:
    """How a log says so; the reason follows."""
    return f"timepoint {key.timepoint}, position {key.position} is not reconstructed"
