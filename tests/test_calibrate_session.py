"""The calibration session: what is measured is kept, what is refused is said, what does not fit is not applied."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import yaml
from live_runs import livephase, report, write_experiment

import pipeline
from pipeline.calibrate import session
from pipeline.calibrate.command import calibrate_command
from pipeline.calibrate.history import CalibrationFolder
from pipeline.calibrate.registry import STEPS, Entry, open_step
from pipeline.calibrate.result import Answer, Outcome
from pipeline.calibrate.session import calibrate
from pipeline.calibrate.step import CalibrationRefusedError, Finding
from pipeline.calibration import Calibration
from pipeline.errors import DriverError, ExperimentError, RunFolderError
from pipeline.experiment import SimulatorMicroscope, parse_experiment
from pipeline.experiment.vary import vary
from pipeline.frames import SlotKey
from pipeline.instrument import (
    apply_exposures,
    check_fit,
    conditions,
    missing_aspects,
    overview,
    resolve_exposures,
)
from pipeline.store.run_folder import RunFolder, RunState

DAY = 86400.0


def experiment_with(**changes):
    data = {
        "name": "two channels",
        "microscope": {
            "driver": "simulator",
            "paced": False,
            "camera": {"shape_px": [24, 20], "pixel_um": 6.5, "frame_rate_hz": 200},
            "specimen": {"kind": "target", "shape": "beads"},
            **changes.pop("microscope", {}),
        },
        "optics": {
            "wavelength_um": 0.55,
            "numerical_aperture": 0.4,
            "magnification": 20,
            **changes.pop("optics", {}),
        },
        "illumination": {
            "source": "condenser",
            "channels": {"a": {"exposure_ms": 10}, "b": {"exposure_ms": 20}},
        },
        "sequence": {"timepoints": 2},
    } | changes
    return parse_experiment(data)


class Toy:
    """A step in few lines: `measure` takes one frame and puts something into the calibration."""

    subject = "anything"
    purpose = "a purpose"

    def needed(self, experiment):
        return None

    def take(self, microscope, experiment):
        return microscope.take(vary(experiment, channels=["a"])).frames[0, 0, 0, 0]


@dataclass(frozen=True)
class ToyDark(Toy):
    frames: int = 3
    level: float | None = None
    name: str = "dark"

    def measure(self, microscope, experiment, known):
        frame = self.take(microscope, experiment)
        dark = np.full(frame.shape, self.level or 90.0, np.float32)
        exposures = {n: c.exposure_ms for n, c in experiment.illumination.channels.items()}
        found = replace(known, dark={"a": dark, "b": dark}, exposure_ms=exposures)
        return Finding(found, {"frames": self.frames}, f"dark {dark[0, 0]:g}", ("a warning",))


@dataclass(frozen=True)
class ToyExposure(Toy):
    name: str = "exposure"
    subject: str = "specimen"

    def measure(self, microscope, experiment, known):
        found = replace(known, balanced_exposure_ms={"a": 4.0, "b": 40.0})
        return Finding(found, {}, "balanced")


@dataclass(frozen=True)
class ToyFlat(Toy):
    name: str = "flat"
    subject: str = "empty field"

    def measure(self, microscope, experiment, known):
        raise CalibrationRefusedError("the field is not empty", "move to an empty place")


@dataclass(frozen=True)
class ToyLens(Toy):
    period_um: float = 1.0
    name: str = "lens"
    subject: str = "specimen"

    def measure(self, microscope, experiment, known):
        return Finding(replace(known, z_scale=1.1, z_scale_sigma=0.012), {}, "z scale 1.1")


@dataclass(frozen=True)
class ToyOrientation(ToyLens):
    name: str = "orientation"

    def needed(self, experiment):
        return "a condenser has no LEDs to orient"


@dataclass(frozen=True)
class Interrupted(Toy):
    name: str = "flat"
    subject: str = "empty field"
    error: type[BaseException] = KeyboardInterrupt

    def measure(self, microscope, experiment, known):
        # In the middle of a burst, as Ctrl+C comes.
        microscope.driver.arm([SlotKey(0, 0)])
        assert microscope.driver.light_is_on
        try:
            raise self.error("gone", "reconnect it")
        finally:
            microscope.driver.light_off()


def test_a_shot_is_taken_where_the_person_moved_the_stage_to():
    places = [
        {"name": "A1", "x_um": 9000.0, "y_um": 0.0},
        {"name": "A2", "x_um": 0.0, "y_um": 9000.0},
    ]
    experiment = experiment_with(sequence={"timepoints": 2, "positions": places})
    (here,) = vary(experiment).plan().positions
    assert (here.x_um, here.y_um) == (None, None)
    (there,) = vary(experiment, position=1).plan().positions
    assert (there.x_um, there.y_um) == (0.0, 9000.0)


HERE = "test_calibrate_session"


@pytest.fixture(autouse=True)
def toys():
    """The session's order and dependencies, with steps of few lines."""
    toys = {
        "dark": Entry(f"{HERE}:ToyDark"),
        "exposure": Entry(f"{HERE}:ToyExposure"),
        "flat": Entry(f"{HERE}:ToyFlat", ("timing", "dark")),
        "orientation": Entry(f"{HERE}:ToyOrientation"),
        "lens": Entry(f"{HERE}:ToyLens", ("dark",)),
    }
    real = dict(STEPS)
    STEPS.clear()
    STEPS.update(toys)
    yield real
    # Their order is the session's: put back as it was.
    STEPS.clear()
    STEPS.update(real)


