"""A microscope made of physics, with imperfections and faults on request.

`SimulatedInstrument` is the physics: frames, truth and calibration as pure functions of their
indices. `SimulatorDriver` is the microscope around it: bursts, pace, faults, light.
"""

from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.instrument import SimulatedInstrument

__all__ = ["SimulatedInstrument", "SimulatorDriver"]
