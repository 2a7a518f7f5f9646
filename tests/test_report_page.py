"""The page that a person reads: every gap with its reason, of runs that went well and of those that did not."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from store_runs import (
    SlotKey,
    all_keys,
    begin,
    make_experiment,
    reconstruct_slots,
    record_slots,
)

import pipeline
from pipeline.calibration import Calibration
from pipeline.errors import LivephaseError
from pipeline.frames import FrameStatus, MissingReason
from pipeline.lifecycle.report import make_report, write_report
from pipeline.lifecycle.report.charts import chart, ticks
from pipeline.lifecycle.report.course import queue_over_time
from pipeline.lifecycle.report.gaps import gaps_html, missing_frames
from pipeline.lifecycle.report.history import read_history
from pipeline.lifecycle.report.liveliest import liveliest
from pipeline.store.ledger import PHASE_RECORD, LedgerKind, LedgerWriter, raw_record
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState

SESSION = {
    "process_start_utc": 1.7e9 - 4,
    "began_utc": 1.7e9 - 1,
    "shared_memory": {},
    "todo_slots": 10,
    "ended_utc": 1.7e9 + 60,
    "state": "done",
    "acquired": 16,
    "restarts": {},
    "error": None,
    "light_on_s": 2.5,
}


def make_run(path, experiment, keys=None, missing=None, reconstructed=None):
    folder = begin(path, experiment)
    with folder.lock():
        Calibration().save(folder.calibration)
    keys = all_keys(experiment) if keys is None else keys
    record_slots(folder, experiment, keys, missing)
    if reconstructed is None:
        reconstructed = [k for k in keys if k not in (missing or {})]
    if reconstructed:
        reconstruct_slots(folder, experiment, reconstructed)
    return folder


def reconstructing(**choices):
    """As `make_experiment`, with a method."""
    experiment = make_experiment(**choices)
    method = experiment.reconstruction.model_copy(update={"method": "tie"})
    return experiment.model_copy(update={"reconstruction": method})


class Page(HTMLParser):
    """Its text, links, anchors and what it would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.anchors, self.links, self.loads, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.anchors.append(attrs["id"])
        if tag == "a":
            self.links.append(attrs["href"])
        self.loads += [v for k, v in attrs.items() if k in ("src", "data", "srcset")]
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in ("meta", "img", "path", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("path", "rect"):
            return
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def page_of(folder):
    text = folder.report_html.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert not re.search(r"https?:|url\(|@import", text)
    assert {link[1:] for link in page.links} <= set(page.anchors)
    assert len(page.anchors) == len(set(page.anchors))
    return page


def test_a_run_that_went_well(tmp_path):
    experiment = make_experiment(timepoints=3)
    folder = make_run(tmp_path / "run", experiment)
    folder.update(
        RunState.DONE,
        sessions=[SESSION],
        versions={"livephase": "1.2.3"},
        weights_sha256="ab" * 32,
        machine={"processor": "Fast One", "memory_bytes": 2**34},
    )
    write_report(folder, experiment)
    page = page_of(folder)
    assert "The run is complete. All 3 frames of 3 timepoints are stored." in page.text
    assert "No frame is missing." in page.text
    assert "Fast One" in page.text
    assert "16.0 GiB" in page.text
    assert "numerical_aperture: 0.4" in page.text  # the experiment itself
    assert "2.5 s" in page.text
    # A scale bar on every picture, and one scale of colours.
    html = folder.report_html.read_text()
    assert html.count('class="bar"') == html.count("<img") == 4
    assert html.count("rad</span>") == 2


def test_every_gap_is_there_with_its_reason(tmp_path):
    experiment = reconstructing(timepoints=9, positions=2, channels=("left", "right"))
    missing = {
        SlotKey(2, 0): [1],
        SlotKey(3, 0): [1],
        SlotKey(4, 0): [1],
        SlotKey(6, 0): [1],
        SlotKey(5, 1): [0, 1],
    }
    keys = [k for k in all_keys(experiment) if k.timepoint < 8]
    late = [k for k in keys if k not in missing and k != SlotKey(7, 1)]
    folder = make_run(tmp_path / "run", experiment, keys, missing, late)
    folder.update(RunState.STOPPED)
    report = write_report(folder, experiment)
    gaps = missing_frames(RunReader(folder.path))
    dropped = gaps[MissingReason.DROPPED]
    assert [(g.where, g.timepoints, g.frames) for g in dropped] == [
        ("well 0: right", ((2, 4), (6, 6)), 4),
        ("well 1", ((5, 5),), 2),
    ]
    assert [(g.where, g.timepoints, g.frames) for g in gaps[MissingReason.STOPPED]] == [
        ("", ((8, 8),), 4)
    ]
    assert sum(g.frames for found in gaps.values() for g in found) == report["missing"] == 10
    page = page_of(folder)
    assert "well 0: right 4 timepoints 3–5 and 7" in page.text
    assert "6 frames: dropped by the camera" in page.text
    assert "4 frames: never exposed, as the run was ended before" in page.text
    assert "5 phase images could not be made, as frames are missing" in page.text
    assert "1 phase image still to be made" in page.text
    assert "The run was stopped on request before its end; it can be resumed." in page.text
    assert "26 of 36 planned frames of 9 timepoints at 2 positions are stored; 10 are" in page.text


def test_foci_in_a_gap_are_named(tmp_path):
    experiment = make_experiment(timepoints=2, channels=("a", "b"), foci=(-2.0, 0.0, 2.0))
    folder = make_run(tmp_path / "run", experiment, missing={SlotKey(1, 0): [2, 3, 4, 5]})
    (gap,) = missing_frames(RunReader(folder.path))[MissingReason.DROPPED]
    assert gap.where == "b, a at +2 µm"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RunState.FAILED, "The run failed: the camera is gone: plug it in."),
        (RunState.ABORTED, "The run was aborted."),
        (RunState.RUNNING, "The run was cut off"),
        (RunState.STOPPED, "The run was stopped on request"),
    ],
)
def test_a_run_that_has_nothing(tmp_path, state, said):
    experiment = make_experiment(timepoints=4)
    folder = begin(tmp_path / "run", experiment)
    with folder.lock():
        Calibration().save(folder.calibration)
    error = "the camera is gone: plug it in" if state is RunState.FAILED else None
    folder.update(state, sessions=[{**SESSION, "state": state, "error": error, "acquired": 0}])
    write_report(folder, experiment)
    page = page_of(folder)
    assert said in page.text
    assert "0 of 4 planned frames" in page.text
    assert ("4 frames: never exposed" in page.text) == state.cut_short
    assert "Pictures" not in page.text


