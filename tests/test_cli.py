"""The verbs that other tests do not run."""

import errno
import json

import numpy as np
import pytest
import zarr
from live_runs import livephase, report, write_experiment
from store_runs import begin, record_slots

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment, parse_experiment
from pipeline.frames import SlotKey
from pipeline.lifecycle.demo import demo_experiment
from pipeline.lifecycle.preflight import chosen_measurement
from pipeline.lifecycle.simulate import recording_of
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify

pytestmark = pytest.mark.timeout(300)


def test_the_demonstration_becomes_phase_live(tmp_path):
    out = tmp_path / "demo"
    status, text, errors = livephase("demo", "--timepoints", 3, "--out", out)
    assert status == 0, errors
    figures = report(out)
    assert figures["planned"] == figures["written"] == figures["reconstructed"] == 3
    assert figures["missing"] == 0
    assert figures["quality"]["ssim"] > 0.5
    assert figures["quality"]["rmse_rad"] < 0.25
    assert figures["uncalibrated"] == []
    assert np.isfinite(figures["residual"])
    image = RunReader(out).phase(SlotKey(2, 0))[0]
    assert image.shape == (1024, 1024)
    assert abs(np.median(image)) < 0.05  # background zero
    assert "SSIM" in text


@pytest.mark.parametrize("method", ["dl_srqpi", "dpc", "tie"])
def test_every_demonstration_delivers_what_its_method_needs(method):
    experiment = demo_experiment(method)
    assert experiment.reconstruction.method == method
    assert chosen_measurement(experiment) is not None


def test_simulate_records_with_the_truth_beside_it_and_reconstruct_takes_it_from_there(
    tmp_path, make_experiment
):
    experiment = make_experiment(
        microscope={"camera": {"shape_px": [192, 160], "binning": 1}},
        # A simulation does not wait for its cells.
        sequence={"timepoints": 3, "interval_s": 60.0, "foci_um": [-3.0, 3.0]},
        reconstruction={"method": "tie"},
    )
    path = write_experiment(tmp_path / "e.yaml", experiment)
    recording, out = tmp_path / "recording", tmp_path / "run"
    status, _, errors = livephase("simulate", path, "--out", recording)
    assert status == 0, errors
    assert verify(recording).written == 6
    truth = zarr.open_group(recording / "truth.ome.zarr", mode="r")["0"]
    assert truth.shape == (3, 2, 192, 160)
    phase, absorption = truth[1]
    assert phase.max() > 0.5
    assert 0 <= absorption.min() <= absorption.max() < 1
    status, text, errors = livephase("reconstruct", recording, "--experiment", path, "--out", out)
    assert status == 0, errors
    assert "reconstructed: 3/3" in errors
    assert "run done" in text
    found = verify(out)
    assert found.ok
    assert found.reconstructed == 3
    image = RunReader(out).phase(SlotKey(1, 0))[0]
    assert np.corrcoef(image.ravel(), phase.ravel())[0, 1] > 0.7


