"""How good labels are, and a network that learnt from them, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ExperimentError
from pipeline.frames import SlotKey
from pipeline.methods.dl_srqpi.networks import Network
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.optics.sensor import bin_pixels
from pipeline.quality import align_piston, frc_cutoff, rmse_rad, ssim, ssim_foreground
from pipeline.store.arrays import make_context, open_array, read_array
from pipeline.store.layout import array_path
from pipeline.training.recordings.fields import held_back
from pipeline.training.recordings.pairs import Pair, PairMaker, input_foci
from pipeline.training.recordings.settings import RecordingSettings
from pipeline.training.recordings.stack import Stack
from pipeline.training.validation import Case

Image = NDArray[np.floating]


_STORE = "truth.ome.zarr"


def has_truth(recording: Path) -> bool:
    """Whether `label_quality` can say something of it: whether it comes from `livephase simulate`."""
    return (recording / _STORE).is_dir()


def label_quality(
    run: Path,
    optics: OpticsRecord,
    upsampling: int,
    networks: Mapping[str, Network] | None = None,
    settings: RecordingSettings | None = None,
) -> dict[str, Any]:
    """The labels of the slots kept back, and networks' phase of the same slots, against the truth.

    Parameters
    ----------
    run
        Of `livephase simulate`, which stores the truth.
    networks
        Name → network; each is given the binned frames alone.

    Returns
    -------
    dict
        ``images``, and for ``label`` and each network the means of ``ssim``, ``ssim_foreground``, ``rmse_rad``
        and ``frc_cutoff`` (in units of the binned camera's Nyquist frequency); piston aligned, border cut off.

    Raises
    ------
    ExperimentError
        If the run has no stored truth, or no slot that is kept back gives a pair; and as `recorded_fields`.
    """
    settings = settings or RecordingSettings()
    images: dict[str, list[dict[str, float]]] = {"label": []}
    with Stack(run) as stack:
        truth_of = _Truth(stack)
        held = held_back(list(stack.slots()), settings.validation_share)
        for focus in input_foci(stack, upsampling, optics):
            make = PairMaker(stack, upsampling, focus, settings)
            for slot in sorted(held):
                pair = make(slot)
                if not isinstance(pair, Pair):
                    continue
                truth = truth_of(slot)[make.inner]
                images["label"].append(figures(pair.phase.numpy(), truth, upsampling))
                case = Case(pair.frame[None, None], pair.conditions, truth)
                for name, network in (networks or {}).items():
                    found = figures(case.reconstruct(network), truth, upsampling)
                    images.setdefault(name, []).append(found)
    if not images["label"]:
        raise ExperimentError(
            f"no slot of {run} that is kept back gives a label", "simulate more positions"
        )
    means = {
        name: {k: round(float(np.mean([f[k] for f in found])), 4) for k in found[0]}
        for name, found in images.items()
    }
    return {"images": len(images["label"]), **means}


def figures(image: Image, truth: Image, upsampling: int) -> dict[str, float]:
    """Of one image ``[Y, X]`` against the truth, piston aligned."""
    aligned = align_piston(image, truth)
    out = {
        "rmse_rad": rmse_rad(aligned, truth),
        "frc_cutoff": frc_cutoff(aligned, truth, upsampling),
    }
    # A field without a foreground has no such figure.
    for name, metric in (("ssim", ssim), ("ssim_foreground", ssim_foreground)):
        out[name] = float("nan")
        with suppress(ValueError):
            out[name] = metric(aligned, truth)
    return out


class _Truth:
    """The phase that `livephase simulate` stored, on the camera's grid."""

    def __init__(self, stack: Stack) -> None:
        self._plan = stack.experiment.plan()
        self._store = stack.path / _STORE
        if not self._store.is_dir():
            raise ExperimentError(
                f"{stack.path} holds no truth", "give a run of `livephase simulate`"
            )
        self._context = make_context()

    def __call__(self, slot: SlotKey) -> NDArray[np.float32]:
        """``[Y, X]`` radians; means over camera pixels of the specimen's finer grid."""
        array = open_array(array_path(self._store, self._plan, slot.position), self._context)
        what = f"timepoint {slot.timepoint}, position {slot.position} of {self._store}"
        phase = torch.from_numpy(read_array(array, slot.timepoint, what)[0])
        samples = phase.shape[-1] // self._plan.frame_shape[1]
        return np.asarray(bin_pixels(phase, samples).numpy(), np.float32)
