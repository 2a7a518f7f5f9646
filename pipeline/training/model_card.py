"""A page about a network, for whoever is to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.methods.dl_srqpi.record import WeightsRecord
from pipeline.methods.weights_file import sha256

_LABEL_FIGURES = ("ssim", "ssim_foreground", "rmse_rad", "frc_cutoff")


def write_model_card(
    weights: Path,
    record: WeightsRecord,
    experiment: str,
    kept_back: str,
    labels: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write ``<weights>.md`` from the weights' own record.

    Parameters
    ----------
    experiment
        The experiment's name.
    kept_back
        What `record.training.validation` is about, in words.
    labels
        Of recordings whose truth is known: see `label_quality`.
    """
    o, t, n = record.optics, record.training, record.network
    figures = "\n".join(f"| {name} | {value:g} |" for name, value in t.validation.items())
    begun = f"the weights {t.begun_from[:12]}…" if t.begun_from else "random weights"
    text = f"""# {weights.name}

DL-SRQPI: phase {n.upsampling} times finer than the camera's pixels from one defocused frame.

| | |
|---|---|
| network | {record.name}: {n.sizes} |
| sha256 | `{sha256(weights)}` |
| optics | {1000 * o.wavelength_um:g} nm, NA {o.numerical_aperture:g}, index {o.refractive_index:g}, \
camera pixel {o.pixel_um:.4g} µm at the sample ({experiment}) |
| defocus | {o.z_min_um:g} to {o.z_max_um:g} µm, most at {o.z_um:g} µm |
| coherence | S = {o.coherence_min:g} to {o.coherence_max:g} |
| data | {t.data}, {t.fields} fields, {t.images} frames, noise {t.noise[0]:g} to {t.noise[1]:g} of the background |
| training | seed {t.seed}, {t.steps} steps, {t.samples} patches, {t.minutes:g} minutes, from {begun} |
| made by | livephase {t.livephase}, torch {t.torch} |

Kept back from the training: {kept_back}, piston aligned. The score, the mean of both SSIM, chose the weights.

| figure | value |
|---|---|
{figures}

{_labels(labels or {})}Where a frame does not tell, it gives what the specimens that it was trained on make
likely, most of all in detail finer than two camera pixels. Figures on specimens of other making:
`livephase evaluate dl_srqpi --experiment EXPERIMENT.yaml --weights {weights.name}`.
"""
    card = weights.with_suffix(".md")
    card.write_text(text, encoding="utf-8")
    return card


def _labels(labels: Mapping[str, Mapping[str, Any]]) -> str:
    """Labels beside the network, against the truth that a simulated recording comes with."""
    text = ""
    for name, found in labels.items():
        rows = "\n".join(
            f"| {who} | "
            + " | ".join(f"{found[who][figure]:.3f}" for figure in _LABEL_FIGURES)
            + " |"
            for who in ("label", "network")
        )
        text += f"""Against the truth of the recording {name} (images kept back: {found["images"]}):

| | {" | ".join(_LABEL_FIGURES)} |
|---|{"---|" * len(_LABEL_FIGURES)}
{rows}

"""
    return text