def test_what_is_enlarged_is_where_there_is_something():
    views = [np.zeros((160, 240), np.float32) for _ in range(2)]
    views[0][100:120, 20:40] = 1
    views[1][102:122, 25:45] = 1
    views[1][0, 0] = np.nan
    y, x = liveliest(views, (640, 960))
    assert (y.stop - y.start, x.stop - x.start) == (160, 240)
    assert y.start <= 400
    assert y.stop >= 488
    assert x.start <= 80
    assert x.stop >= 180


def test_a_run_that_goes_on_has_a_report_so_far(tmp_path):
    experiment = reconstructing(timepoints=6)
    keys = all_keys(experiment)
    folder = make_run(tmp_path / "run", experiment, keys[:4], reconstructed=keys[:2])
    with folder.lock():
        report = pipeline.make_report(folder.path)
        page = page_of(folder)
    assert report["state"] == "running"
    assert report["pending"] == 2
    assert "this is a report of what there is so far" in page.text
    assert "4 of 6 planned frames of 6 timepoints are stored, 2 are still to come" in page.text
    assert "2 phase images still to be made" in page.text


def test_a_run_folder_that_may_not_be_written(tmp_path):
    folder = make_run(tmp_path / "run", make_experiment(timepoints=2))
    before = sorted(p.name for p in folder.path.iterdir())
    make_report(folder.path, tmp_path / "elsewhere.html")
    assert "<h1>" in (tmp_path / "elsewhere.html").read_text()
    assert sorted(p.name for p in folder.path.iterdir()) == before
    with pytest.raises(LivephaseError, match="--out"):
        make_report(folder.path, tmp_path / "absent" / "r.html")
    with pytest.raises(LivephaseError, match="no run folder"):
        make_report(tmp_path / "nothing")


def test_images_that_were_moved_away_are_left_out(tmp_path):
    folder = make_run(tmp_path / "run", make_experiment(timepoints=2))
    shutil.rmtree(folder.phase_store)
    shutil.rmtree(folder.raw_store)
    make_report(folder.path)
    page = page_of(folder)
    assert "Left out: no readable image" in page.text
    assert "All 2 frames of 2 timepoints are stored." in page.text


