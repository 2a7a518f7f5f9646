"""A page about a network of neuph, for whoever is to trust it."""

from __future__ import annotations

from pathlib import Path

from pipeline.methods.neuph.record import WeightsRecord
from pipeline.methods.weights_file import sha256


def write_neuph_card(weights: Path, record: WeightsRecord, experiment: str) -> Path:
    """Write ``<weights>.md`` from the weights' own record.

    Parameters
    ----------
    experiment
        The experiment's name.
    """
    light, t = record.light, record.training
    leds = ", ".join(
        f"{len(p.sines)} {'brightfield' if p.brightfield else 'darkfield'}" for p in light.patterns
    )
    figures = "\n".join(f"| {name} | {value:g} |" for name, value in t.validation.items())
    truth_na = record.truth_na or light.synthetic_na
    beyond = "" if truth_na == light.synthetic_na else f"; trained on a truth to {truth_na:.3f}"
    begun = f"the weights {t.begun_from[:12]}…" if t.begun_from else "random weights"
    text = f"""# {weights.name}

NeuPh: phase on any grid from {len(light.patterns)} multiplexed LED frames.

| | |
|---|---|
| network | {record.name}: {record.network.sizes} |
| sha256 | `{sha256(weights)}` |
| optics | {1000 * light.wavelength_um:g} nm, NA {light.numerical_aperture:g}, camera pixel {light.pixel_um:.4g} µm \
at the sample, defocus {light.z_um:g} µm ({experiment}) |
| LEDs of the frames | {leds}; synthetic NA {light.synthetic_na:.3f}{beyond} |
| data | {t.data}; {t.fields} fields, {t.upsampling} times finer than the camera |
| training | seed {t.seed}, {t.steps} steps, {t.minutes:g} minutes, from {begun} |
| made by | livephase {t.livephase}, torch {t.torch} |

Kept back from the training: simulated specimens of the same kinds, against the phase of the field low-passed at NA
{truth_na:.3f}, piston aligned. The score chose the weights.

| figure | value |
|---|---|
{figures}

Where the frames do not tell, it gives what the specimens that it was trained on make likely; beyond the synthetic NA
it interpolates.
"""
    card = weights.with_suffix(".md")
    card.write_text(text, encoding="utf-8")
    return card
