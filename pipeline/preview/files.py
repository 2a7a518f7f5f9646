"""A look as a file: PNG for the eye, TIFF or NumPy for what the camera counted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.durable import replace_file
from pipeline.errors import ExperimentError, RunFolderError
from pipeline.experiment import Experiment
from pipeline.preview.looking import Look

_KINDS = (".png", ".tif", ".tiff", ".npy")


def check_out(out: Path) -> None:
    """Refuse, before any light, a file that can't be written.

    Raises
    ------
    ExperimentError, RunFolderError
        If its name says no known kind, or its folder is not there.
    """
    if out.suffix.lower() not in _KINDS:
        raise ExperimentError(
            f"--out {out} names no known kind of file", f"end it with one of {', '.join(_KINDS)}"
        )
    if not out.parent.is_dir():
        raise RunFolderError(
            f"the folder {out.parent} does not exist", "make it, or correct the path given as --out"
        )


def write_look(look: Look, experiment: Experiment, out: Path, title: str) -> list[Path]:
    """Write a look; a reader finds the file of before or this one, never a part.

    PNG shows all of it. TIFF (OME, 16 bits or 8) and ``.npy`` hold the raw counts ``[C, Z, Y, X]``, and
    beside them, as ``<name>.phase``, what the method made of them: ``[C, Y, X]`` float32.

    Returns
    -------
    The files, the one that was asked for first.

    Raises
    ------
    RunFolderError
        If it can't be written.
    """
    kind = out.suffix.lower()
    contents: dict[Path, bytes] = {}
    if kind == ".png":
        # matplotlib takes a second that a look at the figures need not wait for.
        from pipeline.preview.picture import png  # noqa: PLC0415

        contents[out] = png(look, title)
    else:
        phase = out.with_name(f"{out.stem}.phase{out.suffix}")
        contents[out] = _npy(look.raw) if kind == ".npy" else _raw_tiff(look, experiment)
        if look.result is not None:
            images = look.result.images
            contents[phase] = _npy(images) if kind == ".npy" else _phase_tiff(look)
    try:
        for path, content in contents.items():
            replace_file(path, content)
    except OSError as error:
        raise RunFolderError(
            f"{out} can't be written ({error.strerror or error})",
            "give a place that you may write to, on a disk with space",
        ) from error
    return list(contents)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _raw_tiff(look: Look, experiment: Experiment) -> bytes:
    plan = experiment.plan()
    foci = plan.foci_um
    metadata: dict[str, Any] = {
        "axes": "CZYX",
        "SignificantBits": plan.bit_depth,
        "Channel": {"Name": [c.name for c in plan.channels]},
        "Plane": {
            "ExposureTime": [c.exposure_ms for c in plan.channels for _ in foci],
            "ExposureTimeUnit": ["ms"] * plan.frames_per_slot,
            "PositionZ": [z for _ in plan.channels for z in foci],
            "PositionZUnit": ["µm"] * plan.frames_per_slot,
        },
    }
    return ome_tiff(look.raw, metadata, look.pixel_um)


def _phase_tiff(look: Look) -> bytes:
    assert look.result is not None
    images = look.result.images
    pixel_um = look.pixel_um * look.raw.shape[-1] / images.shape[-1]
    names = ["phase / rad" if name == "phase" else name for name in look.outputs]
    return ome_tiff(images, {"axes": "CYX", "Channel": {"Name": names}}, pixel_um)


def ome_tiff(pixels: np.ndarray[Any, Any], metadata: dict[str, Any], pixel_um: float) -> bytes:
    """An OME-TIFF of pixels with their size at the specimen."""
    import tifffile  # noqa: PLC0415 - its import takes longer than a look without a file

    metadata |= {
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeYUnit": "µm",
    }
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, ome=True, photometric="minisblack", metadata=metadata)
    return buffer.getvalue()
