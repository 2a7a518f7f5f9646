"""The files of run folders over HTTP, with byte ranges: OME-Zarr readers and browsers look into runs with them."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, Response

from pipeline.errors import RunFolderError
from pipeline.server.home import Home

_TYPES = {".json": "application/json", ".jsonl": "text/plain", ".yaml": "text/plain"}


def run_file(home: Home, name: str, inside: str) -> Response:
    """A file of a run; 404 for everything that is none, whichever way it is spelt.

    Zarr readers ask for chunks that aren't there, and take 404 for an empty one.
    """
    path = resolved(home, name, inside)
    if path is None:
        return Response("there is no such file\n", 404, media_type="text/plain")
    return FileResponse(path, media_type=_TYPES.get(path.suffix))


def resolved(home: Home, name: str, inside: str) -> Path | None:
    """Where a file of a run lies; None if there is none, or it would lie outside the run."""
    try:
        folder = home.run(name).path.resolve()
    except RunFolderError:
        return None
    if "\\" in inside or "\0" in inside or ":" in inside:
        return None
    parts = inside.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return None
    try:
        # Links are followed before it is asked where they lead.
        path = folder.joinpath(*parts).resolve(strict=True)
    except (OSError, ValueError):
        return None
    return path if path.is_relative_to(folder) and path.is_file() else None
