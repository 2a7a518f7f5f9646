"""The contract between experiments and methods: how they are found, asked, loaded and called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError, MethodError
from pipeline.experiment import load_experiment
from pipeline.methods.background import background_level, zero_background
from pipeline.methods.contract import Method
from pipeline.methods.fill import fill_invalid
from pipeline.methods.registry import available_methods, find_method

torch.set_num_threads(1)

EXAMPLES = Path(__file__).parents[1] / "deploy" / "experiments"
OURS = {
    "first_experiment": ("dpc", (0, 1, 2, 3), ("phase", "absorption")),
    "tunable_lens_useq": ("tie", (0, 1, 2, 3, 4, 5, 6), ("phase",)),
    "bloodsmear_blue_dpc": ("dpc", (0, 1, 2, 3), ("phase", "absorption")),
}


def example(name):
    return load_experiment(EXAMPLES / f"{name}.yaml")


def install(folder, name, entry_points, code=None):
    """A distribution as pip leaves it, in a folder of sys.path."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(f"{k} = {v}" for k, v in entry_points.items())
    (info / "entry_points.txt").write_text(f"[livephase.methods]\n{lines}\n")
    for module, text in (code or {}).items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and str(tmp_path) in str(
            sys.modules[module].__file__
        ):
            del sys.modules[module]


PLUGIN = """
from pipeline.frames import Measurement

class Brightest:
    name = "brightest"

    def measurement(self, experiment):
        return Measurement((0,))

    def load(self, experiment, calibration, device, weights):
        raise NotImplementedError
"""


def test_ours_are_found():
    assert {"dpc", "tie", "dl_srqpi"} <= set(available_methods())
    for name in ("dpc", "tie"):
        method = find_method(name)
        assert isinstance(method, Method)
        assert method.name == name


def test_a_third_partys_method_is_found_where_it_is_installed(site):
    install(site, "acme-phase", {"brightest": "acme_phase:Brightest"}, {"acme_phase": PLUGIN})
    assert "brightest" in available_methods()
    assert "acme_phase" not in sys.modules
    method = find_method("brightest")
    assert isinstance(method, Method)
    assert method.measurement(example("first_experiment")).frames == (0,)


def test_an_unknown_method_names_the_nearest(site):
    install(site, "acme-phase", {"brightest": "acme_phase:Brightest"}, {"acme_phase": PLUGIN})
    with pytest.raises(ExperimentError, match="did you mean 'brightest'"):
        find_method("brihgtest")
    with pytest.raises(ExperimentError, match=r"known: .*dpc.*tie"):
        find_method("zzz")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import a_module_that_nobody_has", "ModuleNotFoundError"),
        ("raise RuntimeError('no licence')", "no licence"),
        ("class Other: pass", "AttributeError"),
        ("class Brightest: name = 'brightest'", "is not a method"),
        ("class Brightest:\n    def __init__(self, x): pass", "TypeError"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_no_other(site, code, message):
    install(site, "acme-phase", {"brightest": "acme_broken:Brightest"}, {"acme_broken": code})
    with pytest.raises(MethodError, match=message) as error:
        find_method("brightest")
    assert "acme-phase" in str(error.value)
    assert find_method("dpc").name == "dpc"


def test_two_distributions_with_one_name_are_refused(site):
    install(site, "acme-phase", {"brightest": "acme_phase:Brightest"}, {"acme_phase": PLUGIN})
    install(site, "other-phase", {"brightest": "other_phase:Brightest"})
    with pytest.raises(ExperimentError, match=r"acme-phase.*other-phase|other-phase.*acme-phase"):
        find_method("brightest")


@pytest.mark.parametrize("name", OURS)
def test_examples_pass_without_torch(name):
    method, frames, outputs = OURS[name]
    code = (
        "import sys; from pathlib import Path; from pipeline.experiment import load_experiment;"
        "from pipeline.methods.registry import find_method;"
        "e = load_experiment(Path(sys.argv[1]));"
        "m = find_method(e.reconstruction.method).measurement(e);"
        "print(e.reconstruction.method, m.frames, m.outputs); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLES / f"{name}.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{method} {frames} {outputs}"


@pytest.mark.parametrize("name", OURS)
def test_a_loaded_method_keeps_the_contract(name):
    exp = example(name)
    method = find_method(exp.reconstruction.method)
    measurement = method.measurement(exp)
    loaded = method.load(exp, Calibration(), "cpu", None)
    y, x = exp.plan().frame_shape
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(
        1 + 0.02 * rng.standard_normal((2, len(measurement.frames), y, x), dtype=np.float32)
    )
    valid = torch.ones(frames.shape, dtype=torch.bool)
    kept = frames.clone()
    first = loaded(frames, valid).images
    s = measurement.upsampling
    assert first.shape == (2, len(measurement.outputs), s * y, s * x)
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    assert first.is_contiguous()
    assert torch.equal(frames, kept)
    # No state: the second call gives what the first gave, and an item does not know its batch.
    assert torch.equal(loaded(frames, valid).images, first)
    assert torch.equal(loaded(frames[1:], valid[1:]).images, first[1:])
    assert float(background_level(first[:, 0]).abs().max()) < 1e-5


def smear(background_share, cell_rad=1.5, noise=0.02, seed=0, shape=(256, 256)):
    rng = np.random.default_rng(seed)
    image = rng.normal(0.7, noise, shape)
    cells = rng.random(shape) > background_share
    image += cells * rng.uniform(0.3, 2 * cell_rad, shape)
    return torch.from_numpy(image.astype(np.float32))


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6, 0.4, 0.3])
def test_background_is_found_however_many_cells_there_are(share):
    assert float(background_level(smear(share))) == pytest.approx(0.7, abs=0.015)


