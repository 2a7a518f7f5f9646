"""The figures of a run, from its ledgers, its sessions and its images."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.calibration import Calibration
from pipeline.errors import StoreError
from pipeline.experiment import Experiment
from pipeline.frames import FrameStatus
from pipeline.lifecycle.care import care_report
from pipeline.lifecycle.report.about import provenance
from pipeline.lifecycle.report.calibration import calibration_report
from pipeline.lifecycle.report.control import control_report
from pipeline.lifecycle.report.light import light_report
from pipeline.lifecycle.report.trust import TRUST_FIELDS, finite, quantile, trust_report
from pipeline.lifecycle.sessions import Session, read_sessions
from pipeline.store.frame_counts import count_frames
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder

_PHASE_FIELDS = ("latency_s", "seconds", *TRUST_FIELDS)


def report_figures(folder: RunFolder, experiment: Experiment, reader: RunReader) -> dict[str, Any]:
    """Count and measure; what goes into `report.json`."""
    plan = experiment.plan()
    sessions = read_sessions(folder)
    state = folder.state()
    frames = reader.raw_records.last("frames")[reader.committed()]
    counts = count_frames(frames, plan.frames, cut_short=state.cut_short)
    done = reader.reconstructed()
    phase = {name: reader.phase_records.last(name)[done] for name in _PHASE_FIELDS}
    # A recording need not know when its frames were taken.
    times = np.sort(finite(frames["time_utc"][frames["status"] == FrameStatus.WRITTEN]))
    calibration = calibration_report(
        experiment,
        Calibration.load(folder.calibration),
        sessions[0].began_utc if sessions else None,
    )
    # A session whose counters were lost with the machine delivered at least what it stored.
    acquired = max(sum(s.acquired or 0 for s in sessions), counts.written)
    duration = float(times[-1] - times[0]) if len(times) > 1 else 0.0
    latencies = finite(phase["latency_s"]) * 1e3
    report: dict[str, Any] = {
        "name": experiment.name,
        "method": experiment.reconstruction.method,
        "state": state.value,
        "planned": plan.frames,
        "acquired": acquired,
        "written": counts.written,
        "missing": counts.missing,
        "missing_by_reason": counts.missing_by_reason,
        "pending": counts.pending,
        "reacquired": acquired - counts.written,
        "reconstructed": int(done.sum()),
        "fps": round((len(times) - 1) / duration, 3) if duration else None,
        "first_result_s": _first_result_s(sessions, reader),
        "latency_ms": {
            "p50": quantile(latencies, 0.5),
            "p99": quantile(latencies, 0.99),
        },
        "stages": {
            "sessions": [
                {"state": s.state, "seconds": _seconds(s), "restarts": s.restarts, "error": s.error}
                for s in sessions
            ],
            "reconstruct_s": {
                "p50": quantile(finite(phase["seconds"]), 0.5),
                "p99": quantile(finite(phase["seconds"]), 0.99),
            },
        },
        **trust_report(phase),
        **light_report(reader, sessions),
        "care": care_report(folder.path),
        "uncalibrated": calibration["missing"],
        "calibration": calibration,
        **provenance(folder, experiment),
    }
    report |= {"control": control} if (control := control_report(folder)) else {}
    if experiment.microscope.driver == "simulator" and done.any():
        from pipeline.lifecycle.truth import quality_against_truth  # noqa: PLC0415 - imports the simulator

        # The images may have been moved away since; the ledgers are enough for the rest.
        with suppress(StoreError):
            report["quality"] = quality_against_truth(experiment, reader)
    return report


def _first_result_s(sessions: list[Session], reader: RunReader) -> float | None:
    """From the start of the first process until the first phase image was there to be seen.

    That is its slot's last frame and the latency from there; of a slot that was reconstructed
    later, or whose frames are a recording's and bear its times, the time at which it was committed.
    """
    done = reader.reconstructed()
    if not sessions or not done.any():
        return None
    frames = reader.raw_records.last("frames")[done]
    last_frame = np.max(
        frames["time_utc"], axis=1, initial=-np.inf, where=frames["status"] == FrameStatus.WRITTEN
    )
    seen = last_frame + reader.phase_records.last("latency_s")[done]
    committed = reader.phase_records.last("time_utc")[done]
    began = sessions[0].process_start_utc
    live = np.isfinite(seen) & (last_frame >= began) & (seen <= committed)
    first = np.where(live, seen, committed).min()
    # The computer's clock may have been set back meanwhile.
    return max(0.0, round(float(first) - began, 3))


def _seconds(session: Session) -> float | None:
    return None if session.ended_utc is None else round(session.ended_utc - session.began_utc, 3)
