"""The evaluation set: specimens that no training draws, seen by a forward model of its own."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evaluation import forward
from pipeline.evaluation.field_set import EvaluationSet, evaluation_field
from pipeline.evaluation.forward import Conditions, image, margin_px, zernike
from pipeline.evaluation.noise import camera_noise, paper_noise, pixel_noise
from pipeline.evaluation.specimens import FAMILIES, draw
from pipeline.experiment import Optics
from pipeline.optics.forward import image_intensity, thin_specimen
from pipeline.optics.illumination import Source, condenser_source
from pipeline.optics.sensor import bin_pixels
from pipeline.quality import align_piston, nyquist_oracle, ssim, ssim_foreground

LENS = Optics(wavelength_um=0.55, numerical_aperture=0.4, magnification=10)
CAMERA_UM = 2.6
SAMPLE_UM = 0.325
SIDE = 24


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smooth_phase(side: int = SIDE) -> NDArray[np.float32]:
    """Periodic lumps of 1.5 µm, about 1 rad."""
    n = 8 * side
    white = np.random.default_rng(0).standard_normal((n, n))
    lumps = ndimage.gaussian_filter(white, 1.0 / SAMPLE_UM, mode="wrap")
    return np.asarray(np.abs(lumps / lumps.std()), np.float32)


def seen(phase, *conditions, side=SIDE, **options):
    return image(phase, SAMPLE_UM, LENS, CAMERA_UM, (side, side), conditions, **options)


def seen_by_training_optics(phase, source, z_um, aberration, absorption=None):
    """Integrated over the pixels by brute force: four times finer than the specimen's samples."""
    n = 4 * len(phase)
    lost = None if absorption is None else torch.from_numpy(absorption)
    field = thin_specimen(torch.from_numpy(phase), lost)
    fine = image_intensity(
        field, SAMPLE_UM, LENS, source, z_um, aberration=aberration, shape=(n, n)
    )
    # Both grids begin at a sample, whose middles lie apart by 3/8 of the coarser one's.
    f = torch.fft.fftfreq(n, SAMPLE_UM / 4)
    ramp = torch.exp(1j * math.pi * f * (SAMPLE_UM / 4 - SAMPLE_UM))
    moved = torch.fft.ifft2(torch.fft.fft2(fine) * ramp[:, None] * ramp).real
    return bin_pixels(moved, 32).numpy()


@pytest.mark.parametrize("coherence", [0.0, 0.3])
@pytest.mark.parametrize(
    ("z_um", "aberration"),
    [(4.0, {}), (-4.0, {}), (6.0, {"coma_x": 0.4, "spherical": 0.3, "astigmatism_45": -0.3})],
)
def test_two_forward_models_agree(coherence, z_um, aberration):
    phase = smooth_phase()
    condition = Conditions(z_um, coherence, aberration_rad=aberration)
    extent = SIDE * CAMERA_UM
    waves = forward._waves(LENS, condition, (extent, extent))
    frequencies = torch.from_numpy(waves[:, ::-1] / extent)
    source = Source(frequencies, torch.full((len(waves),), 1 / len(waves), dtype=torch.float64))
    absorption = 0.03 * phase / phase.max()
    ours = seen(phase, condition, absorption=absorption)[0]
    theirs = seen_by_training_optics(phase, source, z_um, aberration, absorption)
    assert theirs.std() > 0.05
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 1.5e-3 * theirs.std()


def test_the_two_sources_of_light_are_the_same_disc():
    # Training's 37 waves on rings lie a little closer to the middle than a full disc's: 1 % of the contrast.
    phase = smooth_phase(32)
    ours = seen(phase, Conditions(4.0, 0.3), side=32)[0]
    source = condenser_source(LENS, 0.3)
    theirs = seen_by_training_optics(phase, source, 4.0, {})
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 0.02 * theirs.std()


def test_light_tilted_to_the_right_moves_a_defocused_image_to_the_right():
    x = (np.arange(8 * 32) + 0.5) * SAMPLE_UM - 16 * CAMERA_UM
    bump = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / 2 / 3**2).astype(np.float32)
    straight, tilted = seen(bump, Conditions(20.0), Conditions(20.0, tilt=(0.15, 0.0)), side=32)
    middle = [ndimage.center_of_mass(np.clip(frame - 1.1, 0, None)) for frame in (straight, tilted)]
    moved = (np.array(middle[1]) - middle[0]) * CAMERA_UM
    assert moved == pytest.approx([0.0, 20 * math.tan(math.asin(0.15))], abs=0.5)


def test_nothing_of_the_opposite_edge_is_seen():
    """What is drawn at the rim of a margin leaves the frame as it is."""
    margin = margin_px(LENS, CAMERA_UM, 4.0)
    side = 24 + 2 * margin
    empty = np.zeros((8 * side, 8 * side), np.float32)
    edge = empty.copy()
    edge[:8] = smooth_phase(side)[:8]
    edge[:, -8:] = smooth_phase(side)[:, :8]
    bare, seamed = (seen(p, Conditions(4.0), Conditions(4.0, 0.2), side=24) for p in (empty, edge))
    assert bare == pytest.approx(1.0, abs=1e-5)
    assert np.abs(seamed - bare).max() < 4e-3