def test_a_message_is_a_sentence_that_leaves_names_as_they_are(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, errors = cli("verify", "rf")
    assert status == 3
    assert errors == ("livephase: rf is no run folder: give the folder that was given as --out.\n")


def test_an_error_of_the_operating_system_is_a_sentence_too(tmp_path, cli, monkeypatch):
    def failing(run):
        raise PermissionError(errno.EACCES, "Permission denied", str(run / "raw.ledger"))

    monkeypatch.setattr("pipeline.store.verify.verify", failing)
    status, text, errors = cli("verify", tmp_path)
    assert status == 1
    assert text == ""
    assert errors == (
        f"livephase: {tmp_path / 'raw.ledger'} can't be used (Permission denied): "
        "check the path, its permissions and the disk.\n"
    )


def test_the_demonstration_says_that_runs_is_no_folder(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("mine")
    status, _, errors = cli("demo")
    assert status == 3
    assert f"{tmp_path / 'runs'} can't be made" in errors
    assert "--out" in errors


def test_simulate_goes_on_with_resume(tmp_path, cli, make_experiment):
    """What is refused names the option, and the option is there."""
    path = write_experiment(tmp_path / "e.yaml", make_experiment())
    recording = recording_of(make_experiment())
    folder = begin(tmp_path / "run", recording)
    with folder.lock():
        Calibration().save(folder.calibration)
    record_slots(folder, recording, list(recording.plan().slot_keys()))
    folder.update(RunState.DONE)
    status, _, errors = cli("simulate", path, "--out", folder.path)
    assert status == 3
    assert "--resume" in errors
    status, text, _ = cli("simulate", path, "--out", folder.path, "--resume")
    assert not status
    assert "run done" in text


def test_the_schema_describes_the_demonstrations(cli):
    status, text, _ = cli("schema")
    assert not status
    schema = json.loads(text)
    assert schema == Experiment.model_json_schema()
    assert schema["additionalProperties"] is False
    objective = schema["$defs"]["Optics"]["properties"]["numerical_aperture"]
    assert objective["description"] == "NA of the objective."


def test_doctor_finds_nothing_broken_here(cli):
    status, text, _ = cli("doctor", "--json")
    assert not status
    findings = {f["name"]: f for f in json.loads(text)}
    assert findings["torch"]["level"] in ("ok", "warning")
    assert {"method dpc", "method tie", "method dl_srqpi", "shared memory"} <= findings.keys()


def test_a_dry_run_says_what_the_run_will_need(tmp_path, cli, make_experiment):
    experiment = make_experiment(sequence={"timepoints": 100, "interval_s": 3.0})
    path = write_experiment(tmp_path / "e.yaml", experiment)
    status, text, _ = cli("run", path, "--out", tmp_path / "run", "--dry-run", "--json")
    assert not status
    need = json.loads(text)
    assert need["frames"] == 100
    assert need["duration_s"] == pytest.approx(99 * 3.0, rel=0.01)
    assert need["raw_bytes"] == 100 * 256 * 256 * 2
    assert need["phase_bytes"] >= 100 * 1024 * 1024 * 4
    assert need["disk_free_bytes"] > 0
    assert not (tmp_path / "run").exists()


def test_a_dry_run_warns_of_an_interval_that_is_too_short(tmp_path, cli, make_experiment):
    experiment = make_experiment(sequence={"interval_s": 0.01})
    path = write_experiment(tmp_path / "e.yaml", experiment)
    _, text, _ = cli("run", path, "--out", tmp_path / "run", "--dry-run")
    assert "timepoints will be late" in text


def test_version_and_help(cli):
    assert cli("--version")[1].startswith("livephase ")
    text = cli("--help")[1]
    for verb in ("demo", "run", "reconstruct", "simulate", "verify", "train", "evaluate", "bench"):
        assert verb in text


def test_several_positions_of_a_demonstration_make_a_collection(tmp_path, demo_data):
    demo_data["sequence"] = {
        "timepoints": 1,
        "foci_um": [4.0],
        "positions": [{"name": "a"}, {"name": "b", "x_um": 1000.0, "y_um": 0.0}],
    }
    demo_data["microscope"]["camera"]["shape_px"] = [64, 64]
    path = write_experiment(tmp_path / "e.yaml", parse_experiment(demo_data))
    out = tmp_path / "run"
    status, _, errors = livephase("run", path, "--out", out)
    assert status == 0, errors
    for store in ("raw.ome.zarr", "phase.ome.zarr"):
        group = zarr.open_group(out / store, mode="r")
        assert group.attrs["ome"]["bioformats2raw.layout"] == 3
        assert group["OME"].attrs["ome"]["series"] == ["0", "1"]
    reader = RunReader(out)
    assert (reader.phase(SlotKey(0, 0)) != reader.phase(SlotKey(0, 1))).any()
