"""Model-based Fourier ptychography: its model against the forward model, and what it finds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.calibration import Calibration
from pipeline.errors import DriverError, ExperimentError
from pipeline.evaluation import evaluate
from pipeline.experiment import load_experiment, parse_experiment
from pipeline.methods.fpm.imaging import Imaging, object_field, object_spectrum
from pipeline.methods.fpm.method import Fpm
from pipeline.methods.fpm.reconstructor import FpmReconstructor
from pipeline.methods.fpm.settings import FpmSettings
from pipeline.methods.fpm.solver import Effort, solve
from pipeline.methods.fpm.waves import make_waves
from pipeline.methods.mosaic import plan_spans
from pipeline.optics.forward import predict_frames
from pipeline.optics.illumination import channel_source

torch.set_num_threads(1)

SHAPE = (48, 48)
EXAMPLES = Path(__file__).parents[1] / "deploy" / "experiments"


def fpm_data(**settings):
    """4x / 0.1 at 630 nm; 7 x 7 LEDs, 4 mm apart, to NA 0.24."""
    return {
        "name": "fpm",
        "microscope": {
            "driver": "simulator",
            "camera": {"shape_px": list(SHAPE), "pixel_um": 6.5, "bit_depth": 16},
            "specimen": {"kind": "cells"},
        },
        "optics": {"wavelength_um": 0.63, "numerical_aperture": 0.1, "magnification": 4},
        "illumination": {
            "source": "led_array",
            "array": {"rows": 7, "columns": 7, "pitch_mm": 4.0, "distance_mm": 68.0},
            "one_by_one": {},
        },
        "sequence": {"timepoints": 1},
        "calibration": {"source": "none"},
        "reconstruction": {"method": "fpm", "settings": settings},
    }


def fpm_experiment(**settings):
    return parse_experiment(fpm_data(**settings))


def blobs(upsampling, seed=0):
    """A random phase of up to 1 rad and some absorption, with detail up to the synthetic NA."""
    generator = torch.Generator().manual_seed(seed)
    shape = (SHAPE[0] * upsampling, SHAPE[1] * upsampling)
    spectrum = torch.fft.fft2(torch.randn(2, *shape, generator=generator))
    fy, fx = torch.fft.fftfreq(shape[0])[:, None], torch.fft.fftfreq(shape[1])
    keep = torch.exp(-((fy**2 + fx**2) * upsampling**2) / (2 * 0.3**2))
    images = torch.fft.ifft2(spectrum * keep).real
    images = images / images.abs().amax((1, 2), keepdim=True)
    return images[0], 0.2 * images[1].square()


def sources_of(experiment):
    return [channel_source(experiment, c) for c in experiment.channel_names]


def waves_of(experiment, upsampling, z_um=0.0, sources=None):
    sources = sources or sources_of(experiment)
    return make_waves(
        sources, experiment.optics, experiment.pixel_um, SHAPE, upsampling, [z_um] * len(sources)
    )


@pytest.mark.parametrize("multiplexed", [False, True])
def test_its_frames_are_those_of_the_forward_model(multiplexed):
    """Two ways of computing: windows of a spectrum here, a moved pupil over the whole there. No LED is on the grid."""
    data = fpm_data()
    if multiplexed:
        light = data["illumination"]
        del light["one_by_one"]
        light["patterns"] = {
            "right": {"kind": "half_circle", "direction_deg": 0},
            "dark": {"kind": "arc", "na_min": 0.1, "na_max": 0.2, "width_deg": 200},
            "mixed": {"kind": "leds", "leds": [24, 0, 20]},
        }
        light["channels"] = {name: {"pattern": name} for name in light["patterns"]}
    data["sequence"]["foci_um"] = [15.0]
    experiment = parse_experiment(data)
    phase, absorption = blobs(4)
    expected = predict_frames(phase, absorption, experiment)
    waves = waves_of(experiment, 4, 15.0)
    spectrum = object_spectrum(torch.polar(1 - absorption, phase))
    found = Imaging(waves).frames(
        spectrum, torch.ones(waves.window, dtype=torch.complex64), torch.ones(len(expected))
    )
    # The forward model takes the pixel's area, fpm the mean of the samples on it.
    error = (found - expected).square().sum((1, 2)) / expected.square().sum((1, 2))
    assert float(error.sqrt().max()) < 0.02


def aligned_error(found, phase, absorption):
    """rms in radians of the phase, its piston and tilt aligned, and of the amplitude, in what the light can tell."""
    difference = found * torch.polar(1 - absorption, -phase)
    difference = difference / difference.mean() * difference.mean().abs()
    error = difference.angle()[16:-16, 16:-16]
    amplitude = (found.abs() - (1 - absorption))[16:-16, 16:-16]
    return float(error.square().mean().sqrt()), float(amplitude.square().mean().sqrt())


def test_a_specimen_is_found_with_the_pupil_and_the_light():
    """An unknown aberration and LEDs of unknown brightness: the first costs phase, the second amplitude."""
    experiment = fpm_experiment()
    phase, absorption = blobs(4, seed=1)
    generator = torch.Generator().manual_seed(2)
    light = 1 + 0.8 * (torch.rand(49, generator=generator) - 0.5)
    frames = predict_frames(
        phase, absorption, experiment, aberration={"astigmatism_0": 0.4, "coma_x": 0.2}
    )
    frames = frames * light[:, None, None]
    frames = frames + 0.0003 * torch.randn(frames.shape, generator=generator)
    valid = torch.ones_like(frames, dtype=torch.bool)
    waves = waves_of(experiment, 4)

    def error(**effort):
        found = solve(waves, frames, valid, Effort(2, 30, **effort))
        assert found.errors[-1] < found.errors[0]
        return aligned_error(object_field(found.spectrum), phase, absorption)

    phase_rms, amplitude_rms = error()
    assert phase_rms < 0.06
    assert phase_rms < 0.85 * error(recover_pupil=False)[0]
    assert amplitude_rms < 0.9 * error(recover_light=False)[1]


def test_invalid_pixels_do_not_count():
    experiment = fpm_experiment()
    phase, absorption = blobs(4, seed=3)
    frames = predict_frames(phase, absorption, experiment)
    valid = torch.ones_like(frames, dtype=torch.bool)
    valid[:, 20:23, 20:23] = False
    waves = waves_of(experiment, 4)
    good = solve(waves, frames, valid, Effort(1, 6))
    frames[~valid] = 9.0
    bad = solve(waves, frames, valid, Effort(1, 6))
    assert torch.allclose(good.spectrum, bad.spectrum)


def test_a_frame_without_a_valid_pixel_says_nothing():
    """A saturated one, say: its light stays what it was taken for, and nothing else turns into NaN."""
    experiment = fpm_experiment()
    phase, absorption = blobs(4, seed=6)
    frames = predict_frames(phase, absorption, experiment)
    valid = torch.ones_like(frames, dtype=torch.bool)
    valid[3] = False
    found = solve(waves_of(experiment, 4), frames, valid, Effort(1, 8))
    assert float(found.light[3]) == 1
    assert bool(torch.isfinite(found.light).all())
    assert bool(torch.isfinite(found.spectrum.abs()).all())


def test_a_missing_frame_is_not_taken_for_a_black_one():
    data = fpm_data()
    data["microscope"]["faults"] = {"drop_frames": [3]}
    with pytest.raises(DriverError, match="1 of 49 frames are missing"):
        evaluate("fpm", parse_experiment(data))


def test_a_turned_array_at_another_distance_is_found():
    data = fpm_data()
    true = parse_experiment(data)
    data["illumination"]["array"] |= {"distance_mm": 71.0, "rotation_deg": 3.0}
    data["reconstruction"]["settings"] = {"refine_positions": True, "iterations": 20}
    wrong = parse_experiment(data)
    phase, absorption = blobs(4, seed=4)
    frames = predict_frames(phase, absorption, true)
    valid = torch.ones_like(frames, dtype=torch.bool)
    settings = FpmSettings(**data["reconstruction"]["settings"])
    method = FpmReconstructor(wrong, Calibration(), settings, 4, "cpu")
    span = plan_spans(SHAPE, 256, 0)[0]
    before = torch.cat([s.frequencies for s in method.sources(span)])
    truth = torch.cat([s.frequencies for s in sources_of(true)])
    waves, found = method.solve(frames, valid, span)
    nominal = waves_of(wrong, 4)
    error = method.predicted(waves, found, found.light) - frames
    still = solve(nominal, frames, valid, Effort(2, 40))
    still_error = Imaging(nominal).frames(still.spectrum, still.pupil, still.light) - frames
    assert float(error.square().mean()) < float(still_error.square().mean())
    step = 1 / (SHAPE[0] * true.pixel_um)
    assert float((before - truth).norm(dim=1).max()) > 1.5 * step
    assert float((waves.frequencies - truth).norm(dim=1).max()) < 0.6 * step


def test_a_large_field_is_made_of_tiles_each_under_its_own_angles():
    data = fpm_data(tile_px=32, overlap_px=12, iterations=10, upsampling=4)
    experiment = parse_experiment(data)
    phase, absorption = blobs(4, seed=5)
    frames = predict_frames(phase, absorption, experiment)
    method = Fpm().load(experiment, Calibration(), "cpu", None)
    spans = plan_spans(SHAPE, 32, 12)
    assert len(spans) == 4
    left, right = (method.sources(spans[i])[0].frequencies for i in (0, 1))
    apart_mm = (spans[1].centre[1] - spans[0].centre[1]) * experiment.pixel_um / 1e3
    assert float((right - left)[0, 0]) == pytest.approx(apart_mm / 68 / 0.63, rel=1e-3)
    out = method(frames[None], torch.ones_like(frames, dtype=torch.bool)[None])
    assert out.images.shape == (1, 2, 4 * SHAPE[0], 4 * SHAPE[1])
    found, truth = out.images[0, 0, 24:-24, 24:-24], phase[24:-24, 24:-24]
    assert float(np.corrcoef(found.flatten(), truth.flatten())[0, 1]) > 0.9
    assert out.predicted is not None
    assert float((out.predicted[0] - frames).square().mean()) < 0.02 * float(frames.square().mean())


def test_what_lies_outside_of_the_field_is_not_taken_for_its_other_side():
    """Frames cut out of a larger field: their edges do not go on as the opposite ones begin."""
    whole = fpm_experiment()
    phase, absorption = blobs(2, seed=7)
    inner = slice(8, 40)
    frames = predict_frames(phase, absorption, whole)[:, inner, inner].contiguous()
    truth = torch.polar(1 - absorption, phase)[16:80, 16:80]
    data = fpm_data()
    data["microscope"]["camera"]["shape_px"] = [32, 32]
    valid = torch.ones_like(frames, dtype=torch.bool)

    def found(rim_px):
        data["reconstruction"]["settings"] = {"rim_px": rim_px}
        method = Fpm().load(parse_experiment(data), Calibration(), "cpu", None)
        out = method(frames[None], valid[None])
        assert out.predicted is not None
        assert out.predicted.shape[1:] == frames.shape
        phase, amplitude = out.images[0]
        assert phase.shape == truth.shape
        overlap = (torch.polar(amplitude, phase) * truth.conj()).mean()
        error = torch.polar(amplitude, phase) - truth * overlap / overlap.abs()
        return float((out.predicted[0] - frames).square().mean()), float(
            error.abs().square().mean()
        )

    (missed, wrong), (missed_with, wrong_with) = found(0), found(8)
    assert missed_with < 0.8 * missed
    assert wrong_with < 0.8 * wrong


def refusal(data):
    with pytest.raises(ExperimentError) as error:
        Fpm().measurement(parse_experiment(data))
    return str(error.value)


def test_it_says_why_it_can_not():
    data = fpm_data()
    data["illumination"] = {"source": "condenser"}
    assert "led_array" in refusal(data)
    data = fpm_data()
    data["illumination"]["array"]["pitch_mm"] = 14.0
    data["illumination"]["one_by_one"] = {"na_max": 0.5}
    assert "overlap" in refusal(data)
    data = fpm_data()
    light = data["illumination"]
    light["patterns"] = {"a": {"kind": "leds", "leds": [0]}, "b": {"kind": "leds", "leds": [1]}}
    light["channels"] = {"a": {"pattern": "a"}, "b": {"pattern": "b"}}
    data["sequence"]["channels"] = ["a", "b"]
    assert "brightfield" in refusal(data)
    data = fpm_data(refine_positions=True)
    light = data["illumination"]
    light["patterns"] = {"two": {"kind": "leds", "leds": [24, 25]}}
    light["channels"] = {"two": {"pattern": "two"}}
    assert "one LED a frame" in refusal(data)
    assert "roundz" in refusal(fpm_data(roundz=3))
    data = fpm_data()
    data["sequence"]["channels"] = ["led_024"]
    assert "several LEDs" in refusal(data)


def test_what_it_asks_for():
    measurement = Fpm().measurement(fpm_experiment())
    assert measurement.frames == tuple(range(49))
    assert measurement.outputs == ("phase", "amplitude")
    # (0.175 + 0.1) NA on each axis at 630 nm, 1.625 µm pixels.
    assert measurement.upsampling == 2
    assert Fpm().measurement(fpm_experiment(upsampling=5)).upsampling == 5


needs_data = pytest.mark.skipif(
    not os.environ.get("LIVEPHASE_DATA"), reason="LIVEPHASE_DATA names no folder of public data"
)


@needs_data
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("colour", "all_of_them", "bright"),
    [
        ("red", 0.016, 0.006),
        pytest.param("blue", 0.013, 0.003, marks=pytest.mark.soak),
    ],
)
def test_real_frames_are_explained_and_so_are_those_left_out(colour, all_of_them, bright):
    experiment = load_experiment(EXAMPLES / f"bloodsmear_{colour}_fpm.yaml")
    figures = evaluate("fpm", experiment)
    assert figures["nmse"] <= all_of_them
    assert figures["nmse_brightfield"] <= bright
    assert figures["nmse_held_out"] <= 0.08
    assert figures["nmse_held_out_shape"] <= 0.02
    assert figures["nmse_darkfield"] > figures["nmse_brightfield"]
