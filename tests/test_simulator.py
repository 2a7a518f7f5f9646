"""The simulated microscope: physics, noise, determinism, imperfections, every fault, light."""

import copy
import hashlib
import multiprocessing
import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import torch

from drivers.driver import Arrived, DeviceDisconnectedError, Lost
from drivers.registry import open_driver
from drivers.simulator import SimulatedInstrument, SimulatorDriver
from drivers.simulator.order import frame_key, frame_number
from pipeline.errors import DriverError, ExperimentError
from pipeline.experiment import parse_experiment
from pipeline.frames import FrameKey, MissingReason, SlotKey
from pipeline.optics.forward import predict_frames
from pipeline.optics.residual import residual
from pipeline.optics.sensor import Correction

LEDS = {
    "source": "led_array",
    "array": {"rows": 9, "columns": 9, "pitch_mm": 5, "distance_mm": 70},
    "patterns": {
        "right": {"kind": "half_circle", "direction_deg": 0},
        "left": {"kind": "half_circle", "direction_deg": 180},
        "dark": {"kind": "arc", "na_min": 0.2, "na_max": 0.25},
    },
    "channels": {
        "right": {"pattern": "right"},
        "left": {"pattern": "left"},
        "dark": {"pattern": "dark"},
    },
}


def experiment(sequence=None, illumination=None, camera=None, optics=None, **microscope):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "seed": 3,
                "camera": {"shape_px": [32, 40], "pixel_um": 6.5, "binning": 2} | (camera or {}),
                "specimen": {"kind": "cells"},
                "paced": False,
            }
            | microscope,
            "optics": {"wavelength_um": 0.55, "numerical_aperture": 0.18, "magnification": 10}
            | (optics or {}),
            "illumination": copy.deepcopy(illumination) or {"source": "condenser"},
            "sequence": {"timepoints": 4, "foci_um": [8.0]} | (sequence or {}),
        }
    )


def blank(**microscope):
    return {"specimen": {"kind": "target", "shape": "blank"}} | microscope


def run(driver, slots=None):
    """Every event of one burst, and the frames that were written."""
    plan = driver.instrument._plan
    frames = {}

    def destination(key):
        return frames.setdefault(key, np.zeros(plan.frame_shape, plan.dtype))

    driver.arm(list(plan.slot_keys()) if slots is None else slots)
    events = []
    while (event := driver.next_frame(destination)) is not None:
        events.append(event)
    return events, frames


def opened(e):
    driver = SimulatorDriver(e)
    driver.open()
    return driver


def digest(frames):
    h = hashlib.sha256()
    for key in sorted(frames):
        h.update(frames[key].tobytes())
    return h.hexdigest()


def test_the_demo_has_a_truth_of_four_samples_a_pixel(make_experiment):
    e = make_experiment()
    assert SimulatedInstrument(e).oversampling == 4


@pytest.mark.parametrize("coherence", [0.0, 0.5, 1.0])
def test_oblique_light_of_a_condenser_is_sampled_too(coherence):
    e = experiment(illumination={"source": "condenser", "coherence": coherence})
    n = SimulatedInstrument(e).oversampling
    finest = 0.55 / (2 * 0.18 * (1 + coherence))
    assert e.pixel_um / n <= finest < e.pixel_um / (n - 1 or 0.1)


def test_led_arrays_sample_the_synthetic_passband():
    e = experiment(illumination=LEDS)
    na = np.hypot(*e.illumination.array.sines().T)
    reach = 0.18 + na[na < 0.25].max()
    n = SimulatedInstrument(e).oversampling
    assert e.pixel_um / n <= 0.55 / (2 * reach) < e.pixel_um / (n - 1)


def test_truth_is_on_the_fine_grid_of_the_camera_field():
    instrument = SimulatedInstrument(experiment(oversampling=3))
    phase, absorption = instrument.truth(1, 0)
    assert phase.shape == absorption.shape == (96, 120)
    assert phase.dtype == absorption.dtype == np.float32
    assert phase.max() > 0.3


