"""The camera's flaws, and the calibration that knows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.simulator.chance import Stream, generator
from drivers.simulator.light import ChannelLight
from pipeline.calibration import Calibration, LedOrientation
from pipeline.experiment import Experiment, SimulatorMicroscope


def vignetting(shape: tuple[int, int], loss: float) -> NDArray[np.float32]:
    """``[Y, X]`` share of the light that arrives: 1 in the middle, 1 − loss in the corners."""
    y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    return (1 - loss * (y[:, None] ** 2 + x**2) / 2).astype(np.float32)


def stuck_pixels(microscope: SimulatorMicroscope) -> tuple[NDArray[np.bool_], NDArray[np.uint16]]:
    """Which pixels are bad, ``[Y, X]``, and the counts at which each of them is stuck."""
    shape = microscope.camera.shape_px
    chance = generator(microscope.seed, Stream.BAD_PIXELS)
    bad = chance.random(shape) < microscope.imperfections.bad_pixel_share
    return bad, chance.integers(0, 2**microscope.camera.bit_depth, shape, dtype=np.uint16)


def true_calibration(
    experiment: Experiment, microscope: SimulatorMicroscope, lights: dict[str, ChannelLight]
) -> Calibration:
    """What a perfect calibration of this instrument would find."""
    camera, wrong = microscope.camera, microscope.imperfections
    shading = vignetting(camera.shape_px, wrong.vignetting) if wrong.vignetting else np.float32(1)
    bad, _ = stuck_pixels(microscope)
    channels = experiment.plan().channels
    flat = {}
    for channel in channels:
        light = lights[channel.name]
        counts = light.electrons_per_ms * channel.exposure_ms / camera.gain_e_per_count
        counts *= light.passing if light.brightfield else 1.0
        flat[channel.name] = np.asarray(np.float32(counts) * shading, np.float32)
    return Calibration(
        dark={c.name: np.asarray(camera.offset_counts, np.float32) for c in channels},
        flat=flat,
        exposure_ms={c.name: c.exposure_ms for c in channels},
        gain_e_per_count=camera.gain_e_per_count,
        read_noise_e=camera.read_noise_e,
        saturation_counts=float(2**camera.bit_depth - 1),
        bad_pixels=bad if bad.any() else None,
        pixel_um=experiment.pixel_um,
        led_orientation=LedOrientation(),
        z_scale=wrong.z_scale,
        z_scale_sigma=0.0,
        source="simulator",
    )
