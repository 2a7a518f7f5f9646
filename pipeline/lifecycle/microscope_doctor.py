"""What of Micro-Manager works here, and whether an experiment's microscope is what it says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from drivers.micromanager.adapters import (
    WHEEL,
    adapter_folder,
    core_api,
    inspect_library,
    library_files,
    misfit,
    usual_folders,
)
from drivers.micromanager.check import map_faults
from drivers.micromanager.connect import disconnect, load
from drivers.micromanager.core import Core
from drivers.micromanager.sequenceable import sequencing_of
from drivers.registry import open_driver
from pipeline.errors import LivephaseError
from pipeline.experiment import Experiment, MicroManagerMicroscope
from pipeline.lifecycle.finding import Finding, Level

# From here on the core counts the frames that its buffer lost.
_OLDEST_PYMMCORE = (12, 5)


def installed() -> Iterator[Finding]:
    """The parts of Micro-Manager on this machine."""
    yield _pymmcore()
    yield _test_adapters()
    yield _pycromanager()
    yield _program()


def microscope(experiment: Experiment) -> Iterator[Finding]:
    """An experiment's microscope: can it be reached, is its map right, does it do what the plan wants?

    Lights and moves nothing, but for what `setup` sets.
    """
    scope = experiment.microscope
    if not isinstance(scope, MicroManagerMicroscope):
        try:
            open_driver(experiment).preflight()
        except LivephaseError as error:
            yield _failed("microscope", error)
        else:
            yield Finding("microscope", "ok", f"{scope.driver}, nothing to connect to")
        return
    try:
        core = load(scope)
    except LivephaseError as error:
        yield _failed("microscope", error)
        return
    try:
        yield Finding(
            "microscope", "ok", f"connected, {len(core.get_loaded_devices()) - 1} devices"
        )
        faults = list(map_faults(core, scope))
        for fault in faults:
            yield _failed("device map", fault)
        if not faults:
            yield Finding("device map", "ok", "as the devices are")
            yield _camera(core, experiment)
            yield from _sequencing(core, experiment, scope)
            yield from _stage(core, experiment, scope)
    finally:
        disconnect(core, scope)


def _failed(name: str, error: LivephaseError) -> Finding:
    return Finding(name, "error", error.cause, _sentence(error.fix))


def _sentence(fix: str) -> str:
    return f"{fix[:1].upper()}{fix[1:]}"


def _pymmcore() -> Finding:
    try:
        found = version("pymmcore")
    except PackageNotFoundError:
        return Finding(
            "pymmcore", "error", "not installed", "pip install -c deploy/constraints.txt pymmcore"
        )
    text = f"{found}, device API {core_api()}"
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST_PYMMCORE:
        return Finding(
            "pymmcore",
            "error",
            f"{text}, can't say which frames its buffer lost",
            "pip install 'pymmcore>=12.5'",
        )
    return Finding("pymmcore", "ok", text)


def _test_adapters() -> Finding:
    try:
        folder = adapter_folder(WHEEL)
    except LivephaseError as error:
        return Finding(WHEEL, "warning", error.cause, error.fix)
    for name, file in library_files(folder).items():
        trouble = misfit(inspect_library(name, file))
        if trouble is not None:
            fix = f"pip install '{WHEEL}=={core_api()}.*'"
            return Finding(WHEEL, "warning", trouble.cause, fix)
    return Finding(WHEEL, "ok", f"{version(WHEEL)}, fits pymmcore")


def _pycromanager() -> Finding:
    try:
        import pycromanager  # noqa: PLC0415 - a second, and its failure is a finding
    except ImportError as error:
        return Finding(
            "pycromanager",
            "warning",
            f"can't be imported ({error})",
            "pip install -c deploy/constraints.txt pycromanager (only for a Micro-Manager that runs)",
        )
    return Finding("pycromanager", "ok", str(pycromanager.__version__))


def _program() -> Finding:
    folders = usual_folders()
    if not folders:
        return Finding(
            "Micro-Manager",
            "ok",
            "not where it usually is: needed for real devices only, its folder goes into "
            "microscope.connection.adapters",
        )
    folder = folders[0]
    files = library_files(folder)
    name = "DemoCamera" if "DemoCamera" in files else next(iter(files))
    trouble = misfit(inspect_library(name, files[name]))
    if trouble is not None:
        return Finding("Micro-Manager", "warning", f"{folder}: {trouble.cause}", trouble.fix)
    return Finding(
        "Micro-Manager", "ok", f"{folder}, {len(files)} device adapters that fit pymmcore"
    )


def _camera(core: Core, experiment: Experiment) -> Finding:
    camera = experiment.microscope.camera
    shape = (core.get_image_height(), core.get_image_width())
    bits = core.get_image_bit_depth()
    text = f"{core.get_camera_device()}, {shape[0]} x {shape[1]} pixels, {bits} bit"
    wrong = [
        f"microscope.camera.{key} to {list(is_) if isinstance(is_, tuple) else is_}"
        for key, is_, said in (
            ("shape_px", shape, camera.shape_px),
            ("bit_depth", bits, camera.bit_depth),
        )
        if is_ != said
    ]
    if wrong:
        return Finding(
            "camera", "error", text, f"Set {' and '.join(wrong)}, or the camera in setup"
        )
    return Finding("camera", "ok", text)


def _sequencing(
    core: Core, experiment: Experiment, scope: MicroManagerMicroscope
) -> Iterator[Finding]:
    """Of what changes from frame to frame: light, lens, exposure."""
    plan = experiment.plan()
    light, lens = scope.light, scope.lens
    if light is not None and len(plan.channels) > 1:
        if light.sequencing == "firmware":
            yield Finding("light", "ok", f"'{light.device}' is stepped by its firmware")
        else:
            yield _steps(core, "light", light.device, light.property, light.sequencing)
        for channel in light.settings:
            if channel in experiment.channel_names:
                yield Finding(
                    "light",
                    "warning",
                    f"channel '{channel}' has settings: it is not sequenced with the others",
                    "Bring them into the values of the one property, if you can",
                )
    if lens is not None and len(plan.foci_um) > 1:
        yield _steps(core, "lens", lens.device, lens.property, lens.sequencing)
    exposures = {channel.exposure_ms for channel in plan.channels}
    if len(exposures) > 1:
        camera = core.get_camera_device()
        if core.is_exposure_sequenceable(camera):
            most = core.get_exposure_sequence_max_length(camera)
            yield Finding("exposure", "ok", f"'{camera}' holds {most} exposure times")
        else:
            yield Finding(
                "exposure",
                "warning",
                f"the channels have {len(exposures)} exposure times, and '{camera}' can't step through them: "
                "a burst ends at each change",
                "Give all channels the same exposure_ms, and balance them by brightness",
            )


def _steps(core: Core, part: str, label: str, name: str | None, wanted: str) -> Finding:
    most, fix = sequencing_of(core, label, name)
    what = f"'{label}'" if name is None else f"'{name}' of '{label}'"
    if wanted == "software":
        return Finding(part, "ok", f"{what} is stepped in software, as asked")
    if most:
        return Finding(part, "ok", f"{what} holds {most} values, stepped by the camera")
    level: Level = "error" if wanted == "hardware" else "warning"
    return Finding(part, level, f"{what} can't be stepped by the camera", _sentence(fix))


def _stage(core: Core, experiment: Experiment, scope: MicroManagerMicroscope) -> Iterator[Finding]:
    if all(place.x_um is None for place in experiment.sequence.positions):
        return
    label = scope.stage.device or core.get_xy_stage_device()
    if label:
        yield Finding("stage", "ok", f"'{label}'")
    else:
        yield Finding(
            "stage",
            "error",
            "the experiment has positions, and Micro-Manager has no default XY stage",
            "Give microscope.stage.device",
        )