class Bump:
    """A smooth bump of phase at (y, x) µm from the middle of the field."""

    def __init__(self, y=0.0, x=0.0, height=0.5, width=6.0):
        self.y, self.x, self.height, self.width = y, x, height, width

    def render(self, timepoint, position, shape, pixel_um):
        y, x = ((np.arange(n) + 0.5 - n / 2) * pixel_um for n in shape)
        r2 = (y[:, None] - self.y) ** 2 + (x - self.x) ** 2
        phase = (self.height * np.exp(-r2 / self.width**2)).astype(np.float32)
        return phase, np.zeros_like(phase)


@pytest.fixture
def with_specimen(monkeypatch):
    def instrument(specimen, e):
        monkeypatch.setattr("drivers.simulator.scene.specimen_for", lambda *a, **k: specimen)
        return SimulatedInstrument(e)

    return instrument


def residual_of_truth(e, instrument, slot):
    """Of the truth, and of no specimen at all."""
    k = e.plan().frames_per_slot
    raw = np.stack([instrument.frame(key) for key in e.plan().frame_keys(slot)])
    calibration = instrument.calibration()
    frames, valid = Correction(e, calibration, range(k))(raw[None], np.ones((1, k), bool))
    phase, absorption = map(torch.from_numpy, instrument.truth(*slot))
    return [
        residual(frames, valid, predict_frames(p, a, e, calibration)[None], e, calibration).item()
        for p, a in ((phase, absorption), (0 * phase, None))
    ]


def test_the_truth_is_known_without_torch():
    """At the end of a simulated run it is held against the phase: that need not wait for torch's seconds."""
    code = """
import sys
from importlib.resources import files
import yaml
from drivers.simulator import SimulatedInstrument
from pipeline.experiment import parse_experiment
import pipeline.lifecycle.truth
demo = yaml.safe_load((files("pipeline.demos") / "dl_srqpi.yaml").read_text(encoding="utf-8"))
phase, _ = SimulatedInstrument(parse_experiment(demo)).truth(1, 0)
assert phase.max() > 0.3
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_demos_truth_explains_its_frame_to_the_noise(make_experiment):
    e = make_experiment()
    truth, nothing = residual_of_truth(e, SimulatedInstrument(e), SlotKey(1, 0))
    assert truth == pytest.approx(1, abs=0.03)
    assert nothing > 4


def test_truth_explains_frames_of_led_patterns_to_the_noise(with_specimen):
    """Of a specimen with nothing beyond the edge: tails of pupils cut near their middle reach far."""
    e = experiment({"foci_um": [5.0, 0.0]}, LEDS, camera={"shape_px": [64, 64]})
    truth, nothing = residual_of_truth(e, with_specimen(Bump(height=1), e), SlotKey(0, 0))
    assert truth == pytest.approx(1, abs=0.06)
    assert nothing > 1.5


def test_a_bump_is_brighter_downstream_as_tie_says(with_specimen):
    """∂I/∂z = −(λ/2π)·∇²φ; at the top of the bump ∇²φ = −4·height/width²."""
    e = experiment({"foci_um": [-1.0, 1.0]}, camera={"shape_px": [65, 65], "binning": 1})
    below, above = (
        with_specimen(Bump(), e).electrons(FrameKey(0, 0, 0, z))[32, 32] for z in (0, 1)
    )
    slope = (above - below) / 2 / 15000
    assert slope == pytest.approx(0.55 / (2 * np.pi) * 4 * 0.5 / 6**2, rel=0.03)


def test_led_patterns_show_opposite_slopes_with_opposite_sign(with_specimen):
    """Light of LEDs at +x travels towards −x: the slope that rises towards +x turns it to the axis."""
    e = experiment({"foci_um": [0.0]}, LEDS, camera={"shape_px": [33, 33]})
    instrument = with_specimen(Bump(height=0.1), e)
    right, left = (instrument.electrons(FrameKey(0, 0, c, 0)) for c in (0, 1))
    dpc = (right - left) / (right + left)
    assert dpc[16, 13] > 1e-3
    assert dpc[16, 19] == pytest.approx(-dpc[16, 13], rel=1e-3)
    assert dpc[16, 16] == pytest.approx(0, abs=1e-5)


def test_what_lies_beyond_the_edge_diffracts_in_and_does_not_wrap_around(with_specimen):
    """A strong bump just outside the right edge: seen at the right, nothing of it at the left."""
    e = experiment(camera={"shape_px": [32, 32]})
    half = 16 * e.pixel_um
    seen = with_specimen(Bump(x=half + 2, height=2, width=3), e).electrons(FrameKey(0, 0, 0, 0))
    assert np.abs(seen[:, -1] / 15000 - 1).max() > 0.05
    assert np.abs(seen[:, 0] / 15000 - 1).max() < 2e-3


def test_a_narrow_camera_sees_the_middle_of_what_a_wide_one_sees():
    """But for the tails, fainter than the noise, of what lies beyond the narrow one's guard band."""
    narrow, wide = (
        SimulatedInstrument(experiment(camera={"shape_px": [n, n]}, oversampling=4))
        for n in (32, 64)
    )
    inner = np.s_[64:192, 64:192]
    np.testing.assert_allclose(narrow.truth(0, 0)[0], wide.truth(0, 0)[0][inner], atol=1e-4)
    a = narrow.electrons(FrameKey(0, 0, 0, 0))
    b = wide.electrons(FrameKey(0, 0, 0, 0))[16:48, 16:48]
    assert (a - b).std() < 0.5 * np.sqrt(15000)
    assert (a - b).std() < 0.15 * b.std()