def put(monkeypatch, name, kind, after=()):
    monkeypatch.setitem(STEPS, name, Entry(f"{HERE}:{kind}", after))


def test_what_is_measured_is_kept_with_when_by_whom_and_under_which_conditions(tmp_path):
    out = tmp_path / "calibration"
    began = time.time()
    result = pipeline.calibrate(
        experiment_with(), out, steps=["dark"], options={"dark": {"frames": "7"}}
    )
    assert result.steps["dark"].outcome is Outcome.MEASURED
    kept = Calibration.load(out)
    assert float(kept.dark["b"][3, 3]) == 90.0
    entry = kept.steps["dark"]
    assert began - 1 <= entry["time_utc"] <= time.time()
    assert entry["figures"] == {"frames": 7}
    assert entry["warnings"] == ["a warning"]
    assert entry["livephase"] == pipeline.__version__
    assert entry["camera"] == "simulator"
    assert entry["conditions"]["optics"]["magnification"] == 20
    assert entry["conditions"]["channels"]["b"]["exposure_ms"] == 20
    assert "two channels" in kept.source
    assert "simulator" in kept.source


def test_a_refused_step_leaves_the_others_and_ends_with_a_status(tmp_path, monkeypatch):
    put(monkeypatch, "lens", "ToyLens", ("flat",))
    lines = []
    result = calibrate(experiment_with(), tmp_path / "c", say=lines.append)
    outcomes = {name: s.outcome for name, s in result.steps.items()}
    assert outcomes == {
        "dark": Outcome.MEASURED,
        "exposure": Outcome.MEASURED,
        "flat": Outcome.REFUSED,
        "orientation": Outcome.NOT_NEEDED,
        "lens": Outcome.SKIPPED,
    }
    assert isinstance(result.error, CalibrationRefusedError)
    text = "\n".join(lines)
    assert "the field is not empty: move to an empty place" in text
    assert "it rests on flat" in text
    assert Calibration.load(tmp_path / "c").balanced_exposure_ms == {"a": 4.0, "b": 40.0}
    assert result.missing == ["flat", "gain", "pixel size"]
    json.dumps(result.as_dict())


