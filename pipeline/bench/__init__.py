"""Measurements against a baseline of the same run: ratios, because machines differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bench.ring import bench_ring
from pipeline.errors import ExperimentError


def run_bench(name: str, folder: Path) -> dict[str, Any]:  # noqa: ARG001 - of the disk's benches
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
    if name == "ring":
        return bench_ring()
    raise ExperimentError(f"there is no bench '{name}'", "known: ring")
