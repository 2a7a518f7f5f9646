"""NeuPh on real light: a recording LED by LED knows what its own sums of LEDs are only guessed from.

The reference is Fourier ptychography of all its single-LED frames. NeuPh and two-axis DPC get sums of some of them:
light of different LEDs adds without interference. No truth, so no simulation to be right about.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.taking import Microscope, whole_slot
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.evaluation.neuph.contenders import NEUPH, TWO_AXES
from pipeline.evaluation.neuph.scores import score
from pipeline.evaluation.neuph.stage import with_half_circles
from pipeline.evaluation.text import number, table
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import SlotKey
from pipeline.instrument import resolve_calibration
from pipeline.methods.dpc.reconstructor import load_dpc
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.fpm.method import Fpm
from pipeline.methods.neuph import NeuPhMethod
from pipeline.methods.neuph.fit import matching_frames, read_record, weights_path
from pipeline.methods.neuph.record import LightRecord
from pipeline.methods.weights_file import sha256
from pipeline.optics.propagation import frequency_grid
from pipeline.optics.sensor import Correction
from pipeline.quality import align_bowl, align_piston

Image = NDArray[np.float32]

FLAT = "flat_image"
LEVELLED = "levelled"
"""The same figures with a plane and a bowl aligned, too: frames hardly tell a bowl from none (`README.md`, Fourier
ptychography), and the reference and DPC have one."""
# DPC takes those of these that suit this very field best, for each figure the best one: in its favour.
_REGULARISATIONS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_MORE_IS_BETTER = {"ssim": True, "mse": False, "low_frequency_rmse_rad": False, "frc_cutoff": True}
_DIGITS = {"frc_cutoff": 2, "mse": 4}
# Relative, of wavelength, NA and pixel of both experiments.
_SAME = 0.02


@dataclass(frozen=True)
class RealComparison:
    """`data` as in ``neuph_real.json``, and ``[Y, X]`` radians of the reference, NeuPh and DPC, pistons aligned."""

    data: dict[str, Any]
    images: dict[str, Image]


def compare_on_recording(
    experiment: Experiment,
    reference: Experiment,
    weights: Path | None,
    report: Callable[[str], None],
) -> RealComparison:
    """Score NeuPh and DPC on the first slot of a recording.

    Parameters
    ----------
    experiment
        Of NeuPh: its microscope gives the patterns' frames, mostly a replay that sums single LEDs.
    reference
        ``method: fpm`` over all single-LED frames of the same field.
    weights
        The experiment's, or packaged ones that fit, where None.

    Raises
    ------
    ExperimentError
        If the two are not of the same field, or the weights don't fit.
    MethodError, DriverError
        If weights can't be read, or a frame is missing.
    """
    path = weights_path(experiment, weights)
    record = read_record(path)
    _check_same(experiment, reference)
    whole = parse_experiment(with_half_circles(experiment))
    calibration = resolve_calibration(whole)
    report("taking the patterns' frames")
    frames, valid = _first_slot(whole, calibration, range(whole.plan().frames_per_slot))
    report("Fourier ptychography of the single LEDs")
    upsampling = record.training.upsampling
    truth = _reference(reference, record.light, upsampling)
    report("NeuPh and DPC")
    own = matching_frames(whole, calibration, record.light)
    network = NeuPhMethod().load(whole, calibration, "cpu", path)
    found = network(frames[None, own], valid[None, own]).images[0, 0].numpy()
    if found.shape != truth.shape:
        raise ExperimentError(
            f"the reference has {truth.shape} pixels, NeuPh's phase {found.shape}",
            "give experiments of the same field and camera",
        )
    pixel_um = (calibration.pixel_um or whole.pixel_um) / upsampling
    cutoff = whole.optics.cutoff_per_um

    halves = _dpc(whole, calibration, frames, valid, own[0], upsampling)

    def scored(image: NDArray[Any]) -> dict[str, float]:
        figures = score(image, truth, upsampling, pixel_um, cutoff)
        return {name: figures[name] for name in _MORE_IS_BETTER}

    data: dict[str, Any] = {
        **_table(found, halves, truth, scored),
        LEVELLED: _table(found, halves, truth, lambda image: scored(align_bowl(image, truth))),
        "conditions": {
            "experiment": experiment.name,
            "reference": f"{reference.name}, {reference.plan().frames_per_slot} frames",
            "weights": path.name,
            "sha256": sha256(path),
            "data": record.training.data,
            "frames": len(own),
            "upsampling": upsampling,
            "synthetic_na": record.light.synthetic_na,
            "reference_low_passed_at_na": record.light.synthetic_na,
            "piston": "aligned; levelled: plane and bowl, too",
        },
    }
    shown = halves[data["dpc_regularisations"]["ssim"]]
    images = {
        "reference": truth,
        NEUPH: align_piston(found, truth),
        TWO_AXES: align_piston(shown, truth),
    }
    return RealComparison(data, {n: np.asarray(i, np.float32) for n, i in images.items()})


def _table(
    found: Image,
    halves: dict[float, Image],
    truth: Image,
    scored: Callable[[NDArray[Any]], dict[str, float]],
) -> dict[str, Any]:
    """Figures of NeuPh, of DPC with the regularisation that suits each of them, and of no image at all."""
    tuned = {r: scored(image) for r, image in halves.items()}
    best = {name: _best(tuned, name, more) for name, more in _MORE_IS_BETTER.items()}
    neuph, dpc = scored(found), {name: tuned[r][name] for name, r in best.items()}
    return {
        NEUPH: neuph,
        TWO_AXES: dpc,
        FLAT: scored(np.full_like(truth, np.median(truth))),
        "neuph_is_closer": {
            name: neuph[name] > dpc[name] if more else neuph[name] < dpc[name]
            for name, more in _MORE_IS_BETTER.items()
        },
        "dpc_regularisations": best,
    }


def _best(tuned: dict[float, dict[str, float]], figure: str, more: bool) -> float:
    choose = max if more else min
    return choose(tuned, key=lambda r: tuned[r][figure])


def _check_same(experiment: Experiment, reference: Experiment) -> None:
    if reference.reconstruction.method != "fpm":
        raise ExperimentError(
            f"the reference '{reference.name}' has method: {reference.reconstruction.method}",
            "give the experiment of a recording LED by LED with method: fpm",
        )
    for name, there, here in (
        ("wavelength", reference.optics.wavelength_um, experiment.optics.wavelength_um),
        ("NA", reference.optics.numerical_aperture, experiment.optics.numerical_aperture),
        ("camera pixel at the sample", reference.pixel_um, experiment.pixel_um),
    ):
        if abs(there - here) > _SAME * here:
            raise ExperimentError(
                f"the reference has {name} {there:.4g}, the experiment {here:.4g}",
                "give experiments of the same field under the same light",
            )


def _first_slot(
    experiment: Experiment, calibration: Calibration, frames: range | tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Corrected frames ``[K, Y, X]``, and which of their pixels count."""
    with Microscope(experiment) as microscope:
        raw = whole_slot(microscope.take_slot(experiment, SlotKey(0, 0)))
    chosen = tuple(frames)
    seen, valid = Correction(experiment, calibration, chosen)(
        raw[list(chosen)], np.ones(len(chosen), bool)
    )[:2]
    return seen, valid


