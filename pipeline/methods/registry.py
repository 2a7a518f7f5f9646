"""Find a reconstruction method by its name: ours and third parties' alike, through entry points.

Nothing is imported until a method is asked for, so listing them is cheap and one broken
plugin does not disturb the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import nearest
from pipeline.methods.contract import Method

GROUP = "livephase.methods"


def available_methods() -> tuple[str, ...]:
    """Names of the installed methods, sorted; none of them is imported."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find_method(name: str) -> Method:
    """The method of this name, ready to be asked for its `measurement`.

    Raises
    ------
    ExperimentError
        If no installed distribution offers it, or two different ones do.
    MethodError
        If it is installed but broken; names the distribution to repair.
    """
    points = _distinct(entry_points(group=GROUP, name=name))
    if not points:
        known = available_methods()
        raise ExperimentError(
            f"there is no reconstruction method '{name}'",
            nearest(name, known) if known else "install livephase again: none is installed",
        )
    if len(points) > 1:
        raise ExperimentError(
            f"{' and '.join(_distribution(point) for point in points)} both offer a method '{name}'",
            "uninstall one of them",
        )
    return _load(points[0])


def _distinct(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    # An editable install beside a wheel of the same project lists the same entry twice.
    return list({(p.value, _distribution(p)): p for p in points}.values())


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unnamed distribution"


def _load(point: EntryPoint) -> Method:
    who = f"method '{point.name}' of the distribution '{_distribution(point)}'"
    fix = f"repair or uninstall '{_distribution(point)}'"
    try:
        method = point.load()()
    # Third-party code runs here: whatever it raises, the user must learn whose it is.
    except Exception as error:
        raise MethodError(
            f"{who} can't be loaded from {point.value} ({type(error).__name__}: {error})", fix
        ) from error
    if not isinstance(method, Method):
        raise MethodError(
            f"{who} is not a method: {point.value} lacks name, measurement or load", fix
        )
    return method
