"""Fields that don't fit into memory, cut into tiles whose phase is that of the whole.

Tiles overlap by what the network's output depends on and begin where its coarsest pixels do, so that
within what is kept of it, each sees what the whole field would have shown it: there is no seam to blend. The
estimates and the frame's mean, which reach over the whole field, are computed before it is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch

from pipeline.errors import MethodError
from pipeline.methods.dl_srqpi.networks import Network

# Tensors of the finest scale's features that are in memory at a time, with a margin for the coarser
# scales and the convolutions' own.
_TENSORS = 6
_FLOAT32 = 4


@dataclass(frozen=True)
class Tile:
    """Camera pixels, along y and x.

    Parameters
    ----------
    read
        What the network is given.
    keep
        What is kept of its result; all tiles' together are the field, each pixel once.
    """

    read: tuple[slice, slice]
    keep: tuple[slice, slice]


def bytes_per_pixel(network: Network, dtype: torch.dtype) -> float:
    """Memory that inference takes for each camera pixel, the whole field's images aside."""
    record = network.record
    fine = record.upsampling**2
    features = fine if record.form in ("paper", "srcnn") else 1
    # What a later U-Net is told lies there in both precisions, the parts that it is put together from in one.
    told = sum(2 * fine + u.width for u in record.earlier) * (2 * _FLOAT32 + dtype.itemsize)
    return _TENSORS * record.width * dtype.itemsize * features + 2 * _FLOAT32 * fine + told


def plan_tiles(
    frame_shape: tuple[int, int], *, reach: int, multiple: int, most_px: float
) -> list[Tile]:
    """As few tiles as can be, of nearly equal size.

    Parameters
    ----------
    reach, multiple
        Of the network.
    most_px
        Camera pixels that a tile may read.

    Raises
    ------
    MethodError
        If not even the smallest tile is small enough.
    """
    # Overlap in whole coarsest pixels: a tile begins where one of the whole field's does.
    overlap = multiple * ceil(reach / multiple)
    counts = [1, 1]
    while True:
        sides = [_core(n, c, multiple) for n, c in zip(frame_shape, counts, strict=True)]
        windows = [min(s + 2 * overlap, n) for s, n in zip(sides, frame_shape, strict=True)]
        if windows[0] * windows[1] <= most_px:
            break
        axis = max((a for a in (0, 1) if sides[a] > multiple), key=windows.__getitem__, default=-1)
        if axis < 0:
            raise MethodError(
                f"this network needs tiles of {windows[0]} x {windows[1]} camera pixels, more than "
                "reconstruction.settings.memory_mb holds",
                f"set memory_mb {ceil(windows[0] * windows[1] / most_px)} times larger",
            )
        counts[axis] += 1
    rows, columns = (
        _cut(n, side, overlap, multiple) for n, side in zip(frame_shape, sides, strict=True)
    )
    return [Tile((y[0], x[0]), (y[1], x[1])) for y in rows for x in columns]


def _core(side: int, count: int, multiple: int) -> int:
    return multiple * ceil(side / count / multiple)


def _cut(side: int, core: int, overlap: int, multiple: int) -> list[tuple[slice, slice]]:
    """(read, keep) along one axis. At the field's edges the window is moved inwards: few shapes, chosen once."""
    window = core + 2 * overlap
    last = max(side - window, 0) // multiple * multiple
    cuts = []
    for start in range(0, side, core):
        end = min(start + core, side)
        begin = min(max(start - overlap, 0), last)
        stop = begin + window
        # Up to the field's own end, which the network mirrors, wherever that is in reach.
        stop = stop if end + overlap <= stop <= side else side
        cuts.append((slice(begin, stop), slice(start, end)))
    return cuts


def by_tiles(
    network: Network,
    inputs: torch.Tensor,
    conditions: torch.Tensor,
    kernels: torch.Tensor,
    tiles: list[Tile],
) -> torch.Tensor:
    """The network's phase ``[B, 1, u·Y, u·X]`` of ``[B, CHANNELS, Y, X]``, tile by tile."""
    if len(tiles) == 1:
        whole: torch.Tensor = network(_channels_last(inputs), conditions, kernels)
        return whole.contiguous()
    u = network.record.upsampling
    y, x = inputs.shape[-2:]
    phase = inputs.new_empty((len(inputs), 1, u * y, u * x), dtype=torch.float32)
    for tile in tiles:
        (top, left), (rows, columns) = ((s.start for s in tile.read), tile.keep)
        seen = inputs[..., tile.read[0], tile.read[1]]
        part = network(_channels_last(seen), conditions, kernels)
        phase[..., _fine(rows, u), _fine(columns, u)] = part[
            ..., _fine(rows, u, top), _fine(columns, u, left)
        ]
    return phase


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _fine(pixels: slice, u: int, origin: int = 0) -> slice:
    """Phase pixels of camera pixels, counted from an origin."""
    return slice(u * (pixels.start - origin), u * (pixels.stop - origin))