def test_exposure_and_brightness_set_the_background():
    light = {
        "source": "condenser",
        "channels": {"a": {}, "b": {"exposure_ms": 5, "brightness": 0.5}},
    }
    instrument = SimulatedInstrument(experiment(illumination=light, **blank(electrons=8000)))
    a, b = (instrument.electrons(FrameKey(0, 0, c, 0)) for c in range(2))
    np.testing.assert_allclose(a, 8000, rtol=1e-4)
    np.testing.assert_allclose(b, 2000, rtol=1e-4)


def test_darkfield_is_black_without_a_specimen():
    instrument = SimulatedInstrument(experiment(illumination=LEDS, **blank()))
    bright, dark = (instrument.electrons(FrameKey(0, 0, c, 0)).mean() for c in (0, 2))
    assert bright == pytest.approx(15000, rel=1e-4)
    assert dark < 1e-3


def test_photon_transfer_of_frames_gives_the_gain():
    e = experiment(
        {"timepoints": 40},
        camera={"shape_px": [64, 64], "gain_e_per_count": 6.0, "read_noise_e": 5.0},
        illumination={
            "source": "condenser",
            "channels": {str(ms): {"exposure_ms": ms} for ms in (0.5, 2, 5, 10)},
        },
        **blank(),
    )
    instrument = SimulatedInstrument(e)
    mean, variance = [], []
    for c in range(4):
        frames = np.stack([instrument.frame(FrameKey(t, 0, c, 0)).astype(float) for t in range(20)])
        mean.append(frames.mean() - 100)
        variance.append(frames.var(axis=0, ddof=1).mean())
    slope, _ = np.polyfit(mean, variance, 1)
    assert 1 / slope == pytest.approx(6.0, rel=0.03)
    expected = [15000 * ms / 10 / 6 for ms in (0.5, 2, 5, 10)]
    np.testing.assert_allclose(mean, expected, rtol=2e-3)
    assert variance[0] == pytest.approx(750 / 36 + 25 / 36 + 1 / 12, rel=0.05)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (12, np.uint16)])
