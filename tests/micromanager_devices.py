"""Micro-Manager's test devices as experiments, and frames that say themselves what they saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pymmcore_plus.seq_tester import decode_image

from drivers.driver import Arrived, Driver, Lost
from pipeline.experiment import Experiment, load_experiment, parse_experiment
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.frames import FrameKey, SlotKey

SIDE = 128  # SequenceTester needs so many pixels for what it writes into them
OPTICS = {"wavelength_um": 0.53, "numerical_aperture": 0.4, "magnification": 10}


def seq_microscope(
    *,
    led_holds: int = 64,
    lens_holds: int = 64,
    channels: int = 4,
    kind: str = "in_process",
    **more: Any,
) -> dict[str, Any]:
    """SequenceTester: camera, LED (states 1 up, 0 is off), lens and XY stage, triggered by the exposure."""
    triggers = {"TriggerSourceDevice": "TCamera-0", "TriggerSourcePort": "ExposureStartEdge"}
    setup = {f"{d}.{name}": value for d in ("LED", "Lens") for name, value in triggers.items()}
    setup |= {
        "LED.TriggerSequenceMaxLength": led_holds,
        "Lens.TriggerSequenceMaxLength": lens_holds,
    }
    connection: dict[str, Any] = {"kind": kind, "buffer_mb": 64}
    if kind == "pycromanager":
        connection["headless"] = "python"
    microscope = {
        "driver": "micromanager",
        "camera": {"shape_px": [SIDE, SIDE], "pixel_um": 6.5, "bit_depth": 8},
        "connection": connection,
        "devices": [
            {"label": "Hub", "library": "SequenceTester", "name": "THub"},
            {
                "label": "Cam",
                "library": "SequenceTester",
                "name": "TCamera-0",
                "hub": "Hub",
                "before": {
                    "ImageMode": "MachineReadable",
                    "ImageWidth": SIDE,
                    "ImageHeight": SIDE,
                },
            },
            {"label": "LED", "library": "SequenceTester", "name": "TSwitcher-0", "hub": "Hub"},
            {"label": "Lens", "library": "SequenceTester", "name": "TZStage-0", "hub": "Hub"},
            {"label": "XY", "library": "SequenceTester", "name": "TXYStage-0", "hub": "Hub"},
        ],
        "setup": setup,
        "camera_device": "Cam",
        "light": {
            "device": "LED",
            "property": "State",
            "values": {f"c{i}": i + 1 for i in range(channels)},
            "off": 0,
        },
        "lens": {"device": "Lens", "safe": -7.0},
        "stage": {"device": "XY"},
    }
    for part, changes in more.items():
        own = microscope.get(part)
        merges = isinstance(own, dict) and isinstance(changes, dict)
        microscope[part] = {**own, **changes} if merges else changes
    return microscope


def seq_experiment(
    microscope: dict[str, Any] | None = None,
    *,
    exposures_ms: Iterable[float] = (1.0,) * 4,
    dark: Iterable[int] = (),
    **sequence: Any,
) -> Experiment:
    """An experiment on SequenceTester with the channels c0, c1, …"""
    dark = set(dark)
    channels = {
        f"c{i}": {"exposure_ms": ms, "brightness": 0 if i in dark else 1}
        for i, ms in enumerate(exposures_ms)
    }
    microscope = microscope or seq_microscope(channels=len(channels))
    return parse_experiment(
        {
            "microscope": microscope,
            "optics": OPTICS,
            "illumination": {"source": "condenser", "channels": channels},
            "sequence": {"timepoints": 1, **sequence},
            "reconstruction": {"method": "none"},
        }
    )


def random_experiment(seed: int, kind: str = "in_process") -> Experiment:
    """A random programme: any patterns, foci, places, limits and modes."""
    chance = random.Random(seed)
    channels = chance.choice([1, 2, 3, 4, 5, 8])
    foci = chance.choice([1, 1, 2, 3, 5])
    modes = ["auto", "auto", "hardware", "software"]
    led_mode, lens_mode = chance.choice(modes), chance.choice(modes)
    holds = [1, 2, 3, 4, 7, 8, 16, 64]
    led_holds, lens_holds = chance.choice(holds), chance.choice(holds)
    if led_mode == "auto" and chance.random() < 0.3:
        led_holds = 0
    if lens_mode == "auto" and chance.random() < 0.3:
        lens_holds = 0
    values = [chance.randint(1, 16) for _ in range(channels)]
    places = chance.choice([1, 1, 2, 3])
    microscope = seq_microscope(
        led_holds=led_holds,
        lens_holds=lens_holds,
        kind=kind,
        light={"sequencing": led_mode, "values": {f"c{i}": v for i, v in enumerate(values)}},
        lens={
            "sequencing": lens_mode,
            "um_per_unit": chance.choice([1.0, -2.0, 0.5]),
            "zero": chance.choice([0.0, 3.0]),
        },
        burst_frames=chance.choice([100_000, 100_000, 3, 7, 20]),
    )
    return seq_experiment(
        microscope,
        exposures_ms=[chance.choice([1.0, 1.0, 1.0, 2.0]) for _ in range(channels)],
        dark={0} if chance.random() < 0.2 else (),
        timepoints=chance.choice([1, 2, 5, 9]),
        foci_um=chance.sample([-3.0, -1.5, -1.0, 0.0, 0.25, 1.0, 2.0, 4.5], foci),
        positions=[{}]
        if places == 1 and chance.random() < 0.5
        else [{"x_um": 100.0 * p, "y_um": -50.0 * chance.randint(0, 3)} for p in range(places)],
        frame_order=chance.choice(["cz", "zc"]),
        slot_order=chance.choice(["tp", "pt"]),
    )


def stored_experiments(folder: Path) -> list[Path]:
    """The experiment files of a folder."""
    return sorted(folder.glob("*.y*ml"))


def load(path: Path, kind: str = "in_process") -> Experiment:
    """An experiment file, on the core of this kind."""
    experiment = load_experiment(path)
    data = experiment.model_dump(mode="json")
    connection: dict[str, Any] = {"kind": kind}
    if kind == "pycromanager":
        connection["headless"] = "python"
    own = data["microscope"]["connection"]
    data["microscope"]["connection"] = {
        **connection,
        "adapters": own["adapters"],
        "buffer_mb": own["buffer_mb"],
    }
    return parse_experiment(data)


class Witness:
    """Takes frames from a driver and holds each against what its key asks for."""

    def __init__(self, experiment: Experiment, driver: Driver) -> None:
        self.experiment = experiment
        self.plan = experiment.plan()
        self.driver = driver
        self.seen: dict[FrameKey, Arrived] = {}
        self.lost: list[Lost] = []
        self._pixels = np.zeros(self.plan.frame_shape, self.plan.dtype)
        microscope = experiment.microscope
        assert isinstance(microscope, MicroManagerMicroscope)
        self._light, self._lens = microscope.light, microscope.lens
        names = {device.label: device.name for device in microscope.devices}

        def device(label: str | None, kind: str) -> str:
            """SequenceTester's own name of a device; a `.cfg` file, or a default, is taken for its first."""
            own = [name for name in names.values() if name.startswith(kind)]
            return names.get(label or "") or (own or [f"{kind}-0"])[0]

        self._camera = device(microscope.camera_device, "TCamera")
        self._led = device(self._light.device if self._light else None, "TSwitcher")
        self._stage = device(microscope.stage.device, "TXYStage")
        self._focus = device(self._lens.device if self._lens else None, "TZStage")

    def burst(self, slots: list[SlotKey], stop_after: int | None = None) -> list[SlotKey]:
        """Arm, take, and return the slots that are left; stopped after so many events, if given."""
        self.driver.arm(slots)
        events = 0
        done = {key.slot for key in self.seen}
        while True:
            if events == stop_after:
                self.driver.stop_burst()
            event = self.driver.next_frame(self._destination)
            if event is None:
                break
            events += 1
            if isinstance(event, Arrived):
                assert event.key not in self.seen, f"{event.key} twice"
                self._check(event)
                self.seen[event.key] = event
            else:
                self.lost.append(event)
            done |= {event.key.slot} if isinstance(event, Arrived) else {k.slot for k in event.keys}
        for slot in done:
            frames = set(self.plan.frame_keys(slot))
            accounted = {k for k in self.seen if k.slot == slot}
            accounted |= {k for lost in self.lost for k in lost.keys if k.slot == slot}
            assert accounted == frames, f"{slot} is torn"
        return [slot for slot in slots if slot not in done]

    def _destination(self, key: FrameKey) -> Any:
        self._pixels[:] = 255
        return self._pixels

    def _check(self, event: Arrived) -> None:
        info = decode_image(self._pixels)
        state = {(s.device, s.property): s.value for s in info.current_state}
        key = event.key
        channel = self.plan.channels[key.channel]
        if self._light is not None:
            is_dark = channel.brightness == 0
            asked = self._light.off if is_dark else self._light.values[channel.name]
            assert state[self._led, "Position"] == int(asked), f"{key}: another light"
        assert state[self._camera, "Exposure"] == channel.exposure_ms, f"{key}: another exposure"
        if self._lens is not None:
            wanted = self._lens.position(self.plan.foci_um[key.focus])
            seen = state[self._focus, "ZPositionUm"]
            assert abs(seen - wanted) < 1e-6, f"{key}: another focus"
        place = self.plan.positions[key.position]
        if place.x_um is not None and place.y_um is not None:
            steps = (state[self._stage, "XPositionSteps"], state[self._stage, "YPositionSteps"])
            asked_steps = (round(place.x_um * 10), round(place.y_um * 10))
            assert steps == asked_steps, f"{key}: another place"
        assert event.led in {key.channel, -1}
        assert event.focus_um == self.plan.foci_um[key.focus]


def check_programme(
    experiment: Experiment, open_driver: Callable[[Experiment], Driver], seed: int
) -> int:
    """Run a whole programme, stopped and armed again at a random frame; every frame once, each as asked for."""
    chance = random.Random(seed)
    driver = open_driver(experiment)
    driver.preflight()
    try:
        driver.open()
        witness = Witness(experiment, driver)
        slots = list(witness.plan.slot_keys())
        stop_after = chance.choice([None, 0, chance.randrange(witness.plan.frames)])
        while slots:
            left = witness.burst(slots, stop_after)
            assert stop_after is not None or not left, "the burst ended early"
            stop_after, slots = None, left
    finally:
        driver.close()
    planned = {k for slot in witness.plan.slot_keys() for k in witness.plan.frame_keys(slot)}
    assert set(witness.seen) == planned
    assert not witness.lost
    return len(planned)
