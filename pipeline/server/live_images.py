"""The newest images of a run, encoded once for all who look."""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

from pipeline.server.image_message import encoded, reduced
from pipeline.server.run_watch import RunWatch, Seen
from pipeline.server.service import Service

# Sizes that are sent: what was encoded for one page serves the next.
SIZES = (512, 1024, 2048)


class LiveMessage(NamedTuple):
    """One image, ready to be sent.

    `stamp` is the image's, `seq` the number that a page acknowledges: small enough for JavaScript's numbers.
    """

    stamp: int
    seq: int
    body: bytes


class LiveImages:
    """Asked from many threads; each image is copied and encoded once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, int], Seen] = {}
        self._messages: dict[tuple[str, int, int], LiveMessage] = {}
        self._encoded = 0
        self._watch: RunWatch | None = None

    def stamp(self, kind: str) -> int:
        """Changes with each new image; 0 where there is none."""
        watch = self._service.watch
        return 0 if watch is None else watch.stamp(kind)

    def message(self, kind: str, channel: int, most_px: int) -> LiveMessage | None:
        """Of the newest image; None where there is none."""
        watch = self._service.watch
        if watch is None:
            return None
        channel = 0 if kind == "phase" else min(channel, len(watch.plan.channels) - 1)
        size = next((s for s in SIZES if s >= most_px), SIZES[-1])
        with self._lock:
            if watch is not self._watch:
                # Another run: nothing of the one before may be taken for it.
                self._seen.clear()
                self._messages.clear()
                self._watch = watch
            seen = self._newest(watch, kind, channel)
            if seen is None:
                return None
            kept = self._messages.get((kind, channel, size))
            if kept is None or kept.stamp != seen.stamp:
                self._encoded += 1
                body = _encode(watch, seen, size, self._encoded)
                kept = LiveMessage(seen.stamp, self._encoded, body)
                self._messages[(kind, channel, size)] = kept
            return kept

    def _newest(self, watch: RunWatch, kind: str, channel: int) -> Seen | None:
        before = self._seen.get((kind, channel))
        newer = watch.newest(kind, channel, 0 if before is None else before.stamp)
        if newer is not None:
            self._seen[(kind, channel)] = newer
        return newer or before


def _encode(watch: RunWatch, seen: Seen, size: int, seq: int) -> bytes:
    image, step = reduced(seen.image, size)
    header: dict[str, Any] = {
        "seq": seq,
        "kind": seen.kind,
        "run": watch.name,
        "timepoint": seen.key.timepoint,
        "position": seen.key.position,
        "channel": seen.channel,
        "full_shape": list(seen.image.shape),
        "origin": [0, 0],
        "step": step,
        "unit": "rad" if seen.kind == "phase" else "counts",
        "pixel_um": watch.pixel_um(seen.image.shape[0]),
        "time_utc": seen.time_utc,
        "info": {k: v for k, v in seen.info.items() if math.isfinite(v)},
    }
    return encoded(header, image)
