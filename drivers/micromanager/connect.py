"""Reach a microscope's devices, and let them go.

Two cores, one way: pymmcore in this process, or pycromanager's `Core`, which is a running Micro-Manager's or a
core that pycromanager starts in this process. Nothing is lit or moved, but for what `setup` sets.
"""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from drivers.micromanager.adapters import adapter_folder
from drivers.micromanager.check import allowed, check_map, check_off, not_a_camera
from drivers.micromanager.core import CORE_ERRORS, Core, InProcessCore
from drivers.micromanager.java_core import JavaCore
from drivers.micromanager.refusals import (
    configuration_refused,
    configured_devices,
    device_refused,
    library_refused,
    said,
)
from drivers.micromanager.setting import split_setting
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import (
    AdapterDevice,
    MicroManagerMicroscope,
    RunningCore,
)
from pipeline.experiment.strict import nearest

log = logging.getLogger("livephase")

# A Micro-Manager that is there answers at once: only a machine that is out of breath takes longer.
_JAVA_TIMEOUT_MS = 5000


def connect(microscope: MicroManagerMicroscope, *, only: Collection[str] | None = None) -> Core:
    """Load the devices, set them up, and hold them against what the experiment says of them.

    Parameters
    ----------
    only
        Labels of the devices that are needed; they are loaded with the hubs and ports that they need, no others,
        and only they are set up; of the map, only how the light goes out is checked. All of them where None.
        A running Micro-Manager has its devices loaded.

    Raises
    ------
    DriverError
        With the experiment's key that is wrong, or what is wrong with Micro-Manager, and the fix. What was
        loaded until then is unloaded again.
    """
    core = load(microscope, only=only)
    with _let_go_on_failure(core, microscope):
        if only is None:
            check_map(core, microscope)
        elif microscope.light is not None:
            check_off(core, microscope.light)
    return core


def load(microscope: MicroManagerMicroscope, *, only: Collection[str] | None = None) -> Core:
    """As `connect`, but without a look at light, lens and stage: to list what there is."""
    core = _start(microscope)
    with _let_go_on_failure(core, microscope):
        _load(core, microscope, only)
        core.set_timeout_ms(round(microscope.patience.device_s * 1000))
        core.set_auto_shutter(False)
        # Gigabytes take seconds: who only puts the light out has no use for them.
        if not isinstance(core, JavaCore) and only is None:
            _set_buffer(core, microscope.connection.buffer_mb)
        _set_up_all(core, microscope, partial=only is not None)
    return core


@contextmanager
def _let_go_on_failure(core: Core, microscope: MicroManagerMicroscope) -> Iterator[None]:
    try:
        yield
    except CORE_ERRORS as error:
        disconnect(core, microscope)
        raise DriverError(
            f"Micro-Manager refused while it was set up ({said(error)})",
            "check that its devices are switched on; `livephase doctor EXPERIMENT.yaml` goes through them",
        ) from error
    except BaseException:
        disconnect(core, microscope)
        raise


def disconnect(core: Core, microscope: MicroManagerMicroscope) -> None:
    """Let the devices go; those of a running Micro-Manager stay loaded there. Safe to call again."""
    if isinstance(core, JavaCore):
        core.let_go()
        return
    try:
        # A device that is gone can't be told goodbye; the others are let go as the core itself is.
        with suppress(*CORE_ERRORS):
            core.unload_all_devices()
    finally:
        if _is_headless(microscope):
            from mmpycorex import terminate_core_instances  # noqa: PLC0415

            terminate_core_instances()


def _start(microscope: MicroManagerMicroscope) -> Core:
    connection = microscope.connection
    if isinstance(connection, RunningCore):
        return _running(connection) if _is_running(microscope) else _headless(connection)
    folder = adapter_folder(connection.adapters)
    try:
        core = cast(Core, InProcessCore())
    except ImportError as error:
        raise DriverError(
            f"pymmcore can't be imported ({error})",
            "pip install -c deploy/constraints.txt pymmcore",
        ) from error
    core.set_device_adapter_search_paths([str(folder)])
    return core


def _is_headless(microscope: MicroManagerMicroscope) -> bool:
    connection = microscope.connection
    return isinstance(connection, RunningCore) and connection.headless == "python"


def _is_running(microscope: MicroManagerMicroscope) -> bool:
    return isinstance(microscope.connection, RunningCore) and not _is_headless(microscope)


def _headless(connection: RunningCore) -> Core:
    """A core that pycromanager makes in this process; it has but one."""
    folder = adapter_folder(connection.adapters)
    try:
        # What pycromanager's own `start_headless` and `Core` are, without its acquisition engine, whose threads and
        # whose hold on the first core would outlive it.
        from mmpycorex import Core as PycromanagerCore  # noqa: PLC0415 - only its users wait for it
        from mmpycorex import create_core_instance, is_pymmcore_active  # noqa: PLC0415
    except ImportError as error:
        raise _no_pycromanager(error) from error
    if is_pymmcore_active():
        raise DriverError(
            "this process has a headless core of pycromanager already, and there can be only one",
            "close the first microscope, or use connection.kind: in_process",
        )
    create_core_instance(mm_app_path=str(folder), config_file=None, python_backend=True)
    return cast(Core, PycromanagerCore())


