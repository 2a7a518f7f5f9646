"""A small typed client: what the command line and notebooks talk to the service with.

>>> service = Client.of_home(Path("~/livephase").expanduser())   # doctest: +SKIP
>>> service.begin(Path("experiment.yaml").read_text())           # doctest: +SKIP
>>> service.status().run.state                                   # doctest: +SKIP
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from pipeline.errors import LivephaseError
from pipeline.server.home import Home
from pipeline.server.image_message import decoded
from pipeline.server.models import (
    EventList,
    Files,
    Named,
    RunDetails,
    Runs,
    Said,
    Status,
    Verdict,
)

_TIMEOUT_S = 30.0
# Loading torch and weights on a slow disk; a calibration.
_LONG_S = 900.0

Answer = TypeVar("Answer", bound=BaseModel)


class Client:
    """Of one service.

    Parameters
    ----------
    address
        ``http://127.0.0.1:8770/``.
    token
        Of the service's home.

    Every call raises `LivephaseError`, with the service's own cause and fix, or if it can't be reached.
    """

    def __init__(self, address: str, token: str) -> None:
        self.address = address.rstrip("/") + "/"
        self._token = token
        # Never through a proxy: the token is for this service alone.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    @classmethod
    def of_home(cls, home: Path) -> Client:
        """Of the service that uses a folder."""
        place = Home(home)
        address = place.address()
        if address is None:
            raise LivephaseError(
                f"no service runs on {place.path}",
                "start it with `livephase serve`, name its folder by --home, or give a run folder",
            )
        return cls(address, place.token())

    @property
    def page(self) -> str:
        """The page's address, ready to click: it carries the token."""
        return f"{self.address}?token={self._token}"

    def status(self) -> Status:
        """Service and run, as they are now."""
        return self._get(Status, "status")

    def validate(self, experiment: str) -> Verdict:
        """Check an experiment's YAML; nothing moves."""
        return self._post(Verdict, "validate", {"experiment": experiment}, _LONG_S)

    def begin(self, experiment: str, name: str | None = None) -> str:
        """Begin a run of an experiment's YAML; its name, once it has begun."""
        asked = {"experiment": experiment, "name": name}
        return self._post(Named, "runs", asked, _LONG_S).name

    def go_on(self, name: str) -> str:
        """Go on with a run that was stopped, failed or cut off."""
        return self._post(Said, f"runs/{_quoted(name)}/resume", None, _LONG_S).text

    def ask(self, order: str) -> str:
        """``pause``, ``resume``, ``stop`` or ``abort`` the run that goes on; what it will do."""
        return self._post(Said, _quoted(order)).text

    def pause(self) -> str:
        """After this timepoint: light off, clock held."""
        return self.ask("pause")

    def resume(self) -> str:
        """Go on with a paused run."""
        return self.ask("resume")

    def stop(self) -> str:
        """After this timepoint; what is recorded is still reconstructed."""
        return self.ask("stop")

    def abort(self) -> str:
        """At once; the run is marked aborted."""
        return self.ask("abort")

    def set_interval(self, seconds: float) -> str:
        """From one timepoint to the next, from the next one on; what it will be."""
        return self._post(Said, "interval", {"interval_s": seconds}).text

    def refocus(self, dz_um: float) -> str:
        """Move the plane in focus before the next timepoint; what it will be."""
        return self._post(Said, "refocus", {"dz_um": dz_um}).text

    def move(self, dx_um: float, dy_um: float) -> str:
        """Move the stage before the next timepoint; what it will be."""
        return self._post(Said, "move", {"dx_um": dx_um, "dy_um": dy_um}).text

    def snapshot(self, experiment: str | None = None) -> list[str]:
        """Files of what is to be seen now, relative to the service's home."""
        return self._post(Files, "snapshot", {"experiment": experiment}, _LONG_S).files

    def runs(self) -> Runs:
        """All runs, the newest first."""
        return self._get(Runs, "runs")

    def run(self, name: str) -> RunDetails:
        """One run, and what of it can be looked at."""
        return self._get(RunDetails, f"runs/{_quoted(name)}")

    def events(self, after: int = 0) -> EventList:
        """What happened since the event of a number."""
        return self._get(EventList, f"events?after={after}")

    def image(
        self,
        name: str,
        timepoint: int,
        *,
        kind: str = "phase",
        position: int = 0,
        channel: int = 0,
        most_px: int = 1024,
    ) -> NDArray[np.float32]:
        """A stored image ``[h, w]`` of a run, reduced to `most_px` along its longer edge; phase in radians."""
        query = urllib.parse.urlencode(
            {"kind": kind, "t": timepoint, "p": position, "c": channel, "max_px": most_px}
        )
        return decoded(
            self._ask("GET", f"api/runs/{_quoted(name)}/image?{query}", None, _TIMEOUT_S)
        )[1]

    def _get(self, kind: type[Answer], path: str) -> Answer:
        return self._read(kind, self._ask("GET", f"api/{path}", None, _TIMEOUT_S))

    def _post(
        self, kind: type[Answer], path: str, body: Any = None, timeout_s: float = _TIMEOUT_S
    ) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        return self._read(kind, self._ask("POST", f"api/{path}", data, timeout_s))

    def _read(self, kind: type[Answer], body: bytes) -> Answer:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise LivephaseError(
                f"the service at {self.address} answers otherwise than this version expects",
                "update the older of the two",
            ) from error

    def _ask(self, method: str, path: str, data: bytes | None, timeout_s: float) -> bytes:
        request = urllib.request.Request(self.address + path, data, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with self._open(request, timeout=timeout_s) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, HTTPException) as error:
            raise LivephaseError(
                f"the service at {self.address} can't be reached ({getattr(error, 'reason', error)})",
                "is it running? `livephase serve` starts it",
            ) from error


def _refusal(error: urllib.error.HTTPError) -> LivephaseError:
    """The service's own words."""
    try:
        said = json.loads(error.read())["error"]
        return LivephaseError(str(said["cause"]), str(said["fix"]))
    except (ValueError, LookupError, TypeError, OSError):
        return LivephaseError(f"the service answered {error.code} {error.reason}")


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
