"""Flats: what each channel's light gives without a specimen, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.averaging import average
from pipeline.calibrate.field_structure import block_medians, check_empty, check_same_field
from pipeline.calibrate.nominal_light import (
    lacks_background,
    lit_channels,
    nominal_light,
)
from pipeline.calibrate.shots import (
    Frames,
    frames_in_memory,
    light_of,
    nearest_focus_um,
    shots,
)
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment

_PROBE_FRAMES = 4
_FEWEST = 16
_MOST = 256
# Noise of a flat, relative: what is aimed at, and what is still accepted.
_AIM = 0.004
_NOISIEST = 0.01
_SATURATED = 0.001
# Relative drift of the lamp over the frames, and its flicker from frame to frame.
_DRIFT = 0.01
_FLICKER = 0.05
# A pixel that gives less, or more, than so much of its surroundings is no pixel to divide by.
_DEAD, _TOO_KEEN = 0.3, 2.0
_UNBALANCED = 0.05
_NOT_DARK = 0.02


@dataclass(frozen=True)
class FlatField:
    """The flat of one channel.

    Parameters
    ----------
    mean
        ``[Y, X]`` float32 counts above dark.
    frames
        How many it is the mean of.
    level_counts
        Median of the pixels.
    noise
        Standard uncertainty of a pixel of `mean`, typical, relative to the level; shot noise included.
    drift, flicker
        Of the lamp, relative: from the first quarter of the frames to the last; from frame to frame.
    corner_loss
        Share of the light that the darkest corner lacks.
    dead
        ``[Y, X]`` bool: pixels that don't answer to light as their neighbours do.
    """

    mean: NDArray[np.float32]
    frames: int
    level_counts: float
    noise: float
    drift: float
    flicker: float
    corner_loss: float
    dead: NDArray[np.bool_]


def estimate_flat(
    frames: Frames,
    dark: NDArray[np.floating],
    saturation: float,
    bad: NDArray[np.bool_] | None = None,
    channel: str = "light",
) -> FlatField:
    """Mean of `frames` ``[N, Y, X]`` raw counts less the dark. Dust stays in it: nothing is smoothed.

    Parameters
    ----------
    dark
        ``[Y, X]`` or ``[]`` counts at the same exposure.
    saturation
        Raw counts at and above which a pixel is saturated.
    bad
        ``[Y, X]`` pixels to leave out of every judgement.
    channel
        Its name, for the reasons of a refusal.

    Raises
    ------
    CalibrationRefusedError
        If the light saturates the camera, is too dim, drifts or flickers; if there are too few frames.
    """
    if len(frames) < _PROBE_FRAMES:
        raise CalibrationRefusedError(
            f"{len(frames)} frames are too few for the flat of channel '{channel}'",
            f"take {_FEWEST} or more",
        )
    good = np.ones(frames.shape[1:], bool) if bad is None else ~bad
    clipped = float(np.mean([np.mean(frame[good] >= saturation) for frame in frames]))
    if clipped > _SATURATED:
        raise CalibrationRefusedError(
            f"channel '{channel}' saturates {clipped:.1%} of the pixels",
            "lower its exposure_ms or brightness: `livephase calibrate exposure` finds a good one",
        )
    dark = np.asarray(dark, np.float32)
    levels = np.array([np.mean(frame[good], dtype=np.float64) for frame in frames])
    levels -= float(np.mean(np.broadcast_to(dark, good.shape)[good]))
    if levels.min() <= 0:
        raise CalibrationRefusedError(
            f"channel '{channel}' has no light: {levels.min():.1f} counts above the dark",
            "check lamp and light path; if the light is on, the dark was not dark: take it again",
        )
    mean, std, _ = average(frames, levels)
    signal = mean - dark
    level = float(np.median(signal[good]))
    noise = float(np.sqrt(np.mean(np.square(std[good])) / len(frames))) / max(level, 1e-3)
    if noise > _NOISIEST:
        raise CalibrationRefusedError(
            f"the flat of channel '{channel}', {level:.0f} counts above the dark, has {noise:.1%} of noise "
            f"after {len(frames)} frames; {_NOISIEST:.0%} is the limit",
            "raise its exposure_ms or brightness, or average more frames",
        )
    drift, flicker = _steadiness(levels)
    if abs(drift) > _DRIFT or flicker > _FLICKER:
        what = f"drifted by {drift:+.1%}" if abs(drift) > _DRIFT else f"flickered by {flicker:.1%}"
        raise CalibrationRefusedError(
            f"the light of channel '{channel}' {what} within {len(frames)} frames",
            "let the lamp warm up; an LED that is dimmed by pulses needs an exposure of many pulses",
        )
    around = block_medians(signal)
    dead = (signal < _DEAD * around) | (signal > _TOO_KEEN * around)
    corner = float(np.min(around)) / float(np.quantile(around, 0.99))
    return FlatField(signal, len(frames), level, noise, drift, flicker, 1 - corner, dead)


def _steadiness(levels: NDArray[np.float64]) -> tuple[float, float]:
    """Relative drift from the first quarter to the last, and standard deviation about that drift."""
    relative = levels / levels.mean()
    quarter = max(1, len(levels) // 4)
    drift = float(np.median(relative[-quarter:]) - np.median(relative[:quarter]))
    line = np.polyval(np.polyfit(np.arange(len(levels)), relative, 1), np.arange(len(levels)))
    return drift, float((relative - line).std(ddof=2))


def darkfield_flat(
    brightfield: dict[str, NDArray[np.float32]],
    light: dict[str, float],
    passing: dict[str, float],
    darkfield: float,
) -> NDArray[np.float32]:
    """What a darkfield channel's light would give if it passed the pupil, ``[Y, X]`` counts above dark.

    Parameters
    ----------
    brightfield
        Channel → its flat.
    light, passing
        Channel → exposure x brightness x LEDs, and the share of it that passes the pupil.
    darkfield
        Exposure x brightness x LEDs of the darkfield channel.
    """
    # The median leaves out a channel that is brighter or darker than it should be.
    per_light = [
        float(np.median(flat)) / (light[name] * passing[name]) for name, flat in brightfield.items()
    ]
    shape = np.mean([flat / np.median(flat) for flat in brightfield.values()], axis=0)
    return np.asarray(darkfield * np.median(per_light) * shape, np.float32)


@dataclass
class Flat:
    """A flat for each channel at the exposure that a run takes it with; the field is empty.

    Parameters
    ----------
    frames
        Averaged for each channel; as many as bring the noise to 0.4 % where None.
    contrast
        Relative; what an empty field may have over more than a twentieth of its area. A laser's fringes need more.
    """

    frames: int | None = None
    contrast: float = 0.015
    name: str = "flat"
    subject: Subject = "empty field"
    purpose: str = (
        "what each channel's light gives without a specimen: vignetting, dust and unequal "
        "brightness would look like phase"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """For any channel that has light without a specimen."""
        return lacks_background(experiment)

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `flat` and `exposure_ms`, adds to `bad_pixels`."""
        channels = experiment.illumination.channels
        exposures = {c: channels[c].exposure_ms for c in lit_channels(experiment)}
        for channel, ms in exposures.items():
            _check_dark(known, channel, ms)
        lights = {c: nominal_light(experiment, c, known) for c in exposures}
        bright = [c for c, light in lights.items() if light.brightfield]
        found = {c: self._take(microscope, experiment, known, c) for c in bright}
        dead = np.logical_or.reduce([flat.dead for flat in found.values()])
        bad = dead if known.bad_pixels is None else dead | known.bad_pixels
        contrast = {
            channel: check_empty(flat.mean, flat.noise, bad, channel, self.contrast)
            for channel, flat in found.items()
        }
        check_same_field({f"channel '{c}'": (f.mean, f.noise) for c, f in found.items()}, bad)
        self._check_other_focus(microscope, experiment, known, bright[0], found[bright[0]])
        power = {c: exposures[c] * lights[c].leds for c in exposures}
        passing = {c: lights[c].passing for c in bright}
        flats = {channel: flat.mean for channel, flat in found.items()}
        implied = {
            c: darkfield_flat(flats, power, passing, power[c]) for c in exposures if c not in bright
        }
        balance = _balance(found, {c: power[c] * passing[c] for c in bright})
        glow = {c: _glow(microscope, experiment, known, c, flat) for c, flat in implied.items()}
        figures: dict[str, Any] = {
            channel: {
                "frames": flat.frames,
                "exposure_ms": exposures[channel],
                "level_counts": flat.level_counts,
                "noise": flat.noise,
                "drift": flat.drift,
                "flicker": flat.flicker,
                "corner_loss": flat.corner_loss,
                "structure": contrast[channel],
                "relative_brightness": balance[channel],
            }
            for channel, flat in found.items()
        } | {
            channel: {
                "exposure_ms": exposures[channel],
                "implied_level_counts": float(np.median(flat)),
                "light_without_specimen": glow[channel],
            }
            for channel, flat in implied.items()
        }
        return Finding(
            replace(
                known,
                flat={**known.flat, **flats, **implied},
                exposure_ms={**known.exposure_ms, **exposures},
                bad_pixels=bad if bad.any() else known.bad_pixels,
            ),
            {"channels": figures, "dead_pixels": int(dead.sum())},
            f"{len(flats)} flats with at most {max(f.noise for f in found.values()):.2%} noise, "
            f"{len(implied)} for darkfield derived; the corners lack "
            f"{max(f.corner_loss for f in found.values()):.0%} of the light, {int(dead.sum())} dead pixels",
            tuple(_warnings(balance, glow)),
        )

    def _take(
        self, microscope: Microscope, experiment: Experiment, known: Calibration, channel: str
    ) -> FlatField:
        """As many frames of a brightfield channel as it needs, and their mean."""
        light = light_of(experiment, channel, experiment.illumination.channels[channel].exposure_ms)
        dark, bad = known.dark[channel], known.bad_pixels
        frames = self.frames
        if frames is None:
            ((_, probe),) = shots(microscope, experiment, light, _PROBE_FRAMES, empty=True)
            frames = _frames_for(probe, dark, bad, frames_in_memory(experiment))
        ((_, stack),) = shots(microscope, experiment, light, frames, empty=True)
        return estimate_flat(stack, dark, _saturation(experiment, known), bad, channel)

    def _check_other_focus(
        self,
        microscope: Microscope,
        experiment: Experiment,
        known: Calibration,
        channel: str,
        flat: FlatField,
    ) -> None:
        """A transparent specimen may be invisible in focus; out of focus it is not."""
        near = nearest_focus_um(experiment)
        far = max(experiment.sequence.foci_um, key=lambda z: abs(z - near))
        if far == near:
            return
        ms = experiment.illumination.channels[channel].exposure_ms
        light = light_of(experiment, channel, ms)
        ((_, stack),) = shots(microscope, experiment, light, flat.frames, empty=True, focus_um=far)
        saturation = _saturation(experiment, known)
        other = estimate_flat(stack, known.dark[channel], saturation, known.bad_pixels, channel)
        views = {
            f"channel '{channel}' at {near:g} µm": (flat.mean, flat.noise),
            f"at {far:g} µm": (other.mean, other.noise),
        }
        bad = flat.dead | other.dead
        check_same_field(views, bad if known.bad_pixels is None else bad | known.bad_pixels)


