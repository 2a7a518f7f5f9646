"""Images as PNG of 256 colours: small, exact, and without a plotting library's second of import."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def png(colours: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A picture.

    Parameters
    ----------
    colours
        ``[Y, X]``, numbers in the palette.
    palette
        ``[256, 3]`` red, green, blue.
    """
    y, x = colours.shape
    # Each row begins with its filter's number: none, as neighbours in a palette need not be alike.
    rows = np.zeros((y, x + 1), np.uint8)
    rows[:, 1:] = colours
    header = struct.pack(">IIBBBBB", x, y, 8, 3, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _part(b"IHDR", header),
            _part(b"PLTE", palette.tobytes()),
            _part(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            _part(b"IEND", b""),
        )
    )


def _part(name: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)
