"""Which device could be the camera, the light, the lens and the stage: a `microscope:` section to begin with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.micromanager.describe import DeviceInfo

_DARK = re.compile(r"closed|off|dark|clear|none|block|shut", re.IGNORECASE)
_LIGHT = re.compile(r"led|light|lamp|ttl|illum|switch|laser|\bdo\b|dout", re.IGNORECASE)
# Wheels and turrets are state devices, too, and never the light.
_NOT_LIGHT = re.compile(
    r"wheel|objective|turret|dichroic|emission|excitation|filter|path|nosepiece|optovar",
    re.IGNORECASE,
)
_MOST_CHANNELS = 4


@dataclass(frozen=True)
class Parts:
    """Candidates for each part, the likeliest first."""

    camera: tuple[str, ...]
    light: tuple[str, ...]
    lens: tuple[str, ...]
    stage: tuple[str, ...]


def find_parts(devices: Sequence[DeviceInfo]) -> Parts:
    """Who could play which part."""
    lights = [d for d in devices if _is_light(d)]
    lenses = [d for d in devices if d.kind == "stage" or d.property("Current-mA")]
    return Parts(
        _labels(d for d in devices if d.kind == "camera"),
        _labels(sorted(lights, key=_lightness, reverse=True)),
        # A lens that can be sequenced is no focus drive for coarse steps.
        _labels(sorted(lenses, key=_lensness, reverse=True)),
        _labels(d for d in devices if d.kind == "XY stage"),
    )


def microscope_section(
    devices: Sequence[DeviceInfo],
    parts: Parts,
    source: Mapping[str, Any],
    camera: Mapping[str, Any],
) -> dict[str, Any]:
    """A `microscope:` section of what was found: to be looked through, not to be trusted.

    Parameters
    ----------
    source
        Where the devices come from: ``connection``, and ``config_file`` or ``devices``.
    camera
        ``shape_px`` and ``bit_depth``, as the core says.
    """
    by_label = {device.label: device for device in devices}
    setup: dict[str, str] = {}
    section: dict[str, Any] = {
        "driver": "micromanager",
        "camera": {**camera, "pixel_um": 6.5},
        **source,
    }
    if parts.camera:
        section["camera_device"] = parts.camera[0]
    for role, labels, make in (
        ("light", parts.light, _light_section),
        ("lens", parts.lens, _lens_section),
    ):
        if labels:
            section[role] = make(by_label[labels[0]], setup)
    if parts.stage:
        section["stage"] = {"device": parts.stage[0]}
    if setup:
        section["setup"] = setup
    return section


def _labels(devices: Any) -> tuple[str, ...]:
    return tuple(device.label for device in devices)


def _is_light(device: DeviceInfo) -> bool:
    names = f"{device.label} {device.name} {device.library}"
    if device.property("IlluminationPattern"):
        return True
    return (
        device.kind == "state device"
        and device.property("State") is not None
        and not _NOT_LIGHT.search(names)
    )


def _lightness(device: DeviceInfo) -> tuple[bool, bool]:
    state = device.property("State")
    can = device.property("IlluminationPattern") is not None or (
        state is not None and bool(state.sequence or "setup" in state.why_not)
    )
    return bool(_LIGHT.search(f"{device.label} {device.name}")), can


def _lensness(device: DeviceInfo) -> tuple[bool, bool]:
    is_lens = bool(re.search(r"lens|etl|tunable|da z", f"{device.label} {device.name}", re.I))
    return is_lens, bool(device.sequence or "setup" in device.why_not)


def _light_section(device: DeviceInfo, setup: dict[str, str]) -> dict[str, Any]:
    if device.property("IlluminationPattern") is not None:
        return _illuminate_section(device, setup)
    state = device.property("State")
    assert state is not None
    _switch_on(state.why_not, setup)
    states = dict(enumerate(device.states))
    if all(name.isdigit() for name in device.states):
        # Nobody gave them names: 1, 2, 4, 8 are four TTL lines.
        states = {n: f"line_{i}" for i, n in enumerate((0, 1, 2, 4, 8))}
    off = next((number for number, name in states.items() if _DARK.search(name)), 0)
    lights = {name: number for number, name in states.items() if number != off}
    return {
        "device": device.label,
        "property": "State",
        "values": dict(list(lights.items())[:_MOST_CHANNELS]),
        "off": off,
    }


def _illuminate_section(device: DeviceInfo, setup: dict[str, str]) -> dict[str, Any]:
    sides = ("top", "bottom", "left", "right")
    pattern = f"{device.label}.IlluminationPattern"
    section: dict[str, Any] = {
        "device": device.label,
        "property": "IlluminationPattern",
        "values": {side: f"DPC {side.capitalize()}" for side in sides},
        "off": "Clear",
    }
    if device.property("SequenceRunCount") and device.property("TriggerInput0Mode"):
        setup[f"{device.label}.TriggerInput0Mode"] = "Every Pattern Change"
        section["sequencing"] = "firmware"
        section["firmware"] = {
            "order": list(sides),
            "start": {
                f"{device.label}.SequenceRunCount": "{repeats}",
                f"{device.label}.Sequence": "DPC Patterns",
            },
            "stop": {pattern: "Clear"},
        }
    return section


def _lens_section(device: DeviceInfo, setup: dict[str, str]) -> dict[str, Any]:
    current = device.property("Current-mA")
    if current is not None:
        return {
            "device": device.label,
            "kind": "property",
            "property": current.name,
            "um_per_unit": 1.0,
            "limits": list(current.limits or (-100.0, 100.0)),
            "settle_ms": 25,
        }
    _switch_on(device.why_not, setup)
    section: dict[str, Any] = {"device": device.label, "um_per_unit": 1.0}
    position = device.property("Position")
    if position is not None and position.limits is not None:
        low, high = position.limits
        section["limits"] = [low, high]
        if not low <= 0 <= high:
            section["zero"] = (low + high) / 2
    return section


def _switch_on(why_not: str, setup: dict[str, str]) -> None:
    """Put a switch that a fix names (``set 'Device.Property': 'value'``) into `setup`."""
    for key, value in re.findall(r"set '([^']+)': '([^']+)'", why_not):
        setup[key] = value
