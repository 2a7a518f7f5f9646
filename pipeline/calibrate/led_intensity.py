"""Relative intensity of each LED, from a specimen's own frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.led_frames import (
    LedFrames,
    led_array,
    list_pattern,
    metered_ms,
    middle,
    radii_na,
    shows_any_pattern,
    take_led_frames,
)
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Condenser, Experiment, ReplayMicroscope
from pipeline.experiment.illumination import LightChannel

# LEDs so near the pupil's edge, relative to the NA, may pass in part: what they send through says little of them.
_RIM = 0.02
# Of the uncertainty of an intensity, beyond which it is not kept.
_MOST_SIGMA = 0.05
# LEDs so much brighter or darker than the others are told to the user.
_UNEVEN = 0.3
_TILES = 4
# Frames that are held at a time, with what correcting them takes.
_MOST_BYTES = 5e8


@dataclass(frozen=True)
class Levels:
    """Backgrounds of frames.

    `level` ``[K]`` counts per unit of light, `sigma` ``[K]`` their standard uncertainties relative to it.
    """

    level: NDArray[np.float64]
    sigma: NDArray[np.float64]


def background_levels(frames: NDArray[np.floating], light: NDArray[np.float64]) -> Levels:
    """How bright each frame's background is, all compared where they are alike.

    Each frame is divided by the mean of all, pixel by pixel: shading, and what the specimen absorbs under any LED,
    drop out. The median of the quotient over the field is the frame's level, its scatter over parts of
    the field the uncertainty.

    Parameters
    ----------
    frames
        ``[K, Y, X]`` brightfield frames of one specimen, counts above dark.
    light
        ``[K]`` exposure times brightness of each.

    Raises
    ------
    CalibrationRefusedError
        If there is hardly any light.
    """
    rates = frames / light[:, None, None]
    mean = rates.mean(axis=0)
    lit = mean > 0.1 * np.median(mean)
    if np.median(mean) <= 0 or lit.mean() < 0.5:
        raise CalibrationRefusedError(
            "the brightfield frames have no light",
            "check that single LEDs are lit, or expose longer",
        )
    relative = np.where(lit, rates / np.where(lit, mean, 1), np.nan)
    level = np.nanmedian(relative, axis=(1, 2))
    parts = np.stack(
        [
            np.nanmedian(tile, axis=(1, 2))
            for band in np.array_split(relative, _TILES, axis=1)
            for tile in np.array_split(band, _TILES, axis=2)
        ]
    )
    # Robust against a part that the specimen fills.
    spread = 1.4826 * np.nanmedian(np.abs(parts - np.nanmedian(parts, axis=0)), axis=0)
    sigma = 1.25 * spread / np.sqrt(len(parts)) / np.maximum(level, 1e-9)
    return Levels(level, sigma)


@dataclass
class LedIntensity:
    """How bright each LED is, relative to the mean of those that could be measured.

    LEDs within the objective's NA are measured by the background of their own frames. Where only patterns can be
    shown, the patterns are compared, and single LEDs stay unknown.
    """

    name: str = "led_intensity"
    subject: Subject = "specimen"
    purpose: str = (
        "how bright each LED is: unequal ones tilt the light of a pattern, and the phase with it"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """Not with a condenser."""
        if isinstance(experiment.illumination, Condenser):
            return "a condenser has no single LEDs to compare"
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `led_intensity`."""
        singles = _own_singles(experiment)
        if not shows_any_pattern(experiment) and not singles:
            return _patterns_only(microscope, experiment, known)
        leds = _lit_leds(experiment)
        if singles:
            leds = leds[np.isin(leds, list(singles))]
        bright, rim, dark = _by_place(experiment, leds)
        if len(bright) < 2:
            raise CalibrationRefusedError(
                f"{len(bright)} of the LEDs that the channels light lie within the objective's NA: nothing to compare",
                "light more LEDs within the NA, or use an objective of larger NA",
            )
        rates = _single_led_rates(microscope, experiment, known, bright, singles)
        levels = background_levels(rates, np.ones(len(bright)))
        kept = levels.sigma <= _MOST_SIGMA
        if not kept.any() or levels.sigma[kept].size < len(bright) / 2:
            raise CalibrationRefusedError(
                f"the background of {len(bright) - int(kept.sum())} of {len(bright)} frames is not even enough to "
                f"compare them (worst ± {levels.sigma.max():.0%})",
                "use a specimen that leaves free places, nearer to focus; see that no other light falls in",
            )
        relative = levels.level / levels.level[kept].mean()
        intensity = {
            int(led): float(v) for led, v, k in zip(bright, relative, kept, strict=True) if k
        }
        values = np.array(list(intensity.values()))
        left_out = sorted({*rim.tolist(), *dark.tolist(), *bright[~kept].tolist()})
        figures: dict[str, Any] = {
            "leds": len(intensity),
            "by": {"background": sorted(intensity)},
            "left_out": {
                "at the pupil's edge": rim.tolist(),
                "darkfield": dark.tolist(),
                "uneven background": bright[~kept].tolist(),
            },
            "spread": round(float(values.std()), 4),
            "sigma": round(float(np.median(levels.sigma[kept])), 5),
            "largest_sigma": round(float(levels.sigma[kept].max()), 5),
        }
        uneven = {led: v for led, v in intensity.items() if abs(v - 1) > _UNEVEN}
        warnings = tuple(
            f"LED {led} has {v:.0%} of the others' intensity: dirty, dying or out of its place"
            for led, v in list(uneven.items())[:5]
        )
        rest = f"; {len(left_out)} others that the channels light stay unknown" if left_out else ""
        return Finding(
            replace(known, led_intensity=intensity),
            figures,
            f"{len(intensity)} LEDs, spread {values.std():.1%}, each ± {figures['sigma']:.1%}{rest}",
            warnings,
        )


