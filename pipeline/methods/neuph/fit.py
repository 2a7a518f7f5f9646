"""Which frames of an experiment are those that weights were trained for? Under other light a network makes things up.

No torch: the preflight asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration, LedOrientation
from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import Experiment, LedIllumination
from pipeline.methods.neuph.record import LightRecord, PatternRecord, WeightsRecord
from pipeline.methods.neuph.settings import NeuPhSettings
from pipeline.methods.settings import read_settings
from pipeline.methods.weights_file import read_header

PACKAGED = Path(__file__).resolve().parents[2] / "weights"

# Relative.
WAVELENGTH_TOLERANCE = 0.02
PIXEL_TOLERANCE = 0.015
NA_TOLERANCE = 0.05
# Before the calibration is read.
COARSE_TOLERANCE = 0.35
# A direction may be so far off, of the objective's NA: a sixth of the way to the next LED of a usual array.
SINE_TOLERANCE = 0.1
# Of the depth of field nλ/NA².
FOCUS_TOLERANCE = 0.1
_EDGE = 1e-6


def read_record(path: Path) -> WeightsRecord:
    """The record of a weights file. Raises `MethodError` as `read_header` does."""
    return read_header(path, WeightsRecord, "neuph")


def led_light(experiment: Experiment) -> LedIllumination:
    """The experiment's LED array. Raises `ExperimentError` if it has none."""
    light = experiment.illumination
    if not isinstance(light, LedIllumination):
        raise ExperimentError(
            "method neuph needs LED patterns, but illumination.source is a condenser",
            "describe an LED array (source: led_array), or use method: dl_srqpi with one defocused frame",
        )
    return light


def channel_sines(
    experiment: Experiment, channel: str, orientation: LedOrientation | None
) -> NDArray[np.float64]:
    """``[N, 2]`` of the LEDs that a channel lights, in the camera's axes."""
    light = led_light(experiment)
    leds = light.leds(light.channels[channel].pattern or "", experiment.optics.numerical_aperture)
    return np.asarray(light.array.sines()[leds] @ (orientation or LedOrientation()).matrix().T)


def light_record(experiment: Experiment, calibration: Calibration) -> LightRecord:
    """The light of all of an experiment's channels, as weights trained for it will name it; brightfield first.

    Raises
    ------
    ExperimentError
        If there is no LED array, or not two brightfield patterns.
    """
    optics = experiment.optics
    patterns = []
    for channel in experiment.channel_names:
        sines = channel_sines(experiment, channel, calibration.led_orientation)
        inside = np.hypot(*sines.T) <= optics.numerical_aperture * (1 + _EDGE)
        patterns.append(
            PatternRecord(
                sines=tuple((round(float(x), 5), round(float(y), 5)) for x, y in sines),
                brightfield=bool(inside.mean() >= 0.5),
            )
        )
    bright = sum(p.brightfield for p in patterns)
    if bright < 2:
        raise ExperimentError(
            f"method neuph needs two brightfield patterns for its DPC estimate, but the sequence has {bright}",
            "add opposite half circles (kind: half_circle, axis: one) to sequence.channels",
        )
    return LightRecord(
        wavelength_um=optics.wavelength_um,
        numerical_aperture=optics.numerical_aperture,
        refractive_index=optics.refractive_index,
        pixel_um=calibration.pixel_um or experiment.pixel_um,
        z_um=calibration.true_focus_um(experiment.sequence.foci_um[0]),
        patterns=tuple(sorted(patterns, key=lambda p: not p.brightfield)),
    )


def matching_frames(
    experiment: Experiment, calibration: Calibration | None, trained: LightRecord
) -> list[int]:
    """For each pattern of the weights the index of the frame along the slot's K axis that shows it.

    Parameters
    ----------
    calibration
        None before it is read: what it may still change is not judged.

    Raises
    ------
    ExperimentError
        If the optics are others, or a pattern isn't there.
    """
    reason = next(_reasons(experiment, calibration, trained), "")
    train = "train weights for it with `livephase train neuph --experiment EXPERIMENT.yaml`"
    if reason:
        raise ExperimentError(f"the weights don't fit this experiment: {reason}", train)
    orientation = calibration.led_orientation if calibration else None
    known = calibration is not None or experiment.calibration.source == "none"
    here = [channel_sines(experiment, c, orientation) for c in experiment.channel_names]
    focus = _nearest_focus(experiment, calibration, trained)
    frames: list[int] = []
    for number, pattern in enumerate(trained.patterns):
        wanted = np.asarray(pattern.sines)
        fits = [c for c, sines in enumerate(here) if _same(sines, wanted, trained, known)]
        free = [c for c in fits if c * len(experiment.sequence.foci_um) + focus not in frames]
        if not free:
            kind = "brightfield" if pattern.brightfield else "darkfield"
            mean = wanted.mean(0)
            raise ExperimentError(
                f"no channel shows pattern {number + 1} of the weights: {len(wanted)} LEDs, {kind}, from "
                f"({mean[0]:.3f}, {mean[1]:.3f}) on the mean",
                f"add it to illumination.patterns and sequence.channels, or {train}",
            )
        frames.append(free[0] * len(experiment.sequence.foci_um) + focus)
    return frames


