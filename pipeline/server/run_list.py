"""The runs of a home, for the list and for looking into one."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import LivephaseError, StoreError
from pipeline.server.home import Home
from pipeline.server.models import RunDetails, RunSummary, StoredImages
from pipeline.server.pictures import Pictures, ranges
from pipeline.store.run_folder import RunFolder, RunState

_RESUMABLE = (RunState.INTERRUPTED, RunState.STOPPED, RunState.FAILED)
# Of the end of a log.
_MOST_LOG_BYTES = 500_000


def list_runs(home: Home) -> list[RunSummary]:
    """All that can be read, the newest first."""
    found = []
    for name in home.run_names():
        try:
            found.append(RunSummary(**_summary(RunFolder(home.runs / name))))
        except LivephaseError:
            continue  # its experiment was changed by hand
    return found


def run_details(home: Home, pictures: Pictures, name: str) -> RunDetails:
    """One of them. Raises `RunFolderError` if there is none."""
    folder = home.run(name)
    experiment = folder.experiment()
    plan = experiment.plan()
    shape, outputs, levels = None, [], 0
    with pictures.reading(name) as reader:
        reader.poll()
        stored = StoredImages(raw=ranges(reader.committed()), phase=ranges(reader.reconstructed()))
        pixel_um = experiment.pixel_um
        with suppress(StoreError):  # it has just begun
            pixel_um = reader.raw_pixel_um()
        with suppress(StoreError):  # or frames were only recorded
            layout = reader.phase_layout()
            shape, levels = list(layout.level_shapes[0]), len(layout.level_shapes)
            outputs = list(reader.outputs())
    return RunDetails(
        **_summary(folder),
        positions=[p.name for p in plan.positions],
        channels=[c.name for c in plan.channels],
        foci_um=list(plan.foci_um),
        raw_shape=list(plan.frame_shape),
        phase_shape=shape,
        outputs=outputs,
        levels=levels,
        pixel_um=pixel_um,
        stored=stored,
    )


def log_lines(folder: RunFolder, most: int) -> list[dict[str, Any]]:
    """The last lines of a run's log."""
    try:
        with folder.log.open("rb") as file:
            file.seek(max(0, folder.log.stat().st_size - _MOST_LOG_BYTES))
            text = file.read()
    except OSError:
        return []
    lines = []
    for line in text.split(b"\n")[-most - 1 :]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off, at the beginning or by a kill
        if isinstance(entry, dict):
            lines.append(entry)
    return lines[-most:]


def _summary(folder: RunFolder) -> dict[str, Any]:
    state, report = folder.state(), _report(folder)
    return {
        **_planned(folder.path, folder.experiment_file.stat().st_mtime_ns),
        "name": folder.path.name,
        "state": state.value,
        "created_utc": folder.info().get("created_utc"),
        "frames_written": report.get("written"),
        "frames_missing": report.get("missing"),
        "reconstructed": report.get("reconstructed"),
        "has_report": folder.report_html.is_file(),
        "can_resume": state in _RESUMABLE and "source" not in folder.info(),
    }


@lru_cache(maxsize=4096)
def _planned(run: Path, written_ns: int) -> dict[str, Any]:  # noqa: ARG001 - another time, another file
    """Of the experiment, which stays as it is: hundreds of them are not read for each list."""
    experiment = RunFolder(run).experiment()
    return {
        "experiment": experiment.name,
        "method": experiment.reconstruction.method,
        "timepoints": experiment.sequence.timepoints,
        "frames_planned": experiment.plan().frames,
    }


def _report(folder: RunFolder) -> dict[str, Any]:
    try:
        report = json.loads(folder.report_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
