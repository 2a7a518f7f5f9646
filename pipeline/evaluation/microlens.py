"""Microlenses: heights that are known, of many sizes, and the largest that one frame can measure.

Plano-convex lenses of a polymer in air: spherical caps of height h(r), which delay light by
φ = 2π/λ·Δn·h, the field right behind them (thin lenses). Arrays of square pitch 1.25 diameters, turned
by 7° so that they meet the camera's pixels everywhere. A lens' height is the slope of a straight
line through reconstructed against true phase over the lens' own square of the array: the
background between the lenses is in it, so a piston drops out, and no single pixel decides.

What limits a lens' size: seen through a defocus z, a phase of period p has a contrast of about
2·sin(πλz/p²) per radian, and the noise of the lens' own pixels. With φ_f the Fourier coefficients of the
lens on its square of N pixels, H their transfer (pixel included) and σ the noise of a pixel, the
estimate of the height by an unbiased linear inverse has the standard deviation

    σ_height = σ/√N · √(Σ φ_f²/H_f²) / Σ φ_f²    (per radian of height 1)

over the lowest frequencies and those that pass well, up to the camera's Nyquist. The rim of a lens alone
would tell its height to one who knew its shape; the lowest frequencies are what tells it without. The period
at which σ_height becomes the tolerance for one lens of 1 rad is the largest that one frame measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.contenders import NETWORK, Contenders
from pipeline.evaluation.forward import Conditions, Floats, image, margin_px
from pipeline.evaluation.noise import PAPER_BINNING, PAPER_SIGMA
from pipeline.evaluation.plan import PAPER, Row
from pipeline.evaluation.setting import Setting
from pipeline.experiment import Experiment
from pipeline.optics.weak_object import condenser_phase_transfer

# A common polymer (n = 1.5) in air.
DELTA_N = 0.5
# Of a height, relative: within which microlenses are asked to be, and of one lens against noise.
TOLERANCE = 0.03
PITCH_DIAMETERS = 1.25
_TURN_RAD = np.deg2rad(7.0)
# Of the best transfer.
_PASSES = 0.05
# Isolated lenses: each alone in a square this many µm wider than itself.
_ALONE_UM = 100.0
_LONGEST_UM = 400.0

# Plain, for JSON.
Measured = Mapping[str, float | None]


@dataclass(frozen=True)
class Lenses:
    """Lenses of one size, drawn finely and larger than the frame.

    Parameters
    ----------
    drawn
        ``[V, U]`` phase in radians.
    truth
        ``[s·Y, s·X]`` its mean over each phase pixel.
    labels
        ``[s·Y, s·X]`` number of the lens whose square a phase pixel lies in; 0 elsewhere.
    """

    drawn: Floats
    truth: Floats
    labels: NDArray[np.int32]


def sag_um(peak_rad: float, wavelength_um: float) -> float:
    """Height of a lens that delays light by so much in its middle."""
    return peak_rad * wavelength_um / (2 * pi * DELTA_N)


def cap(radius: NDArray[np.float64], diameter_um: float, sag: float) -> NDArray[np.float64]:
    """Height of a spherical cap at distances from its axis, µm."""
    rim = diameter_um / 2
    curvature = (rim**2 + sag**2) / (2 * sag)
    height = np.sqrt(np.maximum(curvature**2 - radius**2, 0)) - (curvature - sag)
    return np.where(radius < rim, np.maximum(height, 0), 0)


def lenses(
    setting: Setting, diameter_um: float, peak_rad: float, pitch_um: float, z_um: float
) -> Lenses:
    """An array of lenses; each square is `pitch_um` wide, but no wider than 1.25 diameters is told of it."""
    experiment, s = setting.experiment, setting.upsampling
    pixel_um = experiment.pixel_um
    oversampling = max(2, ceil(4 * pixel_um / s * experiment.optics.cutoff_per_um))
    side = setting.plan.lens_field_px
    samples = (side + 2 * margin_px(experiment.optics, pixel_um, z_um)) * s * oversampling
    sample_um = pixel_um / s / oversampling
    across = (np.arange(samples) - (samples - 1) / 2) * sample_um
    cos, sin = np.cos(_TURN_RAD), np.sin(_TURN_RAD)
    u = (cos * across + sin * across[:, None]) / pitch_um
    v = (cos * across[:, None] - sin * across) / pitch_um
    column, row = np.rint(u), np.rint(v)
    u, v = u - column, v - row
    wavelength = experiment.optics.wavelength_um
    height = cap(pitch_um * np.hypot(u, v), diameter_um, sag_um(peak_rad, wavelength))
    drawn = (2 * pi / wavelength * DELTA_N * height).astype(np.float32)
    n = side * s * oversampling
    inner = slice((samples - n) // 2, (samples - n) // 2 + n)

    def over_pixels(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asarray(
            values[inner, inner]
            .reshape(side * s, oversampling, side * s, oversampling)
            .mean((1, 3))
        )

    # A phase pixel belongs to the lens whose square its middle lies in.
    middle = slice(inner.start + oversampling // 2, inner.stop, oversampling)
    own = PITCH_DIAMETERS * diameter_um / pitch_um / 2
    within = (np.maximum(np.abs(u), np.abs(v)) <= own)[middle, middle]
    number = (row * 10_000 + column)[middle, middle]
    labels = np.zeros(within.shape, np.int32)
    labels[within] = 1 + np.unique(number[within], return_inverse=True)[1]
    labels[np.isin(labels, _cut(labels))] = 0
    return Lenses(drawn, over_pixels(drawn).astype(np.float32), labels)


def _cut(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Lenses whose square the field's edge cuts."""
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    return np.unique(np.concatenate(edges))


