"""Orientation of the LED array to the camera, from a specimen's own frames under half circles or single LEDs."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    moves_focus,
    radii_na,
    shows_any_pattern,
    take_led_frames,
)
from pipeline.calibrate.orientation_fit import LED_SPREAD, depth_of_field_um, find_orientation
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Condenser, Experiment
from pipeline.experiment.illumination import LightChannel
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.optics.illumination import led_intensities

# Half circles that are shown, or summed from single LEDs.
_DIRECTIONS = (0.0, 90.0, 180.0, 270.0)
# Relative spread of LEDs that is left after their intensities were measured.
_MEASURED_SPREAD = 0.03


@dataclass
class Orientation:
    """Which of the eight orientations the array has to the camera, and its fine rotation.

    Where any LEDs can be lit, half circles are shown; elsewhere the experiment's own brightfield patterns. Where the
    focus can be moved, a second plane is taken.
    """

    name: str = "orientation"
    subject: Subject = "specimen"
    purpose: str = (
        "how the LED array lies to the camera: turned or mirrored, every oblique frame is taken for another, "
        "and the phase comes out with the wrong shape or sign"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """Not with a condenser."""
        if isinstance(experiment.illumination, Condenser):
            return "a condenser has no LEDs to orient"
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `led_orientation`."""
        foci_um = _foci(experiment)
        frames = _brightfield_frames(microscope, experiment, known, foci_um)
        summed = _half_circles(frames, experiment)
        light = led_array(experiment)
        intensity = led_intensities(light.array, known)
        # In a sum of single frames every LED has the same part.
        if intensity is None or summed is not frames:
            intensity = np.ones(light.array.count)
        sines = light.array.sines()
        fit = find_orientation(
            summed.counts,
            [(sines[leds], intensity[leds]) for leds in summed.leds],
            [known.true_focus_um(z) for z in summed.foci_um],
            experiment.optics,
            known.pixel_um or experiment.pixel_um,
            z_sign_calibrated=known.z_scale is not None,
            led_spread=_MEASURED_SPREAD if known.led_intensity else LED_SPREAD,
        )
        o = fit.orientation
        figures: dict[str, Any] = {
            "flip_x": o.flip_x,
            "swap_xy": o.swap_xy,
            "rotation_deg": o.rotation_deg,
            "fine_rotation_deg": round(fit.rotation_deg, 3),
            "rotation_sigma_deg": round(fit.rotation_sigma_deg, 3),
            "confidence": round(fit.confidence, 4),
            "relative_misfit": {name: round(value, 4) for name, value in fit.misfit.items()},
            "sign_from": _SIGN_FROM[fit.sign_from],
            "sign_confidence": round(fit.sign_confidence, 2),
            "phase_with_absorption": round(fit.correlation, 3),
            "phase_skewness": round(fit.skewness, 2),
            "fitted_focus_um": round(fit.z_um, 2),
            "patterns": list(summed.names),
            "foci_um": list(summed.foci_um),
        }
        turned = f"rotation {o.rotation_deg:g} ± {fit.rotation_sigma_deg:.1f}°"
        mirrored = " and ".join(
            word for word, is_so in (("x mirrored", o.flip_x), ("axes swapped", o.swap_xy)) if is_so
        )
        return Finding(
            replace(known, led_orientation=o),
            figures,
            f"{mirrored or 'not mirrored'}, {turned}; the next best of the eight fits {fit.confidence:.2f} times "
            f"worse; told from its 180° turn by {_SIGN_FROM[fit.sign_from]}",
            fit.warnings,
        )


_SIGN_FROM = {
    "lens": "the calibrated direction of the lens",
    "focus": "the direction of the focus, as the experiment states it",
    "specimen": "the specimen: it is denser than its medium",
}


def _foci(experiment: Experiment) -> tuple[float, ...]:
    """The focus as it is and a second one about a depth of field away; the experiment's own where none can be set."""
    own = experiment.sequence.foci_um
    if not moves_focus(experiment):
        return own
    depth_um = depth_of_field_um(experiment.optics)
    near = min(own, key=abs)
    for other in (*own, *(near + s * depth_um for s in (0.8, -0.8, 0.4, -0.4))):
        if 0.3 * depth_um <= abs(other - near) <= 1.5 * depth_um and _reached(experiment, other):
            return (near, round(other, 3))
    return (near,)


