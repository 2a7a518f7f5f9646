"""Linearity: how straight the signal grows with the exposure, and where it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.exposure import Limits, Meter
from pipeline.calibrate.nominal_light import brightest_channel, lacks_background
from pipeline.calibrate.photon_transfer import Exposed
from pipeline.calibrate.shots import dark_shots, light_of, middle, shots
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment

# Exposures relative to the one that should saturate.
_SHARES = (
    *(0.03, 0.08, 0.15, 0.22, 0.3, 0.37, 0.45, 0.52, 0.6, 0.67, 0.75, 0.82, 0.88, 0.94),
    *(1.0, 1.1, 1.25, 1.4, 1.6),
)
_PROBE = 0.6
_DARK_FRAMES = 16
_FEWEST = 6
# The range is judged up to this share of the saturation (EMVA 1288).
_USED = 0.95
# Pixels of about the same brightness, so that all saturate together: this share of all.
_ALIKE = 0.25
_SAME_PLATEAU = 0.02
_STOPPED = 0.1
_CLIPPED = 0.5
# Of the lamp, from one round of exposures to the next.
_UNSTEADY = 0.02
_WORTH_A_WARNING = 0.01
_NOT_LINEAR = 0.1


@dataclass(frozen=True)
class Response:
    """How the camera answers to light.

    Parameters
    ----------
    nonlinearity, nonlinearity_sigma
        Largest deviation from the least-squares line of signal over exposure, relative to the range from dark
        to saturation, and its standard uncertainty.
    saturation_counts
        Raw counts at and above which a pixel is saturated.
    saturates
        Whether that was seen; else it is the end of the digitisation.
    reached_counts
        The highest raw level that was measured.
    levels
        How many exposures are within the used range.
    unsteadiness
        Relative standard deviation of the light from round to round.
    """

    nonlinearity: float
    nonlinearity_sigma: float
    saturation_counts: float
    saturates: bool
    reached_counts: float
    levels: int
    unsteadiness: float


def estimate_response(
    lit: Sequence[Exposed],
    dark: Sequence[Exposed],
    bit_depth: int,
    bad: NDArray[np.bool_] | None = None,
) -> Response:
    """Linearity and saturation from a series of exposures under steady light.

    Parameters
    ----------
    lit
        With light, from dim to saturated, the same number of frames of each; frame k of all was taken in round k.
    dark
        Without light, at the shortest and longest of these exposures.
    bad
        ``[Y, X]`` pixels to leave out.

    Raises
    ------
    CalibrationRefusedError
        If the lamp is unsteady, the signal does not follow the exposure, or too few levels are not saturated.
    """
    lit = sorted(lit, key=lambda e: e.exposure_ms)
    top = 2**bit_depth - 1
    pixels = _alike(lit, dark, top, bad)
    exposures = np.array([e.exposure_ms for e in lit])
    rounds = min(len(e.frames) for e in lit)
    # [levels, rounds]: mean of the pixels that are alike.
    raw = np.array([[float(f.ravel()[pixels].mean()) for f in e.frames[:rounds]] for e in lit])
    signal = raw - _dark_levels(dark, pixels, exposures)[:, None]
    if exposures[-1] > 4 * exposures[0] and signal.mean(axis=1).max() < 2 * signal[0].mean():
        raise _does_not_grow(exposures, signal.mean(axis=1))
    saturation, saturates = _saturation(lit, exposures, signal.mean(axis=1), pixels, top)
    span = saturation - float(raw.mean(axis=1).min() - signal.mean(axis=1).min())
    clipped = np.array(
        [np.mean(e.frames.reshape(len(e.frames), -1)[:, pixels] >= saturation) for e in lit]
    )
    used = (signal.mean(axis=1) <= _USED * span) & (clipped < 1e-3)
    if used.sum() < _FEWEST:
        raise CalibrationRefusedError(
            f"{used.sum()} of {len(lit)} exposures are below saturation, {_FEWEST} are needed",
            "lower the light's brightness so that longer exposures can be used",
        )
    unsteadiness = _unsteadiness(signal[used])
    if unsteadiness > _UNSTEADY:
        raise CalibrationRefusedError(
            f"the light changed by {unsteadiness:.1%} from one round of exposures to the next",
            "let the lamp warm up; an LED that is dimmed by pulses needs an exposure of many pulses",
        )
    level = signal[used].mean(axis=1)
    if np.any(np.diff(level) <= 0) or level[-1] < 2 * level[0]:
        raise _does_not_grow(exposures[used], level)
    worst = _departure(exposures[used], level, _USED * span) / span
    if worst > _NOT_LINEAR:
        raise CalibrationRefusedError(
            f"the signal departs by {worst:.0%} of the range from a straight line",
            "use a linear mode of the camera: no gamma, no HDR, no automatic gain or exposure",
        )
    # How far rounds differ at the same exposure, lamp and noise together.
    scatter = float(np.sqrt(np.mean(signal[used].var(axis=1, ddof=1)))) if rounds > 1 else np.nan
    return Response(
        worst,
        scatter / float(np.sqrt(rounds)) / span,
        saturation,
        saturates,
        float(raw.max()),
        int(used.sum()),
        unsteadiness,
    )


def _does_not_grow(
    exposures: NDArray[np.float64], level: NDArray[np.float64]
) -> CalibrationRefusedError:
    return CalibrationRefusedError(
        f"the signal does not grow with the exposure: {level[0]:.0f} counts at {exposures[0]:g} ms, "
        f"{level[-1]:.0f} at {exposures[-1]:g} ms",
        "check that the camera obeys its exposure time, has no automatic gain or exposure, and is not full at "
        "all of these",
    )


def _departure(exposures: NDArray[np.float64], level: NDArray[np.float64], end: float) -> float:
    """Largest deviation from the least-squares line over the signals from 0 to `end`, counts.

    A cubic through the measured levels carries them to both ends of the range.
    """
    curve = np.polynomial.Polynomial.fit(exposures, level, 3)
    beyond = np.linspace(0, 1.25 * exposures[-1], 501)
    inside = beyond[: max(2, int(np.argmax(curve(beyond) > end)))]
    line = np.polynomial.Polynomial.fit(inside, curve(inside), 1)
    return float(
        max(np.abs(curve(inside) - line(inside)).max(), np.abs(level - line(exposures)).max())
    )


def _alike(
    lit: Sequence[Exposed], dark: Sequence[Exposed], top: int, bad: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """Flat indices of the good pixels that are about as bright as the median one."""
    unclipped = [e for e in lit if np.mean(e.frames >= top) < 1e-3]
    if not unclipped:
        raise CalibrationRefusedError(
            f"the light saturates the camera at {lit[0].exposure_ms:g} ms already",
            "lower its brightness, or put a filter into the light",
        )
    shortest = min(dark, key=lambda e: e.exposure_ms)
    # The brightest that is well below saturation: there the differences are those of the light.
    shown = unclipped[len(unclipped) // 2]
    answer = shown.frames.mean(axis=0) - shortest.frames.mean(axis=0)
    good = np.ones(answer.shape, bool) if bad is None else ~bad
    away = np.abs(answer - np.median(answer[good]))
    away[~good] = np.inf
    wanted = max(1, int(_ALIKE * good.sum()))
    return np.argpartition(away.ravel(), wanted - 1)[:wanted]


def _dark_levels(
    dark: Sequence[Exposed], pixels: NDArray[np.int64], exposures: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean dark of the pixels at each exposure, between those that were measured."""
    darks = sorted(dark, key=lambda e: e.exposure_ms)
    levels = [float(e.frames.mean(axis=0).ravel()[pixels].mean()) for e in darks]
    return np.interp(exposures, [e.exposure_ms for e in darks], levels)


