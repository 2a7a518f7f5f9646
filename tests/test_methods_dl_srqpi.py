"""dl_srqpi: which frame it takes, whether weights fit, what it does with frames."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from dl_srqpi_weights import USUAL, all_valid, experiment, frames, record, write
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError, SlotError
from pipeline.experiment import parse_experiment
from pipeline.methods.background import background_level
from pipeline.methods.contract import Method, Reconstructor
from pipeline.methods.dl_srqpi import DlSrqpi, inference
from pipeline.methods.dl_srqpi.fit import (
    PACKAGED,
    default_weights,
    nearest_focus,
    packaged,
    true_conditions,
    weights_named,
    why_unfit,
)
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.record import NetworkRecord, UNetRecord
from pipeline.methods.dl_srqpi.settings import Packaged
from pipeline.methods.dl_srqpi.tiles import plan_tiles
from pipeline.methods.dl_srqpi.weights import load_network, save_weights
from pipeline.methods.weights_file import METADATA_KEY, sha256


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Only read."""
    return write(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def weights(tmp_path, made) -> Path:
    """A file of the test's own."""
    own = tmp_path / "w.safetensors"
    own.write_bytes(made.read_bytes())
    return own


def write_packaged(folder: Path) -> None:
    """For two optics of base, fast, and a baseline."""
    write(folder / "dl_srqpi_base_a.safetensors", name="base")
    write(folder / "dl_srqpi_base_b.safetensors", name="base", wavelength_um=0.63)
    write(folder / "dl_srqpi_fast_a.safetensors", name="fast")
    write(folder / "dl_srqpi_srcnn_a.safetensors", NetworkRecord(form="srcnn", width=4), "srcnn")


def live(weights, precision="fp32", conditions=USUAL, **kwargs) -> DlSrqpiReconstructor:
    return DlSrqpiReconstructor.load(weights, conditions, precision=precision, **kwargs)


def test_asking_costs_no_torch(made):
    code = (
        "import sys; from pipeline.methods.dl_srqpi import DlSrqpi; "
        "from pipeline.lifecycle.demo import demo_experiment; e = demo_experiment(); "
        "r = e.reconstruction.model_copy(update={'weights': sys.argv[1]}); "
        "DlSrqpi().measurement(e.model_copy(update={'reconstruction': r})); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(made)], check=False).returncode == 0


def test_it_follows_the_contract(made):
    method = DlSrqpi()
    assert isinstance(method, Method)
    assert isinstance(method.load(experiment(), Calibration(), "cpu", made), Reconstructor)


# Which frame


def test_one_frame_nearest_to_the_weights_focus(made):
    asked = experiment(
        sequence={"foci_um": [0.0, -4.0, 4.05, 8.0]}, reconstruction={"weights": str(made)}
    )
    measurement = DlSrqpi().measurement(asked)
    assert measurement.frames == (2,)
    assert measurement.outputs == ("phase",)
    assert measurement.upsampling == 4
    assert measurement.accepts_aliasing
    assert not measurement.accepts_gaps
    assert measurement.weights_sha256 == sha256(made)


@pytest.mark.parametrize("z", [1.0, 2.5, 8.0, 13.0])
@pytest.mark.parametrize("coherence", [0.0, 0.4])
def test_one_network_serves_all_conditions_that_it_was_trained_for(made, z, coherence):
    asked = experiment(
        sequence={"foci_um": [z]},
        illumination={"coherence": coherence},
        reconstruction={"weights": str(made)},
    )
    assert DlSrqpi().measurement(asked).frames == (0,)
    conditions = true_conditions(asked, None, nearest_focus(asked, read_record(made)))
    assert (conditions.z_um, conditions.coherence) == (z, coherence)


@pytest.mark.parametrize(
    ("changes", "cause", "fix"),
    [
        ({"sequence": {"foci_um": [0.0]}}, "defocused frame", "foci_um"),
        ({"sequence": {"foci_um": [-4.0]}}, "defocus -4 µm, trained for 1 to 13 µm", "downstream"),
        ({"sequence": {"foci_um": [30.0]}}, "defocus 30 µm", "within 1 to 13 µm, or train"),
        ({"optics": {"wavelength_um": 0.63}}, "wavelength 0.63 µm, trained for 0.55 µm", "train"),
        ({"optics": {"numerical_aperture": 0.3}}, "NA 0.3, trained for 0.4", "train"),
        ({"optics": {"magnification": 4}}, "camera pixel at the sample 6.5 µm", "train"),
        ({"illumination": {"coherence": 0.6}}, "coherence S = 0.6, trained for 0 to 0.42", "train"),
        ({"reconstruction": {"settings": {"precison": "fp32"}}}, "did you mean 'precision'", ""),
        ({"reconstruction": {"settings": {"precision": "fp8"}}}, "settings.precision", ""),
        ({"reconstruction": {"settings": {"memory_mb": 0}}}, "settings.memory_mb", ""),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused_with_the_fix(made, changes, cause, fix):
    changes = dict(changes)
    changes["reconstruction"] = {"weights": str(made)} | changes.get("reconstruction", {})
    with pytest.raises(ExperimentError) as refused:
        DlSrqpi().measurement(experiment(**changes))
    assert cause in refused.value.cause
    assert refused.value.fix
    assert fix in refused.value.fix


def test_an_led_array_is_refused(made):
    asked = experiment().model_dump(mode="json")
    asked["reconstruction"]["weights"] = str(made)
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


def test_the_calibration_decides_when_it_is_known(made):
    asked = experiment(sequence={"foci_um": [13.0]}, reconstruction={"weights": str(made)})
    method = DlSrqpi()
    # A lens that moves 10 % further than it is told: the frame is at 14.3 µm.
    assert method.measurement(asked).frames == (0,)
    with pytest.raises(MethodError, match=r"defocus 14\.3 µm"):
        method.load(asked, Calibration(z_scale=1.1), "cpu", None)
    with pytest.raises(MethodError, match=r"camera pixel at the sample 2\.5 µm"):
        method.load(asked, Calibration(pixel_um=2.5), "cpu", None)
    # The commanded 14.3 µm is really 13 µm: too far by nominal values, right by the calibrated.
    commanded = experiment(sequence={"foci_um": [14.3]}, reconstruction={"weights": str(made)})
    assert method.measurement(commanded).frames == (0,)
    method.load(commanded, Calibration(z_scale=1 / 1.1), "cpu", None)
    with pytest.raises(MethodError, match=r"defocus 14\.3 µm"):
        method.load(commanded, Calibration(), "cpu", None)


@pytest.mark.parametrize(
    ("foci", "nearest"), [([0.0, 9.0], 1), ([-2.0, 12.0], 1), ([0.0, 14.0], 0)]
)
def test_a_focus_that_was_trained_is_taken_before_a_nearer_one(foci, nearest):
    asked = experiment(sequence={"foci_um": foci})
    assert nearest_focus(asked, record()) == nearest


def test_without_calibration_the_preflight_is_exact(made):
    asked = experiment(
        sequence={"foci_um": [14.3]},
        reconstruction={"weights": str(made)},
        calibration={"source": "none"},
    )
    with pytest.raises(ExperimentError, match=r"defocus 14\.3 µm"):
        DlSrqpi().measurement(asked)


def test_the_network_is_told_the_true_defocus(made):
    asked = experiment(sequence={"foci_um": [4.0]}, reconstruction={"weights": str(made)})
    nominal, moved = (
        DlSrqpi().load(asked, Calibration(z_scale=scale), "cpu", None) for scale in (1.0, 1.2)
    )
    x = frames()
    assert not torch.equal(nominal(x, all_valid(x)).images, moved(x, all_valid(x)).images)


@given(z=st.floats(0.5, 20))
@settings(deadline=None, max_examples=30)
def test_tolerance_of_the_defocus(z):
    calibration = Calibration(z_scale=z / 4)
    reason = why_unfit(record(), true_conditions(experiment(), calibration, 0))
    assert bool(reason) != (0.95 <= z <= 13.65) or min(abs(z - 0.95), abs(z - 13.65)) < 1e-6


def test_default_weights_are_the_packaged_ones_that_fit(tmp_path):
    write(tmp_path / "dl_srqpi_far.safetensors", name="base", z_um=20.0, z_max_um=20.0)
    write(tmp_path / "dl_srqpi_fast.safetensors", name="fast")
    right = write(tmp_path / "dl_srqpi_near.safetensors", name="base")
    assert default_weights(experiment(), tmp_path) == right
    fast = experiment(reconstruction={"settings": {"network": "fast"}})
    assert default_weights(fast, tmp_path).name == "dl_srqpi_fast.safetensors"
    with pytest.raises(MethodError, match="wavelength") as refused:
        default_weights(experiment(optics={"wavelength_um": 0.9}), tmp_path)
    assert "livephase train dl_srqpi --experiment" in refused.value.fix
    with pytest.raises(MethodError, match="none are installed"):
        default_weights(experiment(), tmp_path / "empty")


def test_packaged_weights_by_name(tmp_path, made):
    write_packaged(tmp_path)
    assert [p.stem[9:] for p in packaged("base", tmp_path)] == ["base_a", "base_b"]
    assert weights_named(Path("fast"), tmp_path) == tmp_path / "dl_srqpi_fast_a.safetensors"
    assert weights_named(made, tmp_path) == made
    with pytest.raises(MethodError, match="the weights quick don't exist") as refused:
        weights_named(Path("quick"), tmp_path)
    assert "base or fast" in refused.value.fix


@pytest.mark.parametrize("network", get_args(Packaged))
def test_the_weights_that_come_with_livephase(network):
    """Small, of the conditions that the README promises, described, and blind to nothing."""
    asked = experiment(reconstruction={"settings": {"network": network}})
    path = default_weights(asked, PACKAGED)
    optics = read_record(path).optics
    assert path.stat().st_size <= 16 << 20
    assert sha256(path) in path.with_suffix(".md").read_text(encoding="utf-8")
    assert (optics.z_min_um, optics.z_max_um) == (1.0, 13.0)
    assert (optics.coherence_min, optics.coherence_max) == (0.0, 0.4)
    reconstruct = DlSrqpi().load(asked, Calibration(), "cpu", None)
    # Nothing in the light, nothing in the phase; a cell-sized bump in the light, a bump there.
    flat = torch.ones(1, 1, 32, 32)
    assert reconstruct(flat, all_valid(flat)).images.abs().max() < 0.1
    at = torch.arange(32) - 15.5
    square = (at[:, None] ** 2 + at**2)[None, None] * 2.6**2
    # A thin lens of 1 rad and σ = 6 µm at z = 4 µm: contrast -(λz/2π)·∇²φ.
    bump = torch.exp(-square / 72)
    lens = 1 + 0.55 * 4 / (2 * torch.pi) * (2 / 36 - square / 36**2) * bump
    found = reconstruct(lens, all_valid(lens)).images
    assert abs(found[..., 62:66, 62:66].mean() - 1) < 0.3


# The file


def test_a_weights_file_comes_back(made):
    network, read = load_network(made)
    assert read == record()
    assert not network.training
    tensors = load_file(made)
    assert tensors["body.unets.0.entry.weight"].dtype == torch.float16
    assert tensors["body.unets.0.entry.bias"].dtype == torch.float32
    assert len(sha256(made)) == 64


def damaged(path: Path, how: str) -> None:
    tensors, meta = load_file(path), {METADATA_KEY: read_record(path).model_dump_json()}
    name = "body.unets.0.entry.weight"
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
    elif how == "the first version":
        values = json.loads(meta[METADATA_KEY]) | {"format": "livephase dl_srqpi 1"}
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
        ("lacks a tensor", "lack 'body.unets.0.entry.weight'"),
        ("extra tensor", "have the unknown 'other'"),
        ("wrong shape", "has shape"),
        ("NaN", "NaN or infinite"),
        ("foreign", "don't say what they were trained for"),
        ("the first version", "not of this version"),
        ("metadata no JSON", "not of this version"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(weights, how, cause):
    damaged(weights, how)
    with pytest.raises(MethodError) as refused:
        DlSrqpi().load(experiment(), Calibration(), "cpu", weights)
    assert cause in refused.value.cause
    assert refused.value.fix


# Live


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_a_frames_bits_depend_on_nothing_but_the_frame(made, precision):
    reconstruct = live(made, precision)
    x = frames(3)
    together = reconstruct(x, all_valid(x)).images
    again = live(made, precision)(x, all_valid(x)).images
    alone = [reconstruct(x[i : i + 1], all_valid(x[:1])).images for i in (2, 0, 1)]
    assert together.shape == (3, 1, 128, 128)
    assert together.dtype == torch.float32
    assert torch.equal(together, again)
    assert torch.equal(together, torch.cat(alone)[[1, 2, 0]])
    other_layout = x.mT.contiguous().mT
    assert torch.equal(together, reconstruct(other_layout, all_valid(x)).images)


def test_what_was_given_out_stays_as_it_is(made):
    reconstruct = live(made)
    first, second = frames(1, seed=1), frames(1, seed=2)
    phase = reconstruct(first, all_valid(first)).images
    kept = phase.clone()
    reconstruct(second, all_valid(second))
    assert torch.equal(phase, kept)


def test_bf16_is_near_fp32(made):
    x = frames(1)
    exact, quick = (live(made, p)(x, all_valid(x)).images for p in ("fp32", "bf16"))
    assert (exact - quick).abs().max() < 0.02 * (exact.max() - exact.min())
    assert not torch.equal(exact, quick)


def test_the_lamps_brightness_does_not_matter(made):
    reconstruct, x = live(made), frames(1)
    dim = reconstruct(0.8 * x, all_valid(x)).images
    assert torch.allclose(reconstruct(x, all_valid(x)).images, dim, atol=1e-4)


def test_bad_pixels_and_nans_are_bridged(made):
    reconstruct = live(made)
    x = torch.ones(1, 1, 32, 32)
    bad, valid = x.clone(), all_valid(x)
    bad[0, 0, 5, 6], bad[0, 0, 20, 3] = float("nan"), 1e4
    valid[0, 0, 20, 3] = False
    assert torch.allclose(
        reconstruct(bad, valid).images, reconstruct(x, all_valid(x)).images, atol=1e-5
    )


def test_background_is_zero(made, tmp_path):
    network, read = load_network(made)
    with torch.no_grad():
        network.heads[0].bias.add_(1.0)
    save_weights(network, read, tmp_path / "raised.safetensors")
    x = frames(1)
    plain = live(made)(x, all_valid(x)).images
    raised = live(tmp_path / "raised.safetensors")(x, all_valid(x)).images
    assert torch.allclose(raised, plain, atol=1e-5)
    assert background_level(plain).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (17, 30)])
@pytest.mark.parametrize("form", ["residual", "paper"])
def test_small_and_odd_frames(tmp_path, form, shape):
    weights = write(tmp_path / "w.safetensors", NetworkRecord(form=form, width=4, levels=3))
    x = frames(2, shape)
    phase = live(weights)(x, all_valid(x)).images
    assert phase.shape == (2, 1, 4 * shape[0], 4 * shape[1])
    assert phase.is_contiguous()
    assert torch.isfinite(phase).all()


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 8, 8)])
def test_another_number_of_frames_is_refused(made, shape):
    with pytest.raises(MethodError, match="shape"):
        live(made)(torch.ones(shape), torch.ones(shape, dtype=torch.bool))