def _reference(experiment: Experiment, light: LightRecord, upsampling: int) -> Image:
    """Phase of the field that all single LEDs show, low-passed at the synthetic NA of the patterns."""
    settings = {**experiment.reconstruction.settings, "upsampling": upsampling}
    reconstruction = experiment.reconstruction.model_copy(update={"settings": settings})
    experiment = experiment.model_copy(update={"reconstruction": reconstruction})
    calibration = resolve_calibration(experiment)
    measurement = Fpm().measurement(experiment)
    frames, valid = _first_slot(experiment, calibration, measurement.frames)
    method = Fpm().load(experiment, calibration, "cpu", None)
    phase, amplitude = method(frames[None], valid[None]).images[0]
    pixel_um = (calibration.pixel_um or experiment.pixel_um) / upsampling
    fy, fx = frequency_grid((int(phase.shape[0]), int(phase.shape[1])), pixel_um)
    passed = fy**2 + fx**2 <= (light.synthetic_na / light.wavelength_um) ** 2
    shown = torch.fft.ifft2(torch.fft.fft2(torch.polar(amplitude, phase)) * passed).angle()
    turns = torch.round((phase - shown) / (2 * math.pi))
    found: Image = (shown + 2 * math.pi * turns).numpy()
    return found


def _dpc(
    experiment: Experiment,
    calibration: Calibration,
    frames: torch.Tensor,
    valid: torch.Tensor,
    like: int,
    upsampling: int,
) -> dict[float, Image]:
    """By regularisation, of the last four channels at the focus of the frame number `like`."""
    foci = len(experiment.sequence.foci_um)
    names, focus = experiment.channel_names, like % foci
    channels = range(len(names) - 4, len(names))
    indices = [c * foci + focus for c in channels]
    images = {}
    for regularisation in _REGULARISATIONS:
        settings = DpcSettings(regularisation_phase=regularisation, upsampling=upsampling)
        dpc = load_dpc(
            experiment, calibration, settings, [(names[c], focus) for c in channels], "cpu"
        )
        images[regularisation] = (
            dpc(frames[None, indices], valid[None, indices]).images[0, 0].numpy()
        )
    return images


def real_text(data: dict[str, Any]) -> str:
    """The table as a person reads it, in Markdown."""
    conditions = data["conditions"]
    return (
        f"# NeuPh on real light: {conditions['experiment']}\n\n"
        f"Weights {conditions['weights']}, {conditions['frames']} frames; reference: {conditions['reference']}, "
        f"low-passed at NA {conditions['reference_low_passed_at_na']:.3f}; pistons aligned. DPC has for each figure "
        "the regularisation that suits this very field best.\n\n"
        + _table_text(data)
        + "\n## Levelled: a plane and a bowl aligned, too\n\n"
        + _table_text(data[LEVELLED])
    )


def _table_text(found: dict[str, Any]) -> str:
    rows = [
        [name, *(number(found[name][f], _DIGITS.get(f, 3)) for f in _MORE_IS_BETTER)]
        for name in (NEUPH, TWO_AXES, FLAT)
    ]
    closer = [name for name, is_closer in found["neuph_is_closer"].items() if is_closer]
    return (
        table(["", *_MORE_IS_BETTER], rows)
        + f"\n\nNeuPh is closer to the reference by: {', '.join(closer) or 'none of them'}.\n"
    )