def _own_singles(experiment: Experiment) -> dict[int, str]:
    """LED → the experiment's own channel that lights it alone."""
    light, na = led_array(experiment), experiment.optics.numerical_aperture
    out = {}
    for name in experiment.channel_names:
        leds = light.leds(light.channels[name].pattern or "", na)
        if len(leds) == 1 and light.channels[name].brightness > 0:
            out[int(leds[0])] = name
    return out


def _lit_leds(experiment: Experiment) -> NDArray[np.int64]:
    """All LEDs that the experiment's channels light."""
    light, na = led_array(experiment), experiment.optics.numerical_aperture
    lit = [
        light.leds(light.channels[name].pattern or "", na)
        for name in experiment.channel_names
        if light.channels[name].brightness > 0
    ]
    return np.unique(np.concatenate(lit))


def _by_place(
    experiment: Experiment, leds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """LEDs inside the objective's NA, at its edge, outside."""
    radius = radii_na(experiment)[leds] / experiment.optics.numerical_aperture
    inside, outside = radius < 1 - _RIM, radius > 1 + _RIM
    return leds[inside], leds[~inside & ~outside], leds[outside]


def _single_led_rates(
    microscope: Microscope,
    experiment: Experiment,
    known: Calibration,
    leds: NDArray[np.int64],
    singles: dict[int, str],
) -> NDArray[np.float32]:
    """``[K, Y, X]`` counts per ms of light under each LED alone, the middle of the field."""
    patterns = {f"led {led}": list_pattern([led]) for led in leds}
    own = all(int(led) in singles for led in leds)
    if own:
        names = [singles[int(led)] for led in leds]
        lights = {name: led_array(experiment).channels[name] for name in names}
    else:
        # The LED nearest the axis: the dimmest of the others is rarely half as bright.
        central = leds[radii_na(experiment)[leds].argmin()]
        ms = metered_ms(microscope, experiment, known, list_pattern([central]))
        lights = {name: LightChannel(pattern=name, exposure_ms=ms) for name in patterns}
    names = list(lights)
    plan = experiment.plan()
    at_once = max(1, int(_MOST_BYTES // (8 * np.prod(plan.frame_shape))))
    if isinstance(experiment.microscope, ReplayMicroscope):
        at_once = len(names)  # a recording scales what is taken together by one factor
    rates = []
    for first in range(0, len(names), at_once):
        part = names[first : first + at_once]
        taken = take_led_frames(
            microscope,
            experiment,
            known,
            part if own else {name: lights[name] for name in part},
            None if own else {name: patterns[name] for name in part},
            (min(experiment.sequence.foci_um, key=abs),),
        )
        rates.append(middle(taken.counts[:, 0]) / taken.light[:, None, None])
    return np.concatenate(rates)


def _patterns_only(microscope: Microscope, experiment: Experiment, known: Calibration) -> Finding:
    """Compare the brightfield patterns by their backgrounds; the calibration's intensities stay as they are."""
    light, na = led_array(experiment), experiment.optics.numerical_aperture
    inside = radii_na(experiment) <= na
    names, number = [], []
    for name in experiment.channel_names:
        leds = light.leds(light.channels[name].pattern or "", na)
        if light.channels[name].brightness > 0 and inside[leds].any():
            names.append(name)
            number.append(int(inside[leds].sum()))
    if len(names) < 2:
        raise CalibrationRefusedError(
            "this light shows the experiment's own patterns only, and fewer than two of them are brightfield",
            "add channels of single LEDs to the experiment and to microscope.light.values",
        )
    frames: LedFrames = take_led_frames(microscope, experiment, known, names)
    levels = background_levels(middle(frames.counts[:, 0]), frames.light * np.array(number))
    relative = levels.level / levels.level.mean()
    shown = {name: round(float(v), 4) for name, v in zip(names, relative, strict=True)}
    sigma = float(np.median(levels.sigma))
    said = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
    return Finding(
        known,
        {"pattern_intensity": shown, "pattern_sigma": round(sigma, 5), "leds": 0},
        f"light per LED of the patterns: {said} (± {sigma:.1%}); single LEDs can't be lit here and stay unknown",
        tuple(
            f"pattern of channel '{name}' has {value:.0%} of the mean light per LED"
            for name, value in shown.items()
            if abs(value - 1) > _UNEVEN
        ),
    )
