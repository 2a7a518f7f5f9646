"""One page's websocket: status, events, and the newest images as fast as it takes them.

A page says of each image that it has it, before it is sent the next: one that is slow, or stalled, gets fewer and
holds up nobody. What it misses is not kept for it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from pipeline.server.live_images import SIZES, LiveImages
from pipeline.server.service import Service

_LOOK_S = 0.05
_STATUS_S = 0.5
_MOST_CLIENTS = 64
# Somebody who takes so long for one message is gone.
_SEND_S = 30.0
_KINDS = ("raw", "phase")


class Want(BaseModel):
    """What a page shows."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["want"]
    raw: bool = True
    phase: bool = True
    channel: int = Field(default=0, ge=0, le=10_000)
    max_px: int = Field(default=1024, ge=16, le=SIZES[-1])


class Ack(BaseModel):
    """A page has drawn an image."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["ack"]
    seq: int
    kind: Literal["raw", "phase"] | None = None


_Message: TypeAdapter[Want | Ack] = TypeAdapter(Want | Ack)


class LiveSocket:
    """One connection, from its acceptance to its end."""

    def __init__(self, socket: WebSocket, service: Service, images: LiveImages) -> None:
        self._socket = socket
        self._service = service
        self._images = images
        self._want = Want(type="want")
        self._sent = dict.fromkeys(_KINDS, 0)
        self._pending: dict[str, int] = {}
        self._event_seq = 0

    async def serve(self) -> None:
        """Send and listen until one side has enough."""
        if self._service.clients >= _MOST_CLIENTS:
            await self._socket.close(1013, "too many pages are open")
            return
        await self._socket.accept()
        self._service.clients += 1
        listening = asyncio.create_task(self._listen())
        try:
            await self._send({"type": "hello", "version": self._service.status().service.version})
            await self._talk(listening)
        except (WebSocketDisconnect, TimeoutError, RuntimeError, OSError):
            pass  # gone: starlette says so in one of these ways
        finally:
            self._service.clients -= 1
            listening.cancel()

    async def _talk(self, listening: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        next_status = 0.0
        while not listening.done():
            now = loop.time()
            if now >= next_status:
                next_status = now + _STATUS_S
                status = await asyncio.to_thread(self._service.status)
                await self._send({"type": "status", **status.model_dump(mode="json")})
            for event in self._service.events.after(self._event_seq):
                self._event_seq = event.seq
                await self._send({"type": "event", **event.as_dict()})
            await self._send_images()
            await asyncio.sleep(_LOOK_S)

    async def _send_images(self) -> None:
        for kind in _KINDS:
            wanted = self._want.raw if kind == "raw" else self._want.phase
            stamp = self._images.stamp(kind)
            if not wanted or kind in self._pending or stamp in (0, self._sent[kind]):
                continue
            found = await asyncio.to_thread(
                self._images.message, kind, self._want.channel, self._want.max_px
            )
            if found is None or found.stamp == self._sent[kind]:
                continue
            self._sent[kind], self._pending[kind] = found.stamp, found.seq
            await asyncio.wait_for(self._socket.send_bytes(found.body), _SEND_S)

    async def _send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, separators=(",", ":"))
        await asyncio.wait_for(self._socket.send_text(text), _SEND_S)

    async def _listen(self) -> None:
        while True:
            try:
                message = _Message.validate_json(await self._socket.receive_text())
            except ValidationError:
                continue  # of a newer page, perhaps
            except (WebSocketDisconnect, RuntimeError, KeyError):
                return
            if isinstance(message, Want):
                if message.channel != self._want.channel:
                    self._sent["raw"] = 0
                self._want = message
            else:
                self._pending = {k: s for k, s in self._pending.items() if s != message.seq}
