"""dl_srqpi: which frame it takes, whether weights fit, what it does with frames."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import Experiment, parse_experiment
from pipeline.methods.background import background_level
from pipeline.methods.contract import Method, Reconstructor
from pipeline.methods.dl_srqpi import DlSrqpi
from pipeline.methods.dl_srqpi.fit import default_weights, true_optics, why_unfit
from pipeline.methods.dl_srqpi.header import METADATA_KEY, read_record, sha256
from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.networks import (
    PaperUNet,
    SubPixelUNet,
    build_network,
    fold_norms,
    pad_to_multiple,
)
from pipeline.methods.dl_srqpi.record import (
    NetworkRecord,
    OpticsRecord,
    TrainingRecord,
    WeightsRecord,
)
from pipeline.methods.dl_srqpi.weights import load_network, save_weights


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def experiment(**changes) -> Experiment:
    """The demonstration's, on a small camera, with sections changed."""
    demo = files("pipeline.demos").joinpath("dl_srqpi.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(demo)
    data["microscope"]["camera"]["shape_px"] = [32, 32]
    for section, values in changes.items():
        data[section] = {**data[section], **values}
    return parse_experiment(data)


def record(form="sub_pixel", width=4, levels=2, **optics) -> WeightsRecord:
    matching = {
        "wavelength_um": 0.55,
        "numerical_aperture": 0.4,
        "refractive_index": 1.0,
        "pixel_um": 2.6,
        "z_um": 4.0,
        "coherence_min": 0.0,
        "coherence_max": 0.0,
    }
    return WeightsRecord(
        network=NetworkRecord(form=form, width=width, levels=levels),
        optics=OpticsRecord(**{**matching, **optics}),
        contrast_gain=20.0,
        training=TrainingRecord(
            seed=0,
            steps=0,
            samples=0,
            fields=1,
            noise=(0.002, 0.01),
            minutes=0.0,
            validation={},
            livephase="0",
            torch="0",
        ),
    )


def write(path: Path, seed=0, **kwargs) -> Path:
    """A weights file with random weights and norms that have seen something."""
    torch.manual_seed(seed)
    made = record(**kwargs)
    network = build_network(made.network).train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 1, 16, 16))
    save_weights(network, made, path)
    return path


@pytest.fixture
def weights(tmp_path) -> Path:
    return write(tmp_path / "w.safetensors")


