"""What a run amounts to: `report.json` for programs, `report.html` for people.

Frames are counted from the ledgers, never from telemetry: the report is true of what is on the disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.calibration import Calibration
from pipeline.durable import replace_file
from pipeline.experiment import Experiment
from pipeline.frames import FrameStatus
from pipeline.lifecycle.report_calibration import calibration_line, calibration_report
from pipeline.lifecycle.report_control import control_line, control_report
from pipeline.lifecycle.report_light import light_line, light_report
from pipeline.lifecycle.report_page import figure, report_page
from pipeline.lifecycle.report_trust import (
    TRUST_FIELDS,
    finite,
    quantile,
    trust_lines,
    trust_report,
)
from pipeline.lifecycle.sessions import Session, read_sessions
from pipeline.store.frame_counts import count_frames
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder, RunState

_PHASE_FIELDS = ("latency_s", "seconds", *TRUST_FIELDS)


def write_report(folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """Count, measure, write both reports; the JSON one is returned."""
    reader = RunReader(folder.path)
    report = _figures(folder, experiment, reader)
    replace_file(folder.report_json, (json.dumps(report, indent=2) + "\n").encode())
    replace_file(folder.report_html, report_page(folder, experiment, reader, report).encode())
    return report


def _figures(folder: RunFolder, experiment: Experiment, reader: RunReader) -> dict[str, Any]:
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
        "uncalibrated": calibration["missing"],
        "calibration": calibration,
        "versions": folder.info().get("versions", {}),
    }
    report |= {"control": control} if (control := control_report(folder)) else {}
    if experiment.microscope.driver == "simulator" and done.any():
        from pipeline.lifecycle.truth import quality_against_truth  # noqa: PLC0415 - imports the simulator

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


def report_text(folder: Path, state: RunState, report: dict[str, Any]) -> str:
    """The report in a few lines, for the terminal."""
    lines = [
        f"run {state.value}: {folder}",
        f"  frames   planned {report['planned']}  written {report['written']}  missing {report['missing']}"
        + (f"  pending {report['pending']}" if report["pending"] else "")
        + (f"  taken again {report['reacquired']}" if report["reacquired"] else ""),
    ]
    if report["reconstructed"]:
        p50, p99 = report["latency_ms"]["p50"], report["latency_ms"]["p99"]
        latency = f"  latency {p50:.0f} ms (p99 {p99:.0f} ms)" if p50 is not None else ""
        first = report["first_result_s"]
        after = f", the first after {first:.1f} s" if first is not None else ""
        lines.append(f"  phase    {report['reconstructed']} images{after}{latency}")
    quality = report.get("quality")
    if quality:
        lines.append(
            f"  quality  SSIM {figure(quality['ssim'], '.3f')}  "
            f"PSNR {figure(quality['psnr_db'], '.1f', ' dB')}  "
            f"RMSE {figure(quality['rmse_rad'], '.3f', ' rad')} against the simulator's truth"
        )
    lines += [f"  {line}" for line in trust_lines(report)]
    lines.append(f"  light    {light_line(report)}")
    lines += [f"  control  {line}"] if (line := control_line(report)) else []
    lines.append(f"  calibration {calibration_line(report['calibration'])}")
    lines.append(f"  report   {folder / 'report.html'}")
    return "\n".join(lines)