def test_a_step_that_takes_a_tool_waits_for_it(tmp_path, monkeypatch):
    entry = Entry(f"{HERE}:ToyLens", tool=("period_um", "give its period"))
    monkeypatch.setitem(STEPS, "lens", entry)
    result = calibrate(experiment_with(), tmp_path)
    assert result.steps["lens"].outcome is Outcome.NOT_NEEDED
    assert result.steps["lens"].summary == "give its period"
    given = {"lens": {"period_um": "10"}}
    result = calibrate(experiment_with(), tmp_path, options=given)
    assert result.steps["lens"].outcome is Outcome.MEASURED
    # Named, it is taken by its default.
    result = calibrate(experiment_with(), tmp_path, steps=["lens"])
    assert result.steps["lens"].outcome is Outcome.MEASURED


def test_a_recording_has_only_the_frames_that_it_has(tmp_path):
    np.save(tmp_path / "frames.npy", np.full((2, 2, 24, 20), 900, np.uint16))
    data = experiment_with().model_dump(mode="json")
    data["microscope"] = {
        "driver": "replay",
        "source": str(tmp_path / "frames.npy"),
        "camera": data["microscope"]["camera"],
    }
    result = calibrate(parse_experiment(data), tmp_path / "calibration")
    assert {r.outcome for r in result.steps.values()} == {Outcome.NOT_NEEDED}
    assert "a recording has only" in result.steps["dark"].summary
    assert "condenser" in result.steps["orientation"].summary


def test_steps_measured_before_count_and_stay(tmp_path):
    out = tmp_path / "c"
    experiment = experiment_with()
    refused = calibrate(experiment, out, steps=["lens"])
    assert refused.steps["lens"].error.fix == "add dark"
    assert not CalibrationFolder(out).exists()
    calibrate(experiment, out, steps=["dark"])
    assert calibrate(experiment, out, steps=["lens"]).error is None
    known = Calibration.load(out)
    assert set(known.steps) == {"dark", "lens"}
    assert known.z_scale == 1.1
    assert float(known.dark["a"][0, 0]) == 90.0


@pytest.mark.parametrize(
    ("verdict", "shares", "stops"),
    [
        ("one frame late", {}, True),
        (
            "mixed: 30% of each frame's light is that of the frame before",
            {"mixed_share": 0.3},
            True,
        ),
        ("light never changes", {}, True),
        ("rolling-shutter overlap: 4% of the exposure", {"rolling_share": 0.04}, False),
        ("in step", {}, False),
    ],
)
def test_light_out_of_step_stops_what_would_be_measured_with_it(tmp_path, verdict, shares, stops):
    out = tmp_path / "c"
    calibrate(experiment_with(), out, steps=["dark"])
    known = Calibration.load(out)
    steps = known.steps | {"timing": {"figures": shares}}
    replace(known, timing=verdict, steps=steps).save(out)
    result = calibrate(experiment_with(), out, steps=["flat"])
    assert ("rests on timing" in result.steps["flat"].error.cause) == stops
    said = "\n".join(check_fit(experiment_with(), known := Calibration.load(out)))
    assert (verdict in said) == (known.timing != "in step")


def test_every_session_leaves_the_version_before_it_and_none_is_written_over(tmp_path):
    out = tmp_path / "c"
    folder = CalibrationFolder(out)
    for level in (1.0, 2.0, 3.0, 4.0):  # several within a second
        # Two changes, one version: a session is one.
        calibrate(
            experiment_with(), out, steps=["dark", "lens"], options={"dark": {"level": str(level)}}
        )
    assert len(folder.versions()) == 3
    levels = [
        float(Calibration.load(folder.history / v).dark["a"][0, 0]) for v in folder.versions()
    ]
    assert levels == [1.0, 2.0, 3.0]
    folder.restore(folder.versions()[0])
    assert float(folder.load().dark["a"][0, 0]) == 1.0
    assert len(folder.versions()) == 4  # the present one was not lost
    assert not list(folder.history.glob(".*"))
    with pytest.raises(RunFolderError, match="no version 'yesterday'"):
        folder.restore("yesterday")


