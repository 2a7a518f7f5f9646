"""Micro-Manager's device adapters: the folder that holds them, and whether they fit the core in use.

MMCore loads only adapters that were built for its own device API. What it says when they were not is lost on the
way to Python, so the number is read out of the library itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import DriverError

WHEEL = "mm-test-adapters"

# How the three systems name the library of an adapter.
_PREFIX, _SUFFIX = {
    "win32": ("mmgr_dal_", ".dll"),
    "darwin": ("libmmgr_dal_", ""),
}.get(sys.platform, ("libmmgr_dal_", ".so.0"))

# Load a library as Windows loads a program: its own folder is where its dependencies are looked for.
_WINDOWS_MODE = 0x8 if sys.platform == "win32" else None  # LOAD_WITH_ALTERED_SEARCH_PATH


class AdapterLibrary(NamedTuple):
    """One adapter in a folder: its name, its file, and the device API that it was built for.

    `api` is None, and `trouble` says why, where the file can't be loaded.
    """

    name: str
    file: Path
    api: int | None
    trouble: str = ""


def adapter_folder(adapters: str) -> Path:
    """The folder that `connection.adapters` names.

    Raises
    ------
    DriverError
        If there is none, or no adapter in it.
    """
    if adapters == WHEEL:
        try:
            import mm_test_adapters  # noqa: PLC0415 - only who uses it needs it
        except ImportError as error:
            raise DriverError(
                f"the wheel {WHEEL} can't be imported ({error})",
                f"pip install -c deploy/constraints.txt {WHEEL}",
            ) from error
        return Path(mm_test_adapters.device_adapter_path())
    folder = Path(adapters).expanduser()
    if not folder.is_dir():
        found = usual_folders()
        raise DriverError(
            f"microscope.connection.adapters: there is no folder {folder}",
            f"Micro-Manager is in {found[0]}"
            if found
            else f"give Micro-Manager's own folder, or {WHEEL} for its test devices",
        )
    if not library_files(folder):
        raise DriverError(
            f"microscope.connection.adapters: no device adapter ({_PREFIX}*{_SUFFIX}) lies in {folder}",
            "give the folder in which Micro-Manager's program is",
        )
    return folder.resolve()


def library_files(folder: Path) -> dict[str, Path]:
    """Adapter name → library, of all that lie in a folder."""
    return {
        file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX): file
        for file in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))
        if file.is_file() and (_SUFFIX or "." not in file.name)
    }


def inspect_library(name: str, file: Path) -> AdapterLibrary:
    """Ask an adapter for which device API it was built."""
    try:
        library = ctypes.CDLL(str(file), winmode=_WINDOWS_MODE)
        ask = library.GetDeviceInterfaceVersion
    except (OSError, AttributeError) as error:
        return AdapterLibrary(name, file, None, str(error))
    ask.restype = ctypes.c_long
    return AdapterLibrary(name, file, int(ask()))


def core_api() -> int | None:
    """The device API of the installed pymmcore: the fourth number of its version; None if there is none."""
    try:
        parts = version("pymmcore").split(".")
    except PackageNotFoundError:
        return None
    return int(parts[3]) if len(parts) > 3 and parts[3].isdigit() else None


def misfit(library: AdapterLibrary) -> DriverError | None:
    """What keeps an adapter from being loaded by the installed pymmcore, if anything does."""
    api = core_api()
    if library.api is None:
        return DriverError(
            f"the device adapter {library.name} can't be loaded ({library.trouble})",
            "install the vendor's driver or library that it needs",
        )
    if api is None or library.api == api:
        return None
    installed = version("pymmcore")
    if library.api > api:
        fix = (
            f"install the pymmcore whose version has {library.api} as its fourth number "
            "(`pip index versions pymmcore` lists them)"
        )
    else:
        fix = (
            f"install a newer Micro-Manager, one with device API {api}, or build the adapter for it; "
            f"an older pymmcore, with {library.api} as the fourth number of its version, loads it too, but can "
            "not say which frames its buffer lost"
        )
    return DriverError(
        f"the device adapter {library.name} was built for device API {library.api}, "
        f"pymmcore {installed} has {api}",
        fix,
    )


def usual_folders() -> list[Path]:
    """Where Micro-Manager is found on this machine, the newest first, of the places where it usually is."""
    if sys.platform == "win32":
        roots = [Path(os.environ.get("PROGRAMFILES", r"C:\Program Files")), Path("C:/")]
    elif sys.platform == "darwin":
        roots = [Path("/Applications"), Path.home(), Path.home() / "Applications"]
    else:
        roots = [Path("/opt"), Path("/usr/local/lib"), Path.home()]
    found = [
        folder
        for root in roots
        if root.is_dir()
        for pattern in ("Micro-Manager*", "micro-manager*")
        for folder in root.glob(pattern)
        if folder.is_dir() and library_files(folder)
    ]
    # The two patterns find the same folder twice where names know no case.
    return sorted(set(found), key=lambda folder: folder.stat().st_mtime, reverse=True)
