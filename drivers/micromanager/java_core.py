"""The core of a running Micro-Manager (Java) under `Core`: lists and errors as Python has them.

pycromanager hands out Java's own vectors and enumerations, wants such vectors back, and raises everything as
a bare `Exception`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

# The calls that take a list, and the Java class that it has to be.
_VECTORS = {
    "load_property_sequence": "mmcorej.StrVector",
    "load_stage_sequence": "mmcorej.DoubleVector",
    "load_exposure_sequence": "mmcorej.DoubleVector",
}


class JavaCore:
    """A `Core` made of pycromanager's.

    Parameters
    ----------
    remote
        pycromanager's ``Core(port=…)``.
    new_java
        Makes a Java object of a class by name, at the same port.
    """

    def __init__(self, remote: Any, new_java: Callable[[str], Any]) -> None:
        self._remote = remote
        self._new_java = new_java
        self._auto_shutter = bool(_asked(remote.get_auto_shutter))

    def let_go(self) -> None:
        """Leave it as it was found: a person works with it, too."""
        # A Micro-Manager that was closed meanwhile has nothing to be put back.
        with suppress(RuntimeError):
            _asked(self._remote.set_auto_shutter, self._auto_shutter)

    def __getattr__(self, name: str) -> Any:
        remote = getattr(self._remote, name)
        vector = _VECTORS.get(name)

        def call(*arguments: Any) -> Any:
            if vector is not None:
                arguments = (*arguments[:-1], self._vector(vector, arguments[-1]))
            return _plain(_asked(remote, *arguments))

        # Found once, it is an attribute like any other.
        setattr(self, name, call)
        return call

    def get_device_type(self, label: str) -> int:
        """MMCore's number of a device's type."""
        kind = _asked(self._remote.get_device_type, label)
        return int(kind if isinstance(kind, int) else _asked(kind.swig_value))

    def _vector(self, java_class: str, values: Sequence[Any]) -> Any:
        vector = _asked(self._new_java, java_class)
        for value in values:
            _asked(vector.add, value)
        return vector


def _asked(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        # All that pycromanager ever raises is a plain Exception with Java's message: what fails behind
        # this line failed in Micro-Manager.
        message = _without_stack(str(error))
        kind = IndexError if "buffer is empty" in message else RuntimeError  # as pymmcore does
        raise kind(message) from error


def _without_stack(message: str) -> str:
    """The first line of a Java exception, without its class."""
    first = message.strip().splitlines()[0] if message.strip() else "no reason given"
    return first.removeprefix("java.lang.Exception: ")


def _plain(value: Any) -> Any:
    """A Java vector as a list; anything else as it is."""
    if hasattr(value, "size") and hasattr(value, "get") and not hasattr(value, "shape"):
        return [value.get(i) for i in range(value.size())]
    return value
