"""The experiment file as strict models: units in names, physics in validators, errors with the fix.

Ground floor: no torch, nothing that costs a spawned process time.
"""

from pipeline.experiment.camera import Camera
from pipeline.experiment.care import ALARM_NAMES, AlarmName, Care
from pipeline.experiment.control import (
    ControllerEntry,
    ControlLimits,
    Deadband,
    FocusProbe,
    OnlineControl,
)
from pipeline.experiment.illumination import Condenser, LedIllumination
from pipeline.experiment.led_arrays import LedArray, LedPlaces
from pipeline.experiment.load import (
    dump_experiment,
    experiment_problems,
    load_experiment,
    parse_experiment,
    read_experiment,
)
from pipeline.experiment.micromanager import (
    LensDevice,
    LightDevice,
    MicroManagerMicroscope,
)
from pipeline.experiment.microscope import ReplayMicroscope
from pipeline.experiment.model import CalibrationSource, Experiment
from pipeline.experiment.optics import Optics
from pipeline.experiment.patterns import Arc, HalfCircle, LedList
from pipeline.experiment.problems import Problem
from pipeline.experiment.reconstruction import OutputSettings, ReconstructionSettings
from pipeline.experiment.safety import Recovery, Safety
from pipeline.experiment.sequence import Sequence, StagePosition
from pipeline.experiment.simulator import (
    CellSpecimen,
    Faults,
    Imperfections,
    SimulatorMicroscope,
    TargetSpecimen,
)
from pipeline.experiment.strict import Strict, nearest

__all__ = [
    "ALARM_NAMES",
    "AlarmName",
    "Arc",
    "CalibrationSource",
    "Camera",
    "Care",
    "CellSpecimen",
    "Condenser",
    "ControlLimits",
    "ControllerEntry",
    "Deadband",
    "Experiment",
    "Faults",
    "FocusProbe",
    "HalfCircle",
    "Imperfections",
    "LedArray",
    "LedIllumination",
    "LedList",
    "LedPlaces",
    "LensDevice",
    "LightDevice",
    "MicroManagerMicroscope",
    "OnlineControl",
    "Optics",
    "OutputSettings",
    "Problem",
    "ReconstructionSettings",
    "Recovery",
    "ReplayMicroscope",
    "Safety",
    "Sequence",
    "SimulatorMicroscope",
    "StagePosition",
    "Strict",
    "TargetSpecimen",
    "dump_experiment",
    "experiment_problems",
    "load_experiment",
    "nearest",
    "parse_experiment",
    "read_experiment",
]