def test_an_empty_batch_is_an_empty_batch(made):
    none = torch.ones(0, 1, 8, 8)
    assert live(made)(none, all_valid(none)).images.shape == (0, 1, 32, 32)


def test_a_dark_frame_is_refused(made):
    dark = torch.zeros(1, 1, 8, 8)
    with pytest.raises(SlotError, match="no light"):
        live(made)(dark, all_valid(dark))


def test_shapes_come_and_go_and_little_is_kept(made):
    reconstruct = live(made)
    sides = (*range(8, 16), 8)
    found = [reconstruct(x, all_valid(x)).images for x in (frames(1, (s, s)) for s in sides)]
    assert torch.equal(found[0], found[-1])
    assert len(reconstruct._ready) <= 4


# Tiles


@pytest.mark.parametrize(
    ("network", "precision", "memory_mb"),
    [
        # For tiles of 96² or so, of which all forms have several.
        (NetworkRecord(width=4, levels=2), "fp32", 2.0),
        (NetworkRecord(width=4, levels=2), "bf16", 1.6),
        (
            NetworkRecord(width=4, levels=1, earlier=(UNetRecord(width=4, depths=(1, 1)),)),
            "fp32",
            8.0,
        ),
        (NetworkRecord(form="sub_pixel", width=4, levels=2), "fp32", 2.0),
        (NetworkRecord(form="paper", width=4, levels=2), "fp32", 10.0),
        (NetworkRecord(form="srcnn", width=4), "fp32", 10.0),
    ],
    ids=lambda value: (
        f"{value.form}-{len(value.unets)}" if isinstance(value, NetworkRecord) else None
    ),
)
def test_tiles_are_the_whole(tmp_path, monkeypatch, network, precision, memory_mb):
    planned = []

    def plan(*args, **kwargs):
        planned.append(plan_tiles(*args, **kwargs))
        return planned[-1]

    monkeypatch.setattr(inference, "plan_tiles", plan)
    weights = write(tmp_path / "w.safetensors", network)
    x = frames(1, (123, 101))
    whole = live(weights, precision)(x, all_valid(x)).images
    tiled = live(weights, precision, memory_mb=memory_mb)(x, all_valid(x)).images
    assert len(planned[0]) == 1
    assert len(planned[1]) > 1
    # A bf16 may be rounded the other way.
    tolerance = 1e-5 if precision == "fp32" else 0.01 * float(whole.max() - whole.min())
    assert (tiled - whole).abs().max() < tolerance


def test_a_bound_that_no_tile_keeps_is_refused_with_the_fix(made):
    x = frames(1, (128, 128))
    with pytest.raises(MethodError, match="memory_mb") as refused:
        live(made, memory_mb=0.1)(x, all_valid(x))
    assert "times larger" in refused.value.fix


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_processor(made):
    x = frames(4)
    cpu = live(made)(x, all_valid(x)).images
    cuda = live(made, device="cuda")
    for _ in range(2):  # captured, then replayed
        found = cuda(x, all_valid(x)).images.cpu()
        assert torch.allclose(cpu, found, atol=1e-2 * float(cpu.max() - cpu.min()))
