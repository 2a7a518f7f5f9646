"""``illumination.one_by_one``: every LED on its own, without writing each pattern and channel out."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, TypeAdapter, ValidationError

from pipeline.experiment.led_arrays import AnyLedArray, LedPlaces
from pipeline.experiment.strict import Strict

_ARRAY: TypeAdapter[LedPlaces] = TypeAdapter(AnyLedArray)
_EDGE = 1e-6


class OneByOne(Strict):
    """The sequence of a Fourier-ptychography measurement: from the axis outwards, a channel for each LED."""

    na_max: float | None = Field(default=None, gt=0)
    """LEDs up to this NA; none: all."""
    exposure_ms: PositiveFloat = 10.0
    darkfield_exposure_ms: PositiveFloat | None = None
    """Of LEDs beyond the objective's NA, whose images are a hundred times darker; none: as the others."""


def expand_one_by_one(data: Any) -> Any:
    """An experiment's mapping with `one_by_one` written out as patterns and channels ``led_000``, …

    What is wrong elsewhere in it stays as it is, for the experiment's own validators.

    Raises
    ------
    ValueError
        If no LED is left, or `one_by_one` itself is wrong.
    """
    light = data.get("illumination") if isinstance(data, dict) else None
    if not (isinstance(light, dict) and "one_by_one" in light):
        return data
    try:
        wanted = OneByOne.model_validate(light["one_by_one"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(["illumination.one_by_one", *(str(part) for part in first["loc"])])
        raise ValueError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from error
    try:
        array = _ARRAY.validate_python(light.get("array"))
    except ValidationError:
        # The experiment's own validators say what is wrong with it.
        rest = {key: value for key, value in light.items() if key != "one_by_one"}
        return {**data, "illumination": rest}
    radius = np.hypot(*array.sines().T)
    order = np.argsort(np.round(radius, 9), kind="stable")
    leds = [int(led) for led in order if wanted.na_max is None or radius[led] <= wanted.na_max]
    if not leds:
        raise ValueError(
            f"illumination.one_by_one.na_max {wanted.na_max} leaves no LED: the first is at NA {radius.min():.3f}"
        )
    optics = data.get("optics")
    na = optics.get("numerical_aperture") if isinstance(optics, dict) else None
    patterns, channels = dict(light.get("patterns") or {}), dict(light.get("channels") or {})
    for led in leds:
        dark = isinstance(na, int | float) and radius[led] > na * (1 + _EDGE)
        exposure_ms = (dark and wanted.darkfield_exposure_ms) or wanted.exposure_ms
        name = f"led_{led:03d}"
        patterns[name] = {"kind": "leds", "leds": [led]}
        channels[name] = {"pattern": name, "exposure_ms": exposure_ms}
    rest = {key: value for key, value in light.items() if key != "one_by_one"}
    return {**data, "illumination": {**rest, "patterns": patterns, "channels": channels}}
