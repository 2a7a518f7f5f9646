"""A run's phase in Neuroglancer, for volumes too large to page through: the client that its Python wheel carries.

That client is told what to show by a Python server: it takes its state from a stream of events, and reports back
what its user does. Here the state is the run's images, once; what comes back is acknowledged and forgotten.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import StreamingResponse
from starlette.staticfiles import StaticFiles

from pipeline.server.home import Home
from pipeline.store.layout import slot_period_s
from pipeline.store.run_folder import RunFolder

# Phase of cells, in radians; changed by dragging in the viewer.
_SHOWN_RAD = (-0.5, 2.5)
# Proxies hang up on silence.
_ALIVE_S = 15.0


def add_deep_view(app: FastAPI, home: Home) -> None:
    """Serve the client, and each run under ``/neuroglancer/v/NAME/``; nothing without the wheel."""
    client = _client()
    if client is None:
        return
    app.include_router(_routes(home))
    files = StaticFiles(directory=client, html=True)
    app.mount("/neuroglancer/v/{name}", files)
    app.mount("/neuroglancer", files)


def viewer_state(folder: RunFolder, origin: str) -> dict[str, Any]:
    """What the viewer begins with: a layer for each position, the first of them seen."""
    experiment = folder.experiment()
    positions = experiment.plan().positions
    store = f"zarr3://{origin}/runs/{quote(folder.path.name)}/{folder.phase_store.name}"
    layers = [
        {
            "type": "image",
            "name": position.name or "phase",
            "source": f"{store}/{number}" if len(positions) > 1 else store,
            "visible": number == 0,
            # The first of the method's images is the phase.
            "localDimensions": {"c'": [1, ""]},
            "localPosition": [0],
            "shaderControls": {"normalized": {"range": list(_SHOWN_RAD)}},
        }
        for number, position in enumerate(positions)
    ]
    pixel = [experiment.pixel_um * 1e-6, "m"]
    # Time is the third axis: scrolled through.
    dimensions = {"x": pixel, "y": pixel, "t": [slot_period_s(experiment), "s"]}
    return {"dimensions": dimensions, "layers": layers, "layout": "xy"}


def _client() -> Path | None:
    """Folder of the client, where the wheel is installed."""
    spec = find_spec("neuroglancer")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "static" / "client"
    return folder if (folder / "index.html").is_file() else None


def _routes(home: Home) -> APIRouter:
    api = APIRouter(prefix="/neuroglancer", include_in_schema=False)

    @api.get("/events/{name}")
    def events(name: str, request: Request, gs: str = "") -> StreamingResponse:
        state = viewer_state(home.run(name), _origin(request))
        return StreamingResponse(_stream(state, is_new=not gs), media_type="text/event-stream")

    @api.post("/state/{name}")
    async def state(name: str, request: Request) -> dict[str, str]:  # noqa: ARG001
        said = json.loads(await request.body())
        return {"g": f"{said.get('c', '')}/{said.get('g', '')}"}

    return api


async def _stream(state: dict[str, Any], is_new: bool) -> AsyncIterator[str]:
    if is_new:
        yield f"data: {json.dumps({'k': 's', 's': state, 'g': 'first'})}\n\n"
    while True:
        yield ": alive\n\n"
        await asyncio.sleep(_ALIVE_S)


def _origin(request: Request) -> str:
    """As the browser calls us: a proxy in front may speak TLS."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{scheme}://{request.headers['host']}"