def test_bright_light_saturates_at_the_bit_depth(bits, dtype):
    e = experiment(camera={"bit_depth": bits}, **blank(electrons=1e6))
    frame = SimulatedInstrument(e).frame(FrameKey(0, 0, 0, 0))
    assert frame.dtype == dtype
    assert (frame == 2**bits - 1).all()
    assert "lower its exposure_ms" in opened(e).messages()[0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_default_camera_is_not_saturated_by_the_default_light(bits):
    e = experiment(camera={"bit_depth": bits}, **blank())
    frame = SimulatedInstrument(e).frame(FrameKey(0, 0, 0, 0))
    assert 0.4 < frame.mean() / 2**bits < 0.65
    assert opened(e).messages() == []


def test_calibration_is_what_a_blank_field_shows():
    wrong = {
        "vignetting": 0.3,
        "led_intensity_sigma": 0.2,
        "led_position_sigma_mm": 0.5,
        "bad_pixel_share": 0.01,
        "z_scale": 1.1,
    }
    e = experiment(illumination=LEDS, **blank(imperfections=wrong))
    instrument = SimulatedInstrument(e)
    c = instrument.calibration()
    assert c.missing() == []
    assert c.source == "simulator"
    assert c.z_scale == 1.1
    c.check(list(e.channel_names), (32, 40))
    assert c.bad_pixels.any()
    for channel, name in enumerate(("right", "left")):
        electrons = instrument.electrons(FrameKey(0, 0, channel, 0))
        np.testing.assert_allclose(electrons / c.gain_e_per_count, c.flat[name], rtol=1e-3)
    assert c.flat["right"][0, 0] / c.flat["right"][16, 20] == pytest.approx(0.7, abs=0.01)
    assert (c.flat["dark"] > c.flat["right"]).all()  # more LEDs, were they brightfield


def test_led_errors_belong_to_each_led():
    """The same LED is as wrong in a larger pattern, and another seed is wrong elsewhere."""
    wrong = {"led_position_sigma_mm": 0.5, "led_intensity_sigma": 0.1}
    a = SimulatedInstrument(experiment(illumination=LEDS, imperfections=wrong))._errors
    b = SimulatedInstrument(experiment(illumination=LEDS, imperfections=wrong))._errors
    other = SimulatedInstrument(experiment(illumination=LEDS, imperfections=wrong, seed=4))._errors
    np.testing.assert_array_equal(a.sines, b.sines)
    assert a.intensity.std() == pytest.approx(0.1, rel=0.25)
    assert not np.allclose(a.intensity, other.intensity)
    nominal = experiment(illumination=LEDS).illumination.array.sines()
    assert (a.sines - nominal).std() * 70 == pytest.approx(0.5, rel=0.25)


def test_z_error_and_aberration_change_the_image():
    base = SimulatedInstrument(experiment({"foci_um": [10.0]})).electrons(FrameKey(0, 0, 0, 0))
    scaled = SimulatedInstrument(
        experiment({"foci_um": [8.0]}, imperfections={"z_scale": 1.25})
    ).electrons(FrameKey(0, 0, 0, 0))
    np.testing.assert_allclose(scaled, base, rtol=5e-3)
    bent = SimulatedInstrument(
        experiment({"foci_um": [10.0]}, imperfections={"aberration_rad": {"astigmatism_0": 1.0}})
    ).electrons(FrameKey(0, 0, 0, 0))
    assert np.abs(bent - base).max() > 500


def test_an_unknown_aberration_is_refused_when_opened():
    e = experiment(imperfections={"aberration_rad": {"comma_x": 1.0}})
    with pytest.raises(ExperimentError, match="did you mean 'coma_x'"):
        SimulatorDriver(e).open()


@pytest.mark.parametrize("order", ["cz", "zc"])
def test_late_light_is_the_light_of_the_frame_exposed_before(order):
    sequence = {"foci_um": [5.0, -5.0], "frame_order": order}
    late = experiment(sequence, LEDS, imperfections={"light_late_frames": 1})
    mixed = experiment(sequence, LEDS, imperfections={"light_mixing": 0.25})
    right = SimulatedInstrument(experiment(sequence, LEDS))
    late, mixed = SimulatedInstrument(late), SimulatedInstrument(mixed)
    plan = right._plan
    keys = [k for slot in plan.slot_keys() for k in plan.frame_keys(slot)]
    np.testing.assert_array_equal(late.electrons(keys[0]), right.electrons(keys[0]))
    for before, key in pairwise(keys[3:10]):
        sees = key._replace(channel=before.channel)
        assert late.lit_channel(key) == before.channel
        np.testing.assert_array_equal(late.electrons(key), right.electrons(sees))
        both = 0.75 * right.electrons(key) + 0.25 * right.electrons(sees)
        np.testing.assert_allclose(mixed.electrons(key), both, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("slot_order", ["tp", "pt"])
@pytest.mark.parametrize("frame_order", ["cz", "zc"])
def test_frame_numbers_follow_the_order_of_exposure(slot_order, frame_order):
    plan = experiment(
        {
            "foci_um": [0.0, 1.0],
            "positions": [{}, {}, {}],
            "slot_order": slot_order,
            "frame_order": frame_order,
        },
        LEDS,
    ).plan()
    keys = [k for slot in plan.slot_keys() for k in plan.frame_keys(slot)]
    assert [frame_number(plan, k) for k in keys] == list(range(plan.frames))
    assert [frame_key(plan, n) for n in range(plan.frames)] == keys


FULL = {
    "sequence": {
        "timepoints": 3,
        "foci_um": [0.0, 8.0],
        "positions": [{}, {"x_um": 50, "y_um": 0.0}],
    },
    "illumination": LEDS,
    "imperfections": {"light_mixing": 0.1, "bad_pixel_share": 0.01, "vignetting": 0.2},
    "faults": {"drop_share": 0.2},
}


def _digest_in_another_process(threads, queue):
    torch.set_num_threads(threads)
    queue.put(digest(run(opened(experiment(**FULL)))[1]))


def test_a_frame_is_the_same_in_any_order_and_any_process():
    driver = opened(experiment(**FULL))
    _, frames = run(driver)
    keys = list(frames)
    np.random.default_rng(0).shuffle(keys)
    instrument = SimulatedInstrument(experiment(**FULL))
    for key in (FrameKey(*map(int, k)) for k in keys):
        np.testing.assert_array_equal(instrument.frame(key), frames[key])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_digest_in_another_process, args=(3, queue))
    process.start()
    assert queue.get(timeout=60) == digest(frames)
    process.join()
    assert len({f.tobytes() for f in frames.values()}) == len(frames)


def test_another_seed_gives_other_cells_and_other_noise():
    a, b = (SimulatedInstrument(experiment(seed=s)) for s in (1, 2))
    assert not np.array_equal(a.truth(0, 0)[0], b.truth(0, 0)[0])
    a, b = (SimulatedInstrument(experiment(**blank(seed=s))) for s in (1, 2))
    assert not np.array_equal(a.frame(FrameKey(0, 0, 0, 0)), b.frame(FrameKey(0, 0, 0, 0)))


def test_losses_do_not_depend_on_how_the_run_was_cut():
    e = experiment({"timepoints": 12}, LEDS, faults={"drop_share": 0.3})

    def lost(bursts):
        driver = opened(e)
        return [
            k
            for slots in bursts
            for ev in run(driver, slots)[0]
            if isinstance(ev, Lost)
            for k in ev.keys
        ]

    slots = [SlotKey(t, 0) for t in range(12)]
    whole = lost([slots])
    assert whole == lost([slots[:5], slots[5:]])
    assert 3 <= len(whole) <= 20


def test_a_burst_delivers_every_frame_in_order_with_its_record():
    e = experiment({"timepoints": 3, "foci_um": [0.0, 8.0]}, LEDS)
    driver = opened(e)
    assert driver.open().frame_shape == (32, 40)
    events, frames = run(driver)
    plan = e.plan()
    keys = [k for slot in plan.slot_keys() for k in plan.frame_keys(slot)]
    assert [ev.key for ev in events] == keys
    assert [ev.image_number for ev in events] == list(range(18))
    assert all(ev.led == ev.key.channel for ev in events)
    assert all(ev.focus_um == plan.foci_um[ev.key.focus] for ev in events)
    times = [ev.time_monotonic for ev in events]
    assert times == sorted(times)
    assert abs(events[-1].time_utc - time.time()) < 5
    # Who arms the bursts knows when the next one comes, and turns the light off.
    assert driver.light_is_on
    assert driver.next_frame(lambda key: frames[key]) is None


def test_frames_are_written_in_place():
    e = experiment({"timepoints": 1}, **blank())
    driver = opened(e)
    ring = np.zeros((1, 32, 40), np.uint16)
    driver.arm([SlotKey(0, 0)])
    assert isinstance(driver.next_frame(lambda key: ring[0]), Arrived)
    np.testing.assert_array_equal(ring[0], driver.instrument.frame(FrameKey(0, 0, 0, 0)))


def test_dropped_frames_leave_a_gap_in_the_cameras_numbers():
    driver = opened(experiment({"timepoints": 2}, LEDS, faults={"drop_frames": [1, 2, 4]}))
    events, frames = run(driver)
    lost = [ev for ev in events if isinstance(ev, Lost)]
    assert [ev.keys for ev in lost] == [
        ((0, 0, 1, 0),),
        ((0, 0, 2, 0),),
        ((1, 0, 1, 0),),
    ]
    assert {ev.reason for ev in lost} == {MissingReason.DROPPED}
    assert [ev.image_number for ev in events if isinstance(ev, Arrived)] == [0, 3, 5]
    assert len(frames) == 3


def test_an_overflow_costs_the_rest_of_its_slot_and_the_next_and_ends_the_burst():
    e = experiment({"timepoints": 5}, LEDS, faults={"overflow_at_frame": [4, 7]})
    driver = opened(e)
    events, _ = run(driver)
    assert [ev.key for ev in events[:4]] == [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 2, 0), (1, 0, 0, 0)]
    assert events[4:] == [
        Lost(
            tuple(
                FrameKey(*k)
                for k in [(1, 0, 1, 0), (1, 0, 2, 0), (2, 0, 0, 0), (2, 0, 1, 0), (2, 0, 2, 0)]
            ),
            MissingReason.OVERFLOW,
        )
    ]
    again, _ = run(driver, [SlotKey(3, 0), SlotKey(4, 0)])
    assert [ev.key.timepoint for ev in again] == [3, 3, 3, 4, 4, 4]
    # A restart between the two slots loses the same frames.
    resumed, _ = run(opened(e), [SlotKey(t, 0) for t in (2, 3, 4)])
    assert resumed == [Lost(tuple(FrameKey(2, 0, c, 0) for c in range(3)), MissingReason.OVERFLOW)]


