"""The part of the API that is about runs: those that were, and beginning one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pipeline.server.models import LogLines, Named, NewRun, RunDetails, Runs, Said
from pipeline.server.run_list import list_runs, log_lines, run_details
from pipeline.server.service import Service


def runs_routes(service: Service) -> APIRouter:
    """See the module."""
    api = APIRouter(prefix="/api", tags=["runs"])

    @api.get("/runs")
    def runs() -> Runs:
        """All of them, the newest first."""
        return Runs(runs=list_runs(service.home))

    @api.post("/runs", status_code=201)
    def begin(asked: NewRun) -> Named:
        """Begin a run; answered when its folder is there and its processes start."""
        return Named(name=service.begin(asked.experiment, asked.name))

    @api.get("/runs/{name}")
    def run(name: str) -> RunDetails:
        """One run, and what of it can be looked at."""
        return run_details(service.home, service.pictures, name)

    @api.post("/runs/{name}/resume")
    def resume(name: str) -> Said:
        """Go on with a run that was stopped, failed, or cut off by a power failure."""
        return Said(text=service.go_on(name))

    @api.get("/logs")
    def logs(run: str, lines: Annotated[int, Query(ge=1, le=5000)] = 200) -> LogLines:
        """The end of a run's log."""
        return LogLines(lines=log_lines(service.home.run(run), lines))

    return api
