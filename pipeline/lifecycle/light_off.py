"""The light goes off though the process that turned it on is dead."""

from __future__ import annotations

import logging
import multiprocessing

from drivers.registry import open_driver
from pipeline.experiment import Experiment
from pipeline.lifecycle.signals import deaf_children

log = logging.getLogger("livephase")

# Connecting to a controller takes seconds; a minute of light on living cells would be too long to wait for more.
_TIMEOUT_S = 30.0


def _light_off(experiment: Experiment) -> None:
    driver = open_driver(experiment)
    try:
        driver.open()
        driver.light_off()
    finally:
        driver.close()


def turn_light_off(experiment: Experiment) -> bool:
    """Open the microscope anew, in a process of its own, and turn the light off.

    Returns False, and logs it, where that did not succeed.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_light_off, args=(experiment,), name="livephase light off"
    )
    with deaf_children():
        process.start()
    process.join(_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
    ok = process.exitcode == 0
    if ok:
        log.info("light off after the acquire stage died")
    else:
        log.error(
            "the light could not be turned off: switch it off by hand",
            extra={"exit": process.exitcode},
        )
    return ok