def test_a_disconnected_camera_stays_away_until_the_run_is_resumed():
    e = experiment({"timepoints": 3}, LEDS, faults={"disconnect_at_frame": 4})
    driver = opened(e)
    with pytest.raises(DeviceDisconnectedError, match="before frame 4") as caught:
        run(driver)
    assert "--resume" in caught.value.fix
    with pytest.raises(DeviceDisconnectedError):
        driver.arm([SlotKey(1, 0)])
    driver.light_off()
    driver.close()
    assert not driver.light_is_on
    events, _ = run(opened(e), [SlotKey(1, 0), SlotKey(2, 0)])
    assert len([ev for ev in events if isinstance(ev, Arrived)]) == 6
    # Armed slot by slot, the camera still goes away on the way there.
    one_by_one = opened(e)
    run(one_by_one, [SlotKey(0, 0)])
    with pytest.raises(DeviceDisconnectedError):
        run(one_by_one, [SlotKey(1, 0)])


def test_a_stalled_camera_and_a_slow_lens_take_their_time():
    e = experiment(
        {"timepoints": 2, "foci_um": [0.0, 5.0]},
        **blank(faults={"stall_at_frame": 2, "stall_s": 0.3, "slow_lens_ms": 50}),
    )
    driver = opened(e)
    driver.instrument.frame(FrameKey(0, 0, 0, 0))
    began = time.monotonic()
    events, _ = run(driver)
    assert [ev.image_number for ev in events] == [0, 1, 2, 3]
    assert 0.5 <= time.monotonic() - began < 3
    gaps = np.diff([ev.time_monotonic for ev in events])
    assert gaps[1] >= 0.35 > gaps[0] >= 0.05


