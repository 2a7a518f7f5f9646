"""Reconstruct what is already recorded: the result is a run folder like a live run's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from drivers.recordings import find_source, is_run_folder, open_recording
from drivers.registry import open_driver
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, LivephaseError, RunFolderError
from pipeline.experiment import Experiment, load_experiment
from pipeline.frames import Measurement
from pipeline.instrument import resolve_exposures
from pipeline.lifecycle.machine import machine
from pipeline.lifecycle.preflight import check_calibration, chosen_measurement
from pipeline.log import log_to, stop_logging
from pipeline.reprocess.executors import Executor, Outcome, open_executor
from pipeline.reprocess.ingest import ingest
from pipeline.reprocess.link import link_raw
from pipeline.reprocess.units import Unit, slots_to_do, split_into_units, unit_timepoints
from pipeline.store.frame_table import export_frame_table, trim_time_axis
from pipeline.store.layout import create_phase, open_layout, remove_stale_locks
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder, RunState

log = logging.getLogger("livephase")

Progress = Callable[[str, int, int], None]
_LOOK_S = 1.0


def reconstruct(
    source: Path | str,
    experiment: Experiment | Path | str,
    out: Path | str,
    *,
    method: str | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    workers: int = 1,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Reconstruct a recording into a run folder; run again, it does only what is left.

    The raw frames go into the folder too, so that it holds everything its phase was made from:
    linked where the source is a run on the same disk, else through the writer of a live run.

    Parameters
    ----------
    source
        A run folder, OME-Zarr, TIFF, .npy or .mat; as given or in ``$LIVEPHASE_DATA``.
    experiment
        What the recording is of: optics, light, sequence; or the path of its file.
    out
        The run folder.
    method
        Instead of the experiment's; its settings and weights then are the method's own defaults.
    executor
        ``"local"``: `workers` processes of this machine. ``"dask"``: the workers of the scheduler
        at the address `scheduler`, which see the same file system.
    on_progress
        Called with ``("read" or "reconstructed", slots so far, slots in all)``, also from another
        thread.

    Returns
    -------
    dict
        The run's report (``report.json``), and as ``this_time`` the slots that this call read and
        reconstructed.

    Raises
    ------
    LivephaseError
        With the cause and the fix. What was committed stays, and the same call goes on from there.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(Path(experiment))
    experiment = resolve_exposures(experiment)
    experiment = _with_method(experiment, method)
    measurement = chosen_measurement(experiment)
    if measurement is None:
        raise ExperimentError(
            "the experiment names no reconstruction method",
            "set reconstruction.method, or give --method",
        )
    found = find_source(source)
    folder = RunFolder(Path(out))
    if found == folder.path.resolve():
        raise RunFolderError(f"{out} is the recording itself", "give a new folder as --out")
    with open_executor(executor, scheduler, workers) as crew, folder.lock():
        _begin(folder, experiment, found)
        handler = log_to(folder.log, "reprocess")
        try:
            return _work(folder, experiment, measurement, found, crew, on_progress or _say_nothing)
        except LivephaseError:
            folder.update(RunState.FAILED)
            raise
        finally:
            stop_logging(handler)


def _with_method(experiment: Experiment, method: str | None) -> Experiment:
    settings = experiment.reconstruction
    if method is None or method == settings.method:
        return experiment
    # Settings and weights are of the method they were written for.
    other = settings.model_copy(update={"method": method, "settings": {}, "weights": None})
    return experiment.model_copy(update={"reconstruction": other})


def _begin(folder: RunFolder, experiment: Experiment, source: Path) -> None:
    """Make the run, or check that the one that is there is this one."""
    if folder.is_run():
        same = folder.experiment().fingerprint() == experiment.fingerprint()
        if not same or folder.info().get("source") != str(source):
            raise RunFolderError(
                f"{folder.path} holds another run",
                "give the same recording, experiment and method to go on with it, or a new folder",
            )
        return
    calibration = _calibration(experiment, source)
    measurement = chosen_measurement(experiment)
    for remark in check_calibration(experiment, calibration):
        log.warning(remark)
    # A recording that does not fit leaves nothing behind.
    open_recording(source, experiment).close()
    # What makes the folder a run comes last: one that was cut short here is begun anew.
    folder.update(
        RunState.RUNNING,
        source=str(source),
        created_utc=time.time(),
        versions={name: version(name) for name in ("livephase", "numpy", "torch", "tensorstore")},
        machine=machine(),
        weights_sha256=None if measurement is None else measurement.weights_sha256,
    )
    calibration.save(folder.calibration)
    folder.create(experiment)


def _calibration(experiment: Experiment, source: Path) -> Calibration:
    """What the experiment names; that of its instrument for a run, unless a folder is given."""
    asked = experiment.calibration
    if asked.folder is not None:
        return Calibration.load(Path(asked.folder))
    if is_run_folder(source):
        return Calibration.load(RunFolder(source).calibration)
    if asked.source == "simulator":
        return open_driver(experiment).known_calibration() or Calibration()
    return Calibration()


def _work(
    folder: RunFolder,
    experiment: Experiment,
    measurement: Measurement,
    source: Path,
    crew: Executor,
    say: Progress,
) -> dict[str, Any]:
    # It brings matplotlib, which the workers, who import this package too, don't need.
    from pipeline.lifecycle.report import write_report  # noqa: PLC0415

    folder.update(RunState.RUNNING)
    read = _store_raw(folder, experiment, source, say)
    units = _units(folder, experiment, measurement, crew.workers)
    outcomes = crew.run(folder.path.resolve(), list(units)) if units else iter(())
    with _follow(folder, say):
        done = _collect(outcomes, len(units))
    trim_time_axis(folder)
    export_frame_table(folder)
    folder.update(RunState.DONE)
    report = write_report(folder, experiment)
    return {**report, "this_time": {"read": read, "reconstructed": done}}


def _say_nothing(stage: str, done: int, total: int) -> None:
    pass


def _store_raw(folder: RunFolder, experiment: Experiment, source: Path, say: Progress) -> int:
    """Bring every planned frame into the raw store; returns how many slots that were."""
    plan = experiment.plan()
    before = int(RunReader(folder.path).committed().sum())
    if before == plan.slots:
        return 0
    remove_stale_locks(folder.raw_store)
    calibration = Calibration.load(folder.calibration)
    recording = open_recording(source, experiment)
    try:
        for remark in recording.remarks:
            log.warning(remark)
        if is_run_folder(source) and not recording.repeats:
            link_raw(source, folder, experiment, calibration.pixel_um or experiment.pixel_um)
        done = int(RunReader(folder.path).committed().sum())
        say("read", done, plan.slots)

        def count(slots: int) -> None:
            nonlocal done
            done += slots
            say("read", done, plan.slots)

        ingest(recording, folder, experiment, calibration.pixel_um, count)
    finally:
        recording.close()
    return plan.slots - before


def _units(
    folder: RunFolder, experiment: Experiment, measurement: Measurement, workers: int
) -> dict[Unit, int]:
    """Units with something left to do, and how many slots."""
    plan = experiment.plan()
    reader = RunReader(folder.path)
    pixel_um = Calibration.load(folder.calibration).pixel_um or experiment.pixel_um
    remove_stale_locks(folder.phase_store)
    create_phase(
        folder.phase_store, experiment, measurement.outputs, measurement.upsampling, pixel_um
    )
    # The same units at every call, whatever the workers: two that overlap would write one file.
    timepoints = folder.info().get("unit_timepoints")
    if timepoints is None:
        per_shard = open_layout(folder.raw_store, experiment).timepoints_per_shard
        timepoints = unit_timepoints(plan, per_shard, workers)
        folder.update(unit_timepoints=timepoints)
    left = {u: len(slots_to_do(reader, measurement, u)) for u in split_into_units(plan, timepoints)}
    return {unit: slots for unit, slots in left.items() if slots}


@contextmanager
def _follow(folder: RunFolder, say: Progress) -> Iterator[None]:
    """Say how far the workers are, by what they have committed, until the block ends."""
    reader = RunReader(folder.path)
    over = threading.Event()

    def look() -> None:
        reader.poll()
        say("reconstructed", int(reader.reconstructed().sum()), reader.plan.slots)

    def follow() -> None:
        while not over.wait(_LOOK_S):
            look()

    follower = threading.Thread(target=follow, name="progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()
        look()


def _collect(outcomes: Iterator[Outcome], units: int) -> int:
    """Wait for every unit; returns how many slots were reconstructed.

    Raises
    ------
    LivephaseError
        After the last unit, naming those that failed.
    """
    done = 0
    failed: list[Outcome] = []
    for outcome in outcomes:
        done += outcome.slots
        if outcome.error is not None:
            log.error("%s failed", outcome.unit, exc_info=outcome.error)
            failed.append(outcome)
    if failed:
        first = failed[0]
        raise LivephaseError(
            f"{len(failed)} of {units} units failed, the first at {first.unit}: {first.error}",
            "correct that and run the same command again: what is done is skipped",
        )
    return done
