"""What works on this machine, and how to mend what does not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from pipeline import shared_memory
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment
from pipeline.lifecycle.finding import Finding
from pipeline.lifecycle.microscope_doctor import installed, microscope
from pipeline.methods.registry import available_methods, find_method

_MIB = 1 << 20


def examine(experiment: Experiment | None = None) -> list[Finding]:
    """Look at everything; with an experiment, at its microscope, too."""
    findings = [finding for check in _CHECKS for finding in check()]
    return findings + ([] if experiment is None else list(microscope(experiment)))


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "error", text)


def _packages() -> Iterator[Finding]:
    for name in ("numpy", "zarr", "tensorstore", "dask", "prometheus-client"):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "error", "not installed", "pip install -c deploy/constraints.txt .")


def _torch() -> Iterator[Finding]:
    try:
        import torch  # noqa: PLC0415 - seconds, and its failure is a finding
    except (ImportError, OSError) as error:
        yield Finding(
            "torch",
            "error",
            f"can't be imported ({error})",
            "pip install -c deploy/constraints.txt torch",
        )
        return
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        yield Finding(
            "torch",
            "ok",
            f"{torch.__version__}, {gpu.name} with {gpu.total_memory / 2**30:.0f} GiB",
        )
    else:
        yield Finding(
            "torch",
            "warning",
            f"{torch.__version__}, no GPU",
            "Phase is reconstructed on the CPU: slower, and as exact",
        )


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    low = memory.available < 4 * 2**30
    yield Finding(
        "memory",
        "warning" if low else "ok",
        f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "The ring wants ten seconds of frames: lower output.ring_gb" if low else "",
    )


def _shared_memory() -> Iterator[Finding]:
    name = f"livephase-doctor-{os.getpid()}"
    try:
        block = shared_memory.create(name, 64 * _MIB)
        block.close()
        shared_memory.unlink(name)
    except LivephaseError as error:
        yield Finding("shared memory", "error", error.cause, error.fix)
        return
    yield Finding("shared memory", "ok", "64 MiB created and removed")


def _disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    low = free < 20e9
    yield Finding(
        "disk",
        "warning" if low else "ok",
        f"{free / 1e9:.0f} GB free in {here}",
        "A 2048² camera at 30 frames/s fills that in minutes"
        if low
        else "`livephase bench stream` measures its speed",
    )


def _methods() -> Iterator[Finding]:
    for name in available_methods():
        try:
            find_method(name)
        except LivephaseError as error:
            yield Finding(f"method {name}", "error", error.cause, error.fix)
        else:
            yield Finding(f"method {name}", "ok", "found")


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _torch,
    _memory,
    _shared_memory,
    _disk,
    _methods,
    installed,
)