def test_the_camera_keeps_its_pace():
    e = experiment({"timepoints": 8}, camera={"frame_rate_hz": 25}, **blank(paced=True))
    driver = opened(e)
    driver.instrument.frame(FrameKey(0, 0, 0, 0))
    events, _ = run(driver)
    gaps = np.diff([ev.time_monotonic for ev in events])
    assert gaps.min() > 0.0399
    assert np.median(gaps) < 0.06


def test_a_late_caller_finds_frames_waiting():
    e = experiment({"timepoints": 12}, camera={"frame_rate_hz": 50}, **blank(paced=True))
    driver = opened(e)
    driver.instrument.frame(FrameKey(0, 0, 0, 0))
    buffer = np.zeros((32, 40), np.uint16)
    driver.arm([SlotKey(t, 0) for t in range(12)])
    driver.next_frame(lambda key: buffer)
    time.sleep(0.2)
    fill = [driver.next_frame(lambda key: buffer).buffer_fill for _ in range(8)]
    assert fill[0] > 0.05
    assert fill[-1] < fill[0]


def test_a_simulator_that_cannot_keep_up_says_so_once():
    e = experiment({"timepoints": 30}, camera={"frame_rate_hz": 1e5}, **blank(paced=True))
    e = e.model_copy(
        update={
            "illumination": e.illumination.model_copy(
                update={
                    "channels": {
                        n: c.model_copy(update={"exposure_ms": 0.01})
                        for n, c in e.illumination.channels.items()
                    }
                }
            )
        }
    )
    driver = opened(e)
    events, _ = run(driver)
    assert len(events) == 30
    messages = driver.messages()
    assert len(messages) == 1
    assert messages[0].startswith("simulator can't keep up: ")
    assert messages[0].endswith("frames/s of 1e+05 asked for")
    run(driver)
    assert driver.messages() == []


