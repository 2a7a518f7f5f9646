"""Looking through the microscope without a run: right figures, right pictures, and the light off afterwards."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from live_runs import write_experiment
from matplotlib.image import imread
from rich.console import Console

import pipeline
from drivers.simulator import SimulatedInstrument, SimulatorDriver
from drivers.taking import Microscope
from pipeline.calibration import Calibration
from pipeline.errors import DriverError, ExperimentError, RunFolderError
from pipeline.experiment import parse_experiment
from pipeline.frames import FrameKey
from pipeline.preview import live as live_module
from pipeline.preview import snap as snap_module
from pipeline.preview.figures_text import bars, look_text
from pipeline.preview.files import write_look
from pipeline.preview.live import live, live_command
from pipeline.preview.snap import snap, snap_command
from pipeline.preview.terminal import TerminalPicture, coloured, look_picture, shrunk
from pipeline.quality import histogram, normalised_variance, saturated_share


def experiment_with(**changes):
    microscope = {
        "driver": "simulator",
        "paced": False,
        "camera": {"shape_px": [40, 36], "pixel_um": 6.5, "frame_rate_hz": 200},
        "specimen": {"kind": "target", "shape": "beads", "size_um": 8.0},
        **changes.pop("microscope", {}),
    }
    halves = {"right": 0, "top": 90, "left": 180, "bottom": 270}
    data = {
        "name": "four halves",
        "microscope": microscope,
        "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.25, "magnification": 10},
        "illumination": {
            "source": "led_array",
            "array": {"rows": 9, "columns": 9, "pitch_mm": 4.0, "distance_mm": 60.0},
            "patterns": {n: {"kind": "half_circle", "direction_deg": d} for n, d in halves.items()},
            "channels": {n: {"pattern": n, "exposure_ms": 10} for n in halves},
        },
        "sequence": {
            "timepoints": 3,
            "positions": [{"name": "A1"}, {"name": "A2", "x_um": 9000, "y_um": 0}],
        },
        "calibration": {"source": "simulator"},
        "reconstruction": {"method": "dpc"},
    } | changes
    return parse_experiment(data)


@pytest.fixture
def drivers(monkeypatch):
    """Every driver that a look opens."""
    opened = []

    class Remembered(Microscope):
        def __init__(self, experiment):
            super().__init__(experiment)
            opened.append(self.driver)

    for module in (snap_module, live_module):
        monkeypatch.setattr(module, "Microscope", Remembered)
    return opened


def test_a_snap_has_the_frames_of_its_position_their_figures_and_the_phase(drivers):
    experiment = experiment_with()
    look = pipeline.snap(experiment, position="A2")
    instrument = SimulatedInstrument(experiment)
    for c in range(4):
        np.testing.assert_array_equal(look.raw[c, 0], instrument.frame(FrameKey(0, 1, c, 0)))
    assert look.phase.shape == (40, 36)
    truth, _ = instrument.truth(0, 1)
    assert np.corrcoef(look.phase.ravel(), shrunk(truth, 40, 36).ravel())[0, 1] > 0.7
    assert look.residual > 0
    assert look.light_s == pytest.approx(0.04)
    top = look.figures[1]
    frame = look.raw[1, 0]
    assert (top.channel, top.minimum, top.maximum) == ("top", frame.min(), frame.max())
    assert top.median == np.median(frame)
    assert top.background == top.median - experiment.microscope.camera.offset_counts
    # A beads' field is mostly background: it has the level that the flat had.
    assert top.background / top.target == pytest.approx(1, abs=0.05)
    assert top.histogram.pixels.sum() == frame.size
    assert not drivers[0].light_is_on
    with pytest.raises(DriverError):
        drivers[0].arm([])  # closed


def test_one_channel_is_taken_alone_and_says_why_there_is_no_phase():
    look = snap(experiment_with(), channel="left", position="1")
    assert look.raw.shape == (1, 1, 40, 36)
    assert [f.channel for f in look.figures] == ["left"]
    assert look.phase is None
    assert "no phase: method dpc needs" in look.remarks[0]
    assert look.light_s == pytest.approx(0.01)
    assert snap(experiment_with(), reconstruct=False).remarks == ()


def test_frames_that_do_not_come_are_said(drivers):
    look = snap(experiment_with(microscope={"faults": {"drop_frames": [2]}}))
    assert [f.channel for f in look.figures] == ["right", "top", "bottom"]
    assert look.phase is None
    assert "1 of 4 frames did not come" in look.remarks
    with pytest.raises(DriverError, match="no frame"):
        snap(experiment_with(microscope={"faults": {"drop_frames": [0, 1, 2, 3]}}))
    assert not any(d.light_is_on for d in drivers)


def test_saturation_is_a_warning():
    look = snap(experiment_with(microscope={"electrons": 60_000}), reconstruct=False)
    assert look.figures[0].saturated > 0.5
    assert "is saturated: lower its exposure_ms" in look_text(look)


def test_the_calibrations_target_and_exposures_are_applied(tmp_path):
    known = Calibration(
        dark={n: np.float32(100) for n in ("right", "top", "left", "bottom")},
        balanced_exposure_ms={"right": 5.0, "top": 10.0, "left": 10.0, "bottom": 10.0},
        steps={"exposure": {"figures": {"target_share": 0.5}}},
    )
    known.save(tmp_path)
    asked = {"source": "folder", "folder": str(tmp_path), "exposures": "calibrated"}
    look = snap(experiment_with(calibration=asked))
    assert look.light_s == pytest.approx(0.035)
    assert look.figures[0].target == pytest.approx(0.5 * (4095 - 100))
    assert look.figures[0].background == pytest.approx(look.figures[1].background / 2, rel=0.1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channel": "rihgt"}, ExperimentError, "no channel 'rihgt': did you mean 'right'"),
        ({"position": "A3"}, ExperimentError, "no position 'A3': did you mean"),
        ({"position": "7"}, ExperimentError, "no position '7'"),
        ({"out": "frame.bmp"}, ExperimentError, "end it with one of .png"),
        ({"out": "nowhere/frame.png"}, RunFolderError, "does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_before_any_light(tmp_path, drivers, options, error, message):
    path = write_experiment(tmp_path / "e.yaml", experiment_with())
    chosen = {"channel": None, "position": None, "out": None, "reconstruct": True}
    chosen |= options
    if chosen["out"]:
        chosen["out"] = tmp_path / chosen["out"]
    for verb in (snap_command, live_command):
        more = {"as_json": False} if verb is snap_command else {"frames": 1, "fps": None}
        with pytest.raises(error) as caught:
            verb(path, **chosen, **more)
        assert message in str(caught.value)
    assert drivers == []


def test_the_command_gives_one_json_object_and_the_files(tmp_path, capsys):
    path = write_experiment(tmp_path / "e.yaml", experiment_with())
    command = {"channel": None, "position": None, "reconstruct": True}
    snap_command(path, **command, out=tmp_path / "a.tif", as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert len(data["figures"]) == 4
    assert sum(data["figures"][0]["histogram"]) == 40 * 36
    assert data["uncalibrated"] == []
    assert data["files"] == [str(tmp_path / "a.tif"), str(tmp_path / "a.phase.tif")]
    snap_command(path, **command, out=None, as_json=False)
    printed = capsys.readouterr().out
    assert "▀" not in printed  # no terminal, no picture
    assert "residual" in printed
    assert "right" in printed


def test_files_hold_what_was_seen(tmp_path):
    experiment = experiment_with(sequence={"timepoints": 1, "foci_um": [-3.0, 0.0, 3.0]})
    look = snap(experiment)
    raw, phase = write_look(look, experiment, tmp_path / "s.tif", "title")
    with tifffile.TiffFile(raw) as file:
        np.testing.assert_array_equal(file.asarray(), look.raw)
        assert file.series[0].axes == "CZYX"
        assert file.asarray().dtype == np.uint16
        about = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert about["PhysicalSizeX"] == pytest.approx(0.65)
    assert [c["Name"] for c in about["Channel"]] == ["right", "top", "left", "bottom"]
    planes = about["Plane"]
    assert [p["PositionZ"] for p in planes] == [-3.0, 0.0, 3.0] * 4
    assert {p["ExposureTime"] for p in planes} == {10.0}
    np.testing.assert_array_equal(tifffile.imread(phase), look.result.images)
    raw, phase = write_look(look, experiment, tmp_path / "s.npy", "title")
    np.testing.assert_array_equal(np.load(raw), look.raw)
    np.testing.assert_array_equal(np.load(phase), look.result.images)
    (png,) = write_look(look, experiment, tmp_path / "s.png", "title")
    picture = imread(png)
    # Twelve frames, phase and absorption in four columns.
    assert picture.shape[1] > 1200
    assert picture[..., :3].std() > 0.1
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "s.npy",
        "s.phase.npy",
        "s.phase.tif",
        "s.png",
        "s.tif",
    ]


def test_live_looks_again_and_again_at_the_newest(drivers):
    seen, lit = [], []

    def show(look, number):
        seen.append((number, look.raw.copy(), look.light_s))
        lit.append(drivers[0].light_is_on)

    experiment = experiment_with(
        microscope={"specimen": {"kind": "cells"}}, sequence={"timepoints": 2}
    )
    assert live(experiment, show, frames=3, channel="top", reconstruct=False) == 3
    assert [n for n, _, _ in seen] == [0, 1, 2]
    assert [s for _, _, s in seen] == pytest.approx([0.01, 0.02, 0.03])
    # The simulator's cells live on from look to look, and begin again behind the last timepoint.
    assert (seen[0][1] != seen[1][1]).any()
    np.testing.assert_array_equal(seen[0][1], seen[2][1])
    # Whoever looks takes his time in the dark.
    assert lit == [False] * 3
    assert len(drivers) == 1


def test_live_keeps_to_its_pace():
    experiment = experiment_with(calibration={"source": "none"}, reconstruction={"method": "none"})
    began = time.monotonic()
    live(experiment, lambda *_: None, frames=4, fps=5.0)
    assert time.monotonic() - began >= 3 / 5


@pytest.mark.parametrize("where", ["taking", "showing"])
def test_ctrl_c_ends_live_and_the_light_is_off(drivers, monkeypatch, where):
    frame = SimulatorDriver.next_frame
    exposed = []

    def interrupted(self, destination):
        if where == "taking" and len(exposed) == 6:
            assert self.light_is_on
            raise KeyboardInterrupt
        exposed.append(1)
        return frame(self, destination)

    monkeypatch.setattr(SimulatorDriver, "next_frame", interrupted)

    def show(look, number):
        if where == "showing":
            raise KeyboardInterrupt

    taken = live(experiment_with(), show, reconstruct=False)
    assert taken == (1 if where == "taking" else 0)
    assert not drivers[0].light_is_on


def test_live_writes_each_look_over_the_file(tmp_path, capsys):
    path = write_experiment(tmp_path / "e.yaml", experiment_with())
    out = tmp_path / "now.npy"
    live_command(path, channel="top", position=None, frames=2, fps=None, out=out, reconstruct=False)
    assert np.load(out).shape == (1, 1, 40, 36)
    printed = capsys.readouterr()
    assert printed.err.count(str(out)) == 2
    assert "light so far 0.02 s; the light is off" in printed.out


def test_a_recording_is_looked_at_too(tmp_path):
    frames = np.random.default_rng(0).integers(500, 600, (3, 1, 40, 36)).astype(np.uint16)
    source = tmp_path / "recording.npy"
    np.save(source, frames)
    experiment = parse_experiment(
        {
            "microscope": {
                "driver": "replay",
                "source": str(source),
                "pace": "fast",
                "camera": {"shape_px": [40, 36], "pixel_um": 6.5},
            },
            "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.25, "magnification": 10},
            "illumination": {"source": "condenser"},
            "sequence": {"timepoints": 3},
        }
    )
    looks = []
    live(experiment, lambda look, _: looks.append(look.raw[0, 0]), frames=3)
    np.testing.assert_array_equal(looks, frames[:, 0])


def test_the_histogram_and_the_share_that_is_saturated():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4096, (50, 60)).astype(np.uint16)
    found = histogram(counts, 12, bins=64)
    expected, _ = np.histogram(counts, bins=64, range=(0, 4096))
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.top == 4095
    assert histogram(counts.astype(np.uint8), 8, bins=1000).pixels.shape == (256,)
    assert saturated_share(np.array([[1, 5], [9, 9]], np.uint16), 9) == 0.5
    one = histogram(np.full((4, 4), 4095, np.uint16), 12)
    text = bars(one, 32)
    assert len(text) == 32
    assert text.strip() == text[-1] == "█"


def test_the_focus_measure_falls_with_defocus_and_not_with_brightness():
    foci = (0.0, 6.0, 12.0)
    experiment = experiment_with(
        illumination={"source": "condenser", "channels": {"bright": {"exposure_ms": 10}}},
        microscope={
            "specimen": {"kind": "cells", "absorption": 0.6, "peak_phase_rad": 0.01},
            "camera": {"shape_px": [64, 64], "pixel_um": 6.5},
            "electrons": 20_000,
        },
        sequence={"timepoints": 1, "foci_um": list(foci)},
        reconstruction={"method": "none"},
    )
    focus = [f.focus for f in snap(experiment).figures]
    assert focus[0] > focus[1] > focus[2]
    image = np.random.default_rng(0).random((30, 30)) + 1
    assert normalised_variance(image / image.mean()) == pytest.approx(
        normalised_variance(3 * image / (3 * image).mean())
    )
    assert np.isnan(normalised_variance(np.zeros((3, 3))))


def test_shrinking_keeps_the_mean_and_never_enlarges():
    image = np.arange(35.0).reshape(5, 7)
    assert shrunk(image, 10, 10).shape == (5, 7)
    small = shrunk(np.arange(48.0).reshape(6, 8), 3, 4)
    assert small.shape == (3, 4)
    assert small.mean() == pytest.approx(23.5)
    assert shrunk(image, 2, 3).shape == (2, 3)


def test_a_terminal_gets_half_blocks_in_true_colour():
    ramp = np.linspace(0, 1, 64).reshape(1, 64).repeat(64, 0)
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True, color_system="truecolor")
    console.print(TerminalPicture(ramp, ramp, rows=10))
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert all(line.count("▀") == 40 for line in lines)  # two pictures of 20 pixels
    assert "38;2;" in lines[0]
    greys = coloured(ramp, 0.0, 1.0, np.array([(0, 0, 0), (255, 255, 255)], np.float64))
    assert greys[0, 0].tolist() == [0, 0, 0]
    assert greys[0, -1].tolist() == [255, 255, 255]
    assert (np.diff(greys[0, :, 0].astype(int)) >= 0).all()


def lamp_changes(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def started(tmp_path, verb, *options, **how):
    """The command on a simulated microscope whose lamp leaves a record."""
    lamp = tmp_path / "lamp.jsonl"
    experiment = experiment_with(
        microscope={"lamp_file": str(lamp), "paced": True}, reconstruction={"method": "none"}
    )
    path = write_experiment(tmp_path / "e.yaml", experiment)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", verb, str(path), *options],
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how),
    )
    return process, lamp


def wait_for_light(process, lamp, changes):
    deadline = time.monotonic() + 60
    while not lamp.exists() or len(lamp_changes(lamp)) < changes:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_posix_signals_end_live_with_the_light_off(tmp_path, number):
    process, lamp = started(tmp_path, "live")
    try:
        wait_for_light(process, lamp, 5)
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "the light is off" in out
    assert "Traceback" not in errors
    changes = lamp_changes(lamp)
    assert [c["on"] for c in changes] == [True, False] * (len(changes) // 2)


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal as POSIX has it")
def test_posix_terminal_shows_the_picture_and_gives_the_screen_back(tmp_path):
    import pty

    here, there = pty.openpty()
    environment = os.environ | {"COLUMNS": "90", "LINES": "30", "TERM": "xterm-256color"}
    process, _ = started(
        tmp_path,
        "live",
        "--frames",
        "2",
        stdin=there,
        stdout=there,
        stderr=subprocess.PIPE,
        env=environment,
    )
    os.close(there)
    shown = b""
    try:
        # The other end is gone: EIO on Linux, nothing more elsewhere.
        while part := os.read(here, 65536):
            shown += part
    except OSError:
        pass
    finally:
        os.close(here)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    text = shown.decode(errors="replace")
    assert "▀" in text
    assert "look 2" in text
    # The other screen is entered and left again, and the last figures stay.
    assert text.index("\x1b[?1049h") < text.index("\x1b[?1049l") < text.rindex("background")


def test_a_calibration_that_does_not_fit_is_refused_before_any_light(tmp_path, drivers):
    Calibration(dark={"right": np.zeros((8, 8), np.float32)}).save(tmp_path)
    experiment = experiment_with(calibration={"source": "folder", "folder": str(tmp_path)})
    with pytest.raises(ExperimentError, match="shape"):
        snap(experiment)
    assert drivers == []


def test_remarks_of_the_calibration_are_shown(tmp_path):
    known = Calibration(steps={"dark": {"time_utc": time.time() - 9e6, "conditions": {}}})
    known.save(tmp_path)
    experiment = experiment_with(calibration={"source": "folder", "folder": str(tmp_path)})
    look = snap(experiment, reconstruct=False)
    assert "the calibration is old" in look.remarks[-1]
    assert "note: the calibration is old" in look_text(replace(look))
    console = Console(file=io.StringIO(), width=60, force_terminal=True)
    console.print(look_picture(look, rows=8))
    assert "▀" in console.file.getvalue()
