"""The grid that a specimen is drawn on, centred on the origin of the specimen's plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """A field of ``shape`` (y, x) pixels with its middle at (0, 0) µm."""

    shape: tuple[int, int]
    pixel_um: float

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not self.pixel_um > 0:
            raise ValueError(
                f"a field of {self.shape} pixels of {self.pixel_um} µm can't be drawn: "
                "give a shape of at least (1, 1) and a positive pixel size"
            )

    @property
    def half_um(self) -> tuple[float, float]:
        """(y, x) from the middle to the edge."""
        return self.shape[0] * self.pixel_um / 2, self.shape[1] * self.pixel_um / 2

    def x(self) -> NDArray[np.float32]:
        """``[X]`` centres of the columns in µm."""
        return ((np.arange(self.shape[1]) + 0.5 - self.shape[1] / 2) * self.pixel_um).astype(
            np.float32
        )

    def y(self) -> NDArray[np.float32]:
        """``[Y]`` centres of the rows in µm."""
        return ((np.arange(self.shape[0]) + 0.5 - self.shape[0] / 2) * self.pixel_um).astype(
            np.float32
        )

    def pixels_at(
        self, x_um: NDArray[np.float64], y_um: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, column) of the pixels that places lie in; beyond the edge, the nearest."""
        half_y, half_x = self.half_um
        row = ((y_um + half_y) / self.pixel_um).astype(np.int64).clip(0, self.shape[0] - 1)
        column = ((x_um + half_x) / self.pixel_um).astype(np.int64).clip(0, self.shape[1] - 1)
        return row, column

    def grown(self, pixels: int) -> Grid:
        """The same field with a rim all around."""
        return Grid((self.shape[0] + 2 * pixels, self.shape[1] + 2 * pixels), self.pixel_um)

    def tiles(self, tile_um: float, margin_um: float) -> list[tuple[int, int]]:
        """(i, j) of the tiles, in x and y, that touch the field or its margin."""
        spans = []
        for half in (self.half_um[1], self.half_um[0]):
            reach = half + margin_um
            spans.append(range(int(np.floor(-reach / tile_um)), int(np.floor(reach / tile_um)) + 1))
        return [(i, j) for i in spans[0] for j in spans[1]]


def checked_indices(timepoint: float, position: int) -> None:
    """Refuse indices that no plan has.

    Raises
    ------
    ValueError
        If one is negative.
    """
    if timepoint < 0 or position < 0:
        raise ValueError(
            f"timepoint {timepoint}, position {position}: both count from 0, give no negative one"
        )
