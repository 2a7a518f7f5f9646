"""Controllers: results in, actions out. Found through the entry-point group `livephase.controllers`."""

from pipeline.controllers.contract import Controller, Probe, Result
from pipeline.controllers.registry import available_controllers, make_controller

__all__ = ["Controller", "Probe", "Result", "available_controllers", "make_controller"]