def test_zernike_polynomials_are_orthonormal():
    y, x = np.mgrid[-1:1:400j, -1:1:400j]
    radius, azimuth = np.hypot(x, y), np.arctan2(y, x)
    inside = radius <= 1
    orders = list(forward._ABERRATIONS.values())
    values = np.array([zernike(n, m, radius, azimuth)[inside] for n, m in orders])
    assert values @ values.T / inside.sum() == pytest.approx(np.eye(len(orders)), abs=0.02)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"side": 23}, "doesn't surround"),
        ({"side": 26}, "doesn't surround"),
        ({"condition": Conditions(4.0, tilt=(0.5, 0.0))}, "no light"),
    ],
)
def test_what_can_not_be_imaged_is_refused(change, cause):
    condition = change.get("condition", Conditions(4.0))
    with pytest.raises(ValueError, match=cause):
        seen(smooth_phase(), condition, side=change.get("side", SIDE))


def test_coarse_drawings_and_unknown_aberrations_are_refused():
    coarse = np.zeros((96, 96), np.float32)
    with pytest.raises(ValueError, match="or finer"):
        image(coarse, 0.65, LENS, CAMERA_UM, (24, 24), [Conditions(4.0, 0.2)])
    with pytest.raises(ValueError, match="no aberration"):
        Conditions(4.0, aberration_rad={"trefoil": 0.1})


def test_noises_are_what_they_say():
    flat = np.ones((256, 256), np.float32)
    rng = np.random.default_rng(0)
    assert paper_noise(flat, rng).std() == pytest.approx(0.0025, rel=0.02)
    assert pixel_noise(flat, rng, 0.01).std() == pytest.approx(0.01, rel=0.02)
    counted = camera_noise(flat, rng, 2000, 10)
    assert counted.mean() == pytest.approx(1.0, abs=1e-3)
    assert counted.std() == pytest.approx(math.sqrt(2000 + 100) / 2000, rel=0.02)


# Mean phase of 192² samples of 0.65 µm. A change of these is another evaluation set: raise VERSION.
MEANS = {
    "amoeboid": 0.17743,
    "epithelium": 0.20127,
    "fibroblasts": 0.3737,
    "blood": 0.18439,
    "neurons": 0.35818,
    "mitotic": 0.16678,
    "microbes": 0.00875,
    "keratocytes": 0.14119,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_fixed(family):
    field = draw(family, 3, (192, 192), 0.65)
    assert field.dtype == np.float32
    assert field.min() == 0
    assert field.max() < 8
    assert float(field.mean()) == pytest.approx(MEANS[family], rel=1e-3)
    assert not np.array_equal(field, draw(family, 4, (192, 192), 0.65))


@pytest.mark.parametrize("family", FAMILIES)
def test_finer_samples_show_the_same_specimen(family):
    """No texture that belongs to the grid."""
    coarse = draw(family, 1, (160, 160), 0.65)
    fine = draw(family, 1, (320, 320), 0.325)
    binned = fine.reshape(160, 2, 160, 2).mean((1, 3))
    assert np.corrcoef(coarse.ravel(), binned.ravel())[0, 1] > 0.985


def test_the_set_is_hard_and_realistic():
    """On small fields: the oracle's figures, coverage, and empty places that are empty."""
    figures = []
    for family, seed in EvaluationSet().members[:8]:
        truth = evaluation_field(family, seed, LENS, CAMERA_UM, 56, farthest_um=4.0).truth
        oracle = align_piston(nyquist_oracle(truth, 4), truth)
        covered = (truth > 0.15).mean()
        figures.append((ssim(oracle, truth), ssim_foreground(oracle, truth), covered))
        assert (truth == 0).any()
    field, foreground, covered = np.mean(figures, axis=0)
    assert field < 0.95
    assert foreground < 0.91
    assert 0.1 < covered < 0.6


def test_fields_are_seen_under_several_conditions():
    field = evaluation_field("blood", 0, LENS, CAMERA_UM, 32, farthest_um=4.0)
    frames = field.frames([Conditions(-4.0), Conditions(4.0), Conditions(4.0, 0.2)])
    assert field.truth.shape == (128, 128)
    assert frames.shape == (3, 32, 32)
    # Cells gather light downstream: opposite foci have opposite contrast.
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] < -0.3
    assert frames[2].std() < frames[1].std()


def test_sets_of_other_seeds_share_nothing():
    first, second = EvaluationSet(0), EvaluationSet(1)
    assert not set(first.members) & set(second.members)
    assert first.name != second.name
    assert len(first.members) >= 12
    with pytest.raises(ValueError, match="evaluation set has"):
        EvaluationSet(count=99)
    with pytest.raises(ValueError, match="no held-out family"):
        evaluation_field("tardigrades", 0, LENS, CAMERA_UM, 16)
