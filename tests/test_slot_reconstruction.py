"""One slot in, one image with its quality out: what live and later reconstruction share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from pipeline.calibration import Calibration
from pipeline.errors import MethodError, SlotError
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import FrameStatus, Measurement, MissingReason, empty_records
from pipeline.methods.contract import Reconstruction
from pipeline.optics.forward import predict_frames
from pipeline.optics.sensor import expose
from pipeline.stages import reconstruction
from pipeline.stages.reconstruction import SlotReconstructor, choose_device

OFFSET, GAIN, LEVEL = 100, 2.0, 3000


def experiment(shape=(48, 64), channels=("left", "right")) -> Experiment:
    sides = {"left": 180, "right": 0}
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {
                    "shape_px": list(shape),
                    "pixel_um": 6.5,
                    "bit_depth": 16,
                    "offset_counts": OFFSET,
                    "gain_e_per_count": GAIN,
                },
            },
            "optics": {"wavelength_um": 0.5, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": {
                "source": "led_array",
                "array": {"rows": 9, "columns": 9, "pitch_mm": 4, "distance_mm": 60},
                "patterns": {
                    n: {"kind": "half_circle", "direction_deg": d} for n, d in sides.items()
                },
                "channels": {n: {"pattern": n} for n in channels},
            },
            "sequence": {"timepoints": 3},
            "reconstruction": {"method": "answer"},
        }
    )


@dataclass
class Answer:
    """A method that gives what the test tells it to; it notes what it was given."""

    images: torch.Tensor
    frames: tuple[int, ...] = (1, 0)
    accepts_gaps: bool = False
    outputs: tuple[str, ...] = ("phase",)
    name: str = "answer"

    def measurement(self, experiment):
        return Measurement(self.frames, self.outputs, upsampling=2, accepts_gaps=self.accepts_gaps)

    def load(self, experiment, calibration, device, weights):
        def call(frames, valid):
            self.given = (frames.clone(), valid.clone())
            return Reconstruction(self.images[None])

        return call


@pytest.fixture
def use(monkeypatch):
    def use(method):
        monkeypatch.setattr(reconstruction, "find_method", lambda name: method)
        return method

    return use


def bump(shape, height: float) -> torch.Tensor:
    """A smooth cell in the middle, radians."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    return height * torch.exp(-20 * (y[:, None] ** 2 + x**2))


def take(exp: Experiment, phase: torch.Tensor, absorption=None) -> tuple[np.ndarray, np.ndarray]:
    """Raw frames of a specimen, with the camera's noise, and their records."""
    rng = np.random.default_rng(3)
    images = predict_frames(phase, absorption, exp)
    frames = [
        expose(
            i.numpy() * LEVEL * GAIN,
            rng,
            gain_e_per_count=GAIN,
            read_noise_e=2,
            offset_counts=OFFSET,
            bit_depth=16,
        )
        for i in images
    ]
    records = empty_records(len(frames))
    records["status"] = FrameStatus.WRITTEN
    return np.stack(frames), records


CALIBRATION = Calibration(
    flat={n: np.float32(LEVEL) * np.ones((), np.float32) for n in ("left", "right")},
    gain_e_per_count=GAIN,
)


def test_the_method_gets_its_frames_corrected_in_its_order(use):
    exp = experiment()
    method = use(Answer(torch.zeros(1, 96, 128)))
    frames, records = take(exp, bump((96, 128), 0.5))
    before = frames.copy()
    images, quality = SlotReconstructor(exp, CALIBRATION).reconstruct(frames, records)
    given, valid = method.given
    expected = (frames[[1, 0]].astype(np.float32) - OFFSET) / LEVEL
    np.testing.assert_allclose(given[0].numpy(), expected, rtol=1e-5)
    assert valid.all()
    assert images.shape == (1, 96, 128)
    assert images.dtype == np.float32
    assert quality["valid_share"] == 1.0
    assert quality["uncalibrated"] == 1.0  # no dark, pixel size, orientation or z scale
    assert quality["seconds"] > 0
    np.testing.assert_array_equal(frames, before)


def test_read_only_frames_are_fine(use):
    exp = experiment()
    use(Answer(torch.zeros(1, 96, 128)))
    frames, records = take(exp, bump((96, 128), 0.5))
    frames.flags.writeable = False
    assert SlotReconstructor(exp, CALIBRATION).reconstruct(frames, records) is not None


def test_the_residual_tells_the_truth_from_a_wrong_image(use):
    exp = experiment()
    phase = bump((96, 128), 0.8)
    frames, records = take(exp, phase)
    found = {}
    for name, images in {"true": phase, "flat": 0 * phase, "wrong sign": -phase}.items():
        use(Answer(images[None]))
        _, quality = SlotReconstructor(exp, CALIBRATION).reconstruct(frames, records)
        found[name] = quality["residual"]
    assert 0.8 < found["true"] < 1.2
    assert found["flat"] > 2 * found["true"]
    assert found["wrong sign"] > 2 * found["true"]


