"""The page of the service in a real browser: what a biologist does with it, by mouse and by keyboard."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from urllib.parse import quote

import psutil
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from service_process import ServiceProcess, small

pytestmark = pytest.mark.timeout(600)

_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Other tests may have the cores.
_PATIENCE_MS = 60_000
# A run is a process with torch in it.
_BEGIN_MS = 120_000

# Notes each new phase image and when it was on the canvas.
_WATCH_PHASE = """() => {
    const canvas = document.querySelector('#canvas-phase');
    window.seenPhases = [];
    new MutationObserver(() => {
        const { there, source } = canvas.dataset;
        if (source === 'live' && seenPhases.at(-1)?.[0] !== there) seenPhases.push([there, Date.now()]);
    }).observe(canvas, { attributes: true, attributeFilter: ['data-painted'] });
}"""

_UNNAMED = """() => [...document.querySelectorAll('button, a, input, select, textarea, canvas[tabindex], [role=group]')]
    .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length
        || e.textContent.trim()))
    .map(e => e.outerHTML.slice(0, 120))"""

_TOO_SMALL = """() => [...document.querySelectorAll('button, .button, select, input')]
    .filter(e => e.offsetParent && e.type !== 'checkbox' && e.getBoundingClientRect().height < 40)
    .map(e => e.outerHTML.slice(0, 120))"""

_LINES = """async () => {
    const { lineOf, readScalar, writeScalar } = await import('/page/yaml_text.js');
    const text = `name: a
microscope:
  camera: {shape_px: [64, 64], bit_depth: 13}
sequence:
  positions:
  - {name: left, x_um: 0}
  - name: right
    x_um: far  # too far
  timepoints: 3
  foci_um:
  - 0.0
  - 4
`;
    const line = (path, message = '') => lineOf(text, { path, message }) + 1;
    return {
        lines: [line('microscope.camera.bit_depth'), line('sequence.positions.0.x_um'),
            line('sequence.positions.1.x_um'), line('sequence.timepoints'), line('sequence.interval_s'),
            line('optics'), line('microscope', "unknown key 'camera'")],
        read: [readScalar(text, 'sequence.positions.1.x_um'), readScalar(text, 'microscope.camera.shape_px'),
            readScalar(text, 'sequence.foci_um')],
        written: [['sequence.timepoints', '9'], ['microscope.camera.bit_depth', '12'], ['safety.dose_limit_s', '5']]
            .reduce((now, [path, value]) => writeScalar(now, path, value), text),
        list: writeScalar(text, 'sequence.foci_um', '[1]'),
    };
}"""


class Visitor:
    """A browser of one user: what it asked for and complained about is kept."""

    def __init__(self, browser, service, **options):
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_PATIENCE_MS)
        self.outside: list[str] = []
        self.complaints: list[str] = []
        self.expects_silence = False
        self.page.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._base = service.address
        self.page.goto(f"{service.address}?token={service.token}")
        assert self.page.url.rstrip("/#live") == service.address.rstrip("/"), "no token is left"
        expect(self.page.locator("body")).to_have_attribute("data-connection", "open")

    def _on_request(self, request):
        if not request.url.startswith((self._base, "data:", "blob:")):
            self.outside.append(request.url)

    def _on_console(self, message):
        if message.type in ("error", "warning") and not self.expects_silence:
            self.complaints.append(message.text)

    def timepoint(self, kind="phase") -> int:
        return int(self.page.locator(f"#canvas-{kind}").get_attribute("data-timepoint") or -1)

    def until(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.page.locator("body").inner_text()[:2000]
            self.page.wait_for_timeout(50)

    def until_later_than(self, timepoint, kind="phase"):
        self.until(lambda: self.timepoint(kind) > timepoint)


@pytest.fixture
def browser():
    if _BROWSER is None:
        pytest.skip("no chromium here")
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_BROWSER, args=list(_OPTIONS))
        yield browser
        browser.close()


def _end_everything(service, name):
    """A power cut: service and run die at once."""
    folder = str(service.folder(name).path)
    runs = [p for p in psutil.process_iter(["cmdline"]) if folder in (p.info["cmdline"] or ())]
    processes = [*runs, *(child for run in runs for child in run.children(recursive=True))]
    assert processes
    service.kill()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=20)


def test_a_run_lived_through_in_the_browser(browser, tmp_path):
    home = tmp_path / "home"
    with ServiceProcess(home) as service:
        port = str(service.port)
        visitor = Visitor(browser, service, viewport={"width": 1400, "height": 900})
        _writes_an_experiment(visitor)
        name = _starts_it(visitor, service)
        _looks_at_it(visitor)
        _looks_back(visitor)
        _pauses_and_goes_on(visitor, service)
        _takes_a_snapshot(visitor, service, name)
        _second_visitor(browser, service)
        visitor.expects_silence = True
        service.kill()
        _connection_is_lost(visitor)
    with ServiceProcess(home, "--port", port) as service:
        # The run went on meanwhile, and the page comes back by itself.
        body = visitor.page.locator("body")
        expect(body).to_have_attribute("data-connection", "open", timeout=_PATIENCE_MS)
        visitor.expects_silence = False
        expect(visitor.page.locator("#banner-connection")).to_be_hidden()
        visitor.until_later_than(visitor.timepoint())
        visitor.expects_silence = True
        _end_everything(service, name)
        _connection_is_lost(visitor)
    with ServiceProcess(home, "--port", port) as service:
        _is_offered_to_resume(visitor, service, name)
        visitor.expects_silence = False
        _stops_by_keyboard(visitor, service)
        _finds_it_in_the_list(visitor, name)
        _finds_it_in_neuroglancer(service, name)
        _uses_a_phone(visitor)
    assert not visitor.outside
    assert not visitor.complaints


def _writes_an_experiment(visitor):
    page = visitor.page
    found = page.evaluate(_LINES)
    assert found["lines"] == [3, 6, 8, 9, 4, 0, 3]
    assert found["read"] == ["far", "[64, 64]", "[0.0, 4]"]
    assert "timepoints: 9\n" in found["written"]
    assert "bit_depth: 12}" in found["written"]
    assert found["list"].endswith("  timepoints: 3\n  foci_um: [1]\n")
    assert found["written"].endswith("safety:\n  dose_limit_s: 5\n")

    page.locator("#start").click()
    expect(page.locator("#panel-experiment")).to_be_visible()
    expect(page.locator("#example option")).not_to_have_count(1)
    wrong = (
        small()
        .replace("timepoints: 400", "timepoints: many")
        .replace("numerical_aperture", "aperture")
    )
    page.locator("#yaml").fill(wrong)
    problem = page.locator('.problem[data-path="sequence.timepoints"]')
    expect(problem).to_contain_text("integer", timeout=_PATIENCE_MS)
    lines = wrong.splitlines()
    for path, key in (
        ("sequence.timepoints", "timepoints: many"),
        ("optics.aperture", "aperture:"),
    ):
        line = next(i for i, text in enumerate(lines, 1) if key in text)
        note = page.locator(f'.problem[data-path="{path}"]')
        expect(note).to_have_attribute("data-line", str(line))
        expect(page.locator(f'.mark[data-line="{line}"]')).to_have_count(1)
    page.locator("#start-run").click()
    expect(page.locator("#confirm")).to_be_hidden()
    assert page.evaluate("() => document.activeElement.id") == "yaml"

    page.locator("#yaml").fill(small(timepoints=3000, interval_s=0.25))
    expect(page.locator("#verdict")).to_have_attribute("data-ok", "true", timeout=_PATIENCE_MS)
    expect(page.locator("#needs")).to_contain_text("disk left")
    # The form writes into the text.
    page.locator("#field-sequence-timepoints").fill("2000")
    page.locator("#field-sequence-timepoints").press("Tab")
    assert "timepoints: 2000" in page.locator("#yaml").input_value()


def _starts_it(visitor, service) -> str:
    page = visitor.page
    page.evaluate(_WATCH_PHASE)
    page.locator("#new-name").fill("seen in a browser")
    page.locator("#start-run").click()
    expect(page.locator("#confirm-text")).to_contain_text("light comes on", timeout=_PATIENCE_MS)
    page.locator("#confirm-yes").click()
    phase = page.locator("#canvas-phase")
    expect(phase).to_have_attribute("data-source", "live", timeout=_BEGIN_MS)
    expect(page.locator("body")).to_have_attribute("data-state", "running")
    visitor.until(lambda: page.evaluate("() => seenPhases.length") >= 5)
    # A live phase tells when its reconstruction put it out.
    delays = [at / 1000 - float(there) for there, at in page.evaluate("() => seenPhases")]
    print(f"first phase on the screen after {delays[0]:.2f} s")
    assert min(delays[:5]) < 2, delays
    assert delays[0] < 10, delays
    return service.client.status().run.name


def _looks_at_it(visitor):
    page = visitor.page
    raw, phase = page.locator("#canvas-raw"), page.locator("#canvas-phase")
    page.locator("#channel").select_option(label="right")
    expect(raw).to_have_attribute("data-channel", "2")
    visitor.until_later_than(visitor.timepoint("raw"), "raw")

    # The panes are linked: pointing, and zooming by keyboard, wheel and button.
    phase.hover(position={"x": 150, "y": 120})
    expect(page.locator("#readout-phase")).to_contain_text("rad at x")
    expect(page.locator("#readout-raw")).to_contain_text("counts at x")
    phase.focus()
    phase.press("+")
    expect(raw).to_have_attribute("data-zoom", "1.40")
    phase.press("ArrowLeft")
    page.mouse.wheel(0, -200)
    visitor.until(lambda: float(phase.get_attribute("data-zoom")) > 1.5)
    page.locator("#fit").click()
    expect(phase).to_have_attribute("data-zoom", "1.00")

    pane = page.locator(".pane[data-kind=phase]")
    before = pane.locator(".end.low").input_value()
    pane.locator(".end.low").fill("-7.5")
    pane.locator(".end.low").press("Enter")
    expect(pane.get_by_role("button", name="Auto")).to_have_attribute("aria-pressed", "false")
    pane.locator(".contrast select").select_option("balance")
    pane.get_by_role("button", name="Undo").click()
    pane.get_by_role("button", name="Undo").click()
    expect(pane.get_by_role("button", name="Auto")).to_have_attribute("aria-pressed", "true")
    assert float(before) > -7.5

    for figure in ("timepoint", "rate", "latency", "light", "disk"):
        expect(page.locator(f"#value-{figure}")).not_to_have_text("–", timeout=_PATIENCE_MS)
    expect(page.locator("#value-missing")).to_have_text("0")
    page.locator("[data-figure=missing]").focus()
    expect(page.locator("#explain-missing")).to_be_visible()
    visitor.until(lambda: int(page.locator("#plots").get_attribute("data-points") or 0) > 1)
    expect(page.locator("#plot-frames_per_s .main-svg").first).to_be_visible()
    expect(page.locator("#events")).to_contain_text("begins")
    assert page.evaluate(_UNNAMED) == []
    assert page.evaluate(_TOO_SMALL) == []


def _looks_back(visitor):
    page = visitor.page
    raw, phase = page.locator("#canvas-raw"), page.locator("#canvas-phase")
    slider = page.locator("#timepoint")
    visitor.until(lambda: int(slider.get_attribute("data-stored") or 0) >= 3)
    # As if the image were larger than what a page is sent at once: a part of it comes when it is zoomed.
    page.route(
        "**/image?*",
        lambda route: route.continue_(url=route.request.url.replace("max_px=1024", "max_px=32")),
    )
    slider.focus()
    slider.press("Home")
    for canvas in (raw, phase):
        expect(canvas).to_have_attribute("data-source", "stored")
        expect(canvas).to_have_attribute("data-timepoint", "0")
    expect(phase).to_have_attribute("data-step", "1")
    page.locator("#later").click()
    expect(phase).to_have_attribute("data-timepoint", "1")
    page.keyboard.press(",")
    expect(phase).to_have_attribute("data-timepoint", "0")
    page.unroute("**/image?*")
    page.locator("#output").select_option(label="absorption")
    expect(phase).to_have_attribute("data-channel", "1")
    expect(page.locator(".pane[data-kind=phase] .contrast .unit")).to_have_text("")
    page.locator("#output").select_option(label="phase")
    expect(phase).to_have_attribute("data-channel", "0")
    page.keyboard.press("l")
    expect(page.locator("#live-button")).to_have_attribute("aria-pressed", "true")
    expect(phase).to_have_attribute("data-source", "live")
    visitor.until_later_than(2)


def _pauses_and_goes_on(visitor, service):
    page = visitor.page
    page.keyboard.press("p")
    expect(page.locator("#confirm-text")).to_contain_text("light goes off")
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_hidden()
    page.keyboard.press("p")
    page.keyboard.press("Enter")
    service.until_state("paused")
    body = page.locator("body")
    expect(body).to_have_attribute("data-state", "paused")
    expect(page.locator("#pause")).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#pause")).to_have_attribute("title", "The run is paused already.")
    # Back from a stored timepoint the newest image is there, though no new one comes.
    phase = page.locator("#canvas-phase")
    newest = visitor.timepoint()
    page.locator("#timepoint").press("Home")
    expect(phase).to_have_attribute("data-source", "stored")
    page.keyboard.press("l")
    expect(phase).to_have_attribute("data-source", "live")
    assert visitor.timepoint() >= newest > 0
    page.locator("#resume").click()
    page.locator("#confirm-yes").click()
    expect(body).to_have_attribute("data-state", "running")
    visitor.until_later_than(visitor.timepoint())


def _takes_a_snapshot(visitor, service, name):
    page = visitor.page
    page.locator("#snapshot").click()
    page.locator("#confirm-yes").click()
    link = page.locator("#banner-message a").last
    expect(link).to_have_attribute(
        "href", f"/runs/{quote(name)}/snapshots/{link.inner_text()}", timeout=_PATIENCE_MS
    )
    assert (service.folder(name).path / "snapshots" / link.inner_text()).stat().st_size > 0


def _second_visitor(browser, service):
    late = Visitor(
        browser,
        service,
        color_scheme="dark",
        has_touch=True,
        viewport={"width": 800, "height": 1100},
    )
    expect(late.page.locator("#canvas-phase")).to_have_attribute("data-source", "live")
    expect(late.page.locator("#events")).to_contain_text("begins")
    late.until_later_than(late.timepoint())
    assert late.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert not late.outside
    assert not late.complaints
    late.context.close()


def _connection_is_lost(visitor):
    page = visitor.page
    expect(page.locator("body")).to_have_attribute("data-connection", "lost")
    expect(page.locator("#banner-connection")).to_contain_text("comes back by itself")
    expect(page.locator("#pause")).to_have_attribute("aria-disabled", "true")


def _is_offered_to_resume(visitor, service, name):
    page = visitor.page
    offer = page.locator("#resume-interrupted")
    expect(offer).to_be_visible(timeout=_PATIENCE_MS)
    expect(page.locator("#banner-resume")).to_contain_text(name)
    # What it took can be looked at already.
    expect(page.locator("#canvas-phase")).to_have_attribute("data-run", name)
    before = visitor.timepoint()
    offer.click()
    expect(page.locator("#confirm-text")).to_contain_text("where it stopped")
    page.locator("#confirm-yes").click()
    service.until_state("running", timeout=120)
    visitor.until_later_than(before)
    expect(page.locator("#banner-resume")).to_be_hidden()


def _stops_by_keyboard(visitor, service):
    page = visitor.page
    page.locator("#stop").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#confirm-text")).to_contain_text("resumed later")
    page.keyboard.press("Enter")
    service.until_over()
    expect(page.locator("#run-state")).to_have_text("stopped")
    expect(page.locator("#canvas-phase")).to_have_attribute("data-source", "stored")
    expect(page.locator("#stop")).to_have_attribute("title", "No run is going on.")


def _finds_it_in_the_list(visitor, name):
    page = visitor.page
    page.keyboard.press("3")
    row = page.locator(f'tr[data-run="{name}"]')
    expect(row).to_have_attribute("data-state", "stopped")
    expect(row.get_by_role("link", name="Report")).to_have_attribute(
        "href", f"/runs/{quote(name)}/report.html"
    )
    expect(row.get_by_role("button", name="Resume")).to_be_visible()
    deep = row.get_by_role("link", name="Neuroglancer")
    expect(deep).to_have_attribute("href", f"/neuroglancer/v/{quote(name)}/")
    row.get_by_role("button", name="Look").click()
    expect(page.locator("#canvas-phase")).to_have_attribute("data-source", "stored")


def _finds_it_in_neuroglancer(service, name):
    """What the client is told to show is there. (It draws by WebGL, which there isn't without a GPU.)"""
    assert service.http.get(f"/neuroglancer/v/{quote(name)}/").status_code == 200
    address = f"/neuroglancer/events/{quote(name)}"
    with service.http.stream("GET", address, params={"c": "me", "gs": ""}) as events:
        line = next(line for line in events.iter_lines() if line.startswith("data: "))
    layer = json.loads(line.removeprefix("data: "))["s"]["layers"][0]
    source = layer["source"].removeprefix("zarr3://")
    assert service.http.get(f"{source}/zarr.json").json()["attributes"]["ome"]


def _uses_a_phone(visitor):
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("live", "experiment", "runs"):
        page.locator(f"#tab-{tab}").click()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), tab
        assert page.evaluate(_TOO_SMALL) == []
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
