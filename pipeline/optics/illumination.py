"""Sources of light as sets of mutually incoherent plane waves (Abbe's picture).

An LED at array position (x, y) sends light towards the axis: its plane wave travels along
-(x, y), so its spatial frequency is minus the LED's direction sines over λ, turned into the camera's axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.calibration import Calibration, LedOrientation
from pipeline.errors import ExperimentError
from pipeline.experiment import Condenser, Experiment, LedPlaces, Optics
from pipeline.optics.propagation import EDGE

# Plane waves across a condenser's disc. 37 (three hexagonal rings) leaves the
# intensity of a defocused cell within 0.2 % of 400 waves up to S = 0.4.
_CONDENSER_RINGS = 3


@dataclass(frozen=True)
class Source:
    """Plane waves that add incoherently.

    Parameters
    ----------
    frequencies
        ``[S, 2]`` float64 (fx, fy) of each plane wave at the specimen, cycles/µm, in the camera's axes.
    weights
        ``[S]`` float64 intensity of each; they sum to 1, so a brightfield image without specimen is 1.
    power
        The light of all together; 1 is a condenser, or one LED of mean intensity.
    """

    frequencies: torch.Tensor
    weights: torch.Tensor
    power: float = 1.0


def condenser_source(
    optics: Optics, coherence: float, *, rings: int = _CONDENSER_RINGS, turn_rad: float = 0.0
) -> Source:
    """A uniform disc of radius S·NA/λ as concentric hexagonal rings; one plane wave at S = 0.

    Parameters
    ----------
    rings, turn_rad
        Of how many rings, and turned by how much.
    """
    if coherence == 0:
        return Source(torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    points = [(0.0, 0.0)]
    # Rings at equal steps of radius with 6·r points each represent equal areas of the disc. Their mean square
    # radius is made the disc's, half of its radius squared: it is the blur.
    at = np.arange(1, rings + 1)
    outermost = np.sqrt(0.5 * (1 + (6 * at).sum()) / (6 * at**3).sum())
    for ring in range(1, rings + 1):
        radius = ring * outermost
        angles = turn_rad + 2 * np.pi * (np.arange(6 * ring) + 0.5 * (ring % 2)) / (6 * ring)
        points += list(zip(radius * np.cos(angles), radius * np.sin(angles), strict=True))
    frequencies = torch.tensor(points, dtype=torch.float64) * coherence * optics.cutoff_per_um
    return Source(frequencies, torch.full((len(points),), 1 / len(points), dtype=torch.float64))


def channel_source(
    experiment: Experiment,
    channel: str,
    orientation: LedOrientation | None = None,
    led_sines: np.ndarray | None = None,
    led_intensity: np.ndarray | None = None,
) -> Source:
    """The light of one channel of an experiment, from its geometry; `calibrated_source` takes it from a calibration.

    Parameters
    ----------
    channel
        A name from `illumination.channels`.
    orientation
        Calibrated geometry of LEDs to camera; the array's axes are the camera's where None.
    led_sines, led_intensity
        ``[N, 2]`` and ``[N]`` of every LED of the array, where known better than nominal (direction
        sines; relative intensity).
    """
    light = experiment.illumination
    if isinstance(light, Condenser):
        return condenser_source(experiment.optics, light.coherence)
    pattern = light.channels[channel].pattern
    assert pattern is not None  # the experiment's validator refuses it
    leds = light.leds(pattern, experiment.optics.numerical_aperture)
    sines = (light.array.sines() if led_sines is None else led_sines)[leds]
    intensity = np.ones(len(leds)) if led_intensity is None else led_intensity[leds]
    turn = (orientation or LedOrientation()).matrix()
    frequencies = -(sines @ turn.T) / experiment.optics.wavelength_um
    power = float(intensity.sum())
    return Source(torch.from_numpy(frequencies), torch.from_numpy(intensity / power), power)


def calibrated_source(experiment: Experiment, channel: str, known: Calibration) -> Source:
    """The light of one channel as the calibration knows it: LEDs turned to the camera, each with its own intensity."""
    light = experiment.illumination
    measured = None if isinstance(light, Condenser) else led_intensities(light.array, known)
    return channel_source(experiment, channel, known.led_orientation, led_intensity=measured)


def place_source(
    experiment: Experiment, channel: str, known: Calibration, place_mm: tuple[float, float]
) -> Source:
    """`calibrated_source` as a place beside the optical axis sees it.

    Parameters
    ----------
    place_mm
        (x, y) of the place from the axis, in the camera's axes.
    """
    light = experiment.illumination
    if isinstance(light, Condenser):
        return calibrated_source(experiment, channel, known)
    x, y = (known.led_orientation or LedOrientation()).matrix().T @ np.asarray(place_mm)
    return channel_source(
        experiment,
        channel,
        known.led_orientation,
        led_sines=light.array.sines((float(x), float(y))),
        led_intensity=led_intensities(light.array, known),
    )


def led_intensities(array: LedPlaces, known: Calibration) -> np.ndarray | None:
    """``[N]`` relative intensity of every LED, 1 where it was not measured; None where none was."""
    if not known.led_intensity:
        return None
    intensity = np.ones(array.count)
    for led, value in known.led_intensity.items():
        if led >= len(intensity):
            raise ExperimentError(
                f"the calibration has an intensity of LED {led}, the array has LEDs 0 to {len(intensity) - 1}",
                "calibrate led_intensity again with this array",
            )
        intensity[led] = value
    return intensity


def background_intensity(source: Source, optics: Optics) -> float:
    """Share of the light that passes the pupil without a specimen; 0 in darkfield."""
    inside = source.frequencies.norm(dim=1) <= optics.cutoff_per_um * (1 + EDGE)
    return float(source.weights[inside].sum())