def test_versions_are_in_the_order_in_which_they_were(tmp_path):
    folder = CalibrationFolder(tmp_path)
    for k in range(12):
        Calibration(pixel_um=float(k + 1)).save(tmp_path)
        folder.keep()
    sizes = [Calibration.load(folder.history / v).pixel_um for v in folder.versions()]
    assert sizes == [k + 1.0 for k in range(12)]


@pytest.mark.parametrize("where", ["within", "between"])
def test_ctrl_c_leaves_the_light_off_and_what_was_measured(tmp_path, monkeypatch, where):
    drivers = []
    opened = session.Microscope

    def remember(experiment):
        microscope = opened(experiment)
        drivers.append(microscope.driver)
        return microscope

    monkeypatch.setattr(session, "Microscope", remember)
    if where == "within":
        put(monkeypatch, "flat", "Interrupted")
        result = calibrate(experiment_with(), tmp_path)
    else:
        monkeypatch.setattr(session, "MicroManagerMicroscope", SimulatorMicroscope)

        def ask(request):
            raise KeyboardInterrupt

        result = calibrate(experiment_with(), tmp_path, ask=ask)
    assert result.stopped
    assert not drivers[0].light_is_on
    assert Calibration.load(tmp_path).dark.keys() == {"a", "b"}
    assert "lens" not in result.steps


def test_a_microscope_that_fails_ends_the_session_and_what_was_measured_is_kept(
    tmp_path, monkeypatch
):
    @dataclass(frozen=True)
    class Failing(Interrupted):
        error: type[BaseException] = DriverError

    monkeypatch.setitem(globals(), "Failing", Failing)
    put(monkeypatch, "flat", "Failing")
    lines = []
    with pytest.raises(DriverError, match="gone: reconnect it"):
        calibrate(experiment_with(), tmp_path, say=lines.append)
    assert "kept" in lines[-1]
    assert Calibration.load(tmp_path).dark.keys() == {"a", "b"}
    calibrate(experiment_with(), tmp_path, steps=["dark"])  # the folder is free again


def test_the_person_is_asked_once_for_each_change_of_subject(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "MicroManagerMicroscope", SimulatorMicroscope)
    put(monkeypatch, "orientation", "ToyLens")
    asked = []

    def ask(request):
        asked.append(request)
        return Answer.READY

    calibrate(experiment_with(), tmp_path / "a", ask=ask)
    # Brightfield channels only: their exposure needs no specimen, and dark needs nothing at all.
    assert asked == [session.REQUESTS["empty field"], session.REQUESTS["specimen"]]
    result = calibrate(experiment_with(), tmp_path / "b", ask=lambda r: Answer.SKIP)
    assert result.steps["exposure"].outcome is Outcome.SKIPPED
    assert result.steps["dark"].outcome is Outcome.MEASURED
    assert not result.stopped
    result = calibrate(experiment_with(), tmp_path / "c", ask=lambda r: Answer.STOP)
    assert result.stopped
    assert list(result.steps) == ["dark"]


def test_the_dark_is_measured_again_at_the_exposures_that_were_found(tmp_path):
    experiment = experiment_with(
        calibration={"source": "folder", "folder": str(tmp_path), "exposures": "calibrated"}
    )
    calibrate(experiment, steps=["dark", "exposure"])
    known = Calibration.load(tmp_path)
    assert known.exposure_ms == {"a": 4.0, "b": 40.0}
    assert known.steps["dark"]["conditions"]["channels"]["a"]["exposure_ms"] == 4.0
    # An experiment that keeps its own exposures keeps its dark.
    calibrate(experiment_with(), tmp_path / "own", steps=["dark", "exposure"])
    assert Calibration.load(tmp_path / "own").exposure_ms == {"a": 10.0, "b": 20.0}