def _running(connection: RunningCore) -> Core:
    """The core of a Micro-Manager that runs."""
    try:
        from pycromanager import Core as PycromanagerCore  # noqa: PLC0415 - only its users wait for it
        from pycromanager import JavaObject  # noqa: PLC0415
    except ImportError as error:
        raise _no_pycromanager(error) from error
    port = connection.port
    fix = (
        f"start it, and tick Tools > Options > 'Run server on port {port}'; or use "
        "connection.kind: in_process, which needs no running one"
    )
    # pycromanager leaves a broken thread behind where nobody listens: ask before.
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError as error:
        raise DriverError(f"no Micro-Manager listens on port {port}", fix) from error
    try:
        remote = PycromanagerCore(port=port, timeout=_JAVA_TIMEOUT_MS)
    except Exception as error:
        # pycromanager raises nothing more particular.
        raise DriverError(
            f"what listens on port {port} is no Micro-Manager that pycromanager understands ({said(error)})",
            fix,
        ) from error
    return cast(Core, JavaCore(remote, lambda name: JavaObject(name, port=port)))


def _no_pycromanager(error: ImportError) -> DriverError:
    return DriverError(
        f"pycromanager can't be imported ({error})",
        "pip install -c deploy/constraints.txt pycromanager",
    )


def _load(core: Core, microscope: MicroManagerMicroscope, only: Collection[str] | None) -> None:
    folder = None if isinstance(core, JavaCore) else adapter_folder(microscope.connection.adapters)
    file = configuration_file(microscope)
    if file is not None:
        _load_configuration(core, microscope, file, folder, only)
        return
    hubs = {device.label: device.hub or "" for device in microscope.devices}
    references = {
        device.label: {str(value) for value in device.before.values()}
        for device in microscope.devices
    }
    wanted = set(hubs) if only is None else _needed(microscope, hubs, references, only)
    for device in _hubs_first(microscope.devices):
        if device.label in wanted:
            _load_device(core, device, folder)


def configuration_file(microscope: MicroManagerMicroscope) -> Path | None:
    """The experiment's `.cfg`: where it is named, else in Micro-Manager's own folder. None: it names none.

    Raises
    ------
    DriverError
        If there is no such file.
    """
    if microscope.config_file is None:
        return None
    file = Path(microscope.config_file)
    if not file.is_file() and not _is_running(microscope):
        file = adapter_folder(microscope.connection.adapters) / file
    if not file.is_file():
        raise DriverError(
            f"microscope.config_file: there is no {microscope.config_file}",
            "give the path of a Micro-Manager .cfg, relative to the experiment file or to Micro-Manager's folder",
        )
    return file


def _load_configuration(
    core: Core,
    microscope: MicroManagerMicroscope,
    file: Path,
    folder: Path | None,
    only: Collection[str] | None,
) -> None:
    if not configured_devices(file):
        raise DriverError(
            f"microscope.config_file: {file.name} loads no device",
            "give a configuration that Micro-Manager's hardware wizard has saved",
        )
    try:
        if only is None:
            core.load_system_configuration(str(file))
            return
        # Micro-Manager writes it in the machine's own encoding: what is not UTF-8 is handed on as it is.
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        with tempfile.TemporaryDirectory(prefix="livephase-") as scratch:
            part = Path(scratch) / file.name
            text = "\n".join(_only_lines(microscope, lines, only))
            part.write_text(text, encoding="utf-8", errors="surrogateescape")
            core.load_system_configuration(str(part))
    except CORE_ERRORS as error:
        raise configuration_refused(file, folder, error) from error


def _only_lines(
    microscope: MicroManagerMicroscope, lines: list[str], only: Collection[str]
) -> Iterator[str]:
    """The lines of a `.cfg` that load some devices and what these need, and set them as Micro-Manager starts."""
    rows = [[field.strip() for field in line.split(",")] for line in lines]
    hubs = {row[1]: "" for row in rows if row[0] == "Device"}
    references: dict[str, set[str]] = {label: set() for label in hubs}
    for row in rows:
        match row:
            case ["Parent", label, hub, *_]:
                hubs[label] = hub
            case ["Property", label, _, value, *_]:
                references.get(label, set()).add(value)
            case ["ConfigGroup", "System", "Startup", label, _, value, *_]:
                references.get(label, set()).add(value)
    wanted = _needed(microscope, hubs, references, only)
    for line, row in zip(lines, rows, strict=True):
        match row:
            case ["Device" | "Parent" | "Delay" | "FocusDirection" | "Label", label, *_]:
                is_wanted = label in wanted
            case ["Property", label, name, *_]:
                is_wanted = label in wanted or (label, name) == ("Core", "Initialize")
            case ["ConfigGroup", "System", "Startup", label, *_]:
                is_wanted = label in wanted
            case _:
                is_wanted = False
        if is_wanted:
            yield line