def test_the_residual_knows_absorption_as_mu(use):
    exp = experiment()
    phase, mu = bump((96, 128), 0.4), bump((96, 128), 0.6)
    frames, records = take(exp, phase, 1 - torch.exp(-mu))
    use(Answer(torch.stack([phase, mu]), outputs=("phase", "absorption")))
    _, quality = SlotReconstructor(exp, CALIBRATION).reconstruct(frames, records)
    assert 0.8 < quality["residual"] < 1.2
    use(Answer(torch.stack([phase, 0 * mu]), outputs=("phase", "absorption")))
    _, quality = SlotReconstructor(exp, CALIBRATION).reconstruct(frames, records)
    assert quality["residual"] > 2


def test_a_large_field_is_checked_in_windows_of_affordable_size_that_frames_draw_lots_for(
    use, monkeypatch
):
    exp = experiment(shape=(200, 240))
    phase = bump((400, 480), 0.8)
    frames, records = take(exp, phase)
    monkeypatch.setattr("pipeline.stages.residual._BUDGET", {"cpu": 150_000})
    use(Answer(phase[None]))
    core = SlotReconstructor(exp, CALIBRATION)
    windows = core._check.windows
    size = windows[0].y.stop - windows[0].y.start
    assert size < 200
    assert {(w.y.stop - w.y.start, w.x.stop - w.x.start) for w in windows} == {(size, size)}
    # The inner halves of all of them leave no gap between the outer borders.
    seen = np.zeros((200, 240), bool)
    for w in windows:
        seen[
            w.y.start + size // 4 : w.y.stop - size // 4,
            w.x.start + size // 4 : w.x.stop - size // 4,
        ] = True
    assert seen[size // 4 : -(size // 4), size // 4 : -(size // 4)].all()
    rng = np.random.default_rng(0)
    drawn = [
        core._check.window(frames + rng.integers(0, 9, frames.shape, np.uint16)) for _ in range(60)
    ]
    assert len({(w.y.start, w.x.start) for w in drawn}) == len(windows)
    first, again = (core.reconstruct(frames, records).quality for _ in range(2))
    assert 0.8 < first["residual"] < 1.2
    assert again["residual"] == first["residual"]


@pytest.mark.parametrize("accepts_gaps", [False, True])
def test_a_missing_frame(use, accepts_gaps):
    exp = experiment()
    phase = bump((96, 128), 0.8)
    frames, records = take(exp, phase)
    frames[0] = 0
    records[0]["status"], records[0]["reason"] = FrameStatus.MISSING, MissingReason.DROPPED
    method = use(Answer(phase[None], accepts_gaps=accepts_gaps))
    core = SlotReconstructor(exp, CALIBRATION)
    result = core.reconstruct(frames, records)
    if not accepts_gaps:
        assert result is None
        return
    assert method.given[1][0].float().mean((1, 2)).tolist() == [1.0, 0.0]
    assert result.quality["valid_share"] == 0.5
    assert 0.8 < result.quality["residual"] < 1.2
    records["status"] = FrameStatus.MISSING
    assert core.reconstruct(frames, records) is None


def test_a_frame_that_the_method_does_not_use_may_be_missing(use):
    exp = experiment()
    frames, records = take(exp, bump((96, 128), 0.8))
    records[1]["status"] = FrameStatus.MISSING
    use(Answer(torch.zeros(1, 96, 128), frames=(0,)))
    assert SlotReconstructor(exp, CALIBRATION).reconstruct(frames, records) is not None


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        (torch.full((1, 96, 128), torch.nan), SlotError, "NaN or infinite"),
        (torch.full((1, 96, 128), torch.inf), SlotError, "NaN or infinite"),
        (torch.zeros(1, 48, 64), MethodError, r"shape \(1, 1, 48, 64\), not \(1, 1, 96, 128\)"),
    ],
)
def test_a_broken_result_is_refused(use, images, kind, message):
    exp = experiment()
    use(Answer(images))
    with pytest.raises(kind, match=message) as caught:
        SlotReconstructor(exp, CALIBRATION).reconstruct(*take(exp, bump((96, 128), 0.8)))
    assert caught.type is kind


def test_calibration_state_is_said(use):
    exp = experiment()
    use(Answer(torch.zeros(1, 96, 128)))
    from pipeline.calibration import LedOrientation

    whole = replace(
        CALIBRATION,
        dark={n: np.full((), OFFSET, np.float32) for n in ("left", "right")},
        pixel_um=0.65,
        led_orientation=LedOrientation(),
        z_scale=1.0,
    )
    assert whole.missing() == []
    _, quality = SlotReconstructor(exp, whole).reconstruct(*take(exp, bump((96, 128), 0.8)))
    assert quality["uncalibrated"] == 0.0


def test_device():
    assert choose_device("cpu", 3) == "cpu"
    if torch.cuda.is_available():
        assert choose_device("auto") == "cuda"
        return
    assert choose_device("auto") == "cpu"
    with pytest.raises(MethodError, match="no CUDA device"):
        choose_device("cuda:1")
