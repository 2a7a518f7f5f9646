"""Photon transfer: gain and read noise from how the noise grows with the light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.averaging import robust_spread
from pipeline.calibrate.exposure import Limits, Meter
from pipeline.calibrate.nominal_light import brightest_channel, lacks_background
from pipeline.calibrate.read_noise import HIDDEN, read_noise_counts
from pipeline.calibrate.shots import Frames, dark_shots, light_of, middle, shots
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment

Floats = NDArray[np.float32]

# Brightest level, as a share of the range, and the others relative to it: many dim ones, where the
# slope at no signal shows.
_TOP = 0.8
_LEVELS = (0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 1.0)
_FEWEST = 8
_DARK_FRAMES = 32
# Groups of pixels of about the same brightness: vignetting must not mix levels.
_GROUPS = 8
_LEAST_GROUP = 200
# Pixels that answer to light by less or more than these shares of the usual are no measure.
_ANSWER = (0.3, 2.0)
_OUTLIER = 8.0
_SATURATED = 0.001
# Below this the noise does not carry a signal over the steps of the digitisation, counts².
_UNDITHERED = 0.25
# Of the lamp, between the two frames of a pair.
_UNSTEADY = 0.05
# A curve that bends by so many standard deviations is fitted as one, up to this share at the top.
_BENT = 4.0
_TOO_BENT = 0.4
# χ² per degree of freedom of a curve that is none.
_NO_CURVE = 30.0
_CORRELATED = 0.05


class Exposed(NamedTuple):
    """Frames ``[N, Y, X]`` raw counts of one exposure; taken in pairs, one after the other."""

    exposure_ms: float
    frames: Frames


class Samples(NamedTuple):
    """The curve's points: mean signal (counts above the bias) and variance (counts²) of a group of
    pixels, and the number of independent differences it is from, ``[M]`` each."""

    signal: NDArray[np.float64]
    variance: NDArray[np.float64]
    number: NDArray[np.float64]


@dataclass(frozen=True)
class Transfer:
    """What the curve says of the camera.

    Parameters
    ----------
    gain_e_per_count, gain_sigma
        At small signals, and its standard uncertainty.
    read_noise_e, read_noise_sigma_e
        Without what digitisation adds. None: too small to be seen in counts.
    bend
        How much the variance departs from a straight line at the brightest level, relative.
    levels
        How many exposures the curve is from, the dark left out.
    chi2
        Of the fit, per degree of freedom.
    top_counts
        The brightest level, above the dark.
    correlation
        Of the noise of neighbouring pixels; 0 in a camera that does not smooth.
    """

    gain_e_per_count: float
    gain_sigma: float
    read_noise_e: float | None
    read_noise_sigma_e: float | None
    bend: float
    levels: int
    chi2: float
    top_counts: float
    correlation: float


def estimate_transfer(
    lit: Sequence[Exposed],
    dark: Sequence[Exposed],
    saturation: float,
    bad: NDArray[np.bool_] | None = None,
) -> Transfer:
    """Gain and read noise from pairs of frames at many exposures.

    The difference of two frames of a pair has no fixed pattern; half of its variance is that of a frame. Over the
    signal it is a straight line whose slope is counts per electron (Janesick 2007; EMVA 1288). Where the camera is
    not quite linear the line bends, and its slope at no signal is taken.

    Parameters
    ----------
    lit
        With light, 8 or more exposures of 2 or more frames, in any order.
    dark
        Without light, of a short exposure, and a long one if dark current is to count as signal.
    saturation
        Raw counts at and above which a pixel is saturated.
    bad
        ``[Y, X]`` pixels to leave out.

    Raises
    ------
    CalibrationRefusedError
        If the levels are too few or saturated, the lamp is unsteady, or the points lie on no curve.
    """
    shortest = min(dark, key=lambda e: e.exposure_ms)
    bias = shortest.frames.mean(axis=0, dtype=np.float32)
    current = _dark_current(dark)
    bias -= np.float32(current * shortest.exposure_ms)
    usable = [e for e in lit if np.mean(e.frames >= saturation) <= _SATURATED]
    if len(usable) < _FEWEST:
        clipped = len(lit) - len(usable)
        raise CalibrationRefusedError(
            f"the photon-transfer curve has {len(usable)} levels, and {clipped} more are saturated; "
            f"{_FEWEST} are needed",
            "take more exposures between the dark and 80 % of the range",
        )
    brightest = max(usable, key=lambda e: e.exposure_ms)
    groups = _groups(brightest.frames.mean(axis=0, dtype=np.float32) - bias, bad)
    points = [_points(e, bias, groups) for e in usable]
    samples = Samples(*(np.concatenate(column) for column in zip(*points, strict=True)))
    top = float(samples.signal.max())
    if len({round(float(p.signal.mean()) / top, 2) for p in points}) < _FEWEST:
        raise CalibrationRefusedError(
            f"{len(points)} exposures give fewer than {_FEWEST} different levels of light",
            "check that the camera obeys its exposure time",
        )
    everything = np.concatenate(groups)
    quiet = _points(shortest, bias, [everything], dark=True)
    means = shortest.frames.reshape(len(shortest.frames), -1)[:, everything].mean(axis=0)
    noise = read_noise_counts(float(quiet.variance[0]), means, len(shortest.frames))
    dithered = samples.variance > _UNDITHERED
    floor = _floor(quiet.signal, noise)
    curve = Samples(
        *(
            np.concatenate([zero, points[dithered]])
            for zero, points in zip(floor, samples, strict=True)
        )
    )
    slope, slope_sigma, bend, chi2 = _fit(curve)
    gain = 1 / slope
    gain_sigma = slope_sigma * gain**2
    correlation = _neighbour_correlation(
        brightest.frames, ~np.isin(np.arange(bias.size), everything)
    )
    electrons, electrons_sigma = None, None
    if noise is not None:
        own = max(noise[0] ** 2 - current * shortest.exposure_ms * slope, 0.0)
        electrons = gain * float(np.sqrt(own))
        electrons_sigma = electrons * float(np.hypot(noise[1] / noise[0], gain_sigma / gain))
    return Transfer(
        gain,
        gain_sigma,
        electrons,
        electrons_sigma,
        bend,
        len(usable),
        chi2,
        top,
        correlation,
    )


def _floor(signal: NDArray[np.float64], noise: tuple[float, float] | None) -> Samples:
    """The curve's point without light: the read noise as smooth rounding would show it."""
    # Noise that does not show is anything from none to what would.
    sigma, uncertainty = noise or (HIDDEN / 2, HIDDEN / 2)
    variance = sigma**2 + 1 / 12
    number = 2 * (variance / (2 * sigma * uncertainty)) ** 2
    return Samples(signal, np.array([variance]), np.array([number]))