def _saturation(experiment: Experiment, known: Calibration) -> float:
    return known.saturation_counts or 2.0**experiment.microscope.camera.bit_depth - 1


def _glow(
    microscope: Microscope,
    experiment: Experiment,
    known: Calibration,
    channel: str,
    flat: NDArray[np.float32],
) -> float:
    """Share of a darkfield channel's light that the empty field shows."""
    light = light_of(experiment, channel, experiment.illumination.channels[channel].exposure_ms)
    ((_, stack),) = shots(microscope, experiment, light, _PROBE_FRAMES, empty=True)
    return float(np.median(stack.mean(axis=0) - known.dark[channel]) / np.median(flat))


def _warnings(balance: dict[str, float], glow: dict[str, float]) -> list[str]:
    return [
        f"channel '{channel}' is {abs(ratio - 1):.0%} {'brighter' if ratio > 1 else 'darker'} "
        "than its LEDs and exposure should make it"
        for channel, ratio in balance.items()
        if abs(ratio - 1) > _UNBALANCED
    ] + [
        f"darkfield channel '{channel}' has {share:.1%} of its light without a specimen: "
        "check pitch, distance and offset of the LED array"
        for channel, share in glow.items()
        if share > _NOT_DARK
    ]


def _check_dark(known: Calibration, channel: str, exposure_ms: float) -> None:
    if channel not in known.dark:
        raise CalibrationRefusedError(
            f"channel '{channel}' has no dark yet", "take it first: `livephase calibrate dark`"
        )
    taken = known.exposure_ms.get(channel, exposure_ms)
    if abs(taken / exposure_ms - 1) > 0.01:
        raise CalibrationRefusedError(
            f"the dark of channel '{channel}' was taken at {taken:g} ms, its flat is to be at {exposure_ms:g} ms",
            "take the dark again: `livephase calibrate dark`",
        )


def _frames_for(
    probe: Frames, dark: NDArray[np.float32], bad: NDArray[np.bool_] | None, most: int
) -> int:
    """How many frames bring the noise to where it is to be."""
    good = np.ones(probe.shape[1:], bool) if bad is None else ~bad
    samples = probe[:, good].astype(np.float32)
    variance = float(np.mean(samples.var(axis=0, ddof=1)))
    level = float(samples.mean()) - float(np.mean(np.broadcast_to(dark, good.shape)[good]))
    wanted = variance / (_AIM * max(level, 1e-3)) ** 2
    return int(np.clip(np.ceil(wanted), _FEWEST, min(_MOST, most)))


def _balance(found: dict[str, FlatField], light: dict[str, float]) -> dict[str, float]:
    """How bright each channel is for its light, relative to the median channel."""
    per_light = {channel: flat.level_counts / light[channel] for channel, flat in found.items()}
    usual = float(np.median(list(per_light.values())))
    return {channel: value / usual for channel, value in per_light.items()}