def frames(count=1, side=32, seed=0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return 1 + 0.05 * torch.randn(count, 1, side, side, generator=g)


def all_valid(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def test_importing_and_asking_costs_no_torch():
    code = (
        "import sys; from pipeline.methods.dl_srqpi import DlSrqpi; "
        "from pipeline.lifecycle.demo import demo_experiment; "
        "DlSrqpi().measurement(demo_experiment()); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_follows_the_contract(weights):
    method = DlSrqpi()
    assert isinstance(method, Method)
    live = method.load(experiment(), Calibration(), "cpu", weights)
    assert isinstance(live, Reconstructor)


# Which frame


def test_one_frame_nearest_to_the_weights_focus(weights):
    asked = experiment(
        sequence={"foci_um": [0.0, -4.0, 4.05, 8.0]}, reconstruction={"weights": str(weights)}
    )
    measurement = DlSrqpi().measurement(asked)
    assert measurement.frames == (2,)
    assert measurement.outputs == ("phase",)
    assert measurement.upsampling == 4
    assert measurement.accepts_aliasing
    assert not measurement.accepts_gaps


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"sequence": {"foci_um": [0.0]}}, "defocused frame"),
        ({"sequence": {"foci_um": [-4.0]}}, "defocus -4 µm, trained for 4 µm"),
        ({"sequence": {"foci_um": [9.0]}}, "defocus 9 µm"),
        ({"optics": {"wavelength_um": 0.63}}, "wavelength 0.63 µm, trained for 0.55 µm"),
        ({"optics": {"numerical_aperture": 0.3}}, "NA 0.3, trained for 0.4"),
        ({"optics": {"magnification": 4}}, "camera pixel at the sample 6.5 µm"),
        ({"illumination": {"coherence": 0.3}}, "coherence S = 0.3, trained for 0 to 0"),
        ({"reconstruction": {"settings": {"precison": "fp32"}}}, "did you mean 'precision'"),
        ({"reconstruction": {"settings": {"precision": "fp8"}}}, "settings.precision"),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused_with_the_fix(weights, changes, cause):
    changes.setdefault("reconstruction", {}).setdefault("weights", str(weights))
    with pytest.raises(ExperimentError) as refused:
        DlSrqpi().measurement(experiment(**changes))
    assert cause in refused.value.cause
    assert refused.value.fix


def test_an_led_array_is_refused(weights):
    asked = experiment().model_dump(mode="json")
    asked["reconstruction"]["weights"] = str(weights)
    asked["calibration"] = {"source": "none"}
    asked["illumination"] = {
        "source": "led_array",
        "array": {"rows": 9, "columns": 9, "pitch_mm": 4, "distance_mm": 60},
        "patterns": {"top": {"kind": "half_circle", "direction_deg": 90}},
        "channels": {"top": {"pattern": "top"}},
    }
    with pytest.raises(ExperimentError, match="condenser") as refused:
        DlSrqpi().measurement(parse_experiment(asked))
    assert "dpc" in refused.value.fix


# Do the weights fit


def test_the_calibration_decides_when_it_is_known(weights):
    asked = experiment(sequence={"foci_um": [4.0]}, reconstruction={"weights": str(weights)})
    method = DlSrqpi()
    # A lens that moves 10 % further than it is told: the frame is at 4.4 µm.
    with pytest.raises(MethodError, match=r"defocus 4\.4 µm"):
        method.load(asked, Calibration(z_scale=1.1), "cpu", None)
    with pytest.raises(MethodError, match=r"camera pixel at the sample 2\.5 µm"):
        method.load(asked, Calibration(pixel_um=2.5), "cpu", None)
    # The commanded 3.64 µm is really 4 µm: refused by nominal values, right by the calibrated.
    commanded = experiment(sequence={"foci_um": [3.64]}, reconstruction={"weights": str(weights)})
    assert method.measurement(commanded).frames == (0,)
    method.load(commanded, Calibration(z_scale=1.1), "cpu", None)
    with pytest.raises(MethodError, match=r"defocus 3\.64 µm"):
        method.load(commanded, Calibration(), "cpu", None)


def test_without_calibration_the_preflight_is_exact(weights):
    asked = experiment(
        sequence={"foci_um": [3.64]},
        reconstruction={"weights": str(weights)},
        calibration={"source": "none"},
    )
    with pytest.raises(ExperimentError, match=r"defocus 3\.64 µm"):
        DlSrqpi().measurement(asked)


@given(off=st.floats(-0.2, 0.2))
@settings(deadline=None, max_examples=30)
def test_tolerance_of_the_defocus(off):
    reason = why_unfit(record(), true_optics(experiment(), Calibration(z_scale=1 + off), 0))
    assert bool(reason) == (abs(off) > 0.03 + 1e-9) or abs(abs(off) - 0.03) < 1e-6


def test_default_weights_are_the_packaged_ones_that_fit(tmp_path):
    write(tmp_path / "dl_srqpi_a.safetensors", z_um=9.0)
    right = write(tmp_path / "dl_srqpi_b.safetensors")
    assert default_weights(experiment(), tmp_path) == right
    with pytest.raises(MethodError, match="wavelength") as refused:
        default_weights(experiment(optics={"wavelength_um": 0.9}), tmp_path)
    assert "livephase train dl_srqpi --experiment" in refused.value.fix
    with pytest.raises(MethodError, match="none are installed"):
        default_weights(experiment(), tmp_path / "empty")


def test_the_weights_that_come_with_livephase_load_and_fit_the_demonstration():
    path = default_weights(experiment())
    assert path.stat().st_size < 16 << 20
    live = DlSrqpi().load(experiment(), Calibration(), "cpu", None)
    flat = torch.ones(1, 1, 32, 32)
    # Nothing in the light, nothing in the phase.
    assert live(flat, all_valid(flat)).images.abs().max() < 0.1


# The file


def test_a_weights_file_comes_back(weights):
    made = record()
    network, read = load_network(weights)
    assert read == made
    assert not network.training
    tensors = load_file(weights)
    assert tensors["body.entry.0.conv.weight"].dtype == torch.float16
    assert tensors["body.entry.0.norm.running_var"].dtype == torch.float32
    assert len(sha256(weights)) == 64


def damaged(path: Path, how: str) -> None:
    tensors, meta = load_file(path), {METADATA_KEY: read_record(path).model_dump_json()}
    name = "body.entry.0.conv.weight"
    if how == "absent":
        path.unlink()
        return
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return
    if how == "no safetensors":
        path.write_bytes(b"PK\x03\x04 this is a zip, or a pickle")
        return
    if how == "empty":
        path.write_bytes(b"")
        return
    if how == "lacks a tensor":
        del tensors[name]
    elif how == "extra tensor":
        tensors["other"] = torch.zeros(1)
    elif how == "wrong shape":
        tensors[name] = tensors[name][:2].clone()
    elif how == "NaN":
        tensors[name][0, 0, 0, 0] = float("nan")
    elif how == "foreign":
        meta = {"format": "pt"}
    elif how == "other version":
        values = json.loads(meta[METADATA_KEY]) | {"format": "livephase dl_srqpi 9"}
        meta = {METADATA_KEY: json.dumps(values)}
    elif how == "metadata no JSON":
        meta = {METADATA_KEY: "{"}
    save_file(tensors, path, meta)


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("absent", "don't exist"),
        ("truncated", "can't be read"),
        ("no safetensors", "can't be read"),
        ("empty", "can't be read"),
        ("lacks a tensor", "lack 'body.entry.0.conv.weight'"),
        ("extra tensor", "have the unknown 'other'"),
        ("wrong shape", "has shape"),
        ("NaN", "NaN or infinite"),
        ("foreign", "don't say what they were trained for"),
        ("other version", "not of this version"),
        ("metadata no JSON", "not of this version"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(weights, how, cause):
    damaged(weights, how)
    with pytest.raises(MethodError) as refused:
        DlSrqpi().load(experiment(), Calibration(), "cpu", weights)
    assert cause in refused.value.cause
    assert refused.value.fix


# The networks


@pytest.mark.parametrize("form", ["paper", "sub_pixel"])
@pytest.mark.parametrize("shape", [(16, 16), (17, 30), (5, 7), (1, 3)])
def test_any_frame_comes_out_four_times_finer(form, shape):
    network = build_network(NetworkRecord(form=form, width=4, levels=3)).eval()
    with torch.inference_mode():
        out = network(torch.zeros(2, 1, *shape))
    assert out.shape == (2, 1, 4 * shape[0], 4 * shape[1])


def test_the_papers_form_is_the_papers():
    network = build_network(NetworkRecord(form="paper", width=16, levels=4))
    assert isinstance(network, PaperUNet)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.94e6, rel=0.01)
    assert len(network.body.down) == len(network.body.up) == 4


@given(side=st.integers(1, 40), levels=st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_padding_mirrors_the_edge(side, levels):
    x = torch.arange(float(side))[None, None, :, None].expand(1, 1, side, side)
    padded = pad_to_multiple(x, 2**levels)
    assert padded.shape[-1] % 2**levels == 0
    assert padded.shape[-1] < side + 2**levels
    ours = padded[0, 0, :, 0].numpy()
    assert np.array_equal(ours, np.pad(np.arange(float(side)), (0, len(ours) - side), "symmetric"))


@pytest.mark.parametrize("form", ["paper", "sub_pixel"])
def test_folded_norms_change_nothing(tmp_path, form):
    network, _ = load_network(write(tmp_path / "w.safetensors", form=form))
    x = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        before = network(x)
        after = fold_norms(network)(x)
    assert torch.allclose(before, after, atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_a_phase_shift_of_the_pixel_shuffle_is_none():
    """Each camera pixel's 4 x 4 phase pixels lie where the camera pixel is."""
    network = SubPixelUNet(4, 1).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
        network.head.bias.copy_(torch.arange(16.0))
        out = network(torch.zeros(1, 1, 2, 2))[0, 0]
    assert torch.equal(out[:4, :4], torch.arange(16.0).reshape(4, 4))
    assert torch.equal(out[:4, :4], out[4:, 4:])


# Live


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_frames_bits_depend_on_nothing_but_the_frame(weights, precision):
    live = DlSrqpiReconstructor.load(weights, precision=precision)
    x = frames(3)
    together = live(x, all_valid(x)).images
    again = live(x, all_valid(x)).images
    alone = torch.cat([live(x[i : i + 1], all_valid(x[:1])).images for i in (2, 0, 1)])[[1, 2, 0]]
    assert together.shape == (3, 1, 128, 128)
    assert together.dtype == torch.float32
    assert torch.equal(together, again)
    assert torch.equal(together, alone)


def test_bf16_is_near_fp32(weights):
    x = frames(1)
    exact = DlSrqpiReconstructor.load(weights, precision="fp32")(x, all_valid(x)).images
    quick = DlSrqpiReconstructor.load(weights, precision="bf16")(x, all_valid(x)).images
    assert (exact - quick).abs().max() < 0.05 * (exact.max() - exact.min())
    assert not torch.equal(exact, quick)


def test_the_lamps_brightness_does_not_matter(weights):
    live = DlSrqpiReconstructor.load(weights, precision="fp32")
    x = frames(1)
    dim = live(0.8 * x, all_valid(x)).images
    assert torch.allclose(live(x, all_valid(x)).images, dim, atol=1e-4)


def test_bad_pixels_and_nans_are_bridged(weights):
    live = DlSrqpiReconstructor.load(weights, precision="fp32")
    x = torch.ones(1, 1, 32, 32)
    bad, valid = x.clone(), all_valid(x)
    bad[0, 0, 5, 6], bad[0, 0, 20, 3] = float("nan"), 1e4
    valid[0, 0, 20, 3] = False
    assert torch.allclose(live(bad, valid).images, live(x, all_valid(x)).images, atol=1e-5)


def test_background_is_zero(weights, tmp_path):
    network, made = load_network(weights)
    with torch.no_grad():
        network.head.bias.add_(1.0)
    save_weights(network, made, tmp_path / "raised.safetensors")
    x = frames(1)
    plain = DlSrqpiReconstructor.load(weights, precision="fp32")(x, all_valid(x)).images
    raised = DlSrqpiReconstructor.load(tmp_path / "raised.safetensors", precision="fp32")
    assert torch.allclose(raised(x, all_valid(x)).images, plain, atol=1e-5)
    assert background_level(plain).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 8, 8)])
def test_another_number_of_frames_is_refused(weights, shape):
    with pytest.raises(MethodError, match="shape"):
        DlSrqpiReconstructor.load(weights)(torch.ones(shape), torch.ones(shape, dtype=torch.bool))


def test_an_empty_batch_is_an_empty_batch(weights):
    none = torch.ones(0, 1, 8, 8)
    assert DlSrqpiReconstructor.load(weights)(none, all_valid(none)).images.shape == (0, 1, 32, 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_processor(weights):
    x = frames(4)
    cpu = DlSrqpiReconstructor.load(weights, precision="fp32")(x, all_valid(x)).images
    cuda = DlSrqpiReconstructor.load(weights, "cuda", "fp32")(x, all_valid(x)).images.cpu()
    assert torch.allclose(cpu, cuda, atol=1e-2 * float(cpu.max() - cpu.min()))
