"""The light goes off though the process that turned it on is dead.

Imports next to nothing: a light that was left on does not wait for the rest of the program.
"""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

from drivers.driver import Driver
from drivers.registry import open_driver
from pipeline.errors import LivephaseError, RunFolderError
from pipeline.experiment import Experiment
from pipeline.lifecycle.signals import deaf_children
from pipeline.stages.light_mark import LightMark
from pipeline.stages.stage_lock import hold_stage_lock
from pipeline.store.run_folder import RunFolder
from pipeline.telemetry import Telemetry

log = logging.getLogger("livephase")

# Connecting to a controller takes seconds; a minute of light on living cells would be too long to wait for more.
_TIMEOUT_S = 30.0
# Of an acquire process that was just killed, to let go of its lock.
_PATIENCE_S = 2.0


def make_dark(run: Path, driver: Driver, patience_s: float = _PATIENCE_S) -> bool:
    """Turn the light off if the acquire process of a run died and left it on; whether there was any need.

    The lock of the acquire stage is held meanwhile: the microscope never has two masters.

    Raises
    ------
    RunFolderError
        If an acquire process still lives after `patience_s`: the light is its business.
    LivephaseError
        If the microscope can't be made safe.
    """
    mark = LightMark(run)
    if not mark.is_set():
        return False
    with hold_stage_lock(run, "acquire", patience_s):
        if not mark.is_set():
            return False  # somebody else was faster
        driver.make_safe()
        log.info("light off after the acquire stage died")
        _count(RunFolder(run))
        mark.clear()
    return True


def _count(folder: RunFolder) -> None:
    """Say in the dead session's counters, if they are still there, that the light is off and how long it was on."""
    try:
        names = folder.info()["sessions"][-1]["shared_memory"]
        with Telemetry.attach(names["telemetry"]) as telemetry:
            # Nobody else writes that lane: the supervisor is dead, or waits for us.
            writer = telemetry.writer("supervisor")
            if telemetry.value("light_on"):
                lit_s = telemetry.value("light_seconds") + telemetry.age_s("light_on")
                writer.set("light_seconds", lit_s)
            writer.set("light_on", 0)
    except (LivephaseError, KeyError, IndexError):
        pass  # a machine that was switched off: how long the light was on is not known


def make_dark_before_all(folder: RunFolder) -> bool:
    """At a start: turn off what a run that died altogether left on; whether there was any need.

    Nothing where the run goes on. Raises as `make_dark`.
    """
    if not LightMark(folder.path).is_set() or not folder.is_run() or folder.in_use():
        return False
    try:
        return make_dark(folder.path, open_driver(folder.experiment()))
    except RunFolderError:
        return False  # its acquire process is still there: the checks that follow say so


def turn_light_off(run: Path, experiment: Experiment) -> bool:
    """Turn the light off, if need be, in a process of its own: opening a driver may hang.

    Returns False, and logs it, where that did not succeed.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_make_dark, args=(run, experiment), name="livephase light off"
    )
    with deaf_children():
        process.start()
    process.join(_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode != 0:
        log.error(
            "the light could not be turned off: switch it off by hand",
            extra={"exit": process.exitcode},
        )
    return process.exitcode == 0


def _make_dark(run: Path, experiment: Experiment) -> None:
    make_dark(run, open_driver(experiment))
