"""Everything that the service answers: API, live images, run folders, metrics and the page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from pipeline import __version__
from pipeline.errors import (
    DriverError,
    ExperimentError,
    LivephaseError,
    MethodError,
    RunFolderError,
    StoreError,
)
from pipeline.server.control_api import control_routes
from pipeline.server.deep_view import add_deep_view
from pipeline.server.home import UnknownRunError
from pipeline.server.live_images import LiveImages
from pipeline.server.live_socket import LiveSocket
from pipeline.server.metrics import CONTENT_TYPE, Metrics
from pipeline.server.models import ErrorText, Failure
from pipeline.server.pictures import PartRequest
from pipeline.server.run_files import run_file
from pipeline.server.runs_api import runs_routes
from pipeline.server.service import Service

_PAGE = Path(__file__).parent / "page"
# Of the first that fits.
_STATUS = (
    (UnknownRunError, 404),
    (StoreError, 404),
    (ExperimentError, 422),
    (MethodError, 422),
    (RunFolderError, 409),
    (DriverError, 409),
    (LivephaseError, 409),
)


def make_app(service: Service) -> FastAPI:
    """The application of one service; what may reach it, `pipeline.server.guard` decides."""
    app = FastAPI(
        title="livephase",
        version=__version__,
        description="Controls a live quantitative-phase instrument. Send the token of the service's home as "
        "`Authorization: Bearer`.",
        docs_url=None,  # their scripts would come from another host
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={
            code: {"model": Failure, "description": words}
            for code, words in (
                (401, "The token is missing or wrong."),
                (404, "There is no such thing."),
                (409, "Not now, or not this microscope: the cause and the fix are said."),
                (422, "What was sent is wrong: the cause and the fix are said."),
            )
        },
    )
    _add_errors(app)
    images, metrics = LiveImages(service), Metrics(service)
    app.include_router(control_routes(service))
    app.include_router(runs_routes(service))

    @app.websocket("/api/live")
    async def live(socket: WebSocket) -> None:
        await LiveSocket(socket, service, images).serve()

    @app.get("/api/runs/{name}/image", response_class=Response, tags=["runs"])
    def image(name: str, part: Annotated[PartRequest, Query()]) -> Response:
        """Part of a stored image: uint32 N, N bytes of JSON, then 16-bit pixels (see the README)."""
        body = service.pictures.part(name, part)
        return Response(body, media_type="application/octet-stream")

    @app.get("/metrics", response_class=Response, tags=["service"])
    def metrics_text() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.api_route("/runs/{name}/{inside:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def run_files(name: str, inside: str) -> Response:
        return run_file(service.home, name, inside)

    _add_page(app)
    add_deep_view(app, service.home)
    return app


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_PAGE / "index.html")

    @app.get("/static/plotly.min.js", include_in_schema=False)
    def plotly() -> Response:
        # Out of the installed package, without importing it: that takes a second.
        spec = find_spec("plotly")
        assert spec is not None, "a dependency"
        assert spec.origin is not None
        path = Path(spec.origin).parent / "package_data" / "plotly.min.js"
        return FileResponse(path, media_type="text/javascript")

    app.mount("/page", StaticFiles(directory=_PAGE), name="page")


def _add_errors(app: FastAPI) -> None:
    """Whatever goes wrong is said with its cause and its fix."""

    @app.exception_handler(LivephaseError)
    def ours(_: Request, error: LivephaseError) -> JSONResponse:
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        return _failure(status, error.cause, error.fix)

    @app.exception_handler(RequestValidationError)
    def unfit(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"][1:])
        return _failure(422, str(first["msg"]), "", path or None)

    @app.exception_handler(HTTPException)
    def http(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        return _failure(error.status_code, str(error.detail), "", None, headers)

    @app.exception_handler(OSError)
    def system(_: Request, error: OSError) -> JSONResponse:
        return _failure(
            503,
            f"the machine could not do it ({error.strerror or error})",
            "check the disk, its permissions and how many files are open, then ask again",
        )


def _failure(
    status: int,
    cause: str,
    fix: str,
    path: str | None = None,
    headers: dict[str, Any] | None = None,
) -> JSONResponse:
    body = Failure(error=ErrorText(cause=cause, fix=fix, path=path))
    return JSONResponse(body.model_dump(), status, headers)
