"""What Micro-Manager says when it refuses, said so that somebody can act on it."""

from __future__ import annotations

from pathlib import Path

from drivers.micromanager.adapters import inspect_library, library_files, misfit
from pipeline.errors import DriverError
from pipeline.experiment.strict import nearest

# How adapters of serial devices, and the port's own, word a port that they don't get.
_PORT_WORDS = ("serial port", "com port", "port failed", "open port", "opening port")


def said(error: BaseException) -> str:
    """Micro-Manager's message, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def library_refused(library: str, folder: Path, error: Exception) -> DriverError:
    """An adapter is not loaded: not there, built for another device API, or without its vendor's driver."""
    known = library_files(folder)
    if library not in known:
        return DriverError(
            f"there is no device adapter {library} in {folder}", nearest(library, known)
        )
    return misfit(inspect_library(library, known[library])) or DriverError(
        f"the device adapter {library} was not loaded ({said(error)})",
        "look into Micro-Manager's log, the newest file of CoreLogs in its folder",
    )


def device_refused(label: str, library: str, error: Exception) -> DriverError:
    """A device does not come up."""
    message = said(error)
    if library == "SerialManager" or _is_about_a_port(message):
        return _port_refused(label, message)
    return DriverError(
        f"'{label}' ({library}) does not come up ({message})",
        "check its power, its cable and the properties that it needs `before`; Micro-Manager's own hardware "
        "wizard says whether it works at all",
    )


def _is_about_a_port(message: str) -> bool:
    return any(word in message.lower() for word in _PORT_WORDS)


def _port_refused(whose: str, message: str) -> DriverError:
    return DriverError(
        f"the serial port of '{whose}' can't be opened ({message})",
        "close the program that uses it (Micro-Manager itself, an Arduino monitor), check the port's name, "
        "and on Linux that you belong to the group dialout",
    )


def configuration_refused(path: Path, folder: Path | None, error: Exception) -> DriverError:
    """A `.cfg` file does not load: say which of its adapters does not, if one does not."""
    known = library_files(folder) if folder is not None else {}
    for label, library in configured_devices(path):
        if known and library not in known:
            return DriverError(
                f"{path.name} loads '{label}' from the device adapter {library}, which does not lie in {folder}",
                nearest(library, known),
            )
        if library in known and (trouble := misfit(inspect_library(library, known[library]))):
            return trouble
    if _is_about_a_port(said(error)):
        return _port_refused(path.name, said(error))
    return DriverError(
        f"Micro-Manager can't load {path.name} ({said(error)})",
        "check that all its devices are switched on and no other program uses them; Micro-Manager's own start "
        "with this file says more",
    )


def configured_devices(path: Path) -> list[tuple[str, str]]:
    """(label, library) of each device that a `.cfg` names, but for the core."""
    devices = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        kind, *fields = (field.strip() for field in line.split(","))
        if kind == "Device" and len(fields) >= 3:
            devices.append((fields[0], fields[1]))
    return devices
