"""Find a controller by its name: ours and third parties' alike, through entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

from pipeline.controllers.contract import Controller
from pipeline.errors import ExperimentError, LivephaseError
from pipeline.experiment import ControllerEntry, Experiment, nearest

GROUP = "livephase.controllers"


def available_controllers() -> tuple[str, ...]:
    """Names of the installed controllers, sorted; none of them is imported."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def make_controller(entry: ControllerEntry, experiment: Experiment) -> Controller:
    """The controller that an experiment names, with its settings.

    Raises
    ------
    ExperimentError
        If there is none of this name, it can't be loaded, or it refuses the experiment or its settings.
    """
    points = {p.value: p for p in entry_points(group=GROUP, name=entry.use)}
    if not points:
        known = available_controllers()
        raise ExperimentError(
            f"there is no controller '{entry.use}'",
            nearest(entry.use, known) if known else "install livephase again: none is installed",
        )
    if len(points) > 1:
        raise ExperimentError(
            f"{' and '.join(points)} both offer a controller '{entry.use}'",
            "uninstall one of the packages",
        )
    point = next(iter(points.values()))
    try:
        controller = point.load()(experiment, entry.settings)
    except LivephaseError:
        raise
    # Third-party code runs here: whatever it raises, the user must learn whose it is.
    except Exception as error:
        raise ExperimentError(
            f"the controller '{entry.use}' can't be made of {point.value} ({type(error).__name__}: {error})",
            "repair its package, or remove it from control.controllers",
        ) from error
    if not isinstance(controller, Controller):
        raise ExperimentError(
            f"'{entry.use}' is no controller: {point.value} lacks looks_at, seen or on_result",
            "repair its package, or remove it from control.controllers",
        )
    return controller
