"""An image on its way to a page: a JSON header and 16-bit pixels.

    uint32 little-endian: N · N bytes of JSON, padded with spaces so that 4 + N is a multiple of four · h · w uint16

``low`` and ``high`` in the header are the values that 0 and 65535 stand for.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


def reduced(image: NDArray[Any], most_px: int) -> tuple[NDArray[Any], int]:
    """``[Y, X]`` with neither edge longer than `most_px`: means over squares, whose edge is returned, too."""
    step = max(1, -(-max(image.shape) // most_px))
    if step == 1:
        return image, 1
    y, x = (n // step * step for n in image.shape)
    if not y or not x:
        return image[::step, ::step], step
    parts = image[:y, :x].reshape(y // step, step, x // step, step)
    return parts.mean(axis=(1, 3), dtype=np.float32), step


def encoded(header: dict[str, Any], image: NDArray[Any]) -> bytes:
    """The message of an image ``[h, w]``; NaN is sent as the lowest value."""
    values = np.asarray(image)
    if values.dtype == np.uint16:
        low, high, pixels = 0.0, 65535.0, values
    elif values.dtype == np.uint8:
        low, high, pixels = 0.0, 255.0, values.astype(np.uint16) * 257
    else:
        known = np.isfinite(values)
        low, high = (
            (
                float(values.min(where=known, initial=np.inf)),
                float(values.max(where=known, initial=-np.inf)),
            )
            if known.any()
            else (0.0, 1.0)
        )
        span = max(high - low, 1e-12)
        scaled = np.where(known, values, low)
        pixels = ((scaled - low) * (65535 / span)).astype(np.uint16)
    text = json.dumps({**header, "shape": list(pixels.shape), "low": low, "high": high}).encode()
    text += b" " * (-(len(text) + 4) % 4)
    body = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
    return struct.pack("<I", len(text)) + text + body


def decoded(message: bytes) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Header and ``[h, w]`` values of a message."""
    (length,) = struct.unpack_from("<I", message)
    header: dict[str, Any] = json.loads(message[4 : 4 + length])
    pixels = np.frombuffer(message, "<u2", offset=4 + length).reshape(header["shape"])
    span = header["high"] - header["low"]
    return header, (header["low"] + pixels * (span / 65535)).astype(np.float32)
