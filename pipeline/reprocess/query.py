"""Phase on any grid out of a run, long after it: of methods that make a continuous field of their frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, RunFolderError, StoreError
from pipeline.frames import Region, SlotKey
from pipeline.methods.weights_file import write_whole
from pipeline.preview.files import ome_tiff
from pipeline.store.reader import RunReader

if TYPE_CHECKING:
    import torch

    from pipeline.stages.reconstruction import SlotReconstructor

_LATENTS = "latents"


@dataclass(frozen=True)
class Queried:
    """Phase of a region.

    Parameters
    ----------
    phase
        ``[Y, X]`` radians, the whole field's background at zero.
    region
        Camera pixels.
    pixel_um
        From one point to the next, at the specimen.
    interpolated
        Whether points lie closer than the light's finest detail needs: more points then show no more.
    latent_kept
        Whether the latent was read from the run, not made anew.
    """

    phase: NDArray[np.float32]
    region: Region
    pixel_um: float
    interpolated: bool
    latent_kept: bool


def query_phase(
    run: Path | str,
    *,
    timepoint: int = 0,
    position: int = 0,
    region: Sequence[float] | None = None,
    density: float | None = None,
    keep: bool = False,
) -> Queried:
    """Phase of a part of a run's field at any density.

    Parameters
    ----------
    region
        (y, x, height, width) in camera pixels; the whole field where None.
    density
        Points per camera pixel along each axis, 6, 21, 49.8, …; as the run's own phase where None.
    keep
        Write the latent into the run's folder, for later queries: the frames are then not needed again.

    Raises
    ------
    ExperimentError
        If the run's method gives no continuous field, or the region lies outside of the field.
    MethodError, SlotError, StoreError, RunFolderError
        If weights or frames are not there or can't be used.
    """
    from pipeline.methods.contract import Continuous  # noqa: PLC0415 - torch
    from pipeline.stages.reconstruction import (  # noqa: PLC0415 - torch
        SlotReconstructor,
        reconstructible,
    )

    folder = Path(run)
    if not folder.is_dir():
        raise RunFolderError(f"there is no run {folder}", "give the folder of a run")
    reader = RunReader(folder)
    experiment = reader.experiment
    plan = experiment.plan()
    height, width = plan.frame_shape
    asked = Region(*region) if region is not None else Region(0.0, 0.0, height, width)
    _check_region(asked, plan.frame_shape)
    key = SlotKey(timepoint, position)
    if not plan.has(key):
        raise ExperimentError(
            f"the run has no timepoint {timepoint} at position {position}",
            f"it has {plan.timepoints} timepoints at {len(plan.positions)} positions",
        )
    calibration = Calibration.load(reader.folder.calibration)
    core = SlotReconstructor(experiment, calibration)
    method = core.method
    if not isinstance(method, Continuous):
        raise ExperimentError(
            f"method {experiment.reconstruction.method} gives phase on one grid only",
            "query runs of neuph, or read phase.ome.zarr",
        )
    path = folder / _LATENTS / f"t{timepoint}_p{position}.safetensors"
    latent = _kept_latent(path, core)
    was_kept = latent is not None
    if latent is None:
        frames, records = reader.raw(key)
        if not reconstructible(core.measurement, records):
            raise ExperimentError(
                f"frames of timepoint {timepoint} at position {position} are missing",
                "query another one: its phase was not reconstructed either",
            )
        latent = method.latent(*core.measured(frames, records))
        if keep:
            _keep(latent, path, core)
    density = density or float(core.measurement.upsampling)
    phase = method.query(latent, asked, density).numpy()
    pixel_um = (calibration.pixel_um or experiment.pixel_um) / density
    return Queried(phase, asked, pixel_um, pixel_um < method.finest_um, was_kept)


def parse_region(text: str | None) -> Region | None:
    """Of a command line's ``Y,X,H,W``. Raises `ExperimentError` for anything else."""
    if text is None:
        return None
    try:
        return Region(*(float(part) for part in text.split(",")))
    except (ValueError, TypeError) as error:
        raise ExperimentError(
            f"'{text}' is not a region", "give four numbers: --region Y,X,H,W in camera pixels"
        ) from error


def _check_region(region: Region, shape: tuple[int, int]) -> None:
    inside = (
        region.y >= 0
        and region.x >= 0
        and region.height > 0
        and region.width > 0
        and region.y + region.height <= shape[0]
        and region.x + region.width <= shape[1]
    )
    if not inside:
        raise ExperimentError(
            f"the region {', '.join(f'{v:g}' for v in region)} (y, x, height, width) is not within the field",
            f"the field has {shape[0]} x {shape[1]} camera pixels",
        )


def _kept_latent(path: Path, core: SlotReconstructor) -> torch.Tensor | None:
    """What an earlier query kept, if it was made with the same weights."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("weights") != core.measurement.weights_sha256:
                return None
            latent: torch.Tensor = file.get_tensor("latent").float()
            return latent
    except (SafetensorError, OSError) as error:
        raise StoreError(f"the latent {path} can't be read ({error})", "delete it") from error


def _keep(latent: torch.Tensor, path: Path, core: SlotReconstructor) -> None:
    from safetensors.torch import save  # noqa: PLC0415 - torch

    path.parent.mkdir(exist_ok=True)
    about = {"weights": core.measurement.weights_sha256 or ""}
    write_whole(path, save({"latent": latent.half().contiguous()}, about))


def write_queried(found: Queried, out: Path) -> None:
    """As .npy, or as .tif with its pixel size.

    Raises
    ------
    ExperimentError
        For another ending.
    """
    if out.suffix == ".npy":
        np.save(out, found.phase)
        return
    if out.suffix not in (".tif", ".tiff"):
        raise ExperimentError(f"phase can't be written as '{out.suffix}'", "give a .tif or .npy")
    out.write_bytes(ome_tiff(found.phase, {"axes": "YX"}, found.pixel_um))


def queried_dict(found: Queried, out: Path | None) -> dict[str, Any]:
    """For JSON."""
    return {
        "shape": list(found.phase.shape),
        "region_px": list(found.region),
        "pixel_um": found.pixel_um,
        "interpolated": found.interpolated,
        "latent_kept": found.latent_kept,
        "phase_rad": [round(float(q), 4) for q in np.quantile(found.phase, [0.002, 0.5, 0.998])],
        "out": None if out is None else str(out),
    }


def queried_text(data: dict[str, Any]) -> str:
    """For a person."""
    low, middle, high = data["phase_rad"]
    finer = ", finer than the light shows: interpolated" if data["interpolated"] else ""
    where = f" -> {data['out']}" if data["out"] else ""
    latent = "kept in the run" if data["latent_kept"] else "made of the frames"
    return "\n".join(
        [
            f"{data['shape'][0]} x {data['shape'][1]} points, {data['pixel_um']:.4g} µm apart{finer}{where}",
            f"  phase {low:.2f} to {high:.2f} rad, median {middle:.2f}",
            f"  latent {latent}",
        ]
    )