def test_a_folder_of_another_instrument_is_refused_or_begun_anew(tmp_path):
    calibrate(experiment_with(), tmp_path, steps=["dark", "lens"])
    other = experiment_with(microscope={"camera": {"shape_px": [16, 16], "pixel_um": 6.5}})
    with pytest.raises(ExperimentError, match="another instrument"):
        calibrate(other, tmp_path, steps=["lens"])
    lines = []
    calibrate(other, tmp_path, say=lines.append)
    assert "goes into its history" in lines[0]
    folder = CalibrationFolder(tmp_path)
    assert folder.load().dark["a"].shape == (16, 16)
    (before,) = folder.versions()
    assert Calibration.load(folder.history / before).dark["a"].shape == (24, 20)


def test_two_sessions_do_not_share_a_folder(tmp_path):
    with CalibrationFolder(tmp_path).lock(), pytest.raises(RunFolderError, match="another process"):
        calibrate(experiment_with(), tmp_path, steps=["dark"])


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        (["drak"], {}, "no calibration step 'drak': did you mean 'dark'"),
        (["dark"], {"dark": {"frmes": "3"}}, "no option 'frmes': did you mean 'frames'"),
        (["dark"], {"dark": {"frames": "many"}}, "dark.frames can't be 'many'"),
        (["dark"], {"lens": {"x": "1"}}, "not among the steps"),
        (["orientation"], {}, None),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, steps, options, message):
    if message is None:
        result = calibrate(experiment_with(), tmp_path, steps=steps, options=options)
        assert "no LEDs to orient" in result.steps["orientation"].error.cause
        return
    with pytest.raises(ExperimentError) as caught:
        calibrate(experiment_with(), tmp_path, steps=steps, options=options)
    assert message in str(caught.value)


def command(experiment, *steps, **options):
    defaults = {
        "out": None,
        "options": (),
        "grating_um": None,
        "yes": True,
        "show_folder": None,
        "restore": None,
        "as_json": False,
    }
    calibrate_command(experiment, steps, **(defaults | options))


def test_the_command_tells_what_is_known_and_how_to_use_it(tmp_path, capsys):
    path = write_experiment(tmp_path / "e.yaml", experiment_with())
    with pytest.raises(CalibrationRefusedError, match="refused: flat"):
        command(path, out=tmp_path / "c")
    printed = capsys.readouterr()
    assert "refused: the field is not empty" in printed.err
    assert "folder: " + str(tmp_path / "c") + ", exposures: calibrated" in printed.out
    command(None, show_folder=tmp_path / "c")
    shown = capsys.readouterr().out
    assert "z scale" in shown
    assert "1.100 ± 0.012" in shown
    assert "just now" in shown
    assert "not calibrated: flat, gain" in shown
    command(None, show_folder=tmp_path / "c", as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert [a["name"] for a in data["aspects"]] == ["dark", "exposures", "z scale"]
    command(path, "dark", out=tmp_path / "c", options=("dark.level=7",), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    version = CalibrationFolder(tmp_path / "c").versions()[0]
    command(None, out=tmp_path / "c", restore=version)
    assert "dark" in capsys.readouterr().out
    assert float(Calibration.load(tmp_path / "c").dark["a"][0, 0]) == 90.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"show_folder": "nothing"}, "holds no calibration"),
        ({"restore": "x"}, "needs a folder"),
        ({"options": ("dark=3",)}, "write STEP.NAME=VALUE"),
        ({}, "names no calibration folder"),
        ({"experiment": None}, "no experiment is given"),
    ],
)
def test_the_command_refuses_in_a_sentence(tmp_path, options, message):
    options = dict(options)
    path = options.pop("experiment", write_experiment(tmp_path / "e.yaml", experiment_with()))
    if "show_folder" in options:
        options["show_folder"] = tmp_path / options["show_folder"]
    with pytest.raises((ExperimentError, RunFolderError)) as caught:
        command(path, **options)
    assert message in str(caught.value)


