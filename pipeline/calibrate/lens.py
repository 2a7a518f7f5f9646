"""The lens that moves the focus: µm per commanded µm, sign, zero and change of the magnification."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.focus_model import FocusModel, fit_focus_model
from pipeline.calibrate.nominal_light import brightfield_channels
from pipeline.calibrate.shots import middle
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibrate.through_focus import FocusFit, Series, is_symmetric, unzoomed
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment, MicroManagerMicroscope, Optics
from pipeline.experiment.vary import vary
from pipeline.frames import FrameStatus
from pipeline.optics.illumination import Source, calibrated_source

Floats = NDArray[np.float64]

_PLANES = 13
# Half of the series, in depths of field nλ/NA²: the contrast of the finest detail turns twice on each side.
_REACH = 2.0
# The full model takes planes up to this defocus, in depths of field: beyond, the field's border reaches in.
_NEAR = 2.1
_FEWEST_NEAR = 5
# Fields that are fitted by themselves; how they differ is the uncertainty.
_PART = 96
# Of four values the spread itself is uncertain: Student's t of one standard deviation.
_STUDENT = 1.2
# As a share of a small field's side: parts that overlap much would agree by themselves.
_PART_SHARE = 0.6
# More of the field takes time and tells little more.
_FIELD = 320
# A camera that samples less of the objective's passband than this share aliases what tells z.
_LEAST_SAMPLED = 0.6
_LEAST_EXPLAINED = 0.3
_LEAST_CONTRAST_SIGMAS = 1.5
# Limits of what is kept: relative, and in depths of field.
_MOST_SCALE_SIGMA = 0.03
_MOST_ZERO_SIGMA = 0.06
# What absorption, which the planes hardly tell from a shift, and small aberrations do to the zero; depths of field.
# Simulated cells of 2 rad that absorb 2 % came out 0.05 to 0.11 µm low of 3.3, beads within 0.02.
_ZERO_SYSTEMATIC = 0.025
_SCALE_SYSTEMATIC = 0.003
# A pixel size that nobody measured is right to this share; z goes with its square.
_NOMINAL_PIXEL = 0.005
# Movement of the image between two takes, in units of λ/NA.
_MOST_MOVEMENT = 0.2
# Skewness of the phase above which the specimen is clearly denser (or thinner) than its medium.
_SKEWED = 0.3
# Plane waves that stand for a lamp in the full model.
_WAVES = 12
_COHERENT = 0.15


@dataclass
class Lens:
    """Takes a through-focus series and finds the planes' true places by how light propagates between them."""

    range_um: float | None = None
    """Commanded half range of the series; none: two depths of field."""
    channel: str | None = None
    """Whose light; none: the most coherent brightfield channel's."""
    name: str = "lens"
    subject: Subject = "specimen"
    purpose: str = "true focus in µm for what the lens is told: a wrong scale of z is the same wrong scale of the phase"

    def needed(self, experiment: Experiment) -> str | None:
        """Not where no lens moves."""
        if not any(experiment.sequence.foci_um):
            return "the experiment takes one plane, in focus"
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`."""
        optics, pixel_um = experiment.optics, known.pixel_um or experiment.pixel_um
        _check_sampling(experiment, pixel_um)
        channel = self._channel(experiment, known)
        source = calibrated_source(experiment, channel, known)
        by_light = not is_symmetric(source)
        if by_light and known.led_orientation is None:
            raise CalibrationRefusedError(
                f"the light of channel '{channel}' is oblique, and how the LEDs lie to the camera is not known",
                "calibrate the orientation first, or name a channel that is symmetric about the axis",
            )
        foci = self._foci(experiment)
        frames, moved_um = _taken(microscope, experiment, channel, foci, known, pixel_um)
        fit = Series(frames, foci, pixel_um, optics, source).fit()
        _check_series(fit, foci)
        parts = _parts(frames, foci, pixel_um, optics, source, fit)
        lens = _combined(parts, fit, pixel_um)
        if not by_light:
            lens = _signed(lens)
        return _finding(lens, fit, known, experiment, channel, foci, moved_um, by_light)

    def _channel(self, experiment: Experiment, known: Calibration) -> str:
        names = brightfield_channels(experiment, known)
        if self.channel is not None and self.channel in names:
            return self.channel
        if self.channel is not None or not names:
            raise CalibrationRefusedError(
                f"'{self.channel or 'none'}' is no brightfield channel of this experiment",
                f"name one that is lit without a specimen: {', '.join(names) or 'add one'}",
            )
        return min(names, key=lambda n: _spread(calibrated_source(experiment, n, known)))

    def _foci(self, experiment: Experiment) -> Floats:
        """Commanded, through 0, as far as the lens goes."""
        reach = self.range_um or _REACH * _depth_um(experiment.optics)
        low, high = -reach, reach
        microscope = experiment.microscope
        if isinstance(microscope, MicroManagerMicroscope):
            lens = microscope.lens
            if lens is not None and lens.limits is not None:
                ends = sorted((p - lens.zero) * lens.um_per_unit for p in lens.limits)
                low, high = max(low, ends[0]), min(high, ends[1])
        return np.round(np.linspace(low, high, _PLANES), 4)


@dataclass(frozen=True)
class _Measured:
    scale: float
    scale_sigma: float
    zero_um: float
    zero_sigma_um: float
    zoom_per_um: float
    zoom_sigma: float
    drift: tuple[float, float]
    skewness: float


def _depth_um(optics: Optics) -> float:
    """Depth of field, nλ/NA²."""
    return optics.refractive_index * optics.wavelength_um / optics.numerical_aperture**2


def _spread(source: Source) -> float:
    """How incoherent: root mean square distance of the light's directions from their mean."""
    share = (source.weights / source.weights.sum())[:, None]
    mean = (source.frequencies * share).sum(0)
    return float(((source.frequencies - mean).square() * share).sum().sqrt())


def _check_sampling(experiment: Experiment, pixel_um: float) -> None:
    share = experiment.field_sampling_um / pixel_um
    if share < _LEAST_SAMPLED:
        binning = experiment.microscope.camera.binning
        fix = "use a camera, binning or magnification with smaller pixels for this step"
        if binning > 1:
            finest = max(1, int(binning * share))
            fix = f"calibrate the lens with camera.binning {finest} (it is {binning}): the lens stays the same"
        raise CalibrationRefusedError(
            f"pixels of {pixel_um:.3g} µm show {share:.0%} of what the objective resolves: the fine detail "
            "that tells z is aliased",
            fix,
        )


def _taken(
    microscope: Microscope,
    experiment: Experiment,
    channel: str,
    foci: Floats,
    known: Calibration,
    pixel_um: float,
) -> tuple[Floats, float]:
    """The series ``[K, Y, X]``, its light relative to the mean, and how far the image moved while it was taken."""
    series = _shot(microscope, experiment, channel, foci)
    again = [0, _PLANES // 2, _PLANES - 1][::-1]
    repeated = _shot(microscope, experiment, channel, foci[again])
    camera = experiment.microscope.camera
    top = known.saturation_counts or 2.0**camera.bit_depth - 1
    saturated = float((series >= top).mean())
    if saturated > 0.01:
        raise CalibrationRefusedError(
            f"{saturated:.0%} of the pixels are saturated",
            f"lower the exposure_ms of channel '{channel}'",
        )
    both = np.concatenate([series, repeated]).astype(np.float64)
    both -= known.dark.get(channel, np.float32(camera.offset_counts))
    flat = known.flat.get(channel)
    if flat is not None:
        both /= np.maximum(flat / np.median(flat), 0.05)
    mean = both.mean((1, 2), keepdims=True)
    if mean.min() < 1:
        raise CalibrationRefusedError("the image is dark", "switch the light on, open the shutter")
    if known.bad_pixels is not None:
        both[:, known.bad_pixels] = np.broadcast_to(
            mean[:, 0], (len(both), int(known.bad_pixels.sum()))
        )
    gain = known.gain_e_per_count or camera.gain_e_per_count
    noise = float(np.sqrt(mean.mean() * gain + camera.read_noise_e**2) / (mean.mean() * gain))
    both /= mean
    contrast = float(both[[0, _PLANES - 1]].std())
    if contrast < _LEAST_CONTRAST_SIGMAS * noise:
        raise CalibrationRefusedError(
            f"there is no structure in the field: out of focus its contrast is {contrast:.2%}, noise alone gives "
            f"{noise:.2%}",
            "put cells or beads into the field",
        )
    moved_px = max(_movement(both[i], both[_PLANES + j]) for j, i in enumerate(again))
    moved_um = moved_px * pixel_um
    limit = _MOST_MOVEMENT * experiment.optics.wavelength_um / experiment.optics.numerical_aperture
    if moved_um > limit:
        raise CalibrationRefusedError(
            f"the image moved by {moved_um:.2g} µm between two takes of the same focus, {limit:.2g} µm is the most",
            "use a fixed specimen, let stage and lens settle, look for vibration",
        )
    series_part = (slice(_PLANES), *middle(both.shape[1:], _FIELD))
    return both[series_part], moved_um


def _shot(
    microscope: Microscope, experiment: Experiment, channel: str, foci: Floats
) -> NDArray[np.unsignedinteger]:
    taken = microscope.take(vary(experiment, channels=[channel], foci_um=[float(z) for z in foci]))
    written = taken.records["status"] == FrameStatus.WRITTEN
    if not written.all():
        raise CalibrationRefusedError(
            f"the camera lost {int((~written).sum())} of {len(foci)} frames",
            "mend the camera's connection or its buffer first: `livephase devices`",
        )
    stack: NDArray[np.unsignedinteger] = taken.frames[0, 0, 0]
    return stack


def _movement(a: Floats, b: Floats) -> float:
    """By how many pixels an image moved: where the phase correlation peaks."""
    window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])
    fa, fb = (np.fft.fft2((i - i.mean()) * window) for i in (a, b))
    correlation = np.fft.ifft2(fa * fb.conj()).real
    peak = np.unravel_index(int(correlation.argmax()), a.shape)
    moved = []
    for axis, n in enumerate(a.shape):
        at = [
            correlation[
                tuple(
                    (p + d * (i == axis)) % m
                    for i, (p, m) in enumerate(zip(peak, a.shape, strict=True))
                )
            ]
            for d in (-1, 0, 1)
        ]
        bend = at[0] - 2 * at[1] + at[2]
        exact = int(peak[axis]) + (0.0 if bend == 0 else 0.5 * (at[0] - at[2]) / bend)
        moved.append((exact + n / 2) % n - n / 2)
    return float(np.hypot(*moved))


def _check_series(fit: FocusFit, foci: Floats) -> None:
    if fit.explained < _LEAST_EXPLAINED:
        raise CalibrationRefusedError(
            f"how the image changes with z is not what a thin specimen's does: {fit.explained:.0%} of it is explained",
            "put sparse cells or beads into the field, check that the lens moves, and wavelength, NA and pixel size",
        )
    planes = fit.zero_um + fit.scale * foci
    if planes.min() > 0 or planes.max() < 0:
        raise CalibrationRefusedError(
            f"the series does not pass through focus: it lies at {planes.min():.3g} to {planes.max():.3g} µm from it",
            "focus on the specimen with the lens at 0, or give a larger range_um",
        )


def _parts(
    frames: Floats,
    foci: Floats,
    pixel_um: float,
    optics: Optics,
    source: Source,
    fit: FocusFit,
) -> list[tuple[tuple[float, float], FocusModel]]:
    """The full model of four parts of the field, each with its middle (y, x), pixels from the field's."""
    even = unzoomed(frames, foci, fit.zoom_per_um)
    even /= even.mean((1, 2), keepdims=True)
    planes = np.abs(fit.zero_um + fit.scale * foci)
    near = np.sort(
        np.argsort(planes)[: max(_FEWEST_NEAR, int((planes < _NEAR * _depth_um(optics)).sum()))]
    )
    few = _few_waves(source, optics)
    height, width = frames.shape[1:]
    side = int(min(_PART, _PART_SHARE * min(height, width))) // 2 * 2
    parts = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # images this small lose by sharing
    try:
        for top in (0, height - side):
            for left in (0, width - side):
                part = even[near, top : top + side, left : left + side]
                place = (top + (side - height) / 2, left + (side - width) / 2)
                model = fit_focus_model(
                    part, foci[near], pixel_um, optics, few, (fit.scale, fit.zero_um)
                )
                parts.append((place, model))
    finally:
        torch.set_num_threads(threads)
    return parts


def _few_waves(source: Source, optics: Optics) -> Source:
    """As few plane waves as stand for the light: of a disc a ring with the same mean square angle."""
    if len(source.weights) == 1:
        return source
    if is_symmetric(source):
        radius = _spread(source)
        number = 4 if radius < _COHERENT * optics.cutoff_per_um else 8
        turn = 2 * math.pi * torch.arange(number, dtype=torch.float64) / number
        around = torch.stack([turn.cos(), turn.sin()], dim=1) * radius
        return Source(around, torch.full((number,), 1 / number, dtype=torch.float64))
    stride = math.ceil(len(source.weights) / _WAVES)
    weights = source.weights[::stride]
    return Source(source.frequencies[::stride], weights / weights.sum())


def _combined(
    parts: list[tuple[tuple[float, float], FocusModel]],
    fit: FocusFit,
    pixel_um: float,
) -> _Measured:
    """The parts' mean and spread; how they drift apart with z is the magnification that was left."""
    models = [m for _, m in parts]
    scale, zero = (np.array([getattr(m, n) for m in models]) for n in ("scale", "zero_um"))
    rows, seen = [], []
    for (y, x), model in parts:
        for axis, place in enumerate((y, x)):
            rows.append([place * pixel_um, axis == 0, axis == 1])
            seen.append(model.drift[axis])
    design, drift = np.array(rows, float), np.array(seen)
    (zoom, *sideways), *_ = np.linalg.lstsq(design, drift, rcond=None)
    rest = drift - design @ (zoom, *sideways)
    spread = np.sqrt((rest**2).sum() / (len(drift) - 3))
    zoom_sigma = float(spread * np.sqrt(np.linalg.inv(design.T @ design)[0, 0]))
    scale_sigma, zero_sigma = (
        float(_STUDENT * a.std(ddof=1) / math.sqrt(len(parts))) for a in (scale, zero)
    )
    return _Measured(
        float(scale.mean()),
        scale_sigma,
        float(zero.mean()),
        zero_sigma,
        fit.zoom_per_um + float(zoom),
        max(zoom_sigma, fit.zoom_sigma),
        (float(sideways[0]), float(sideways[1])),
        float(np.median([m.skewness for m in models])),
    )


def _signed(lens: _Measured) -> _Measured:
    """Light that is symmetric about the axis can't tell z from −z: the specimen's sign does.

    Cells and beads are denser than what they lie in: their phase rises from the background, positive and skewed.
    """
    if abs(lens.skewness) < _SKEWED:
        raise CalibrationRefusedError(
            "the lens's sign can't be told: the phase rises and falls alike",
            "use sparse cells or beads, which are denser than the medium, on an empty background",
        )
    if lens.skewness > 0:
        return lens
    return replace(lens, scale=-lens.scale, zero_um=-lens.zero_um, skewness=-lens.skewness)


def _finding(
    lens: _Measured,
    fit: FocusFit,
    known: Calibration,
    experiment: Experiment,
    channel: str,
    foci: Floats,
    moved_um: float,
    by_light: bool,
) -> Finding:
    depth = _depth_um(experiment.optics)
    measured = known.steps.get("pixel_size", {}).get("figures", {})
    pixel_sigma = _NOMINAL_PIXEL
    if known.pixel_um is not None and measured.get("sigma_um"):
        pixel_sigma = measured["sigma_um"] / known.pixel_um
    relative = math.hypot(lens.scale_sigma / abs(lens.scale), _SCALE_SYSTEMATIC, 2 * pixel_sigma)
    scale_sigma = relative * abs(lens.scale)
    zero_sigma = math.hypot(lens.zero_sigma_um, _ZERO_SYSTEMATIC * depth)
    if relative > _MOST_SCALE_SIGMA or zero_sigma > _MOST_ZERO_SIGMA * depth:
        raise CalibrationRefusedError(
            f"the parts of the field disagree: scale ±{relative:.1%}, zero ±{zero_sigma:.2g} µm",
            "use more light, a field with more (and thinner) structure, and let stage and lens settle",
        )
    # Magnification at commanded focus z is 1 + zoom·z of that at 0; per µm of true focus:
    magnification = lens.zoom_per_um / (lens.scale - lens.zoom_per_um * lens.zero_um)
    magnification_sigma = abs(lens.zoom_sigma / lens.scale)
    figures: dict[str, Any] = {
        "z_scale": round(lens.scale, 5),
        "z_scale_sigma": round(scale_sigma, 5),
        "z_zero_um": round(lens.zero_um, 4),
        "z_zero_sigma_um": round(zero_sigma, 4),
        "magnification_per_um": round(magnification, 8),
        "magnification_sigma_per_um": round(magnification_sigma, 8),
        "sideways_um_per_um": [round(d, 5) for d in lens.drift],
        "sign_by": "the direction of the light"
        if by_light
        else "a specimen denser than its medium",
        "phase_skewness": round(lens.skewness, 2),
        "explained_share": round(fit.explained, 4),
        "moved_um": round(moved_um, 4),
        "foci_um": [float(z) for z in foci],
        "channel": channel,
    }
    calibration = replace(
        known,
        z_scale=lens.scale,
        z_scale_sigma=scale_sigma,
        z_zero_um=lens.zero_um,
        z_zero_sigma_um=zero_sigma,
        magnification_per_um=magnification,
    )
    summary = (
        f"true focus is {lens.zero_um:+.3g} ± {zero_sigma:.2g} µm at 0, {lens.scale:.4g} ± {scale_sigma:.2g} µm per "
        f"µm commanded; magnification changes by {100 * magnification:.3g} % per µm"
    )
    return Finding(calibration, figures, summary, _warnings(lens, depth, by_light))


def _warnings(lens: _Measured, depth: float, by_light: bool) -> tuple[str, ...]:
    warnings = []
    if lens.scale < 0:
        warnings.append(
            "the lens runs the other way, which livephase takes into account; to mend it, change the sign of "
            "its µm per unit"
        )
    if abs(lens.zero_um) > depth:
        warnings.append(
            f"at focus 0 the plane in focus lies {lens.zero_um:+.2g} µm from the specimen: refocus, or move the lens's "
            "zero"
        )
    if by_light and lens.skewness * math.copysign(1, lens.scale) < -_SKEWED:
        warnings.append(
            "by the light's direction the specimen is thinner than its medium: check the LEDs' orientation"
        )
    return tuple(warnings)