def heights(
    found: NDArray[np.floating], truth: NDArray[np.floating], labels: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Height of each lens, relative to its true one: slope of `found` on `truth` over its square.

    Parameters
    ----------
    found, truth, labels
        ``[Y, X]``; 0 in `labels` is no lens.

    Returns
    -------
    ``[N]``, in the order of the labels that occur.
    """
    inside = labels > 0
    index = np.unique(labels[inside], return_inverse=True)[1]
    x, y = (np.asarray(a, np.float64)[inside] for a in (truth, found))
    count = np.bincount(index)
    x -= (np.bincount(index, x) / count)[index]
    return np.asarray(np.bincount(index, x * y) / np.bincount(index, x * x))


def height_noise(
    experiment: Experiment, row: Row, period_um: float, peak_rad: float = 1.0
) -> float:
    """σ_height of one lens of an array of this period, in the paper's noise, relative to its height; see the module."""
    pixel = experiment.pixel_um
    n = 256
    across = ((np.arange(n) + 0.5) / n - 0.5) * period_um
    optics = experiment.optics
    shape = cap(
        np.hypot(across[:, None], across),
        period_um / PITCH_DIAMETERS,
        sag_um(peak_rad, optics.wavelength_um),
    )
    coefficients = np.abs(np.fft.fft2(2 * pi / optics.wavelength_um * DELTA_N * shape)) / n**2
    f = np.fft.fftfreq(n, period_um / n)
    radius = np.hypot(f[:, None], f)
    seen = (radius > 0) & (np.maximum(np.abs(f[:, None]), np.abs(f)) <= 0.5 / pixel)
    radii, index = np.unique(radius[seen], return_inverse=True)
    transfer = condenser_phase_transfer(
        radii,
        wavelength_um=optics.wavelength_um,
        numerical_aperture=optics.numerical_aperture,
        refractive_index=optics.refractive_index,
        z_um=row.z_um,
        coherence=row.coherence,
    )[index]
    transfer = transfer * (np.sinc(f * pixel)[:, None] * np.sinc(f * pixel))[seen]
    power = coefficients[seen] ** 2
    # Where hardly anything passes, an estimate takes nothing from the frame.
    kept = np.abs(transfer) > _PASSES * np.abs(transfer).max()
    kept |= radius[seen] <= 1.5 / period_um
    sigma = PAPER_SIGMA / PAPER_BINNING / (period_um / pixel)
    total = (power[kept] / transfer[kept] ** 2).sum()
    return float(sigma * np.sqrt(total) / power[kept].sum())


def largest_period_um(experiment: Experiment, row: Row, peak_rad: float = 1.0) -> float | None:
    """Where `height_noise` of one lens reaches the tolerance; None where a period of four pixels is beyond it."""
    low, high = 4 * experiment.pixel_um, _LONGEST_UM
    if height_noise(experiment, row, low, peak_rad) > TOLERANCE:
        return None
    while high - low > 0.1:
        middle = (low + high) / 2
        if height_noise(experiment, row, middle, peak_rad) > TOLERANCE:
            high = middle
        else:
            low = middle
    return low


def measure_array(setting: Setting, diameter_um: float) -> list[Measured]:
    """Heights of arrays of one diameter, a dictionary for each peak."""
    pitch = PITCH_DIAMETERS * diameter_um
    return [_measured(setting, diameter_um, peak, pitch) for peak in setting.plan.lens_rad]


def measure_isolated(setting: Setting, diameter_um: float) -> Measured:
    """Heights of lenses of 1 rad that stand alone, each in a square of 1.25 diameters."""
    pitch = PITCH_DIAMETERS * diameter_um + _ALONE_UM
    return _measured(setting, diameter_um, 1.0, pitch)


def _measured(setting: Setting, diameter_um: float, peak_rad: float, pitch_um: float) -> Measured:
    row = setting.rows.headline._replace(noise=PAPER)
    experiment = setting.experiment
    made = lenses(setting, diameter_um, peak_rad, pitch_um, row.z_um)
    side = setting.plan.lens_field_px
    n = made.drawn.shape[0] // (
        side + 2 * margin_px(experiment.optics, experiment.pixel_um, row.z_um)
    )
    clean = image(
        made.drawn,
        experiment.pixel_um / n,
        experiment.optics,
        experiment.pixel_um,
        (side, side),
        [Conditions(row.z_um, row.coherence)],
    )[0]
    frame = setting.noisy(clean, row, row.z_um, round(10 * diameter_um + 1e5 * peak_rad))
    contenders = Contenders(experiment, setting.weights, None, setting.upsampling, {})
    relative = heights(contenders.network(NETWORK, row, frame), made.truth, made.labels)
    return {
        "diameter_um": diameter_um,
        "period_um": PITCH_DIAMETERS * diameter_um,
        "peak_rad": peak_rad,
        "sag_um": sag_um(peak_rad, experiment.optics.wavelength_um),
        "lenses": relative.size,
        "relative_error": float(relative.mean() - 1) if relative.size else None,
        "spread": float(relative.std()) if relative.size else None,
        "noise_of_one_lens": height_noise(experiment, row, PITCH_DIAMETERS * diameter_um, peak_rad),
    }
