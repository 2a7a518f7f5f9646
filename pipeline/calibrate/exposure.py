"""Exposures that bring every channel to the same level: brightfield by its background, darkfield by its specimen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.nominal_light import lit_channels, nominal_light
from pipeline.calibrate.shots import Frames, dark_shots, light_of, shots
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment

_SHOTS = 4
_FRAMES = 4
_DARK_FRAMES = 8
# A dark serves for exposures up to so many times its own; a pixel is hot beyond this share of the range.
_LONGER = 2.0
_HOT = 0.01
# The brightest pixels, but for a few that may be anything, and the most that they may have.
_BRIGHTEST = 0.999
_HEADROOM = 0.9
# A specimen's darkfield signal: what its brighter structures reach.
_STRUCTURES = 0.995
# Nothing is learnt from a saturated frame but that it has to be much darker; signals below so many standard
# deviations of the noise say only that it has to be brighter.
_SATURATED_STEP = 1 / 16
_STEP_UP = 30.0
_VISIBLE = 6.0
_CLOSE = 0.02
_ACCEPTED = 0.05


class Level(NamedTuple):
    """How bright a shot is, in counts above the dark.

    `signal` of what is to be brought to the target, `brightest` pixels, `noise` of `signal`'s pixels;
    `clipped` whether the pixels that decide are saturated; `sigma` the standard uncertainty of `signal`.
    """

    signal: float
    brightest: float
    noise: float
    clipped: bool
    sigma: float = 0.0


class Found(NamedTuple):
    """An exposure, the level that it gives (counts above dark) and the shots that it took."""

    exposure_ms: float
    level: Level
    shots: int


class Limits(NamedTuple):
    """Exposures that the camera can do and the specimen bears, ms."""

    shortest_ms: float
    longest_ms: float

    def clip(self, exposure_ms: float) -> float:
        """The nearest exposure within the limits."""
        return min(max(exposure_ms, self.shortest_ms), self.longest_ms)


def measure_level(
    frames: Frames,
    dark: NDArray[np.floating],
    good: NDArray[np.bool_],
    saturation: float,
    quantile: float,
) -> Level:
    """The level of `frames` ``[N, Y, X]`` raw counts, at this quantile of the good pixels."""
    samples = frames[:, good].astype(np.float32) - np.broadcast_to(dark, good.shape)[good]
    mean = samples.mean(axis=0)
    signal, brightest = (float(q) for q in np.quantile(mean, [quantile, _BRIGHTEST]))
    noise = float(np.sqrt(np.mean(samples.var(axis=0, ddof=1)) / len(frames)))
    clipped = float(np.quantile(frames[:, good], max(quantile, 0.99))) >= saturation
    # From frame to frame: noise and lamp together.
    sigma = float(np.quantile(samples, quantile, axis=1).std(ddof=1) / np.sqrt(len(frames)))
    return Level(signal, brightest, noise, clipped, sigma)


def next_exposure(exposure_ms: float, level: Level, target: float, most: float) -> float:
    """Where the target should be reached, if the signal grows in proportion to the exposure.

    Parameters
    ----------
    target, most
        Counts above dark that the signal is to have, and that the brightest pixels may have.
    """
    if level.clipped:
        return exposure_ms * _SATURATED_STEP
    if level.signal < _VISIBLE * level.noise:
        return exposure_ms * _STEP_UP
    return exposure_ms * min(target / level.signal, most / max(level.brightest, 1.0))


def find_exposure(
    channel: str,
    shoot: Callable[[float], Level],
    start_ms: float,
    target: float,
    most: float,
    limits: Limits,
) -> Found:
    """Shoot until the target is reached, the brightest pixels have all they may, or a limit is.

    Parameters
    ----------
    shoot
        Exposure in ms → the level it gives.
    target, most
        As in `next_exposure`.

    Returns
    -------
    The last shot. Whether it is bright enough at the longest exposure is the caller's to judge.

    Raises
    ------
    CalibrationRefusedError
        If it is saturated at the shortest exposure, or the light does not follow the exposure.
    """
    exposure = limits.clip(start_ms)
    for shot in range(1, _SHOTS + 1):
        level = shoot(exposure)
        better = limits.clip(_rounded(next_exposure(exposure, level, target, most)))
        if level.clipped and exposure <= limits.shortest_ms:
            raise CalibrationRefusedError(
                f"channel '{channel}' is saturated at the shortest exposure, {exposure:g} ms",
                "lower its brightness, or put a filter into the light",
            )
        near = abs(better / exposure - 1) <= (_CLOSE if shot < _SHOTS else _ACCEPTED)
        if near and not level.clipped:
            return Found(exposure, level, shot)
        before, exposure = exposure, better
    raise CalibrationRefusedError(
        f"channel '{channel}' does not settle: after {_SHOTS} shots the last, of {before:g} ms, "
        f"still calls for {better:g} ms",
        "check that the lamp is steady and that the camera obeys its exposure time; then begin nearer: "
        f"set exposure_ms to {better:g}",
    )


def _rounded(exposure_ms: float) -> float:
    """To three digits: finer is neither set by cameras nor read by people."""
    return float(f"{exposure_ms:.3g}")


class Meter:
    """Shoots one channel at any exposure and says how bright it is.

    Parameters
    ----------
    quantile
        Of the pixels, which stands for the channel's signal: 0.5 is the background.
    empty
        Nothing lies under the objective.
    """

    def __init__(
        self,
        microscope: Microscope,
        experiment: Experiment,
        known: Calibration,
        channel: str,
        *,
        quantile: float = 0.5,
        empty: bool = False,
    ) -> None:
        self._microscope, self._experiment = microscope, experiment
        self._channel, self._quantile, self._empty = channel, quantile, empty
        camera = experiment.microscope.camera
        self._saturation = known.saturation_counts or 2.0**camera.bit_depth - 1
        self._good = np.ones(camera.shape_px, bool)
        if known.bad_pixels is not None:
            self._good &= ~known.bad_pixels
        self._dark: NDArray[np.floating] = known.dark.get(channel, np.zeros((), np.float32))
        self._dark_ms = known.exposure_ms.get(channel, 0.0) if channel in known.dark else 0.0
        if channel not in known.dark:
            self._take_dark(experiment.illumination.channels[channel].exposure_ms)
        self.range = self._saturation - float(np.median(self._dark))
        """Counts from dark to saturation."""

    def __call__(self, exposure_ms: float) -> Level:
        """The channel's level at this exposure."""
        # Dark current must not pass for light.
        if exposure_ms > _LONGER * self._dark_ms:
            self._take_dark(exposure_ms)
        light = light_of(self._experiment, self._channel, exposure_ms)
        ((_, frames),) = shots(
            self._microscope, self._experiment, light, _FRAMES, empty=self._empty
        )
        return measure_level(frames, self._dark, self._good, self._saturation, self._quantile)

    def _take_dark(self, exposure_ms: float) -> None:
        ((_, frames),) = dark_shots(self._microscope, self._experiment, [exposure_ms], _DARK_FRAMES)
        self._dark = np.median(frames, axis=0)
        self._dark_ms = exposure_ms
        self._good &= np.abs(self._dark - np.median(self._dark)) <= _HOT * self._saturation

    def find(self, share: float, limits: Limits) -> Found:
        """The exposure at which the signal has this share of the range.

        Raises
        ------
        CalibrationRefusedError
            As `find_exposure`; or if there is no light, even at the longest exposure.
        """
        start = self._experiment.illumination.channels[self._channel].exposure_ms
        most = max(_HEADROOM, share) * self.range
        found = find_exposure(self._channel, self, start, share * self.range, most, limits)
        if found.level.signal < _VISIBLE * found.level.noise:
            raise CalibrationRefusedError(
                f"channel '{self._channel}' has no light: {found.level.signal:.1f} ± {found.level.noise:.1f} "
                f"counts at {found.exposure_ms:g} ms, the longest exposure allowed",
                "check lamp, light path and brightness"
                + ("" if self._quantile == 0.5 else ", and that a specimen is in the field"),
            )
        return found


