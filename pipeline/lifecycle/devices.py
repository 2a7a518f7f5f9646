"""What Micro-Manager has: devices and properties, what can be sequenced, which part each could play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from drivers.micromanager.adapters import (
    WHEEL,
    adapter_folder,
    inspect_library,
    library_files,
    misfit,
)
from drivers.micromanager.connect import disconnect, load
from drivers.micromanager.core import CORE_ERRORS, Core
from drivers.micromanager.describe import DeviceInfo, PropertyInfo, describe, kind_name
from drivers.micromanager.parts import Parts, find_parts, microscope_section
from pipeline.errors import ExperimentError
from pipeline.experiment import Camera, Experiment, MicroManagerMicroscope
from pipeline.experiment.micromanager import InProcessCore

# The one configuration that is on every machine with livephase.
_DEMO = "MMConfig_demo.cfg"
_MOST_VALUES = 8


@dataclass(frozen=True)
class Devices:
    """Everything that is loaded, and a `microscope:` section made of it."""

    source: str
    version: str
    devices: tuple[DeviceInfo, ...]
    parts: Parts
    section: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": self.source,
            "version": self.version,
            "devices": [device.as_dict() for device in self.devices],
            "parts": asdict(self.parts),
            "microscope": self.section,
        }

    def text(self) -> str:
        """For a person."""
        lines = [f"{self.version}; {self.source}", ""]
        for device in self.devices:
            lines += _device_lines(device)
        lines += ["", "could be:"]
        for role in ("camera", "light", "lens", "stage"):
            lines.append(f"  {role:8}{', '.join(getattr(self.parts, role)) or '-'}")
        text = yaml.safe_dump(
            {"microscope": self.section},
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
        )
        return "\n".join(
            [
                *lines,
                "",
                "to begin with (look through the values: pixel_um is on the camera's data sheet, and only you know "
                "which light is which):",
                "",
                text.rstrip(),
            ]
        )


@dataclass(frozen=True)
class Adapter:
    """A device adapter in a folder: the devices that it offers as (name, kind, description), or what is wrong."""

    name: str
    api: int | None
    devices: tuple[tuple[str, str, str], ...]
    trouble: str = ""


@dataclass(frozen=True)
class Adapters:
    """All adapters of a folder."""

    folder: str
    adapters: tuple[Adapter, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": self.folder,
            "adapters": [
                {
                    "name": adapter.name,
                    "device_api": adapter.api,
                    "trouble": adapter.trouble,
                    "devices": [
                        {"name": name, "kind": kind, "description": description}
                        for name, kind, description in adapter.devices
                    ],
                }
                for adapter in self.adapters
            ],
        }

    def text(self) -> str:
        """For a person."""
        lines = [f"{len(self.adapters)} device adapters in {self.folder}"]
        for adapter in self.adapters:
            lines.append(f"\n{adapter.name} (device API {adapter.api})")
            if adapter.trouble:
                lines.append(f"  {adapter.trouble}")
            lines += [f"  {name:24}{kind:18}{text}" for name, kind, text in adapter.devices]
        return "\n".join(lines)


def list_devices(
    experiment: Experiment | None = None,
    config: Path | None = None,
    adapters: str | None = None,
) -> Devices | Adapters:
    """Look at a microscope: an experiment's, that of a `.cfg` file, or Micro-Manager's demonstration.

    Lights and moves nothing, but for what the experiment's `setup` sets.

    Parameters
    ----------
    adapters
        Micro-Manager's folder (`mm-test-adapters`: that wheel's). Without `config`: list what lies there.

    Raises
    ------
    LivephaseError
        If it can't be reached; an experiment's light, lens and stage may well be wrong.
    """
    if experiment is not None:
        if not isinstance(experiment.microscope, MicroManagerMicroscope):
            raise ExperimentError(
                f"the microscope is driven by '{experiment.microscope.driver}': it has no devices to list",
                "give an experiment with `driver: micromanager`",
            )
        return _look(experiment.microscope, f"microscope of the experiment {experiment.name!r}")
    if adapters is not None and config is None:
        return _adapters(adapters)
    file = config or Path(_DEMO)
    microscope = MicroManagerMicroscope(
        driver="micromanager",
        camera=Camera(shape_px=(1, 1), pixel_um=1.0),
        connection=InProcessCore(adapters=adapters or WHEEL, buffer_mb=16),
        config_file=str(file),
    )
    return _look(microscope, f"{file.name} with the adapters of {adapters or WHEEL}")


def _look(microscope: MicroManagerMicroscope, source: str) -> Devices:
    core = load(microscope)
    try:
        devices = describe(core)
        parts = find_parts(devices)
        camera = _camera(core, parts)
        version = core.get_version_info()
        api = core.get_api_version_info().split(",")[0]
    finally:
        disconnect(core, microscope)
    section = microscope_section(devices, parts, _where_from(microscope), camera)
    return Devices(source, f"{version}, {api[0].lower()}{api[1:]}", tuple(devices), parts, section)


def _where_from(microscope: MicroManagerMicroscope) -> dict[str, Any]:
    """The keys of a microscope that say where its devices come from, as they were given."""
    given = microscope.model_dump(mode="json", exclude_defaults=True)
    keep: dict[str, Any] = {
        str(key): given[key] for key in ("connection", "config_file", "devices") if key in given
    }
    keep.get("connection", {}).pop("buffer_mb", None)
    if not keep.get("connection", True):
        del keep["connection"]
    return keep


def _camera(core: Core, parts: Parts) -> dict[str, Any]:
    """Shape and bit depth as the core says; a guess where the camera does not answer."""
    try:
        if not core.get_camera_device() and parts.camera:
            core.set_camera_device(parts.camera[0])
        return {
            "shape_px": [core.get_image_height(), core.get_image_width()],
            "bit_depth": core.get_image_bit_depth(),
        }
    except CORE_ERRORS:
        return {"shape_px": [2048, 2048], "bit_depth": 16}


def _adapters(adapters: str) -> Adapters:
    from drivers.micromanager.core import InProcessCore as Pymmcore  # noqa: PLC0415 - needs pymmcore

    folder = adapter_folder(adapters)
    core: Any = Pymmcore()
    core.set_device_adapter_search_paths([str(folder)])
    found = []
    for name, file in library_files(folder).items():
        library = inspect_library(name, file)
        trouble = misfit(library)
        devices: tuple[tuple[str, str, str], ...] = ()
        text = "" if trouble is None else str(trouble)
        if trouble is None:
            try:
                devices = tuple(
                    (device, kind_name(kind), description)
                    for device, kind, description in zip(
                        core.get_available_devices(name),
                        core.get_available_device_types(name),
                        core.get_available_device_descriptions(name),
                        strict=True,
                    )
                )
            except CORE_ERRORS as error:
                text = str(error)
        found.append(Adapter(name, library.api, devices, text))
    return Adapters(str(folder), tuple(found))


def _device_lines(device: DeviceInfo) -> list[str]:
    head = f"{device.label}  ({device.kind}, {device.library} {device.name})"
    if device.kind == "stage":
        head += f"  {_sequence(device.sequence, device.why_not)}"
    lines = [head]
    for item in device.properties:
        if item.read_only and item.name in {"Name", "Description", "HubID"}:
            continue  # they say what the line above says
        marks = [
            mark
            for mark, holds in (("read only", item.read_only), ("before", item.before))
            if holds
        ]
        if item.sequence or item.why_not:
            marks.append(_sequence(item.sequence, item.why_not))
        takes = _takes(item)
        lines.append(
            f"    {item.name:28} {item.value:20} {takes}"
            + (f"  [{'; '.join(marks)}]" if marks else "")
        )
    return lines


def _sequence(length: int, why_not: str) -> str:
    return f"sequence: {length}" if length else f"no sequence: {why_not}"


def _takes(item: PropertyInfo) -> str:
    if item.allowed == tuple(str(i) for i in range(len(item.allowed))) and len(item.allowed) > 2:
        return f"0 to {len(item.allowed) - 1}"
    if item.allowed:
        more = ", …" if len(item.allowed) > _MOST_VALUES else ""
        return ", ".join(_shown(item.allowed)) + more
    if item.limits is not None:
        return f"{item.limits[0]:g} to {item.limits[1]:g}"
    return ""


def _shown(values: Sequence[str]) -> list[str]:
    return [value or "''" for value in values[:_MOST_VALUES]]