def test_nobody_to_ask_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "MicroManagerMicroscope", SimulatorMicroscope)
    path = write_experiment(tmp_path / "e.yaml", experiment_with())
    with pytest.raises(ExperimentError, match="add --yes"):
        command(path, "dark", "lens", out=tmp_path / "c", yes=False)
    assert Calibration.load(tmp_path / "c").dark  # kept all the same


def test_the_real_steps_say_what_they_are(toys):
    for name, entry in toys.items():
        STEPS[name] = entry
    for name in toys:
        step = open_step(name, {})
        assert step.name == name
        assert step.subject == "anything" or step.subject in session.REQUESTS
        assert len(step.purpose) > 40
        assert not step.purpose.endswith(".")
        assert all(other in toys for other in toys[name].after)
        # What it rests on comes before it.
        order = list(toys)
        assert all(order.index(other) < order.index(name) for other in toys[name].after)


def calibrated(experiment, when=None, **fields):
    entry = {"time_utc": when or time.time(), "conditions": conditions(experiment)}
    steps = dict.fromkeys(("dark", "flat", "exposure", "lens", "orientation"), entry)
    return Calibration(steps=steps, **fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optics": {"magnification": 40}},
            "magnification 20.0, the experiment has 40",
        ),
        ({"optics": {"wavelength_um": 0.63}}, "wavelength_um"),
        (
            {"microscope": {"camera": {"shape_px": [24, 20], "pixel_um": 6.5, "binning": 2}}},
            "binning",
        ),
        (
            {"microscope": {"camera": {"shape_px": [24, 20], "pixel_um": 6.5, "bit_depth": 16}}},
            "bit_depth",
        ),
        ({"microscope": {"camera": {"shape_px": [20, 24], "pixel_um": 6.5}}}, "shape_px"),
    ],
)
def test_a_calibration_of_another_instrument_is_refused(changes, message):
    known = calibrated(experiment_with())
    check_fit(experiment_with(), known)
    with pytest.raises(ExperimentError, match=message):
        check_fit(experiment_with(**changes), known)


def test_what_only_weakens_a_calibration_is_said():
    experiment = experiment_with()
    assert check_fit(experiment, calibrated(experiment)) == []
    old = check_fit(experiment, calibrated(experiment, when=time.time() - 100 * DAY))
    assert len(old) == 1
    assert "dark (100 days)" in old[0]
    other = experiment_with(
        illumination={
            "source": "condenser",
            "coherence": 0.3,
            "channels": {"a": {"exposure_ms": 50}, "b": {"exposure_ms": 20, "brightness": 0.5}},
        },
        # A magnification that was refined is the same objective.
        optics={"magnification": 20.3},
    )
    said = "\n".join(check_fit(other, calibrated(experiment)))
    assert "coherence" in said
    assert "dark of channel 'a' was measured at 10 ms, the experiment exposes 50 ms" in said
    other = experiment_with(
        illumination={"source": "condenser", "channels": {"a": {}, "b": {"brightness": 0.5}}}
    )
    assert "channel 'b' has another brightness" in "\n".join(
        check_fit(other, calibrated(experiment))
    )


def test_what_is_missing_is_what_the_experiment_has_a_use_for():
    experiment = experiment_with()
    assert missing_aspects(experiment, Calibration()) == ["dark", "flat", "gain", "pixel size"]
    planes = experiment_with(sequence={"timepoints": 1, "foci_um": [-2.0, 2.0]})
    assert "z scale" in missing_aspects(planes, Calibration())
    one = Calibration(dark={"a": np.zeros((), np.float32)})
    assert "dark of channel 'b'" in missing_aspects(experiment, one)