def _saturation(
    lit: Sequence[Exposed],
    exposures: NDArray[np.float64],
    signal: NDArray[np.float64],
    pixels: NDArray[np.int64],
    top: int,
) -> tuple[float, bool]:
    """Raw counts at which pixels are saturated, and whether they were seen to be."""
    last = lit[-1].frames.reshape(len(lit[-1].frames), -1)[:, pixels]
    if np.mean(last >= top) > _CLIPPED:
        return float(top), True
    # A full well ends below the digitisation: the signal hardly grows where before it did in proportion.
    growth = np.gradient(signal, exposures)
    usual = float(np.median(growth[: max(3, len(growth) // 2)]))
    if growth[-1] > _STOPPED * usual:
        return float(top), False
    plateau = [
        e for e, level in zip(lit, signal, strict=True) if level > (1 - _SAME_PLATEAU) * signal[-1]
    ]
    # Noise is on the plateau too: all but the lowest pixels there have to count as saturated.
    low = float(
        np.quantile(plateau[-1].frames.reshape(len(plateau[-1].frames), -1)[:, pixels], 0.01)
    )
    return low - 1, True


def _unsteadiness(signal: NDArray[np.float64]) -> float:
    """Relative standard deviation between the rounds, of all levels together."""
    if signal.shape[1] < 2:
        return 0.0
    rounds = (signal / signal.mean(axis=1, keepdims=True)).mean(axis=0)
    return float(rounds.std(ddof=1))


@dataclass
class Linearity:
    """Signal against exposure, from dim to saturated, of an empty field.

    Parameters
    ----------
    rounds
        How often the series of exposures is taken.
    shortest_ms, longest_ms
        Exposures that may be used.
    """

    rounds: int = 4
    shortest_ms: float = 0.05
    longest_ms: float = 1000.0
    name: str = "linearity"
    subject: Subject = "empty field"
    purpose: str = (
        "whether twice the light is twice the counts, and where a pixel is full: both change contrast "
        "where the image is brightest"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """Where a channel has light without a specimen."""
        return lacks_background(experiment)

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `nonlinearity` and `saturation_counts`."""
        channel = brightest_channel(experiment, known)
        # What was known of the saturation is what is measured anew here.
        camera = experiment.microscope.camera
        meter = Meter(
            microscope, experiment, replace(known, saturation_counts=None), channel, empty=True
        )
        limits = Limits(self.shortest_ms, self.longest_ms)
        full_ms = meter.find(_PROBE, limits).exposure_ms / _PROBE
        exposures = sorted({limits.clip(float(f"{full_ms * share:.4g}")) for share in _SHARES})
        # Up with every other exposure and down with the rest: a lamp that drifts is no non-linearity.
        order = exposures[::2] + exposures[1::2][::-1]
        lights = {
            name: light for ms in order for name, light in light_of(experiment, channel, ms).items()
        }
        field = middle(experiment.microscope.camera.shape_px)
        bad = None if known.bad_pixels is None else known.bad_pixels[field]
        lit = [
            Exposed(lights[name].exposure_ms, frames[:, *field].copy())
            for name, frames in shots(microscope, experiment, lights, self.rounds, empty=True)
        ]
        ends = [exposures[0], exposures[-1]]
        dark = [
            Exposed(ms, frames[:, *field].copy())
            for ms, frames in dark_shots(microscope, experiment, ends, _DARK_FRAMES)
        ]
        found = estimate_response(lit, dark, camera.bit_depth, bad)
        warnings = []
        if found.nonlinearity > _WORTH_A_WARNING:
            warnings.append(
                f"the camera departs by {found.nonlinearity:.1%} of its range from a straight line: "
                "keep the exposures below the middle of the range"
            )
        if not found.saturates:
            warnings.append(
                f"saturation was not reached: {found.reached_counts:.0f} counts at {exposures[-1]:g} ms, the "
                f"longest exposure allowed; {found.saturation_counts:.0f}, the end of {camera.bit_depth} bits, is taken"
            )
        return Finding(
            replace(
                known,
                nonlinearity=found.nonlinearity,
                saturation_counts=found.saturation_counts,
            ),
            {
                "channel": channel,
                "nonlinearity": found.nonlinearity,
                "nonlinearity_sigma": found.nonlinearity_sigma,
                "saturation_counts": found.saturation_counts,
                "saturates": found.saturates,
                "reached_counts": found.reached_counts,
                "levels": found.levels,
                "rounds": self.rounds,
                "unsteadiness": found.unsteadiness,
                "longest_ms": exposures[-1],
            },
            f"straight to {found.nonlinearity:.2%} of the range, saturated at {found.saturation_counts:.0f} counts"
            + ("" if found.saturates else " (not reached)"),
            tuple(warnings),
        )
