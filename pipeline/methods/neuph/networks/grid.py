"""Where phase is wanted: any rectangle, any density, on the camera's continuous coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.errors import ExperimentError


@dataclass(frozen=True)
class Grid:
    """Equal steps along both axes.

    Coordinates are camera pixels: pixel i reaches from i to i + 1, its centre is i + 0.5.

    Parameters
    ----------
    top, left
        The rectangle's first edges.
    height, width
        Its extent in camera pixels.
    shape
        ``(Y, X)`` points; each stands for the middle of its own share of the rectangle.
    """

    top: float
    left: float
    height: float
    width: float
    shape: tuple[int, int]

    @classmethod
    def whole(cls, frame_shape: tuple[int, int], density: float) -> Grid:
        """All of a frame with `density` points per camera pixel along each axis (6, 21, 49.8, …)."""
        return cls.region((0.0, 0.0), (float(frame_shape[0]), float(frame_shape[1])), density)

    @classmethod
    def region(
        cls, first: tuple[float, float], extent: tuple[float, float], density: float
    ) -> Grid:
        """A rectangle from (y, x) `first` on, `extent` camera pixels high and wide.

        Raises
        ------
        ExperimentError
            If nothing is left of it.
        """
        shape = round(extent[0] * density), round(extent[1] * density)
        if min(shape) < 1:
            raise ExperimentError(
                f"{extent[0]:g} x {extent[1]:g} camera pixels at a density of {density:g} have no point",
                "ask for a larger region or a higher density",
            )
        return cls(first[0], first[1], extent[0], extent[1], shape)

    @property
    def cell(self) -> tuple[float, float]:
        """Camera pixels from one point to the next, along y and x."""
        return self.height / self.shape[0], self.width / self.shape[1]

    def rows(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """``[Y]`` float64 coordinates."""
        return self.top + _middles(self.shape[0], device) * self.cell[0]

    def columns(self, device: torch.device | str = "cpu") -> torch.Tensor:
        """``[X]`` float64 coordinates."""
        return self.left + _middles(self.shape[1], device) * self.cell[1]


def _middles(n: int, device: torch.device | str) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float64, device=device) + 0.5


@dataclass(frozen=True)
class Neighbours:
    """The two latent pixels on either side of coordinates, along one axis.

    Parameters
    ----------
    index
        ``[2, n]`` int64, inside the latent.
    offset
        ``[2, n]`` float32 camera pixels from the latent pixel's centre to the coordinate.
    share
        ``[2, n]`` float32 how much each counts: one minus its distance.
    """

    index: torch.Tensor
    offset: torch.Tensor
    share: torch.Tensor


def neighbours(coordinates: torch.Tensor, length: int) -> Neighbours:
    """Of coordinates ``[n]`` among `length` latent pixels; beyond the border the last one stands for both."""
    below = torch.floor(coordinates - 0.5)
    both = torch.stack([below, below + 1])
    index = both.long().clamp(0, length - 1)
    distance = (coordinates - 0.5 - both).abs()
    return Neighbours(
        index,
        (coordinates - 0.5 - index).float(),
        (1 - distance).float(),
    )
