"""Which driver a microscope is driven by. Each is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module

from drivers.driver import Driver
from pipeline.experiment import Experiment

_DRIVERS = {
    "simulator": "drivers.simulator:SimulatorDriver",
    "replay": "drivers.replay:ReplayDriver",
    "micromanager": "drivers.micromanager.driver:MicroManagerDriver",
}


def open_driver(experiment: Experiment) -> Driver:
    """The driver of the experiment's microscope, not yet opened."""
    module, name = _DRIVERS[experiment.microscope.driver].split(":")
    driver: Driver = getattr(import_module(module), name)(experiment)
    return driver
