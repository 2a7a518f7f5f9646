"""Training data from through-focus recordings: TIE labels, binned frames, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from drivers.simulator import SimulatedInstrument
from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.frames import FrameKey, FrameStatus, SlotKey, empty_records
from pipeline.methods.dl_srqpi.fit import true_conditions
from pipeline.methods.dl_srqpi.record import OpticsRecord
from pipeline.quality import align_piston, rmse_rad
from pipeline.store.image_writer import write_images
from pipeline.store.raw_writer import RawWriter
from pipeline.store.run_folder import RunFolder, RunState
from pipeline.training.recordings import RecordingSettings, label_quality, recorded_fields
from pipeline.training.recordings.fields import held_back
from pipeline.training.recordings.flatten import flatten_background
from pipeline.training.recordings.pairs import LeftOut, Pair, PairMaker
from pipeline.training.recordings.stack import Stack

FOCI = (-8.0, -3.0, -1.0, 1.0, 3.0, 4.0, 8.0)
INPUT = FOCI.index(4.0)
SIDE = 128
SMALL = RecordingSettings(margin_um=10.4)


@pytest.fixture(scope="module")
def specimen():
    """An experiment, its counts ``[positions, K, Y, X]`` and the truth, made once."""
    from conftest import _DEMO, merged

    from pipeline.experiment import parse_experiment

    experiment = parse_experiment(
        merged(
            _DEMO,
            {
                "microscope": {
                    "seed": 3,
                    "electrons": 10000,
                    "oversampling": 1,
                    "camera": {"shape_px": [SIDE, SIDE], "binning": 1},
                    "specimen": {"cells_per_mm2": 900},
                },
                "sequence": {"timepoints": 1, "foci_um": FOCI, "positions": [{}] * 4},
            },
        )
    )
    instrument = SimulatedInstrument(experiment)
    counts = np.stack(
        [[instrument.frame(FrameKey(0, p, 0, k)) for k in range(len(FOCI))] for p in range(4)]
    )
    truth = np.stack([instrument.truth(0, p)[0] for p in range(4)])
    return experiment, instrument.calibration(), counts, truth


@pytest.fixture
def recording(tmp_path, specimen):
    """A `.npy` and the experiment file that says what it is."""
    experiment, calibration, counts, _ = specimen

    def write(counts=counts, foci=FOCI, **changes):
        np.save(tmp_path / "stack.npy", counts[:, None])  # t, c, z, y, x: a place a timepoint
        calibration.save(tmp_path / "calibration")
        data = experiment.model_dump(mode="json")
        camera = data["microscope"]["camera"]
        data["microscope"] = {"driver": "replay", "camera": camera, "source": "stack.npy"}
        data["calibration"] = {"source": "folder", "folder": "calibration"}
        data["sequence"] |= {"foci_um": list(foci), "timepoints": 4, "positions": [{}]}
        data |= changes
        path = tmp_path / "stack.yaml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return write


@pytest.fixture
def optics(make_experiment):
    here = true_conditions(make_experiment(), None, 0)
    return OpticsRecord(
        wavelength_um=here.wavelength_um,
        numerical_aperture=here.numerical_aperture,
        refractive_index=here.refractive_index,
        pixel_um=here.pixel_um,
        z_um=4.0,
        z_min_um=3.6,
        z_max_um=4.4,
        coherence_min=0.0,
        coherence_max=0.05,
    )


def test_fields_of_a_recording(recording, optics, specimen):
    made = recorded_fields([recording()], optics, 4, SMALL)
    counts, truth = specimen[2:]
    # 10.4 µm are four binned pixels on each side.
    n, side = 3, SIDE // 4 - 8
    assert made.trained_on.phases.shape == (n, 4 * side, 4 * side)
    assert made.trained_on.frames.shape == (n, 1, side, side)
    assert made.trained_on.noisy
    assert len(made.kept_back) == 1
    assert (made.left_out, made.remarks) == ({}, ())
    for (conditions,) in made.trained_on.conditions:
        assert conditions.z_um == 4.0
        assert conditions.pixel_um == pytest.approx(2.6)
    # The last timepoint is kept back.
    inner = slice(16, SIDE - 16)
    for label, frame, p in zip(
        made.trained_on.phases, made.trained_on.frames, (0, 1, 2), strict=True
    ):
        true = truth[p][inner, inner]
        image = label.float().numpy()
        assert rmse_rad(align_piston(image, true), true) < 0.1 * true.max()
        assert abs(np.median(image)) < 0.05
        raw = counts[p, INPUT][inner, inner].reshape(side, 4, side, 4).mean((1, 3)) - 100
        np.testing.assert_allclose(frame[0].numpy(), raw / raw.mean(), atol=2e-3)


def test_labels_are_the_truth_in_their_band(recording, specimen):
    with Stack(recording()) as stack:
        make = PairMaker(stack, 4, INPUT, SMALL)
        pair = make(SlotKey(0, 0))
    assert isinstance(pair, Pair)
    true = specimen[3][0][make.inner]
    window = np.hanning(len(true))[:, None] * np.hanning(len(true))
    label, known = (np.fft.rfft2((a - a.mean()) * window) for a in (pair.phase.numpy(), true))
    f = np.hypot(np.fft.fftfreq(len(true), 0.65)[:, None], np.fft.rfftfreq(len(true), 0.65))
    for low, high in ((0.03, 0.1), (0.1, 0.25), (0.25, 0.45)):
        ring = (f > low) & (f <= high)
        # The label's projection on the truth: its scale, and how much of it is true.
        together = (label[ring] * known[ring].conj()).sum().real
        assert 0.85 < together / (abs(known[ring]) ** 2).sum() < 1.15
        assert (
            together / np.sqrt((abs(label[ring]) ** 2).sum() * (abs(known[ring]) ** 2).sum()) > 0.9
        )


def test_the_label_does_not_see_the_inputs_noise(recording, specimen):
    with Stack(recording()) as stack:
        make = PairMaker(stack, 4, INPUT, SMALL)
        frames, valid = stack.frames_of(SlotKey(0, 0))
        other = frames.clone()
        other[INPUT] += 0.05 * torch.randn(SIDE, SIDE)
        np.testing.assert_array_equal(make.label(frames, valid), make.label(other, valid))
        assert not make.label.shares_noise


def test_two_foci_alone_share_their_noise_and_it_is_said(recording, optics, specimen):
    chosen = [FOCI.index(-3.0), INPUT]
    path = recording(specimen[2][:, chosen], foci=(-4.0, 4.0))
    loose = SMALL.model_copy(update={"most_unexplained": 10.0})
    made = recorded_fields([path], optics, 4, loose)
    assert "noise" in made.remarks[0]


def test_what_is_wrong_is_left_out(recording, optics, specimen):
    counts = specimen[2].copy()
    counts[0, 2, 40:60, 40:60] = 4095  # saturated
    counts[1, :] = 2000  # nothing there
    counts[2, :3] = counts[2, :3, ::-1]  # another specimen on one side of the focus
    with pytest.raises(ExperimentError, match=r"saturated: 1.*no specimen: 1.*does not explain"):
        recorded_fields([recording(counts)], optics, 4, SMALL)


def test_a_run_lacks_the_frames_that_it_lost(recording):
    with Stack(recording()) as stack:
        make = PairMaker(stack, 4, INPUT, SMALL)
        stack._recording.frame = lambda key: None
        assert make(SlotKey(0, 0)) == LeftOut(SlotKey(0, 0), "a frame is missing")


FAR = {"z_um": 9.0, "z_min_um": 8.9, "z_max_um": 9.1}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"wavelength_um": 0.63}, "wavelength"),
        ({"pixel_um": 1.3}, "camera pixel"),
        (FAR, "defocus"),
    ],
)
def test_recordings_of_other_optics_are_refused(recording, optics, change, cause):
    with pytest.raises(ExperimentError, match=cause):
        recorded_fields([recording()], optics.model_copy(update=change), 4, SMALL)


def test_foci_on_one_side_are_refused(recording, optics, specimen):
    path = recording(specimen[2][:, 3:6], foci=(1.0, 3.0, 4.0))
    with pytest.raises(ExperimentError, match="one side"):
        recorded_fields([path], optics, 4, SMALL)


def test_a_stack_without_its_experiment_is_refused(recording, tmp_path, optics):
    recording()
    with pytest.raises(ExperimentError, match="does not say how it was recorded"):
        recorded_fields([tmp_path / "stack.npy"], optics, 4, SMALL)


def test_whole_positions_are_held_back_and_late_timepoints_of_few():
    many = [SlotKey(t, p) for p in range(10) for t in range(3)]
    held = held_back(many, 0.2)
    assert {s.position for s in held} == {2, 7}
    assert len(held) == 6
    few = [SlotKey(t, p) for p in range(2) for t in range(10)]
    assert {s.timepoint for s in held_back(few, 0.2)} == {8, 9}


def test_flattening_takes_the_background_and_leaves_the_cells():
    y, x = np.mgrid[:128, :128].astype(np.float32)
    cell = 2 * np.exp(-((((x - 60) ** 2 + (y - 70) ** 2) / 150) ** 2)).astype(np.float32)
    drift = 0.12 * np.sin(x / 40) + 0.1 * np.cos(y / 50)
    flat = flatten_background(cell + drift, 0.65, 6.0)
    assert np.abs(flat - cell).max() < 0.08
    assert np.sqrt(((flat - cell) ** 2).mean()) < 0.02


def test_quality_of_labels_of_a_simulated_run(tmp_path, specimen, optics):
    experiment, calibration, counts, truth = specimen
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        folder.create(experiment)
        calibration.save(folder.calibration)
        with RawWriter(folder, experiment, pixel_um=0.65) as writer:
            for p, frames in enumerate(counts):
                records = empty_records(len(FOCI))
                records["status"] = FrameStatus.WRITTEN
                writer.submit([(SlotKey(0, p), frames, records)])
            writer.flush()
        folder.update(RunState.DONE)
    with pytest.raises(ExperimentError, match="no truth"):
        label_quality(folder.path, optics, 4, settings=SMALL)
    slots = ((SlotKey(0, p), np.stack([t, t])) for p, t in enumerate(truth))
    write_images(folder.path / "truth.ome.zarr", experiment, ("phase", "absorption"), 1, slots)
    found = label_quality(folder.path, optics, 4, settings=SMALL)
    assert found["images"] == 1
    assert found["label"]["rmse_rad"] < 0.15
    assert found["label"]["frc_cutoff"] > 3
    assert Calibration.load(folder.calibration).pixel_um == 0.65