def test_names_are_text_and_nothing_else(tmp_path):
    experiment = make_experiment(timepoints=1, channels=("<b>left</b>",)).model_copy(
        update={"name": "<script>alert(1)</script>"}
    )
    folder = make_run(tmp_path / "run", experiment)
    folder.log.write_text(
        '{"time": "2026-01-01T00:00:00+00:00", "level": "warning", "process": "<i>", "message": "<img src=x>"}\n'
    )
    write_report(folder, experiment)
    page = page_of(folder)  # refuses a script, and whatever would be loaded
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x>" in page.text


def test_the_queue_is_what_was_stored_and_not_yet_reconstructed(tmp_path):
    """Hand-made times: stored at 0, 1, 2, 3 s; reconstructed at 2.5 (of 0), 3.5 (of 1); one lacks a frame."""
    experiment = make_experiment(timepoints=4)
    folder = begin(tmp_path / "run", experiment)
    print_ = experiment.fingerprint()
    raw = np.zeros(4, raw_record(1))
    raw["timepoint"] = raw["pixels_crc"] = np.arange(4)
    raw["time_utc"] = np.arange(4)
    raw["frames"]["status"] = FrameStatus.WRITTEN
    raw["frames"]["status"][3] = FrameStatus.MISSING
    phase = np.zeros(2, PHASE_RECORD)
    phase["timepoint"] = phase["raw_crc"] = [0, 1]
    phase["time_utc"] = [2.5, 3.5]
    with LedgerWriter(folder.raw_ledger, LedgerKind.RAW, print_, 1) as ledger:
        ledger.append(raw)
    with LedgerWriter(folder.phase_ledger(0), LedgerKind.PHASE, print_, 1) as ledger:
        ledger.append(phase)
    times, length = queue_over_time(RunReader(folder.path))
    assert times.tolist() == [0, 1, 2, 2.5, 3.5]
    assert length.tolist() == [1, 2, 3, 2, 1]


def test_the_log_in_words(tmp_path):
    log = tmp_path / "log.jsonl"

    def line(second, level, process, message, **more):
        time = f"2026-01-01T00:00:{second:02d}+00:00"
        return json.dumps(
            {"time": time, "level": level, "process": process, "message": message, **more}
        )

    lines = [
        line(0, "info", "supervisor", "state", state="running"),
        line(5, "info", "acquire", "paused"),
        '{"time": "2026-01-01T00:0',  # torn by a power cut
        line(9, "info", "acquire", "resumed", held_s=4.0),
        line(10, "error", "supervisor", "stage died", stage="reconstruct-0", how="signal 9"),
        *(line(n, "warning", "acquire", f"timepoints are {n}.5 s late") for n in range(20, 30)),
        line(40, "info", "acquire", "paused"),
        line(50, "info", "supervisor", "something else"),
    ]
    log.write_text("\n".join(lines))
    history = read_history(log)
    assert [(b - a) for a, b in history.pauses] == [4.0, 10.0]
    assert [what for _, what in history.events] == [
        "running",
        "paused, light off",
        "went on after 4.0 s",
        "the reconstruct-0 stage died (signal 9)",
        "paused, light off",
    ]
    (late,) = history.warnings
    assert (late.count, late.text) == (10, "timepoints are 20.5 s late")
    assert read_history(tmp_path / "absent").events == []


def test_alarms_are_told(tmp_path):
    experiment = make_experiment(timepoints=1)
    folder = make_run(tmp_path / "run", experiment)
    care = {
        "past": [{"name": "disk_low", "from_utc": 1.7e9, "to_utc": 1.7e9 + 60}],
        "suspensions": [{"alarms": ["disk_low"], "from_utc": 1.7e9 + 5, "to_utc": None}],
    }
    (folder.path / "alarms.json").write_text(json.dumps(care))
    write_report(folder, experiment)
    page = page_of(folder)
    assert "disk_low 2023-11-14 22:13:20 UTC 2023-11-14 22:14:20 UTC" in page.text
    assert "Paused by itself alarms from to disk_low 2023-11-14 22:13:25 UTC -" in page.text