@dataclass
class Exposure:
    """Exposures that bring the channels to one level.

    Parameters
    ----------
    share
        Target: of the camera's range from dark to saturation. The background of a brightfield channel, the
        brighter structures of a specimen in a darkfield channel.
    shortest_ms, longest_ms
        Exposures that may be used.
    """

    share: float = 0.6
    shortest_ms: float = 0.05
    longest_ms: float = 1000.0
    name: str = "exposure"
    subject: Subject = "specimen"
    purpose: str = (
        "how long to expose each channel so that all use the camera's range and none saturates: "
        "darkfield needs many times more light than brightfield"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """For any channel with light."""
        return None if lit_channels(experiment) else "no channel has any light"

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `balanced_exposure_ms`."""
        limits = Limits(self.shortest_ms, self.longest_ms)
        figures: dict[str, Any] = {}
        warnings: list[str] = []
        for channel in lit_channels(experiment):
            bright = nominal_light(experiment, channel, known).brightfield
            quantile = 0.5 if bright else _STRUCTURES
            meter = Meter(microscope, experiment, known, channel, quantile=quantile)
            found = meter.find(self.share, limits)
            reached = found.level.signal / meter.range
            figures[channel] = {
                "exposure_ms": found.exposure_ms,
                "share_of_range": reached,
                "share_sigma": found.level.sigma / meter.range,
                "brightest_share": found.level.brightest / meter.range,
                "shots": found.shots,
            }
            if reached < (1 - _ACCEPTED) * self.share:
                longest = found.exposure_ms >= limits.longest_ms
                reason = (
                    f"{found.exposure_ms:g} ms is the longest exposure allowed, raise its brightness"
                    if longest
                    else "its brightest pixels have no room for more, the light is uneven"
                )
                # A specimen's few brightest structures may well limit a darkfield channel.
                if bright or longest:
                    warnings.append(
                        f"channel '{channel}' reaches {reached:.0%} of the range instead of {self.share:.0%}: {reason}"
                    )
        balanced = {channel: values["exposure_ms"] for channel, values in figures.items()}
        warnings += _too_slow(experiment, sum(balanced.values()))
        found_ms = ", ".join(f"{channel} {ms:g} ms" for channel, ms in balanced.items())
        return Finding(
            replace(known, balanced_exposure_ms={**known.balanced_exposure_ms, **balanced}),
            {"target_share": self.share, "channels": figures},
            f"for {self.share:.0%} of the range: {found_ms}",
            tuple(warnings),
        )


def _too_slow(experiment: Experiment, exposures_ms: float) -> list[str]:
    sequence = experiment.sequence
    seconds = exposures_ms * len(sequence.foci_um) * len(experiment.plan().positions) / 1e3
    if not sequence.interval_s or seconds <= sequence.interval_s:
        return []
    return [
        f"at these exposures a timepoint takes {seconds:.3g} s, more than its interval of "
        f"{sequence.interval_s:g} s: raise the brightness or the interval"
    ]
