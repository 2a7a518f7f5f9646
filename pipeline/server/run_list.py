"""The runs of a home, for the list and for looking into one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import LivephaseError, StoreError
from pipeline.server.home import Home
from pipeline.server.models import RunDetails, RunSummary, StoredImages
from pipeline.server.pictures import Pictures
from pipeline.store.layout import image_path, open_layout
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
    phase_shape, outputs, levels = None, [], 0
    try:
        layout = open_layout(folder.phase_store, experiment)
        phase_shape, levels = list(layout.level_shapes[0]), len(layout.level_shapes)
        outputs = _outputs(image_path(folder.phase_store, plan, 0), layout.shape[1])
    except StoreError:
        pass  # frames were only recorded, or it has just begun
    return RunDetails(
        **_summary(folder),
        positions=[p.name for p in plan.positions],
        channels=[c.name for c in plan.channels],
        foci_um=list(plan.foci_um),
        raw_shape=list(plan.frame_shape),
        phase_shape=phase_shape,
        outputs=outputs,
        levels=levels,
        pixel_um=experiment.pixel_um,
        stored=StoredImages(**pictures.stored(name)),
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
    experiment, state = folder.experiment(), folder.state()
    report = _report(folder)
    return {
        "name": folder.path.name,
        "experiment": experiment.name,
        "method": experiment.reconstruction.method,
        "state": state.value,
        "created_utc": folder.info().get("created_utc"),
        "timepoints": experiment.sequence.timepoints,
        "frames_planned": experiment.plan().frames,
        "frames_written": report.get("written"),
        "frames_missing": report.get("missing"),
        "reconstructed": report.get("reconstructed"),
        "has_report": folder.report_html.is_file(),
        "can_resume": state in _RESUMABLE and "source" not in folder.info(),
    }


def _report(folder: RunFolder) -> dict[str, Any]:
    try:
        report = json.loads(folder.report_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _outputs(image: Path, count: int) -> list[str]:
    """Names of the reconstruction's images, as the store has them."""
    metadata = json.loads((image / "zarr.json").read_text(encoding="utf-8"))
    names = [str(c["label"]) for c in metadata["attributes"]["ome"]["omero"]["channels"]]
    if len(names) != count:
        raise StoreError(f"{image} names {len(names)} images and holds {count}", "")
    return names
