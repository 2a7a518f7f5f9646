"""The newest result, for whoever wants to look: page, preview, controllers, notebooks.

Each reconstruct worker has a lane of its own, with two places that it fills in turn. Putting
never waits. A reader that is overtaken looks again; results in between are not kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline import shared_memory
from pipeline.fence import fence
from pipeline.frames import SlotKey
from pipeline.shared_memory import PAGE, Block

_KIND: Final = "mailbox"
_LANES, _Y, _X = range(1, 4)
_DTYPE_AT: Final = 64  # as numpy writes it, 16 bytes
_PLACES: Final = 2
# Words of a place. The stamp is odd while the place is written.
_STAMP, _TIME, _TIMEPOINT, _POSITION, _ROWS, _COLUMNS, _INFO_BYTES = range(7)
_INFO_AT, _INFO_MOST = 64, PAGE - 64
# A reader is overtaken if two results come during its copy; to lose that often is hopeless.
_ATTEMPTS = 10


class Result(NamedTuple):
    """One reconstructed image."""

    key: SlotKey
    image: NDArray[Any]  # [Y, X], a copy
    info: dict[str, float]
    time_ns: int  # of the monotonic clock, when it was put


class Mailbox:
    """Made by `create` or `attach`."""

    def __init__(self, block: Block, lane: int | None) -> None:
        header = block.view(0, (8,), np.int64)
        self.name = block.name
        self.lanes = int(header[_LANES])
        self.max_shape = (int(header[_Y]), int(header[_X]))
        self.dtype: np.dtype[Any] = np.dtype(_text(block.view(_DTYPE_AT, (16,), np.uint8)))
        if lane is not None and not 0 <= lane < self.lanes:
            block.close()
            raise ValueError(f"there is no lane {lane} in a mailbox of {self.lanes}")
        self._block = block
        self._lane = lane
        stride = _place_bytes(self.max_shape, self.dtype)
        self._places: NDArray[np.uint8] = block.view(PAGE, (self.lanes, _PLACES, stride), np.uint8)

    @classmethod
    def create(
        cls,
        name: str,
        max_shape: tuple[int, int],
        lanes: int = 1,
        dtype: DTypeLike = np.float32,
    ) -> Self:
        """An empty mailbox for images of up to `max_shape` ``(y, x)`` from `lanes` workers."""
        dtype = np.dtype(dtype)
        size = PAGE + lanes * _PLACES * _place_bytes(max_shape, dtype)
        block = shared_memory.create(name, size)
        block.view(0, (8,), np.int64)[_LANES : _X + 1] = (lanes, *max_shape)
        block.view(_DTYPE_AT, (16,), np.uint8)[:] = _bytes(dtype.str, 16)
        fence()
        block.sign(_KIND)
        return cls(block, None)

    @classmethod
    def attach(cls, name: str, lane: int | None = None) -> Self:
        """The mailbox that a supervisor created; with a lane, to put results into.

        Raises
        ------
        StoreError
            If there is none.
        """
        return cls(shared_memory.attach(name, _KIND), lane)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the memory go."""
        self.__dict__.pop("_places", None)
        self._block.close()

    def unlink(self) -> None:
        """Remove the name; whoever has the mailbox attached keeps it."""
        shared_memory.unlink(self.name)

    def put(self, key: SlotKey, image: NDArray[Any], info: Mapping[str, float]) -> None:
        """Leave a result; never waits.

        Raises
        ------
        ValueError
            If the image is larger than `max_shape`, or `info` than 4 kB of JSON.
        """
        if self._lane is None:
            raise ValueError("a mailbox without a lane is for reading")
        rows, columns = image.shape
        if rows > self.max_shape[0] or columns > self.max_shape[1]:
            raise ValueError(f"an image of {image.shape} does not go into {self.max_shape}")
        text = json.dumps({name: float(value) for name, value in info.items()}).encode("utf-8")
        if len(text) > _INFO_MOST:
            raise ValueError(f"info of {len(text)} bytes does not go into {_INFO_MOST}")
        lane = self._places[self._lane]
        place = min(lane, key=lambda p: int(_words(p)[_TIME]))
        words = _words(place)
        # Odd from here on, also after a worker that was killed while it wrote.
        stamp = int(words[_STAMP]) | 1
        words[_STAMP] = stamp
        fence()
        words[_TIMEPOINT], words[_POSITION] = key
        words[_ROWS], words[_COLUMNS] = image.shape
        words[_INFO_BYTES] = len(text)
        place[_INFO_AT : _INFO_AT + len(text)] = np.frombuffer(text, np.uint8)
        np.copyto(self._pixels(place, rows, columns), image, casting="same_kind")
        words[_TIME] = time.monotonic_ns()
        fence()
        words[_STAMP] = stamp + 1

    @property
    def newest_time_ns(self) -> int:
        """`Result.time_ns` of the newest result, without a look at it; 0 before the first."""
        return max(int(_words(place)[_TIME]) for lane in self._places for place in lane)

    def newest(self, after: int = 0) -> Result | None:
        """The newest result of all lanes.

        Parameters
        ----------
        after
            `Result.time_ns` of the result that one has: only a newer one is wanted.
        """
        for _ in range(_ATTEMPTS):
            places = self._places.reshape(-1, self._places.shape[-1])
            stamps = [int(_words(p)[_STAMP]) for p in places]
            fence()
            times = [
                int(_words(p)[_TIME]) if stamp and stamp % 2 == 0 else 0
                for p, stamp in zip(places, stamps, strict=True)
            ]
            best = int(np.argmax(times))
            if times[best] <= after:
                return None
            place, words = places[best], _words(places[best])
            rows, columns = int(words[_ROWS]), int(words[_COLUMNS])
            key = SlotKey(int(words[_TIMEPOINT]), int(words[_POSITION]))
            text = place[_INFO_AT : _INFO_AT + int(words[_INFO_BYTES])].tobytes()
            image = self._pixels(place, rows, columns).copy()
            fence()
            if int(words[_STAMP]) == stamps[best]:
                return Result(key, image, json.loads(text), times[best])
        return None

    def _pixels(self, place: NDArray[np.uint8], rows: int, columns: int) -> NDArray[Any]:
        flat = place[PAGE : PAGE + rows * columns * self.dtype.itemsize]
        return flat.view(self.dtype).reshape(rows, columns)


def _place_bytes(shape: tuple[int, int], dtype: np.dtype[Any]) -> int:
    return PAGE + -(-shape[0] * shape[1] * dtype.itemsize // PAGE) * PAGE


def _words(place: NDArray[np.uint8]) -> NDArray[np.int64]:
    return place[:_INFO_AT].view(np.int64)


def _bytes(text: str, size: int) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("ascii").ljust(size, b"\0"), np.uint8)


def _text(raw: NDArray[np.uint8]) -> str:
    return raw.tobytes().rstrip(b"\0").decode("ascii")
