"""The camera's flaws, and the calibration that knows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.chance import Stream, generator
from drivers.simulator.light import ChannelLight, LedErrors, true_orientation
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment, SimulatorMicroscope


def vignetting(shape: tuple[int, int], loss: float) -> NDArray[np.float32]:
    """``[Y, X]`` share of the light that arrives: 1 in the middle, 1 − loss in the corners."""
    y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    return (1 - loss * (y[:, None] ** 2 + x**2) / 2).astype(np.float32)


# The range in which a camera's linearity is judged ends at this share of its saturation (EMVA 1288).
_USED_RANGE = 0.95


def true_gain(microscope: SimulatorMicroscope) -> float:
    """Electrons per count as they really are."""
    return microscope.camera.gain_e_per_count * microscope.imperfections.gain_scale


def offsets(microscope: SimulatorMicroscope) -> NDArray[np.float64]:
    """Counts without light and dark current: one for all pixels, or ``[Y, X]``."""
    camera, spread = microscope.camera, microscope.imperfections.offset_pattern_counts
    if not spread:
        return np.asarray(camera.offset_counts)
    chance = generator(microscope.seed, Stream.OFFSETS)
    return camera.offset_counts + spread * chance.standard_normal(camera.shape_px)


def amplified(
    electrons: NDArray[np.float64], microscope: SimulatorMicroscope
) -> NDArray[np.float64]:
    """What the amplifier makes of the collected electrons: less and less, the more there are."""
    missing = microscope.imperfections.nonlinearity
    if not missing:
        return electrons
    camera = microscope.camera
    end = (2**camera.bit_depth - 1 - camera.offset_counts) * true_gain(microscope)
    electrons = np.minimum(electrons, end / (2 * missing))  # it never turns back
    return np.asarray(electrons * (1 - missing * electrons / end))


def _reached(missing: float) -> float:
    """Share of the range that is ever reached: a camera that lacks over a quarter levels off before."""
    return min(1.0, 1 / (4 * missing)) if missing else 1.0


def departure_from_line(missing: float) -> float:
    """`Calibration.nonlinearity` of a camera that lacks this share at the end of its range.

    Of x − m·x² the least-squares line over 0 … X leaves at most m·X²/6, at both ends.
    """
    if not missing:
        return 0.0
    top = _reached(missing)
    reach = (1 - np.sqrt(1 - 4 * missing * _USED_RANGE * top)) / (2 * missing)
    return float(missing * reach**2 / 6 / top)


def stuck_pixels(microscope: SimulatorMicroscope) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
    """Which pixels are bad, ``[Y, X]``, and the counts at which each of them is stuck."""
    shape = microscope.camera.shape_px
    chance = generator(microscope.seed, Stream.BAD_PIXELS)
    bad = chance.random(shape) < microscope.imperfections.bad_pixel_share
    return bad, chance.integers(0, 2**microscope.camera.bit_depth, shape, dtype=np.uint16)


def true_calibration(
    experiment: Experiment,
    microscope: SimulatorMicroscope,
    lights: dict[str, ChannelLight],
    errors: LedErrors | None = None,
) -> Calibration:
    """What a perfect calibration of this instrument would find."""
    camera, wrong = microscope.camera, microscope.imperfections
    gain, offset = true_gain(microscope), offsets(microscope)
    span = 2**camera.bit_depth - 1 - camera.offset_counts
    shading = vignetting(camera.shape_px, wrong.vignetting) if wrong.vignetting else np.float32(1)
    bad, _ = stuck_pixels(microscope)
    channels = experiment.plan().channels
    dark, flat = {}, {}
    for channel in channels:
        light = lights[channel.name]
        lit = light.electrons_per_ms * channel.exposure_ms * shading
        lit *= light.passing if light.brightfield else 1.0
        unlit = np.asarray(wrong.dark_e_per_s * channel.exposure_ms / 1e3)
        signal = amplified(lit + unlit, microscope) - amplified(unlit, microscope)
        dark[channel.name] = np.asarray(offset + amplified(unlit, microscope) / gain, np.float32)
        flat[channel.name] = np.asarray(signal / gain, np.float32)
    return Calibration(
        dark=dark,
        flat=flat,
        exposure_ms={c.name: c.exposure_ms for c in channels},
        gain_e_per_count=gain,
        read_noise_e=camera.read_noise_e,
        saturation_counts=camera.offset_counts + _reached(wrong.nonlinearity) * span,
        nonlinearity=departure_from_line(wrong.nonlinearity),
        bad_pixels=bad if bad.any() else None,
        pixel_um=experiment.pixel_um * wrong.pixel_scale,
        led_orientation=true_orientation(microscope),
        led_intensity=_led_intensity(microscope, errors),
        z_scale=wrong.z_scale,
        z_scale_sigma=0.0,
        z_zero_um=wrong.z_zero_um,
        z_zero_sigma_um=0.0,
        magnification_per_um=wrong.magnification_per_um,
        source="simulator",
    )


def _led_intensity(microscope: SimulatorMicroscope, errors: LedErrors | None) -> dict[int, float]:
    """LED → intensity relative to the mean of all; empty where all are alike."""
    if errors is None or not microscope.imperfections.led_intensity_sigma:
        return {}
    relative = errors.intensity / errors.intensity.mean()
    return {led: float(value) for led, value in enumerate(relative)}
