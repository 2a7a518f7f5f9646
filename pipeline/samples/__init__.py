"""Synthetic specimens: living cells in time, phase targets, and families to train networks."""

from pipeline.samples.culture import CellRecord, LivingCells
from pipeline.samples.families import training_field
from pipeline.samples.specimen import Specimen, specimen_for
from pipeline.samples.style import CultureStyle
from pipeline.samples.targets import PhaseTarget

__all__ = [
    "CellRecord",
    "CultureStyle",
    "LivingCells",
    "PhaseTarget",
    "Specimen",
    "specimen_for",
    "training_field",
]
