"""Measurements against a baseline of the same run: ratios, because machines differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ExperimentError
from pipeline.experiment.strict import nearest

_NAMES = ("camera", "dl_srqpi", "neuph", "ring", "service", "stream")


def run_bench(name: str, folder: Path) -> dict[str, Any]:
    """Run a bench by its name: one JSON object, conditions included.

    Parameters
    ----------
    folder
        On the disk to measure, for benches that use one.

    Raises
    ------
    ExperimentError
        If there is no bench of this name.
    """
    # Each bench brings imports that the others do without.
    if name == "camera":
        from pipeline.bench.camera import bench_camera  # noqa: PLC0415

        return bench_camera(folder)
    if name == "dl_srqpi":
        from pipeline.bench.dl_srqpi import bench_dl_srqpi  # noqa: PLC0415

        return bench_dl_srqpi(folder)
    if name == "neuph":
        from pipeline.bench.neuph import bench_neuph  # noqa: PLC0415

        return bench_neuph()
    if name == "ring":
        from pipeline.bench.ring import bench_ring  # noqa: PLC0415

        return bench_ring()
    if name == "service":
        from pipeline.bench.service import bench_service  # noqa: PLC0415

        return bench_service(folder)
    if name == "stream":
        from pipeline.bench.stream import bench_stream  # noqa: PLC0415

        return bench_stream(folder)
    raise ExperimentError(
        f"there is no bench '{name}' ({nearest(name, _NAMES)})", f"give one of {', '.join(_NAMES)}"
    )


def bench_text(name: str, result: Mapping[str, Any]) -> str:
    """A bench's result for a person to read."""
    text = json.dumps(result, indent=2)
    if name != "dl_srqpi":
        return text
    from pipeline.bench.dl_srqpi import table  # noqa: PLC0415

    return f"{text}\n\n{table(result)}"
