"""The experiment that a probe of the focus is: the same timepoints and places, other foci, one channel."""

from __future__ import annotations

from pipeline.experiment.control import FocusProbe, OnlineControl
from pipeline.experiment.model import Experiment
from pipeline.experiment.reconstruction import ReconstructionSettings


def probe_experiment(experiment: Experiment, probe: FocusProbe) -> Experiment:
    """What is armed with the slot that the probe comes before, so that a simulated specimen has the same age."""
    return experiment.model_copy(
        update={
            "sequence": experiment.sequence.model_copy(
                update={
                    "channels": (probe.channel or experiment.channel_names[0],),
                    "foci_um": probe.foci_um,
                }
            ),
            "reconstruction": ReconstructionSettings(),
            "control": OnlineControl(),
        }
    )
