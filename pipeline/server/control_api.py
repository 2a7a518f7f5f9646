"""The part of the API that is about the microscope and the run that goes on."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query

from pipeline import actions
from pipeline.actions import SetInterval
from pipeline.experiment import Experiment
from pipeline.server.models import (
    CalibrationWish,
    EventList,
    Examples,
    ExperimentText,
    Files,
    Interval,
    Move,
    Refocus,
    Said,
    Snap,
    Status,
    Verdict,
)
from pipeline.server.service import Service
from pipeline.server.validation import examples, verdict


def control_routes(service: Service) -> APIRouter:
    """See the module. Handlers are plain functions: each runs in a thread, and holds up no other."""
    api = APIRouter(prefix="/api", tags=["control"])

    @api.get("/status")
    def status() -> Status:
        """Service and run, as they are now."""
        return service.status()

    @api.get("/history")
    def history(
        seconds: Annotated[float, Query(ge=1, le=7 * 86_400)] = 3600.0,
    ) -> dict[str, list[float | None]]:
        """Figures of the run over time, for plots."""
        watch = service.watch
        return {} if watch is None else watch.history.since(time.time() - seconds)

    @api.get("/events")
    def events(after: Annotated[int, Query(ge=0, le=2**53)] = 0) -> EventList:
        """What happened since the event of a number."""
        found = service.events.after(after)
        return EventList.model_validate({"events": [event.as_dict() for event in found]})

    @api.get("/schema")
    def schema() -> dict[str, Any]:
        """JSON Schema of experiments."""
        return Experiment.model_json_schema()

    @api.get("/examples")
    def all_examples() -> Examples:
        """Experiments to begin with."""
        return Examples(examples=examples(service.home))

    @api.post("/validate")
    def validate(asked: ExperimentText) -> Verdict:
        """Check an experiment and say what its run will need. Nothing moves."""
        return verdict(asked.experiment, service.home)

    for name, words in (
        ("pause", "After this timepoint: the light goes off, the clock is held."),
        ("resume", "Go on with a paused run."),
        (
            "stop",
            "After this timepoint; what is recorded is still reconstructed. It can be resumed.",
        ),
        ("abort", "At once; what is complete is kept. The run is marked aborted."),
    ):
        api.post(f"/{name}", name=name, description=words)(_asking(service, name))

    @api.post("/interval")
    def interval(asked: Interval) -> Said:
        """From one timepoint to the next, from the next one on."""
        return Said(text=service.act(SetInterval(asked.interval_s)))

    @api.post("/refocus")
    def refocus(asked: Refocus) -> Said:
        """Move the plane in focus before the next timepoint."""
        return Said(text=service.act(actions.Refocus(asked.dz_um)))

    @api.post("/move")
    def move(asked: Move) -> Said:
        """Move the stage before the next timepoint."""
        return Said(text=service.act(actions.Move(asked.dx_um, asked.dy_um)))

    @api.post("/snapshot")
    def snapshot(asked: Snap | None = None) -> Files:
        """Newest frames and phase as files; while no run goes on, a look through the microscope."""
        files = service.snapshot(None if asked is None else asked.experiment)
        root = service.home.path
        return Files(files=[path.relative_to(root).as_posix() for path in files])

    @api.post("/calibrate")
    def calibrate(asked: CalibrationWish) -> Said:
        """Calibrate while no run goes on; takes minutes."""
        return Said(text=service.calibrate(asked.experiment, asked.steps))

    @api.get("/devices")
    def devices() -> dict[str, Any]:
        """What Micro-Manager can reach from this machine."""
        found: dict[str, Any] = json.loads(service.devices())
        return found

    return api


def _asking(service: Service, request: str) -> Any:
    def order() -> Said:
        return Said(text=service.ask(request))

    return order
