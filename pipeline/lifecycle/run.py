"""A run from the outside: begin it or go on with it, and say how it ended."""

from __future__ import annotations

import logging
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.calibration import Calibration
from pipeline.errors import LivephaseError, RunFolderError
from pipeline.experiment import Experiment, load_experiment
from pipeline.frames import FrameStatus
from pipeline.instrument import resolve_calibration, resolve_exposures
from pipeline.lifecycle.care import first_residuals
from pipeline.lifecycle.light_off import make_dark_before_all
from pipeline.lifecycle.lost_light import light_dose_s
from pipeline.lifecycle.machine import machine
from pipeline.lifecycle.preflight import (
    Estimate,
    check_calibration,
    check_disk,
    chosen_measurement,
    estimate,
    ring_slots,
    shard_timepoints,
)
from pipeline.lifecycle.progress import ProgressDisplay, progress_display
from pipeline.lifecycle.sessions import begin_session, close_session, read_sessions, reclaim
from pipeline.lifecycle.signals import stop_signals
from pipeline.lifecycle.supervisor import Outcome, SharedNames, Supervisor
from pipeline.log import log_to, stop_logging
from pipeline.stages.stage_lock import wait_for_stages
from pipeline.store.failures import write_failure
from pipeline.store.frame_table import export_frame_table, trim_time_axis
from pipeline.store.layout import (
    create_phase,
    create_raw,
    open_layout,
    remove_stale_locks,
    set_timepoints,
)
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.telemetry import Telemetry, serve_metrics