def _dark_current(dark: Sequence[Exposed]) -> float:
    """Counts per ms; none can be known from one exposure."""
    short, long = (pick(dark, key=lambda e: e.exposure_ms) for pick in (min, max))
    if long.exposure_ms <= short.exposure_ms:
        return 0.0
    # Of the mean, which rounding leaves alone; a few hot pixels must not decide it.
    rise = long.frames.mean(axis=0) - short.frames.mean(axis=0)
    low, high = np.quantile(rise, [0.01, 0.99])
    steady = rise[(rise >= low) & (rise <= high)]
    return max(float(steady.mean()), 0.0) / (long.exposure_ms - short.exposure_ms)


def _groups(answer: Floats, bad: NDArray[np.bool_] | None) -> list[NDArray[np.int64]]:
    """Flat indices of the good pixels, in groups of about the same brightness."""
    usual = float(np.median(answer))
    good = (answer > _ANSWER[0] * usual) & (answer < _ANSWER[1] * usual)
    if bad is not None:
        good &= ~bad
    pixels = np.flatnonzero(good)
    if usual <= 0 or len(pixels) < _LEAST_GROUP:
        raise CalibrationRefusedError(
            f"{len(pixels)} pixels answer to the light",
            "check that the light is on and its field even; take bad pixels from a new dark",
        )
    order = pixels[np.argsort(answer.ravel()[pixels])]
    return np.array_split(order, max(1, min(_GROUPS, len(order) // _LEAST_GROUP)))


def _points(
    exposed: Exposed, bias: Floats, groups: Sequence[NDArray[np.int64]], *, dark: bool = False
) -> Samples:
    """Mean and variance of each group of pixels at one exposure."""
    frames = exposed.frames.reshape(len(exposed.frames), -1)
    everything = np.concatenate(groups)
    floor = bias.ravel()
    levels = np.array([frame[everything].mean() - floor[everything].mean() for frame in frames])
    pairs = range(0, len(frames) - 1, 2)
    sums = np.zeros((3, len(groups)))
    for first in pairs:
        a, b = levels[first : first + 2]
        if not dark and abs(a - b) > _UNSTEADY * max(abs(a + b) / 2, 1.0):
            raise CalibrationRefusedError(
                f"at {exposed.exposure_ms:g} ms two frames in a row have {a:.1f} and {b:.1f} counts: "
                "the lamp is unsteady",
                "let it warm up; an LED that is dimmed by pulses needs an exposure of many pulses",
            )
        # Each frame is brought to the mean of the two, so that the lamp's flicker is not noise.
        to_mean = (1.0, 1.0) if dark else ((a + b) / 2 / a, (a + b) / 2 / b)
        for g, group in enumerate(groups):
            one, other = (
                (frames[first + i][group] - floor[group]) * np.float32(to_mean[i]) for i in (0, 1)
            )
            difference = one - other
            middle = float(np.median(difference))
            # Cosmic rays and pixels that jump are no noise. A quiet camera's differences are mostly 0.
            limit = _OUTLIER * max(robust_spread(difference), 0.5)
            kept = difference[np.abs(difference - middle) <= limit]
            sums[0, g] += float((one.mean(dtype=np.float64) + other.mean(dtype=np.float64)) / 2)
            sums[1, g] += float(kept.var(dtype=np.float64, ddof=1)) / 2
            sums[2, g] += len(kept) - 1
    return Samples(sums[0] / len(pairs), sums[1] / len(pairs), sums[2])


def _fit(curve: Samples) -> tuple[float, float, float, float]:
    """Slope at no signal, its uncertainty, the bend at the top and χ² per degree of freedom.

    Variance over signal, each point weighted by what is expected of a variance of so many differences.
    """
    signal, variance, number = curve
    top = float(signal.max())
    expected = variance
    for degree in (1, 1, 2, 2):
        weight = 1 / (expected * np.sqrt(2 / number))
        terms = np.vander(signal / top, degree + 1, increasing=True)
        covariance = np.linalg.inv((terms * weight[:, None] ** 2).T @ terms)
        found = covariance @ (terms.T @ (weight**2 * variance))
        # Weights by the curve, not by the points: those that are low by chance must not count more.
        expected = np.maximum(terms @ found, 1e-3)
        chi2 = float(np.sum((weight * (variance - terms @ found)) ** 2)) / max(
            len(signal) - degree - 1, 1
        )
        if degree == 1:
            straight = found, covariance, chi2
    bend = float(found[2] / found[1]) if found[1] > 0 else np.inf
    if chi2 > _NO_CURVE or found[1] <= 0 or abs(bend) > _TOO_BENT:
        raise CalibrationRefusedError(
            f"the noise does not grow with the light as shot noise does: over the range it departs from a line by "
            f"{bend:+.0%}, χ² per degree of freedom {chi2:.1f}",
            "use a linear mode of the camera: no gamma, no HDR, no noise filter, no compression",
        )
    if abs(found[2]) < _BENT * np.sqrt(covariance[2, 2] * max(chi2, 1.0)):
        found, covariance, chi2 = straight
        bend = 0.0
    sigma = float(np.sqrt(covariance[1, 1] * max(chi2, 1.0)))
    return float(found[1]) / top, sigma / top, bend, chi2


def _neighbour_correlation(frames: Frames, leave_out: NDArray[np.bool_]) -> float:
    """Of neighbours along x in the difference of the first two frames."""
    difference = frames[0].astype(np.float32) - frames[1]
    difference -= difference.mean()
    difference[leave_out.reshape(difference.shape)] = 0
    square = float(np.mean(np.square(difference)))
    return float(np.mean(difference[:, 1:] * difference[:, :-1])) / max(square, 1e-6)


@dataclass
class PhotonTransfer:
    """Gain and read noise from a series of exposures of an empty field.

    Parameters
    ----------
    pairs
        Of frames at each exposure.
    shortest_ms, longest_ms
        Exposures that may be used.
    """

    pairs: int = 4
    shortest_ms: float = 0.05
    longest_ms: float = 1000.0
    name: str = "photon_transfer"
    subject: Subject = "empty field"
    purpose: str = (
        "electrons per count and read noise: how sure each pixel is, and with it how far each phase "
        "image can be trusted"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """Where a channel has light without a specimen."""
        return lacks_background(experiment)

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `gain_e_per_count` and `read_noise_e`."""
        channel = brightest_channel(experiment, known)
        meter = Meter(microscope, experiment, known, channel, empty=True)
        limits = Limits(self.shortest_ms, self.longest_ms)
        top_ms = meter.find(_TOP, limits).exposure_ms
        exposures = sorted({limits.clip(float(f"{top_ms * share:.4g}")) for share in _LEVELS})
        lights = {
            name: light
            for ms in exposures
            for name, light in light_of(experiment, channel, ms).items()
        }
        field = middle(experiment.microscope.camera.shape_px)
        bad = None if known.bad_pixels is None else known.bad_pixels[field]
        lit = [
            Exposed(lights[name].exposure_ms, frames[:, *field].copy())
            for name, frames in shots(microscope, experiment, lights, 2 * self.pairs, empty=True)
        ]
        ends = [exposures[0], exposures[-1]]
        dark = [
            Exposed(ms, frames[:, *field].copy())
            for ms, frames in dark_shots(microscope, experiment, ends, _DARK_FRAMES)
        ]
        camera = experiment.microscope.camera
        saturation = known.saturation_counts or 2.0**camera.bit_depth - 1
        found = estimate_transfer(lit, dark, saturation, bad)
        return Finding(
            replace(
                known,
                gain_e_per_count=found.gain_e_per_count,
                read_noise_e=found.read_noise_e,
            ),
            {
                "channel": channel,
                "gain_e_per_count": found.gain_e_per_count,
                "gain_sigma_e_per_count": found.gain_sigma,
                "read_noise_e": found.read_noise_e,
                "read_noise_sigma_e": found.read_noise_sigma_e,
                "bend_at_top": found.bend,
                "chi2_per_degree": found.chi2,
                "levels": found.levels,
                "frames_per_level": 2 * self.pairs,
                "top_counts": found.top_counts,
                "top_ms": top_ms,
                "neighbour_correlation": found.correlation,
            },
            f"{found.gain_e_per_count:.4g} ± {found.gain_sigma:.2g} electrons per count, read noise "
            + (
                "below what the camera's counts show"
                if found.read_noise_e is None
                else f"{found.read_noise_e:.3g} ± {found.read_noise_sigma_e:.2g} electrons"
            ),
            tuple(self._warnings(found, experiment)),
        )

    def _warnings(self, found: Transfer, experiment: Experiment) -> list[str]:
        warnings = []
        nominal = experiment.microscope.camera.gain_e_per_count
        if abs(found.gain_e_per_count / nominal - 1) > 0.5:
            warnings.append(
                f"the gain is {found.gain_e_per_count:.3g} electrons per count, "
                f"microscope.camera.gain_e_per_count says {nominal:.3g}"
            )
        top = 2.0**experiment.microscope.camera.bit_depth
        if found.top_counts < _TOP / 2 * top:
            warnings.append(
                f"the brightest level is {found.top_counts / top:.0%} of the range, at the longest exposure "
                "allowed: more light makes the gain surer"
            )
        if abs(found.correlation) > _CORRELATED:
            warnings.append(
                f"the noise of neighbouring pixels is correlated by {found.correlation:+.0%}: the camera smooths, "
                "and the gain comes out too high; turn its noise or pixel correction off"
            )
        return warnings
