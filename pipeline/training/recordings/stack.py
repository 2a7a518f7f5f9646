"""A recording of several foci: its frames by slot, corrected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.recordings import find_source, is_run_folder, open_recording
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, ReplayMicroscope, load_experiment
from pipeline.frames import FrameKey, SlotKey
from pipeline.instrument import resolve_calibration
from pipeline.methods.dl_srqpi.method import check_light
from pipeline.methods.tie import Tie
from pipeline.optics.sensor import Correction
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder


class Stack:
    """A through-focus recording, for one channel's foci.

    Parameters
    ----------
    path
        A run folder; or an experiment file whose microscope is a replay, for a TIFF, .npy or OME-Zarr
        with all foci of each slot.

    Attributes
    ----------
    experiment, calibration
        The run's own, or the experiment file's.
    true_foci_um
        ``[K]`` where the planes in focus really lie, in the order of `sequence.foci_um`.

    Raises
    ------
    ExperimentError
        If there is one focus, the light is not a condenser's, or the recording is not what the experiment says.
    DriverError, StoreError, RunFolderError
        If it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = find_source(path)
        self.experiment, self.calibration, source = _describe(self.path)
        check_light(self.experiment)
        self.frames = Tie().measurement(self.experiment).frames
        foci = self.experiment.sequence.foci_um
        self.true_foci_um = np.array([self.calibration.true_focus_um(z) for z in foci])
        if not self.true_foci_um.min() < 0 < self.true_foci_um.max():
            raise ExperimentError(
                f"the foci of {self.path.name} all lie on one side of the specimen: {list(foci)}",
                "record foci on both sides, such as foci_um: [-6, -3, -2, -1, 0, 1, 2, 3, 4, 6]",
            )
        self.pixel_um = self.calibration.pixel_um or self.experiment.pixel_um
        self._correct = Correction(self.experiment, self.calibration, self.frames)
        self._recording = open_recording(source, self.experiment)

    def slots(self) -> Iterator[SlotKey]:
        """All planned ones, position by position."""
        plan = self._recording.plan
        for position in range(len(plan.positions)):
            for timepoint in range(plan.timepoints):
                yield SlotKey(timepoint, position)

    def frames_of(self, slot: SlotKey) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Corrected frames and valid pixels, ``[K, Y, X]`` each; None where one is missing."""
        foci = len(self.true_foci_um)
        raw = [
            self._recording.frame(FrameKey(slot.timepoint, slot.position, *divmod(k, foci)))
            for k in self.frames
        ]
        there: list[NDArray[np.unsignedinteger]] = [frame for frame in raw if frame is not None]
        if len(there) < len(raw):
            return None
        return self._correct(np.stack(there), np.ones(len(there), bool))

    def close(self) -> None:
        """Let the recording's files go."""
        self._recording.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _describe(path: Path) -> tuple[Experiment, Calibration, Path | str]:
    """Experiment, calibration, and where the frames are."""
    if is_run_folder(path):
        calibration = Calibration.load(RunFolder(path).calibration)
        with RunReader(path) as run:
            recorded = np.flatnonzero(run.committed().any(axis=1))
            experiment = run.experiment
        if not recorded.size:
            raise ExperimentError(f"{path} holds no recorded slot", "give a run with frames")
        # A run that was stopped has fewer than it planned.
        return _for_tie(experiment, int(recorded[-1]) + 1), calibration, path
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ExperimentError(
            f"{path.name} alone does not say how it was recorded",
            "give a run folder, or an experiment file with `microscope: {driver: replay, source: ...}`",
        )
    experiment = load_experiment(path)
    if not isinstance(experiment.microscope, ReplayMicroscope):
        raise ExperimentError(
            f"{path.name} is an experiment, but no recording",
            "record it and give the run folder, or set microscope.driver: replay with its source",
        )
    calibration = resolve_calibration(experiment)
    source = experiment.microscope.source
    return _for_tie(experiment, experiment.sequence.timepoints), calibration, source


def _for_tie(experiment: Experiment, timepoints: int) -> Experiment:
    """The experiment as `tie` takes it: another method's settings would be refused."""
    plain = experiment.reconstruction.model_copy(
        update={"method": "tie", "settings": {}, "weights": None}
    )
    sequence = experiment.sequence.model_copy(update={"timepoints": timepoints})
    return experiment.model_copy(update={"reconstruction": plain, "sequence": sequence})