log = logging.getLogger("livephase")


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its folder, its state, its report, and the error if there was one."""

    folder: Path
    state: RunState
    report: dict[str, Any]
    error: LivephaseError | None = None

    def text(self) -> str:
        """For a person."""
        from pipeline.lifecycle.report import report_text  # noqa: PLC0415 - see _report

        return report_text(self.folder, self.state, self.report)


def run_experiment(
    experiment: Experiment | Path | str,
    out: Path | str,
    *,
    resume: bool = False,
    even_aborted: bool = False,
    write_truth: bool = False,
    started_utc: float | None = None,
) -> RunResult:
    """Run an experiment, live, to its end.

    Parameters
    ----------
    experiment
        An experiment or the path of its file.
    out
        The run folder; new, unless `resume`.
    resume
        Go on with a run that was stopped, killed or failed. Starts it where the folder is absent; does
        nothing where it is done.
    even_aborted
        With `resume`: also go on with a run that was aborted.
    write_truth
        Store the simulator's ground truth beside the frames.
    started_utc
        From when the first result is counted; this call's own time if not given.

    Raises
    ------
    LivephaseError
        Before anything moves: with the cause and the fix. What goes wrong later is in the result's `error`.
    """
    began = time.time() if started_utc is None else started_utc
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(Path(experiment))
    # Before any comparison: the run folder keeps the exposures that were meant.
    experiment = resolve_exposures(experiment)
    folder = RunFolder(Path(out))
    make_dark_before_all(folder)
    if folder.is_run():
        # Before the preflight: what is done needs neither microscope nor recording any more.
        done = _may_resume(folder, experiment, resume=resume, even_aborted=even_aborted)
        if done is not None:
            return done
    need = estimate(experiment, folder.path)
    with folder.lock():
        continued = folder.is_run()
        if continued:
            wait_for_stages(folder.path)
            reclaim(folder)
        else:
            calibration = resolve_calibration(experiment)
            check_calibration(experiment, calibration)
            check_disk(need)
            _create(folder, experiment, calibration)
        handler = log_to(folder.log, "supervisor")
        try:
            return _session(folder, experiment, need, began, continued, write_truth)
        finally:
            stop_logging(handler)


def _create(folder: RunFolder, experiment: Experiment, calibration: Calibration) -> None:
    """Make the folder a run. What makes it one comes last: a creation that is cut short is begun anew."""
    measurement = chosen_measurement(experiment)
    names = ("livephase", "numpy", "torch", "tensorstore", "zarr")
    folder.update(
        RunState.RUNNING,
        created_utc=time.time(),
        versions={name: version(name) for name in names} | {"python": platform.python_version()},
        machine=machine(),
        weights_sha256=None if measurement is None else measurement.weights_sha256,
    )
    calibration.save(folder.calibration)
    folder.create(experiment)


def _may_resume(
    folder: RunFolder, experiment: Experiment, *, resume: bool, even_aborted: bool
) -> RunResult | None:
    """Refuse what must not go on; the result of what is done already; None where the run goes on."""
    if not resume:
        raise RunFolderError(
            f"{folder.path} holds a run already",
            "add --resume to go on with it, or give another folder as --out",
        )
    info = folder.info()
    if "source" in info:
        raise RunFolderError(
            f"{folder.path} is the reconstruction of a recording ({info['source']})",
            "`livephase reconstruct` with the same recording goes on with it",
        )
    begun = folder.experiment()
    if begun.fingerprint() != experiment.fingerprint():
        same_light = experiment.model_copy(update={"illumination": begun.illumination})
        raise RunFolderError(
            f"the exposures have changed since the run in {folder.path} was begun"
            if begun.fingerprint() == same_light.fingerprint()
            else f"{folder.path} holds the run of another experiment",
            f"resume with {folder.experiment_file}, or give another folder as --out",
        )
    state = folder.state()
    if state is RunState.RUNNING:
        return None  # the lock will say who has it
    measurement = chosen_measurement(experiment)
    weights = None if measurement is None else measurement.weights_sha256
    if weights != info.get("weights_sha256"):
        raise RunFolderError(
            f"the weights of {experiment.reconstruction.method} are not those that {folder.path} was begun with",
            "put the first ones back, or reconstruct the run into a new folder with `livephase reconstruct`",
        )
    if state is RunState.ABORTED and not even_aborted:
        raise RunFolderError(
            f"the run in {folder.path} was aborted",
            "add --even-aborted to go on with it all the same",
        )
    if state is RunState.DONE and not _backlog(experiment, RunReader(folder.path)):
        # A session that was killed in its very last moment left these to us.
        trim_time_axis(folder)
        export_frame_table(folder)
        return RunResult(folder.path, state, _report(folder, experiment))
    return None


def _report(folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """Write the reports."""
    # Not before the run is over: matplotlib takes a second, on a new machine many, that the first frame need not wait.
    from pipeline.lifecycle.report import write_report  # noqa: PLC0415

    return write_report(folder, experiment)


def _is_complete(folder: RunFolder, experiment: Experiment) -> bool:
    """Whether every planned slot is stored, and reconstructed as far as it can be."""
    reader = RunReader(folder.path)
    return bool(reader.committed().all()) and not _backlog(experiment, reader)


def _backlog(experiment: Experiment, reader: RunReader) -> int:
    """Recorded slots that the method can reconstruct and has not."""
    measurement = chosen_measurement(experiment)
    if measurement is None:
        return 0
    frames = reader.raw_records.last("frames")[..., list(measurement.frames)]
    written = frames["status"] == FrameStatus.WRITTEN
    enough = written.any(axis=-1) if measurement.accepts_gaps else written.all(axis=-1)
    return int((reader.committed() & enough & ~reader.reconstructed() & ~reader.skipped()).sum())


def _session(
    folder: RunFolder,
    experiment: Experiment,
    need: Estimate,
    began: float,
    continued: bool,
    write_truth: bool,
) -> RunResult:
    plan = experiment.plan()
    measurement = chosen_measurement(experiment)
    calibration = Calibration.load(folder.calibration)
    pixel_um = calibration.pixel_um or experiment.pixel_um
    create_raw(folder.raw_store, experiment, pixel_um, shard_timepoints(experiment))
    if measurement is not None:
        create_phase(
            folder.phase_store, experiment, measurement.outputs, measurement.upsampling, pixel_um
        )
    if continued:
        for store in (folder.raw_store, folder.phase_store):
            remove_stale_locks(store)
            set_timepoints(store, experiment, plan.timepoints)
    reader = RunReader(folder.path)
    committed = reader.committed()
    reconstructed = int(reader.reconstructed().sum())
    todo = tuple(key for key in plan.slot_keys() if not committed[key])
    if continued:
        check_disk(need, committed_share=float(committed.mean()))
    remarks = [*need.warnings, *check_calibration(experiment, calibration)]
    for remark in remarks:
        log.warning(remark)
    slots = ring_slots(experiment, open_layout(folder.raw_store, experiment).timepoints_per_shard)
    names = SharedNames.new()
    delivered = sum(s.acquired or 0 for s in read_sessions(folder))
    stored = int((reader.raw_records.last("frames")["status"] == FrameStatus.WRITTEN).sum())
    begin_session(folder, began, names, todo)
    with (
        stop_signals() as signals,
        progress_display(
            plan,
            len(todo) * plan.frames_per_slot,
            reconstructed,
            reconstructs=measurement is not None,
        ) as progress,
        ExitStack() as serving,
    ):
        for remark in remarks:
            progress.message(remark)
        supervisor = Supervisor(
            folder,
            experiment,
            measurement,
            slots,
            todo,
            max(0, delivered - stored),
            light_dose_s(reader),
            names,
            signals,
            progress,
            first_residuals(reader),
        )
        try:
            outcome = supervisor.run(
                on_telemetry=lambda telemetry: _serve(experiment, telemetry, serving, progress)
            )
        except LivephaseError as error:
            close_session(folder, Outcome(RunState.FAILED, error))
            folder.update(RunState.FAILED)
            raise
    if outcome.state is RunState.STOPPED and _is_complete(folder, experiment):
        # Told to stop when there was nothing left to stop.
        outcome = replace(outcome, state=RunState.DONE)
    try:
        report = _close(folder, experiment, outcome, write_truth)
    except (LivephaseError, OSError) as error:
        # A full disk ends the run and then refuses the bookkeeping too: the first reason is the one to tell.
        raise outcome.error or write_failure(folder.path, error) from error
    return RunResult(folder.path, outcome.state, report, outcome.error)


def _close(
    folder: RunFolder, experiment: Experiment, outcome: Outcome, write_truth: bool
) -> dict[str, Any]:
    """Put the folder in order after a session; the report."""
    close_session(folder, outcome)
    trim_time_axis(folder)
    if write_truth:
        from pipeline.lifecycle.truth import store_truth  # noqa: PLC0415 - only the simulator has it

        store_truth(folder, experiment)
    # The state comes after everything that it vouches for.
    folder.update(outcome.state)
    export_frame_table(folder)
    return _report(folder, experiment)


def _serve(
    experiment: Experiment, telemetry: Telemetry, serving: ExitStack, progress: ProgressDisplay
) -> None:
    """Let Prometheus look at the run, if the experiment asks for it."""
    if experiment.output.prometheus_port is None:
        return
    server, port = serve_metrics(telemetry, experiment.output.prometheus_port)
    serving.callback(server.server_close)
    serving.callback(server.shutdown)
    progress.message(f"metrics on http://127.0.0.1:{port}/metrics")