def _needed(
    microscope: MicroManagerMicroscope,
    hubs: Mapping[str, str],
    references: Mapping[str, Collection[str]],
    only: Collection[str],
) -> set[str]:
    """`only`, and all devices without which these do not do what they should.

    Their hubs, what their properties name (a port, a DAC), and what `setup` sets at the same hub: an Arduino's
    lines follow only while its shutter is open.

    Parameters
    ----------
    hubs
        Label of every device → label of its hub, or nothing.
    references
        Label of every device → values of its properties.
    """
    setup = [(split_setting(key, hubs)[0], str(value)) for key, value in microscope.setup.items()]
    wanted: set[str] = set()
    open_ = [label for label in only if label in hubs]
    while open_:
        label = open_.pop()
        if label in wanted:
            continue
        wanted.add(label)
        named = {hubs[label], *references[label], *(v for of, v in setup if of == label)}
        beside = {of for of, _ in setup if hubs[label] and hubs.get(of) == hubs[label]}
        open_.extend(other for other in named | beside if other in hubs)
    return wanted


def _hubs_first(devices: tuple[AdapterDevice, ...]) -> list[AdapterDevice]:
    """In the order of the map, but each after its hub."""
    labels = {device.label: device for device in devices}
    ordered: dict[str, AdapterDevice] = {}

    def add(device: AdapterDevice, children: tuple[str, ...] = ()) -> None:
        if device.label in children:
            raise DriverError(
                f"microscope.devices: the hubs {' and '.join(children)} are each other's parents",
                "remove `hub:` from the one that is connected to the computer",
            )
        if device.hub is not None:
            if device.hub not in labels:
                raise DriverError(
                    f"microscope.devices: '{device.label}' has the unknown hub '{device.hub}'",
                    nearest(device.hub, labels),
                )
            add(labels[device.hub], (*children, device.label))
        ordered.setdefault(device.label, device)

    for device in devices:
        add(device)
    return list(ordered.values())


def _load_device(core: Core, device: AdapterDevice, folder: Path | None) -> None:
    label, key = device.label, f"microscope.devices: '{device.label}'"
    try:
        core.load_device(label, device.library, device.name)
    except CORE_ERRORS as error:
        try:
            offered = list(core.get_available_devices(device.library))
        except CORE_ERRORS:
            offered = []
        if label in core.get_loaded_devices():
            raise DriverError(
                f"{key} is loaded in Micro-Manager already",
                "leave out `devices` to use what is loaded there",
            ) from error
        if offered and device.name not in offered:
            # Peripherals of a hub are not among what an adapter offers: they may still be meant.
            raise DriverError(
                f"{key}: the adapter {device.library} has no device {device.name}",
                nearest(device.name, offered),
            ) from error
        if folder is None:
            raise device_refused(label, device.library, error) from error
        raise library_refused(device.library, folder, error) from error
    if device.hub is not None:
        core.set_parent_label(label, device.hub)
    for name, value in device.before.items():
        _set_up(core, label, name, str(value), f"{key} before.{name}")
    try:
        core.initialize_device(label)
    except CORE_ERRORS as error:
        raise device_refused(label, device.library, error) from error


def _set_up_all(core: Core, microscope: MicroManagerMicroscope, *, partial: bool) -> None:
    """`setup` and the camera; with only some devices loaded, theirs."""
    loaded = set(core.get_loaded_devices())
    for key, value in microscope.setup.items():
        label, name = split_setting(key, loaded)
        if partial and label not in loaded:
            continue
        try:
            _set_up(core, label, name, str(value), f"microscope.setup.{key}")
        except DriverError as error:
            if not partial:
                raise
            # Who only puts the light out is not to be kept from it by a setting.
            log.warning("%s", error)
    camera = microscope.camera_device
    if camera is not None and (not partial or camera in loaded):
        _use_camera(core, camera)


def _set_up(core: Core, label: str, name: str, value: str, key: str) -> None:
    """Set one property, or say what could have been set."""
    loaded = [other for other in core.get_loaded_devices() if other != "Core"]
    if label not in loaded:
        raise DriverError(f"{key}: there is no device '{label}'", nearest(label, loaded))
    if not core.has_property(label, name):
        raise DriverError(
            f"{key}: '{label}' has no property '{name}'",
            nearest(name, core.get_device_property_names(label)),
        )
    try:
        core.set_property(label, name, value)
    except CORE_ERRORS as error:
        raise DriverError(
            f"{key}: '{label}' does not take {value} ({said(error)})", allowed(core, label, name)
        ) from error


def _set_buffer(core: Core, megabytes: int) -> None:
    try:
        core.set_circular_buffer_memory_footprint(megabytes)
    except CORE_ERRORS as error:
        raise DriverError(
            f"microscope.connection.buffer_mb: {megabytes} MB are not to be had ({said(error)})",
            "lower it, or close other programs",
        ) from error


def _use_camera(core: Core, label: str) -> None:
    try:
        core.set_camera_device(label)
    except CORE_ERRORS as error:
        raise not_a_camera(core, label) from error