def _reached(experiment: Experiment, focus_um: float) -> bool:
    microscope = experiment.microscope
    if not isinstance(microscope, MicroManagerMicroscope) or microscope.lens is None:
        return True
    limits = microscope.lens.limits
    return limits is None or limits[0] <= microscope.lens.position(focus_um) <= limits[1]


def _brightfield_frames(
    microscope: Microscope, experiment: Experiment, known: Calibration, foci_um: Sequence[float]
) -> LedFrames:
    """Of four half circles where any LEDs can be lit; of the experiment's own brightfield channels elsewhere."""
    light, na = led_array(experiment), experiment.optics.numerical_aperture
    radii = radii_na(experiment)
    if shows_any_pattern(experiment):
        patterns = {
            f"half {angle:g}": list_pattern(leds)
            for angle, leds in _halves(experiment, np.flatnonzero(radii <= na)).items()
            if len(leds)
        }
        if len(patterns) < len(_DIRECTIONS):
            raise CalibrationRefusedError(
                f"no LED of the array lies within the objective's NA {na:g} on one of its sides",
                "use an objective of larger NA, or check pitch_mm, distance_mm and offset_mm",
            )
        # One exposure for all: their light differs little.
        exposure_ms = metered_ms(microscope, experiment, known, patterns["half 0"])
        channels = {name: LightChannel(pattern=name, exposure_ms=exposure_ms) for name in patterns}
        return take_led_frames(microscope, experiment, known, channels, patterns, foci_um)
    own = [
        name
        for name in experiment.channel_names
        if light.channels[name].brightness > 0
        and (radii[light.leds(light.channels[name].pattern or "", na)] <= na).all()
    ]
    if len(own) < 2:
        raise CalibrationRefusedError(
            f"the experiment has {len(own)} channels whose LEDs all lie within the objective's NA",
            "add the four half circles (kind: half_circle, direction_deg: 0, 90, 180, 270) to the channels",
        )
    return take_led_frames(microscope, experiment, known, own, foci_um=foci_um)


def _halves(experiment: Experiment, leds: NDArray[np.int64]) -> dict[float, NDArray[np.int64]]:
    """Those of `leds` on each side of the axis."""
    sines = led_array(experiment).array.sines()[leds]
    out = {}
    for angle in _DIRECTIONS:
        a = math.radians(angle)
        out[angle] = leds[sines @ np.array([math.cos(a), math.sin(a)]) > 1e-9]
    return out


def _half_circles(frames: LedFrames, experiment: Experiment) -> LedFrames:
    """Frames of single LEDs, summed to half circles; others as they are.

    Under one LED a strong specimen is far from linear; in the sum over many what is not cancels. Each frame
    is first divided by its median, which takes the LEDs' own intensities out.
    """
    if any(len(leds) != 1 for leds in frames.leds):
        return frames
    single = np.concatenate(frames.leds)
    halves = _halves(experiment, single)
    if any(len(leds) < 2 for leds in halves.values()):
        return frames
    level = np.median(frames.counts, axis=(-2, -1), keepdims=True)
    if (level <= 0).any():
        dark = frames.names[int((level <= 0).any(axis=(1, 2, 3)).argmax())]
        raise CalibrationRefusedError(
            f"channel '{dark}' has no light", "check that its LED is lit, or lengthen its exposure"
        )
    relative = frames.counts / level
    chosen = [np.isin(single, leds) for leds in halves.values()]
    return LedFrames(
        tuple(f"half {angle:g}" for angle in halves),
        np.stack([relative[which].mean(axis=0) for which in chosen]),
        np.stack([frames.valid[which].all(axis=0) for which in chosen]),
        tuple(single[which] for which in chosen),
        np.ones(len(chosen)),
        frames.foci_um,
    )
