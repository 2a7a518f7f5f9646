"""The same microscope with another plan: what a snapshot or a calibration step takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.experiment.illumination import LightChannel
from pipeline.experiment.load import parse_experiment
from pipeline.experiment.model import Experiment
from pipeline.experiment.patterns import Pattern


def vary(
    experiment: Experiment,
    *,
    channels: Mapping[str, LightChannel] | Sequence[str] | None = None,
    patterns: Mapping[str, Pattern] | None = None,
    timepoints: int = 1,
    foci_um: Sequence[float] = (0.0,),
    position: int | None = None,
    specimen: Mapping[str, Any] | None = None,
) -> Experiment:
    """`experiment` with other frames to take, as fast as the camera goes, recorded only.

    Parameters
    ----------
    channels
        Names of the experiment's own channels, or new ones, name → light; all of its own where None. A new channel
        whose name is known replaces it. On Micro-Manager a new name lights as the channel before its ``@`` does.
    patterns
        New patterns of the LED array for `channels` to show, where the microscope can show any.
    position
        Which of the experiment's positions; where the stage stands (no move) where None.
    specimen
        For a simulator: what lies under the objective; what a person is asked to put there otherwise.

    Raises
    ------
    ExperimentError
        If the microscope can't take that.
    """
    data = experiment.model_dump(mode="json")
    illumination = data["illumination"]
    for name, pattern in (patterns or {}).items():
        illumination["patterns"][name] = pattern.model_dump(mode="json")
    if isinstance(channels, Mapping):
        names = list(channels)
        for name, channel in channels.items():
            illumination["channels"][name] = channel.model_dump(mode="json")
    else:
        names = list(channels or experiment.channel_names)
    microscope = data["microscope"]
    light = microscope.get("light") if microscope["driver"] == "micromanager" else None
    if light is not None:
        for name in names:
            for part in (light["values"], light["settings"]):
                if name not in part and name.split("@")[0] in part:
                    part[name] = part[name.split("@")[0]]
    if specimen is not None and microscope["driver"] == "simulator":
        microscope["specimen"] = dict(specimen)
    places = data["sequence"]["positions"]
    data["sequence"] = {
        "timepoints": timepoints,
        "channels": names,
        "foci_um": list(foci_um),
        "positions": [{} if position is None else places[position]],
    }
    data["reconstruction"] = {"method": "none"}
    data["calibration"] = {"source": "none"}
    data["safety"] = {"dark_after_s": data["safety"]["dark_after_s"]}
    return parse_experiment(data, "the shot")
