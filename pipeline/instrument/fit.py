"""Whether a calibration is one of this experiment's instrument: refused, or said what to mind.

Every step keeps the conditions that it was measured under. Figures of another objective, wavelength or
camera setting look like any others and would bend the phase without a word, so they are refused. What
only weakens a figure (age, another exposure, another brightness) is said.
"""

from __future__ import annotations

import math
import time
from typing import Any

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, LedIllumination

# What a step's figures hold for. A step of another name holds whatever changes.
_CAMERA = "camera"
_OPTICS = "optics"
_LIGHT = "light"
_HOLDS_FOR = {
    "dark": (_CAMERA,),
    "photon_transfer": (_CAMERA,),
    "linearity": (_CAMERA,),
    "exposure": (_CAMERA, _OPTICS, _LIGHT),
    "flat": (_CAMERA, _OPTICS, _LIGHT),
    "pixel_size": (_CAMERA, _OPTICS),
    "orientation": (_LIGHT,),
    "led_intensity": (_OPTICS, _LIGHT),
    "lens": (_OPTICS,),
}
# A nominal value that was refined is still the same objective; the next filter or objective is further away.
_SAME = 0.04
# Lamps, LEDs and dust drift over weeks.
_OLD_S = 30 * 86400.0
# A dark at another exposure is wrong by its dark current, which matters when the exposure is quite another.
_EXPOSURE_RATIO = 1.5


def conditions(experiment: Experiment) -> dict[str, Any]:
    """What a measurement of this experiment's instrument holds for, as plain JSON values."""
    camera, light = experiment.microscope.camera, experiment.illumination
    source: dict[str, Any]
    patterns: dict[str, Any] = {}
    if isinstance(light, LedIllumination):
        source = light.array.model_dump(mode="json")
        patterns = {name: p.model_dump(mode="json") for name, p in light.patterns.items()}
    else:
        source = {"coherence": light.coherence}
    channels = {name: light.channels[name] for name in experiment.channel_names}
    return {
        _CAMERA: {
            "shape_px": list(camera.shape_px),
            "pixel_um": camera.pixel_um,
            "binning": camera.binning,
            "bit_depth": camera.bit_depth,
        },
        _OPTICS: experiment.optics.model_dump(mode="json"),
        _LIGHT: source,
        "channels": {
            name: {
                "exposure_ms": channel.exposure_ms,
                "brightness": channel.brightness,
                "pattern": patterns.get(channel.pattern or ""),
            }
            for name, channel in channels.items()
        },
    }


def check_fit(
    experiment: Experiment, calibration: Calibration, now_utc: float | None = None
) -> list[str]:
    """Refuse a calibration of another instrument; say what to mind of one that fits.

    Raises
    ------
    ExperimentError
        Naming the step, the value that it was measured at, and the experiment's.
    """
    calibration.check(list(experiment.channel_names), experiment.microscope.camera.shape_px)
    now = time.time() if now_utc is None else now_utc
    here = conditions(experiment)
    warnings: list[str] = []
    if calibration.timing not in (None, "in step"):
        warnings.append(
            f"light and camera are not in step ({calibration.timing}): mend what `livephase calibrate` with the "
            "step timing advises, then run it again"
        )
    for step, entry in calibration.steps.items():
        there = entry.get("conditions")
        if not isinstance(there, dict):
            continue
        holds_for = _HOLDS_FOR.get(step, ())
        for part in (_CAMERA, _OPTICS):
            if part in holds_for:
                _refuse_another(step, part, there.get(part, {}), here[part])
        if _LIGHT in holds_for:
            warnings += _other_light(step, there, here)
        if step == "dark":
            warnings += _other_exposures(there.get("channels", {}), here["channels"])
    return [*warnings, *_old(calibration, now)]


def missing_aspects(experiment: Experiment, calibration: Calibration) -> list[str]:
    """What this experiment's results rest on and nobody has measured.

    Of `Calibration.missing` without what the experiment has no use for (a condenser has no LEDs to orient,
    one plane in focus needs no scale), and with the channels that a dark or flat leaves out.
    """
    names = []
    for name in calibration.missing():
        if name == "LED orientation" and not isinstance(experiment.illumination, LedIllumination):
            continue
        if name == "z scale" and not any(experiment.sequence.foci_um):
            continue
        names.append(name)
    for aspect, have in (("dark", calibration.dark), ("flat", calibration.flat)):
        if have:
            names += [
                f"{aspect} of channel '{n}'" for n in experiment.channel_names if n not in have
            ]
    return names


def _refuse_another(step: str, part: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    for name, measured in there.items():
        if name in here and not _same(measured, here[name]):
            raise ExperimentError(
                f"the calibration's {step} was measured with {part}.{name} {measured}, the experiment has {here[name]}",
                "calibrate this experiment into a folder of its own, or name the folder that belongs to it",
            )


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=_SAME)
    return bool(a == b)


def _other_light(step: str, there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    if there.get(_LIGHT) != here[_LIGHT]:
        changed = [k for k, v in here[_LIGHT].items() if there.get(_LIGHT, {}).get(k) != v]
        return [
            f"the calibration's {step} was measured with another {', '.join(changed) or 'light'} of the "
            f"light source: run `livephase calibrate` with the step {step} again"
        ]
    if step not in ("flat", "exposure"):
        return []
    channels = there.get("channels", {})
    return [
        f"channel '{name}' has another {what} than when the calibration's {step} was measured: "
        f"run `livephase calibrate` with the step {step} again"
        for name, light in here["channels"].items()
        for what in ("brightness", "pattern")
        if name in channels and channels[name].get(what) != light[what]
    ]


def _other_exposures(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    warnings = []
    for name, light in here.items():
        measured = there.get(name, {}).get("exposure_ms")
        if measured is None:
            continue
        ratio = light["exposure_ms"] / measured
        if max(ratio, 1 / ratio) > _EXPOSURE_RATIO:
            warnings.append(
                f"the dark of channel '{name}' was measured at {measured:g} ms, the experiment exposes "
                f"{light['exposure_ms']:g} ms: run `livephase calibrate` with the step dark again"
            )
    return warnings


def _old(calibration: Calibration, now: float) -> list[str]:
    times = {n: e["time_utc"] for n, e in calibration.steps.items() if e.get("time_utc")}
    old = {name: (now - t) / 86400 for name, t in times.items() if now - t > _OLD_S}
    if not old:
        return []
    names = ", ".join(f"{name} ({days:.0f} days)" for name, days in old.items())
    return [f"the calibration is old: {names}: run `livephase calibrate` with these steps again"]
