"""CRC-32C (Castagnoli) of pixels and records, without a copy."""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameStatus


def crc32c(data: bytes | NDArray[np.generic], crc: int = 0) -> int:
    """Checksum of bytes, or of an array's memory without a copy.

    Parameters
    ----------
    data
        An array must be C-contiguous (`ValueError` otherwise: a silent copy would cost as much as
        the write).
    crc
        Checksum of what came before.
    """
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise ValueError("the checksum needs C-contiguous memory")
        data = data.reshape(-1).view(np.uint8)
    return int(google_crc32c.extend(crc, data))


def slot_crc(frames: NDArray[np.unsignedinteger], records: NDArray[np.void]) -> int:
    """Checksum of a slot's pixels as they are stored: a missing frame counts as zeros.

    Parameters
    ----------
    frames
        ``[K, Y, X]``; each frame C-contiguous. What lies in the place of a missing frame does not
        matter.
    records
        ``[K]`` of `FRAME_RECORD`.
    """
    crc = 0
    zeros: NDArray[np.unsignedinteger] | None = None
    for frame, record in zip(frames, records, strict=True):
        if record["status"] == FrameStatus.MISSING:
            zeros = np.zeros_like(frame) if zeros is None else zeros
            crc = crc32c(zeros, crc)
        else:
            crc = crc32c(frame, crc)
    return crc