def test_without_a_background_the_median_is_zero():
    rng = np.random.default_rng(0)
    confluent = torch.from_numpy(rng.uniform(0, 2, (200, 200)).astype(np.float32))
    assert float(background_level(confluent)) == pytest.approx(1.0, abs=0.05)


def test_background_does_not_jump_while_a_culture_grows():
    levels = [float(background_level(smear(share))) for share in np.linspace(0.8, 0.35, 40)]
    assert np.abs(np.diff(levels)).max() < 0.01


def test_background_of_a_batch_is_that_of_its_items():
    batch = torch.stack([smear(0.9), smear(0.4, seed=1), torch.full((256, 256), 3.0)])
    levels = background_level(batch)
    assert [float(background_level(image)) for image in batch] == levels.tolist()
    assert float(levels[2]) == 3.0
    assert torch.equal(zero_background(batch)[2], torch.zeros(256, 256))
    assert background_level(torch.ones(2, 3, 5, 4)).shape == (2, 3)
    assert float(background_level(torch.tensor([[2.0]]))) == 2.0


def test_invalid_pixels_become_their_neighbours():
    y, x = np.indices((33, 41))
    image = torch.from_numpy((1 + 0.01 * x + 0.02 * y).astype(np.float32))[None, None]
    valid = torch.ones(image.shape, dtype=torch.bool)
    assert torch.equal(fill_invalid(image, valid), image)
    valid[..., 10:14, 20:24] = False
    valid[..., -1, -1] = False
    broken = torch.where(valid, image, torch.nan)
    filled = fill_invalid(broken, valid)
    assert torch.equal(filled[valid], image[valid])
    assert float((filled - image).abs().max()) < 0.12
    assert torch.equal(fill_invalid(broken, torch.zeros_like(valid)), torch.ones_like(image))


@pytest.mark.skipif(not os.environ.get("LIVEPHASE_DATA"), reason="LIVEPHASE_DATA names no data")
def test_real_blood_cells_stand_out():
    """Cells delay light and absorb: phase and absorption of the smear rise together."""
    from drivers.recordings.opening import open_recording
    from pipeline.frames import FrameKey
    from pipeline.optics.sensor import Correction

    exp = example("bloodsmear_blue_dpc")
    if not (Path(os.environ["LIVEPHASE_DATA"]) / exp.microscope.source).exists():
        pytest.skip(f"no {exp.microscope.source} in LIVEPHASE_DATA")
    recording = open_recording(exp.microscope.source, exp)
    method = find_method("dpc")
    frames = list(method.measurement(exp).frames)
    raw = np.stack([recording.recording.frame(FrameKey(0, 0, k, 0)) for k in frames])
    measured = Correction(exp, Calibration(), frames).correct(raw, np.ones(len(frames), bool))
    loaded = method.load(exp, Calibration(), "cpu", None)
    phase, absorption = loaded(measured.frames[None], measured.valid[None]).images[0].numpy()
    # The few stained bodies that absorb most scatter too strongly for a linear inverse.
    faint = absorption < np.quantile(absorption, 0.95)
    together = np.corrcoef(phase[faint], absorption[faint])[0, 1]
    assert together > 0.5
    spread = np.quantile(phase, 0.95) - np.quantile(phase, 0.05)
    assert 0.35 < spread < 0.7