def test_a_hundred_times_more_timepoints_are_no_larger_page(tmp_path):
    """Gaps here and there in 80,000 slots: a page of a few pictures' size, in seconds."""
    timepoints, positions = 20_000, 4
    experiment = make_experiment(timepoints=timepoints, positions=positions, channels=("a", "b"))
    folder = begin(tmp_path / "run", experiment)
    with folder.lock():
        Calibration().save(folder.calibration)
    rng = np.random.default_rng(0)
    n = timepoints * positions
    t, p = np.divmod(np.arange(n), positions)
    raw = np.zeros(n, raw_record(2))
    raw["timepoint"], raw["position"], raw["pixels_crc"] = t, p, np.arange(n)
    raw["time_utc"] = 1.7e9 + 10 * t + 3
    raw["frames"]["time_utc"] = 1.7e9 + 10 * t[:, None] + p[:, None]
    lost = rng.random((n, 2)) < 0.01
    raw["frames"]["status"] = np.where(lost, FrameStatus.MISSING, FrameStatus.WRITTEN)
    raw["frames"]["reason"] = np.where(lost, rng.integers(1, 5, (n, 2)), 0)
    whole = ~lost.any(axis=1)
    phase = np.zeros(int(whole.sum()), PHASE_RECORD)
    phase["timepoint"], phase["position"], phase["raw_crc"] = (
        t[whole],
        p[whole],
        raw["pixels_crc"][whole],
    )
    phase["time_utc"] = raw["time_utc"][whole] + 2
    for field in ("residual", "latency_s", "alarm"):
        phase[field] = rng.gamma(8, 0.2, len(phase))
    with LedgerWriter(folder.raw_ledger, LedgerKind.RAW, experiment.fingerprint(), 2) as ledger:
        ledger.append(raw)
    with LedgerWriter(
        folder.phase_ledger(0), LedgerKind.PHASE, experiment.fingerprint(), 2
    ) as ledger:
        ledger.append(phase)
    folder.update(RunState.DONE)
    report = make_report(folder.path)
    assert report["missing"] == int(lost.sum())
    page = page_of(folder)
    assert folder.report_html.stat().st_size < 200_000
    counts = [int(c.replace(",", "")) for c in re.findall(r"([\d,]+) frames: ", page.text)]
    assert sum(counts) == lost.sum(), "each missing frame is counted once, under its reason"


def test_charts_have_round_ticks_and_few_points():
    assert ticks(0, 1.0) == [0, 0.5, 1.0]
    assert ticks(0, 7.3) == [0, 2, 4, 6, 8]
    x = np.arange(1e5)
    y = np.ones(100_000)
    y[77_777] = 1000.0
    html = chart("title", x, y, x_label="x")
    assert len(html) < 60_000
    assert "1 of 100000 values lie above the chart" in html
    assert chart("title", x[:1], y[:1], x_label="x") == ""
    assert "NaN" not in chart("t", np.array([0.0, 1, 2]), np.array([1, np.nan, 2.0]), x_label="x")


def test_in_a_browser_also_on_a_phone_and_in_the_dark(tmp_path):
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here")
    experiment = make_experiment(timepoints=5, positions=2, channels=("left", "right"))
    folder = make_run(tmp_path / "run", experiment, missing={SlotKey(2, 0): [1]})
    folder.update(
        RunState.DONE, sessions=[SESSION, SESSION], weights_sha256="ab" * 32, versions={"a": "1"}
    )
    folder.log.write_text(
        '{"time": "2026-01-01T00:00:00+00:00", "level": "warning", "process": "acquire", '
        f'"message": "{"long words and more " * 20}"}}\n'
    )
    write_report(folder, experiment)
    with api.sync_playwright() as play:
        options = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
        browser = play.chromium.launch(executable_path=chromium, args=list(options))
        paper = {}
        for scheme, width in (("light", 1200), ("dark", 390)):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme
            )
            page, asked = context.new_page(), []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(folder.report_html.as_uri())
            for part in page.query_selector_all("details"):
                part.evaluate("part => part.open = true")
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wide) == 0, "the page must not scroll sideways"
            assert all(url.startswith(("file:", "data:")) for url in asked)
            paper[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            # Pictures are decoded, the scale bar is a part of the picture's width.
            assert page.evaluate("document.querySelector('.pic img').naturalWidth") > 0
            share = page.evaluate(
                "document.querySelector('.bar').offsetWidth / document.querySelector('.pic img').offsetWidth"
            )
            assert 0.05 < share < 0.35
        browser.close()
    assert paper["light"] != paper["dark"]


def test_gaps_without_a_method_have_no_phase(tmp_path):
    folder = make_run(tmp_path / "run", make_experiment(timepoints=2), reconstructed=[])
    assert "phase" not in gaps_html(RunReader(folder.path), reconstructs=False)