def _nearest_focus(
    experiment: Experiment, calibration: Calibration | None, trained: LightRecord
) -> int:
    true = (calibration or Calibration()).true_focus_um
    foci = experiment.sequence.foci_um
    return min(range(len(foci)), key=lambda i: abs(true(foci[i]) - trained.z_um))


def _same(
    sines: NDArray[np.float64], wanted: NDArray[np.float64], trained: LightRecord, known: bool
) -> bool:
    """Whether two patterns are the same LEDs, in whatever order."""
    if len(sines) != len(wanted):
        return False
    if not known:
        # The array's orientation is not yet known: as many LEDs, from as far out.
        sines, wanted = (np.sort(np.hypot(*s.T))[:, None] for s in (sines, wanted))
    apart = np.linalg.norm(sines[:, None] - wanted[None], axis=-1)
    return bool(apart.min(0).max() <= SINE_TOLERANCE * trained.numerical_aperture)


def _reasons(
    experiment: Experiment, calibration: Calibration | None, trained: LightRecord
) -> Iterator[str]:
    optics = experiment.optics
    coarse = calibration is None and experiment.calibration.source != "none"
    pixel_um = (calibration.pixel_um if calibration else None) or experiment.pixel_um
    for name, there, given, tolerance, unit in (
        ("wavelength", trained.wavelength_um, optics.wavelength_um, WAVELENGTH_TOLERANCE, " µm"),
        ("NA", trained.numerical_aperture, optics.numerical_aperture, NA_TOLERANCE, ""),
        ("refractive index", trained.refractive_index, optics.refractive_index, 0.02, ""),
        (
            "camera pixel at the sample",
            trained.pixel_um,
            pixel_um,
            COARSE_TOLERANCE if coarse else PIXEL_TOLERANCE,
            " µm",
        ),
    ):
        # Written so that a NaN is refused, too.
        if not abs(given - there) <= tolerance * there:
            yield (
                f"{name} {given:.4g}{unit}, trained for {there:.4g}{unit} "
                f"(tolerance {100 * tolerance:g} %)"
            )
    depth = optics.refractive_index * optics.wavelength_um / optics.numerical_aperture**2
    focus = _nearest_focus(experiment, calibration, trained)
    z_um = (calibration or Calibration()).true_focus_um(experiment.sequence.foci_um[focus])
    if not coarse and not abs(z_um - trained.z_um) <= FOCUS_TOLERANCE * depth:
        yield (
            f"defocus {z_um:.4g} µm, trained for {trained.z_um:.4g} µm (tolerance {FOCUS_TOLERANCE * depth:.3g} µm)"
        )


def packaged(name: str, folder: Path = PACKAGED) -> list[Path]:
    """The weights files that come with livephase of the network of a name, one for each optics."""
    return [p for p in sorted(folder.glob("neuph*.safetensors")) if read_record(p).name == name]


def weights_path(experiment: Experiment, given: Path | None, folder: Path = PACKAGED) -> Path:
    """The file that an experiment's phase is made with: given, named in it, or the first packaged one that fits.

    Raises
    ------
    MethodError
        If none does, with why, and how to train some.
    """
    if given is not None:
        return given
    if experiment.reconstruction.weights is not None:
        return Path(experiment.reconstruction.weights)
    unfit = []
    for path in packaged(read_settings(NeuPhSettings, experiment).network, folder):
        try:
            matching_frames(experiment, None, read_record(path).light)
        except ExperimentError as error:
            unfit.append(f"{path.name}: {error.cause}")
        else:
            return path
    raise MethodError(
        f"no weights of neuph come with livephase for this light ({'; '.join(unfit) or 'none are installed'})",
        "train with `livephase train neuph --experiment EXPERIMENT.yaml`, and name the file in reconstruction.weights",
    )