def test_stop_ends_after_the_slot_being_exposed():
    driver = opened(experiment({"timepoints": 3}, LEDS))
    buffer = np.zeros((32, 40), np.uint16)
    driver.arm([SlotKey(t, 0) for t in range(3)])
    driver.next_frame(lambda key: buffer)
    driver.stop_burst()
    assert driver.next_frame(lambda key: buffer).key == (0, 0, 1, 0)
    assert driver.next_frame(lambda key: buffer).key == (0, 0, 2, 0)
    assert driver.next_frame(lambda key: buffer) is None
    driver.arm([SlotKey(1, 0)])
    assert driver.next_frame(lambda key: buffer).key == (1, 0, 0, 0)


def test_light_goes_off_in_any_state_and_never_makes_dark_frames():
    driver = SimulatorDriver(experiment(**blank()))
    driver.light_off()
    driver.open()
    driver.light_off()
    assert not driver.light_is_on
    driver.arm([SlotKey(0, 0), SlotKey(1, 0)])
    assert driver.light_is_on
    buffer = np.zeros((32, 40), np.uint16)
    driver.next_frame(lambda key: buffer)
    driver.light_off()
    driver.light_off()
    assert not driver.light_is_on
    with pytest.raises(DriverError, match="light went off"):
        driver.next_frame(lambda key: buffer)
    driver.arm([SlotKey(1, 0)])
    driver.close()
    driver.close()
    assert not driver.light_is_on


def test_closing_wakes_a_stalled_camera():
    driver = opened(experiment(**blank(faults={"stall_at_frame": 0, "stall_s": 60})))
    driver.arm([SlotKey(0, 0)])
    buffer = np.zeros((32, 40), np.uint16)
    outcome = []

    def wait():
        try:
            outcome.append(driver.next_frame(lambda key: buffer))
        except DriverError as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    driver.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(outcome[0], DriverError)
    assert not buffer.any()


def test_arming_needs_an_open_microscope_and_planned_slots():
    driver = SimulatorDriver(experiment(**blank()))
    with pytest.raises(DriverError, match="not open"):
        driver.arm([SlotKey(0, 0)])
    driver.open()
    with pytest.raises(DriverError, match="no slots"):
        driver.arm([])
    with pytest.raises(DriverError, match="not in the plan"):
        driver.arm([SlotKey(4, 0)])
    assert not driver.light_is_on


def test_the_registry_opens_the_simulator_and_importing_it_needs_no_torch():
    assert isinstance(open_driver(experiment()), SimulatorDriver)
    code = (
        "import sys; import drivers.simulator; import drivers.registry; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
