"""How well `fpm` explains frames, and frames that it was never shown: no truth needed, so real light will do.

NMSE as DESIGN.md defines it: Σ (|ψ| - √I)² / Σ I over pixels and frames, everything frozen. A frame that was left
out has no fitted intensity of its own: it gets what the LEDs around it have. That guess is most of the figure where
an LED at the pupil's edge is among them, so there is a second one, whose frames are as bright as they suit best.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from drivers.taking import Microscope, whole_slot
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.frames import SlotKey
from pipeline.instrument import resolve_calibration
from pipeline.methods.fpm.method import Fpm
from pipeline.methods.fpm.reconstructor import FpmReconstructor
from pipeline.methods.fpm.settings import FpmSettings
from pipeline.methods.settings import read_settings
from pipeline.optics.illumination import Source, background_intensity
from pipeline.optics.sensor import Correction

# One frame in so many is left out, beginning with this one: neither the axis's nor the corner's.
_EVERY, _FIRST = 10, 5
# Fewer would leave too little to explain the rest with.
_LEAST_FRAMES = 20


def evaluate_fpm(experiment: Experiment, report: Callable[[str], None]) -> dict[str, Any]:
    """Figures of one slot of the experiment's microscope: a recording that it replays, a simulation, or a real one.

    Returns
    -------
    dict
        ``nmse, nmse_brightfield, nmse_darkfield`` of all frames, ``nmse_held_out`` of one LED in ten that were
        left out of another fit, its LEDs where the calibration has them, ``nmse_held_out_shape`` of the same with
        the intensity that suits each best, ``seconds`` of the first fit, ``conditions``.

    Raises
    ------
    ExperimentError
        If the method refuses the experiment, or the field is of several tiles.
    """
    measurement = Fpm().measurement(experiment)
    settings = read_settings(FpmSettings, experiment)
    calibration = resolve_calibration(experiment)
    plan = experiment.plan()
    if max(plan.frame_shape) > settings.tile_px:
        raise ExperimentError(
            f"frames of {plan.frame_shape} pixels are several tiles, and fpm is judged on one",
            f"set reconstruction.settings.tile_px: {max(plan.frame_shape)}, or take a smaller field",
        )
    report("taking the frames")
    with Microscope(experiment) as microscope:
        raw = whole_slot(microscope.take_slot(experiment, SlotKey(0, 0)))
    correction = Correction(experiment, calibration, measurement.frames)
    frames, valid = correction(raw, np.ones(len(raw), bool))
    method = FpmReconstructor(experiment, calibration, settings, measurement.upsampling, "cpu")
    (span,) = method.mosaic.spans
    sources = method.sources(span)
    report(f"explaining {len(frames)} frames")
    began = time.perf_counter()
    with torch.inference_mode():
        waves, found = method.solve(frames, valid, span)
        seconds = time.perf_counter() - began
        made = method.predicted(waves, found, found.light)
    errors = _errors(made, frames, valid)
    power = (frames.clamp_min(0) * valid).sum((1, 2))
    bright = torch.tensor([background_intensity(s, experiment.optics) > 0 for s in sources])
    figures = {
        "nmse": _share(errors, power),
        "nmse_brightfield": _share(errors[bright], power[bright]),
        "nmse_darkfield": _share(errors[~bright], power[~bright]),
        "nmse_held_out": None,
        "nmse_held_out_shape": None,
    }
    if len(frames) >= _LEAST_FRAMES:
        out = torch.zeros(len(frames), dtype=torch.bool)
        out[_FIRST::_EVERY] = True
        kept, left = (torch.where(some)[0].tolist() for some in (~out, out))
        report(f"explaining {len(left)} of them by the others")
        with torch.inference_mode():
            _, without = method.solve(frames[kept], valid[kept], span, kept)
            light = _light_between(sources, left, kept, without.light)
            made = method.predicted(method.waves(span, left), without, light)
        missed = _errors(made, frames[left], valid[left])
        figures["nmse_held_out"] = _share(missed, power[left])
        missed = _errors(_as_bright(made, frames[left], valid[left]), frames[left], valid[left])
        figures["nmse_held_out_shape"] = _share(missed, power[left])
    return {
        **figures,
        "seconds": seconds,
        "conditions": {
            "experiment": experiment.name,
            "frames": len(frames),
            "frame_px": list(plan.frame_shape),
            "upsampling": measurement.upsampling,
            "settings": settings.model_dump(mode="json"),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _errors(made: torch.Tensor, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """``[k]`` Σ (|ψ| - √I)² of each frame, all frozen."""
    missed = (made.sqrt() - frames.clamp_min(0).sqrt()).square()
    return (missed * valid).sum((1, 2))


def _as_bright(made: torch.Tensor, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """``[k, Y, X]`` frames of the intensity with which their errors are least."""
    amplitudes = made.sqrt() * valid
    fit = (amplitudes * frames.clamp_min(0).sqrt()).sum((1, 2))
    square = amplitudes.square().sum((1, 2)).clamp_min(torch.finfo(made.dtype).tiny)
    return made * (fit / square).square()[:, None, None]


def _light_between(
    sources: Sequence[Source], left: list[int], kept: list[int], light: torch.Tensor
) -> torch.Tensor:
    """``[l]`` intensities of frames that were left out: a mean of the nearest ones', in logarithms."""
    at = torch.stack([_direction(s) for s in sources])
    apart = torch.cdist(at[left], at[kept])
    nearest = torch.cdist(at[kept], at[kept]).fill_diagonal_(torch.inf).amin(1).median()
    share = torch.exp(-(apart / nearest).square() / 2)
    return ((share @ light.double().log()) / share.sum(1)).exp().to(light.dtype)


def _direction(source: Source) -> torch.Tensor:
    """``[2]`` where the light of a frame comes from, on the whole."""
    return source.weights @ source.frequencies


def _share(errors: torch.Tensor, power: torch.Tensor) -> float | None:
    return float(errors.sum() / power.sum()) if len(power) else None


def fpm_text(data: dict[str, Any]) -> str:
    """The figures as a person reads them."""
    conditions = data["conditions"]
    held_out = data["nmse_held_out"]
    lines = [
        f"fpm: {conditions['experiment']}, {conditions['frames']} frames of "
        f"{conditions['frame_px'][0]} x {conditions['frame_px'][1]} pixels, "
        f"phase {conditions['upsampling']} times finer",
        f"  explained in {data['seconds']:.1f} s on {conditions['threads']} threads",
        "  amplitude NMSE, everything frozen (0 is a perfect model)",
        f"    all frames   {data['nmse']:.4f}",
        f"    brightfield  {data['nmse_brightfield']:.4f}",
    ]
    if data["nmse_darkfield"] is not None:
        lines.append(f"    darkfield    {data['nmse_darkfield']:.4f}")
    if held_out is not None:
        lines.append(
            f"    left out     {held_out:.4f}  (one frame in {_EVERY}, explained by the others)"
        )
        lines.append(
            f"                 {data['nmse_held_out_shape']:.4f}  (the same, each as bright as it suits best)"
        )
    return "\n".join(lines) + "\n"