def test_an_overview_has_values_uncertainties_and_ages():
    known = Calibration(
        gain_e_per_count=2.0312,
        z_scale=-1.0731,
        z_scale_sigma=0.0123,
        pixel_um=0.3251,
        led_intensity={0: 0.9, 1: 1.1},
        flat={"a": np.linspace(900, 1100, 480, dtype=np.float32).reshape(24, 20)},
        steps={
            "photon_transfer": {
                "time_utc": time.time() - 3 * DAY,
                "figures": {"gain_sigma_e_per_count": 0.004},
            }
        },
    )
    aspects = {a.name: a for a in overview(known)}
    assert aspects["gain"].text == "2.0312 ± 0.0040 e/count"
    assert aspects["gain"].age() == "3 days ago"
    assert aspects["z scale"].text == "-1.073 ± 0.012 µm per µm commanded"
    assert aspects["pixel size"].text == "0.3251 µm"
    assert "2 LEDs, spread 10 %" in aspects["LED intensities"].text
    assert aspects["flat"].text == "a 1000 counts; over the field 902 to 1098"
    assert aspects["flat"].age() == ""


def test_calibrated_exposures_come_into_the_channels_before_the_plan(tmp_path):
    asked = {"source": "folder", "folder": str(tmp_path), "exposures": "calibrated"}
    experiment = experiment_with(calibration=asked)
    with pytest.raises(ExperimentError, match="no readable calibration"):
        resolve_exposures(experiment)
    Calibration(balanced_exposure_ms={"a": 4.0}).save(tmp_path)
    with pytest.raises(ExperimentError, match="no exposure for channel 'b'"):
        resolve_exposures(experiment)
    Calibration(balanced_exposure_ms={"a": 4.0, "b": 33.3, "other": 1.0}).save(tmp_path)
    resolved = resolve_exposures(experiment)
    assert [c.exposure_ms for c in resolved.plan().channels] == [4.0, 33.3]
    # What a run folder keeps no longer follows the calibration.
    assert resolved.calibration.exposures == "experiment"
    Calibration(balanced_exposure_ms={"a": 5.0, "b": 5.0}).save(tmp_path)
    assert resolve_exposures(resolved) == resolved
    assert resolve_exposures(experiment).fingerprint() != resolved.fingerprint()
    assert resolve_exposures(experiment_with()) == experiment_with()
    assert apply_exposures(experiment, Calibration()).plan() == experiment.plan()


def test_a_run_takes_the_calibrated_exposures_and_says_what_it_knew(tmp_path):
    folder, out = tmp_path / "c", tmp_path / "run"
    asked = {"source": "folder", "folder": "c", "exposures": "calibrated"}
    path = tmp_path / "e.yaml"
    data = experiment_with().model_dump(mode="json") | {"calibration": asked}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    calibrate(path, steps=["dark", "exposure"])
    assert CalibrationFolder(folder).exists()
    status, text, errors = livephase("run", path, "--out", out)
    assert status == 0, errors
    assert "not calibrated: flat, gain, pixel size" in errors
    assert [c.exposure_ms for c in RunFolder(out).experiment().plan().channels] == [4.0, 40.0]
    section = report(out)["calibration"]
    assert section["exposures"] == "calibrated"
    assert section["missing"] == ["flat", "gain", "pixel size"]
    assert [a["name"] for a in section["aspects"]] == ["dark", "exposures"]
    assert section["aspects"][0]["figures"] == {"frames": 3}
    assert "livephase calibrate" in section["source"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "a 4, b 40 ms" in page
    assert "not calibrated: flat" in page
    assert "calibration" in text
    # The same file goes on; with other exposures it does not, and the run's own file always does.
    assert pipeline.run_experiment(path, out, resume=True).state is RunState.DONE
    replace(Calibration.load(folder), balanced_exposure_ms={"a": 5.0, "b": 40.0}).save(folder)
    with pytest.raises(RunFolderError, match=r"the exposures have changed.*experiment\.yaml"):
        pipeline.run_experiment(path, out, resume=True)
    same = pipeline.run_experiment(out / "experiment.yaml", out, resume=True)
    assert same.state is RunState.DONE
