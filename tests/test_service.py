"""The service from outside: a run from its validation to its report, and what is left when things die."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx
import numpy as np
import pytest
import tifffile
import websockets
from prometheus_client.parser import text_string_to_metric_families
from service_process import ServiceProcess, small

from pipeline.errors import LivephaseError
from pipeline.frames import SlotKey
from pipeline.server.client import Client
from pipeline.server.image_message import decoded
from pipeline.store.reader import RunReader
from pipeline.store.verify import verify

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def service(tmp_path):
    with ServiceProcess(tmp_path / "home") as process:
        yield process


async def _watch(service, seconds, wanted=None, ack=True):
    """What a page gets in so many seconds: texts by type, headers by kind, and the last pixels."""
    texts, images, pixels = {}, {}, {}
    headers = {"Authorization": f"Bearer {service.token}"}
    address = service.address.replace("http", "ws") + "api/live"
    async with websockets.connect(address, additional_headers=headers, max_size=None) as socket:
        if wanted:
            await socket.send(json.dumps({"type": "want", **wanted}))
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(socket.recv(), left)
            except TimeoutError:
                break
            if isinstance(message, str):
                entry = json.loads(message)
                texts.setdefault(entry["type"], []).append(entry)
                continue
            header, image = decoded(message)
            images.setdefault(header["kind"], []).append(header)
            pixels[header["kind"]] = image
            if ack:
                await socket.send(json.dumps({"type": "ack", "seq": header["seq"]}))
    return texts, images, pixels


def test_a_run_from_validation_to_report(service, tmp_path):
    client = service.client
    assert client.status().run is None
    verdict = client.validate(small())
    assert verdict.ok
    assert verdict.needs["frames"] == 1600
    assert any("disk left" in line for line in verdict.text)

    name = client.begin(small(), "first run")
    service.until(lambda: (client.status().run.reconstructed or 0) >= 2)
    with pytest.raises(LivephaseError, match="a run goes on"):
        client.begin(small(), "second run")

    texts, images, pixels = asyncio.run(_watch(service, 3, {"channel": 2}))
    assert texts["hello"]
    assert texts["status"][-1]["run"]["name"] == name
    assert any("begins" in event["text"] for event in texts["event"])
    # One may have been on its way before the wish came; the next waits for an acknowledgement.
    assert {h["channel"] for h in images["raw"][1:]} == {2}
    for kind, unit in (("raw", "counts"), ("phase", "rad")):
        timepoints = [h["timepoint"] for h in images[kind]]
        assert len(timepoints) == len(set(timepoints)), "none twice"
        assert images[kind][-1]["unit"] == unit
        assert pixels[kind].shape == (64, 64)

    # Phase that was behind is made up for in any order; frames never come so.
    assert images["raw"] == sorted(images["raw"], key=lambda h: h["timepoint"])
    assert "light goes off" in client.pause()
    service.until_state("paused")
    assert not client.status().run.light_on
    files = client.snapshot()
    assert sum(f.endswith(".tif") for f in files) == 5
    picture = tifffile.imread(service.home.path / next(f for f in files if "_phase.tif" in f))
    assert picture.shape == (64, 64)
    assert np.isfinite(picture).all()
    client.resume()
    service.until_state("running")
    assert "+0.5 µm" in client.refocus(0.5)
    assert "0.2 s" in client.set_interval(0.2)
    # Both may take effect at the same timepoint.
    service.until(lambda: client.status().run.interval_s == 0.2)
    assert client.status().run.focus_um == 0.5
    assert client.status().run.actions_applied >= 1
    with pytest.raises(LivephaseError, match="limit"):
        client.refocus(900.0)

    # What was seen live is what is stored, to the 16 bits that were sent.
    last = images["phase"][-1]
    service.until(lambda: client.run(name).stored.phase[0][0][1] >= last["timepoint"])
    stored = client.image(name, last["timepoint"])
    assert np.abs(stored - pixels["phase"]).max() <= 2 * (last["high"] - last["low"]) / 65535
    part = service.http.get(
        f"api/runs/{name}/image",
        params={"kind": "raw", "t": 0, "c": 1, "y": 10, "x": 20, "h": 8, "w": 16},
    )
    header, crop = decoded(part.content)
    whole = RunReader(service.folder(name).path).raw(SlotKey(0, 0))[0][1]
    np.testing.assert_array_equal(crop, whole[10:18, 20:36])
    assert header["origin"] == [10, 20]

    client.stop()
    service.until_over()
    assert client.status().run.state == "stopped"
    listed = client.runs().runs[0]
    assert (listed.name, listed.state, listed.can_resume) == (name, "stopped", True)
    assert verify(service.folder(name).path).ok
    history = service.http.get("api/history", params={"seconds": 3600}).json()
    assert len(history["time_utc"]) == len(history["frames_per_s"]) > 1
    report = service.http.get(f"runs/{name}/report.html")
    assert report.status_code == 200
    assert "sandbox" in report.headers["content-security-policy"]

    client.go_on(name)
    service.until_state("running")
    client.abort()
    service.until_over()
    assert client.status().run.state == "aborted"


def test_a_wrong_experiment_is_explained_at_its_keys(service):
    wrong = small().replace("timepoints: 400", "timepoints: -4").replace("seed: 3", "sead: 3")
    verdict = service.client.validate(wrong)
    assert not verdict.ok
    assert {e.path for e in verdict.errors} == {"sequence.timepoints", "microscope.sead"}
    assert any("did you mean 'seed'" in e.message for e in verdict.errors)
    broken = service.client.validate("microscope: {driver: [\n")
    assert broken.errors[0].line is not None
    code = service.client.validate("!!python/object/apply:os.system ['touch ran']")
    assert not code.ok
    # Cause and fix of a refusal reach the terminal as they are.
    with pytest.raises(LivephaseError, match="sead"):
        service.client.begin(wrong)
    with pytest.raises(LivephaseError, match="can't be called"):
        service.client.begin(small(), "../elsewhere")


def test_a_service_that_is_killed_comes_back_to_its_run(tmp_path):
    with ServiceProcess(tmp_path / "home") as service:
        name = service.client.begin(small())
        service.until(lambda: (service.client.status().run.reconstructed or 0) >= 1)
        service.kill()
    with ServiceProcess(tmp_path / "home") as again:
        status = again.client.status()
        assert status.run.name == name
        assert status.service.state == "busy"
        before = status.run.reconstructed
        again.until(lambda: again.client.status().run.reconstructed > before)
        again.client.stop()
        again.until_over()
        assert verify(again.folder(name).path).ok


def test_after_a_power_cut_the_light_is_off_and_the_run_can_go_on(tmp_path, lamp):
    data = small().replace("seed: 3", f"seed: 3\n  lamp_file: {lamp.path}")
    with ServiceProcess(tmp_path / "home") as service:
        name = service.client.begin(data)
        service.until(lambda: (service.client.status().run.reconstructed or 0) >= 2)
        _kill_all(service)
    with ServiceProcess(tmp_path / "home") as again:
        run = again.client.status().run
        assert (run.name, run.state, run.can_resume) == (name, "interrupted", True)
        assert not lamp.is_on()
        events = [e.text for e in again.client.events().events]
        assert any("can be resumed" in text for text in events)
        again.client.go_on(name)
        again.until_state("running")
        again.client.stop()
        again.until_over()
        assert verify(again.folder(name).path).ok


def _kill_all(service):
    """SIGKILL of the service and of every process below it, which have sessions of their own."""
    import psutil

    run = service.client.status().run
    supervisor = psutil.Process(service.process.pid)
    doomed = [supervisor, *supervisor.children(recursive=True)]
    assert run is not None
    for process in doomed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(doomed, timeout=30)
    service.process.wait()


def test_metrics_and_files_over_http(service):
    name = service.client.begin(small(timepoints=6, interval_s=0), "short")
    service.until_over()
    assert service.client.status().run.state == "done"
    http = service.http
    names = {f.name for f in text_string_to_metric_families(http.get("metrics").text)}
    assert {"livephase_frames_acquired", "livephase_run_state", "process_open_fds"} <= names
    whole = http.get(f"runs/{name}/raw.ledger").content
    assert whole == (service.folder(name).path / "raw.ledger").read_bytes()
    for given, expected in (("bytes=4-9", whole[4:10]), ("bytes=-7", whole[-7:])):
        part = http.get(f"runs/{name}/raw.ledger", headers={"Range": given})
        assert part.status_code == 206
        assert part.content == expected
    assert http.get(f"runs/{name}/raw.ome.zarr/0/c.9.0.0.0").status_code == 404
    # A Zarr reader of somebody else's, over HTTP.
    import zarr

    store = zarr.storage.FsspecStore.from_url(
        f"{service.address}runs/{name}/raw.ome.zarr",
        storage_options={"headers": {"Authorization": f"Bearer {service.token}"}},
        read_only=True,
    )
    seen = zarr.open_group(store, mode="r")["0"][:]
    reader = RunReader(service.folder(name).path)
    np.testing.assert_array_equal(seen[3], reader.raw(SlotKey(3, 0))[0])
    assert http.get("static/plotly.min.js").status_code == 200
    assert http.get("neuroglancer/").status_code == 200


def test_a_second_service_of_a_home_is_refused(service):
    from live_runs import livephase

    code, _, error = livephase("serve", "--home", service.home.path, "--port", "0")
    assert code == 1
    assert "another service uses" in error


def test_the_command_line_talks_to_the_service(service, tmp_path):
    from live_runs import livephase

    home = ("--home", service.home.path)
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(small(), encoding="utf-8")
    code, out, error = livephase("start", experiment, "--name", "from a shell", *home)
    assert (code, out.strip()) == (0, "begun: from a shell"), error
    assert "light goes off" in livephase("pause", *home)[1]
    status = json.loads(livephase("status", *home, "--json")[1])
    assert status["run"]["name"] == "from a shell"
    assert "from a shell" in livephase("runs", *home)[1]
    assert livephase("stop", *home)[0] == 0
    assert livephase("address", *home)[1].strip() == f"{service.address}?token={service.token}"
    nowhere = livephase("status", "--home", tmp_path / "nowhere")
    assert nowhere[0] == 1
    assert "no service runs on" in nowhere[2]
    assert "Traceback" not in nowhere[2]
    service.until_over()


def test_without_a_run_it_looks_calibrates_and_ends_in_the_dark(tmp_path, lamp):
    text = small().replace("seed: 3", f"seed: 3\n  lamp_file: {lamp.path}")
    with ServiceProcess(tmp_path / "home") as service:
        with pytest.raises(LivephaseError, match="give an experiment"):
            service.client.snapshot()
        (picture,) = service.client.snapshot(text)
        assert (service.home.path / picture).read_bytes().startswith(b"\x89PNG")
        assert not lamp.is_on()
        # Seconds of exposure: told to end in the middle of them.
        slow = text.replace("exposure_ms: 5", "exposure_ms: 3000").replace(
            "calibration:\n  source: simulator",
            "calibration: {source: folder, folder: calibrated}",
        )
        asked = threading.Thread(target=_calibrate, args=(service, slow))
        asked.start()
        service.until(lamp.is_on)
        assert service.client.status().service.doing == "calibrating"
        with pytest.raises(LivephaseError, match="calibrating"):
            service.client.begin(text)
        service.process.terminate()
        assert service.process.wait(60) == 0
        assert not lamp.is_on()
        asked.join(30)


def _calibrate(service, text):
    with suppress(httpx.HTTPError):
        service.http.post("api/calibrate", json={"experiment": text, "steps": ["timing"]})


@pytest.mark.skipif(os.name == "nt", reason="terminals are POSIX here")
def test_posix_terminal_shows_the_address_in_one_piece(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "serve", "--home", tmp_path / "home", "--port", "0"],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "40"},
    )
    os.close(theirs)
    try:
        with os.fdopen(ours, "rb") as terminal:
            line = terminal.readline().decode().strip()
        client = Client.of_home(tmp_path / "home")
        assert line == f"livephase: {client.page}"
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_client_of_another_token_is_told(service):
    with pytest.raises(LivephaseError, match="token is missing or wrong"):
        Client(service.address, "x" * 43).status()
