"""The steps: their order in a guided session, and what each rests on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipeline.calibrate.step import Step
from pipeline.errors import ExperimentError
from pipeline.experiment import nearest


@dataclass(frozen=True)
class Entry:
    """Where a step is defined, and which steps have to be done before it means anything.

    `recorded` says that a recording's own frames are enough: what needs other light or exposures can't be had of one.
    `tool` names an option without which the guided session leaves the step out, as not everybody has the tool,
    and says why.
    """

    place: str
    after: tuple[str, ...] = ()
    recorded: bool = False
    tool: tuple[str, str] | None = None


# What a step says of itself, beside its options.
_ABOUT = {"name", "subject", "purpose"}

# In the order of a guided session: light and camera before what is measured with them, and the
# subjects so that each is put under the objective once.
STEPS: dict[str, Entry] = {
    "timing": Entry("pipeline.calibrate.timing:Timing"),
    "dark": Entry("pipeline.calibrate.dark:Dark"),
    "photon_transfer": Entry("pipeline.calibrate.photon_transfer:PhotonTransfer"),
    "linearity": Entry("pipeline.calibrate.linearity:Linearity", ("dark",)),
    "exposure": Entry("pipeline.calibrate.exposure:Exposure", ("timing",)),
    "flat": Entry("pipeline.calibrate.flat:Flat", ("timing", "dark")),
    "pixel_size": Entry(
        "pipeline.calibrate.pixel_size:PixelSize",
        tool=("period_um", "it takes a grating or ruler: give its period as --grating-um"),
    ),
    "orientation": Entry("pipeline.calibrate.orientation:Orientation", ("timing",), recorded=True),
    "led_intensity": Entry(
        "pipeline.calibrate.led_intensity:LedIntensity", ("timing", "dark"), recorded=True
    ),
    "lens": Entry("pipeline.calibrate.lens:Lens", ("timing",)),
}


def open_step(name: str, options: dict[str, str]) -> Step:
    """A step with the options that a user gave as text.

    Raises
    ------
    ExperimentError
        If there is no such step or option, or the value is not one.
    """
    if name not in STEPS:
        raise ExperimentError(f"there is no calibration step '{name}'", nearest(name, STEPS))
    module, kind = STEPS[name].place.split(":")
    made: type[Any] = getattr(import_module(module), kind)
    known = options_of(made)
    values = {}
    for option, text in options.items():
        if option not in known:
            raise ExperimentError(
                f"the step {name} has no option '{option}'",
                nearest(option, known) if known else "it has none",
            )
        try:
            # Text, as a command line gives it, that is to become what the step declares.
            values[option] = TypeAdapter(known[option]).validate_strings(text)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise ExperimentError(
                f"the option {name}.{option} can't be '{text}' ({reason})", "correct the value"
            ) from error
    step: Step = made(**values)
    return step


def options_of(step: type[Any]) -> dict[str, Any]:
    """The options of a step (its fields that say nothing of what it is) and their types."""
    hints = get_type_hints(step)
    return {f.name: hints[f.name] for f in fields(step) if f.name not in _ABOUT}
