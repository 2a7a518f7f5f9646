"""Find a recording and open it with the reader that its format needs."""

from __future__ import annotations

import os
from pathlib import Path

from drivers.recordings.planned import PlannedRecording
from drivers.recordings.recording import Recording
from pipeline.errors import DriverError
from pipeline.experiment import Experiment, ReplayMicroscope
from pipeline.store.run_folder import RunFolder

DATA_VARIABLE = "LIVEPHASE_DATA"
_TIFF = {".tif", ".tiff", ".btf", ".tf8"}


def find_source(source: str | Path) -> Path:
    """The path as given, else inside the folder that ``$LIVEPHASE_DATA`` names.

    Raises
    ------
    DriverError
        Saying where it looked.
    """
    path = Path(source).expanduser()
    looked = [path]
    data = os.environ.get(DATA_VARIABLE)
    if data and not path.is_absolute():
        looked.append(Path(data).expanduser() / path)
    for candidate in looked:
        if candidate.exists():
            return candidate.resolve()
    fix = (
        "correct the path"
        if data
        else f"correct the path, or set {DATA_VARIABLE} to the folder of your data"
    )
    raise DriverError(
        f"there is no recording {' or '.join(str(p.absolute()) for p in looked)}", fix
    )


def open_recording(source: str | Path, experiment: Experiment) -> PlannedRecording:
    """Open a run folder, OME-Zarr, TIFF, .npy or .mat, matched to the experiment's plan.

    It loops if the experiment's microscope is a replay that says so.

    Raises
    ------
    DriverError, StoreError, RunFolderError
        If it is not there or can't be read.
    ExperimentError
        If it can't be what the experiment describes; with the fix.
    """
    path = find_source(source)
    microscope = experiment.microscope
    loop = isinstance(microscope, ReplayMicroscope) and microscope.loop
    recording = _open(path, experiment, loop)
    try:
        return PlannedRecording(recording, experiment, loop)
    except BaseException:
        recording.close()
        raise


def is_run_folder(path: Path) -> bool:
    """Whether a folder is a livephase run."""
    return RunFolder(path).is_run()


def _open(path: Path, experiment: Experiment, loop: bool) -> Recording:
    # A reader is imported where it is needed: each brings a library that the others do without.
    if path.is_dir():
        # A run's raw store, without the ledger beside it, would show lost frames as black ones.
        run = path.parent if path.name == "raw.ome.zarr" else path
        if is_run_folder(run):
            from drivers.recordings.run_folder import RunRecording  # noqa: PLC0415

            return RunRecording(run)
        from drivers.recordings.ome_zarr import OmeZarrRecording, is_zarr  # noqa: PLC0415

        if is_zarr(path):
            return OmeZarrRecording(path)
        raise DriverError(
            f"{path} is a folder, but neither a run nor an OME-Zarr",
            "give a run folder, an OME-Zarr, or one TIFF, .npy or .mat file",
        )
    suffix = path.suffix.lower()
    if suffix == ".npy":
        from drivers.recordings.numpy_file import NumpyRecording  # noqa: PLC0415

        return NumpyRecording(path, experiment.plan(), loop)
    if suffix in _TIFF:
        from drivers.recordings.tiff import TiffRecording  # noqa: PLC0415

        return TiffRecording(path, experiment.plan(), loop)
    if suffix == ".mat":
        from drivers.recordings.matlab_leds import MatlabLedRecording  # noqa: PLC0415

        return MatlabLedRecording(path, experiment)
    raise DriverError(
        f"{path} has an unknown format '{path.suffix}'",
        "give a run folder, an OME-Zarr, or a .tif, .npy or .mat file",
    )
