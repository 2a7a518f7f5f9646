"""The plane that a held-out specimen is drawn on: random fields, level functions, and what is laid down cell by cell.

Whatever is random is drawn in µm, never sample by sample: the same specimen can be drawn at any sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.special import expit

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
# (dx [n, h, w], dy [n, h, w], which [n, 1, 1]) → values [n, h, w]: see `Canvas.lay`.
Shape = Callable[[Floats, Floats, NDArray[np.int64]], Floats]

# Samples laid down at once: few enough for a processor's cache.
_CHUNK = 1 << 19


@dataclass(frozen=True)
class Canvas:
    """A rectangle of `extent_um` (height, width) with its corner at (0, 0), sampled in the middles of squares."""

    shape: tuple[int, int]
    extent_um: tuple[float, float]

    @property
    def pixel_um(self) -> float:
        """Distance of its samples along x (along y nearly the same)."""
        return self.extent_um[1] / self.shape[1]

    def x(self) -> Floats:
        """``[X]`` µm."""
        return _middles(self.shape[1], self.extent_um[1])

    def y(self) -> Floats:
        """``[Y]`` µm."""
        return _middles(self.shape[0], self.extent_um[0])

    def zeros(self) -> Floats:
        """An empty field."""
        return np.zeros(self.shape, np.float32)

    def coarse(self, pixel_um: float) -> Canvas:
        """The same rectangle with samples about so far apart, never finer than this one's."""
        rows, columns = (
            max(8, min(n, ceil(e / pixel_um)))
            for n, e in zip(self.shape, self.extent_um, strict=True)
        )
        return Canvas((rows, columns), self.extent_um)

    def refine(self, smooth: Floats, coarse: Canvas) -> Floats:
        """A smooth function of a coarser canvas on this one (Catmull-Rom cubics)."""
        if coarse.shape == self.shape:
            return smooth
        down = _cubic(self.shape[0], coarse.shape[0])
        across = _cubic(self.shape[1], coarse.shape[1])
        return np.ascontiguousarray((across @ (down @ smooth).T).T, np.float32)

    def noise(
        self,
        rng: np.random.Generator,
        size_um: float,
        along_um: float | None = None,
        angle: float = 0.0,
    ) -> Floats:
        """Gaussian random field of unit variance, with features of about a size; periodic.

        Parameters
        ----------
        along_um, angle
            Size along a direction (radians from x), where the features are stretched.
        """
        long = size_um if along_um is None else along_um
        short = min(size_um, long)
        drawn = [max(8, ceil(2 * e / short)) for e in self.extent_um]
        white = scipy.fft.rfft2(rng.standard_normal(drawn, np.float32), norm="forward")
        fy = scipy.fft.fftfreq(drawn[0], self.extent_um[0] / drawn[0])[:, None]
        fx = scipy.fft.rfftfreq(drawn[1], self.extent_um[1] / drawn[1])[None, :]
        u, v = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
        shaped = white * np.exp(-0.5 * np.pi**2 * ((u * long) ** 2 + (v * size_um) ** 2))
        for f, n, e in zip((fy, fx), self.shape, self.extent_um, strict=True):
            shaped = shaped * np.exp(1j * np.pi * f * e / n)
        field = self._from_spectrum(shaped.astype(np.complex64), drawn[0])
        field /= max(float(field.std()), 1e-12)
        return field

    def _from_spectrum(self, spectrum: NDArray[np.complex64], rows: int) -> Floats:
        """A field from the half spectrum of one with another number of samples."""
        height, width = self.shape
        low = min(rows, height) // 2
        columns = min(spectrum.shape[1], width // 2 + 1)
        # The highest frequencies have no partner of the other sign, and hardly any power: left out.
        full = np.zeros((height, width // 2 + 1), np.complex64)
        full[:low, :columns] = spectrum[:low, :columns]
        full[height - low + 1 :, :columns] = spectrum[rows - low + 1 :, :columns]
        return np.asarray(scipy.fft.irfft2(full, s=self.shape, norm="forward"), np.float32)

    def lay(
        self,
        field: Floats,
        places: Points,
        reach_um: float | NDArray[np.floating],
        shape: Shape,
        *,
        add: bool = False,
    ) -> None:
        """Draw many bodies into a field, which keeps the higher value, or adds.

        Parameters
        ----------
        places
            ``[N, 2]`` x, y in µm; bodies may lie half outside.
        reach_um
            How far a body goes from its place, of each or of all.
        shape
            ``(dx [n, h, w], dy [n, h, w], which [n, 1, 1])`` → values ``[n, h, w]``; `dx`, `dy` in µm from
            the place, `which` the bodies' numbers.
        """
        if not len(places):
            return
        reach = np.broadcast_to(np.asarray(reach_um, np.float64), len(places))
        order = np.argsort(reach, kind="stable")
        flat = field.reshape(-1)
        combine = np.add if add else np.maximum
        begin = 0
        while begin < len(order):
            # Sorted by reach, a chunk shares the window of its largest.
            window = self._window(float(reach[order[begin]]))
            count = max(1, _CHUNK // (window[0] * window[1]))
            which = order[begin : begin + count]
            begin += len(which)
            window = self._window(float(reach[which[-1]]))
            index, offset = [], []
            for axis, position in ((0, places[which, 1]), (1, places[which, 0])):
                step = self.extent_um[axis] / self.shape[axis]
                first = np.floor(position / step - window[axis] / 2).astype(np.int64) + 1
                at = first[:, None] + np.arange(window[axis])
                index.append(at)
                offset.append(((at + 0.5) * step - position[:, None]).astype(np.float32))
            dy, dx = offset[0][:, :, None], offset[1][:, None, :]
            values = shape(dx + 0 * dy, dy + 0 * dx, which[:, None, None])
            rows, columns = index
            inside = ((rows >= 0) & (rows < self.shape[0]))[:, :, None] & (
                (columns >= 0) & (columns < self.shape[1])
            )[:, None, :]
            where = rows[:, :, None] * self.shape[1] + columns[:, None, :]
            shown = inside & (values != 0)
            combine.at(flat, where[shown], values[shown])

    def _window(self, reach_um: float) -> tuple[int, int]:
        rows, columns = (
            ceil(2 * reach_um * n / e) + 1 for n, e in zip(self.shape, self.extent_um, strict=True)
        )
        return rows, columns

    def region(self, size_um: float) -> float:
        """A size of regions, smaller where the rectangle would hold hardly one of them."""
        return min(size_um, 0.3 * min(self.extent_um))

    def scatter(
        self,
        rng: np.random.Generator,
        gap_um: float,
        density: float,
        clumped_um: float = 0.0,
        contrast: float = 2.5,
    ) -> Points:
        """``[N, 2]`` x, y that keep a distance from each other, a little beyond the edges too.

        Parameters
        ----------
        density
            Darts per gap²: 0.2 is sparse, at 3 hardly any room is left.
        clumped_um
            Size of the denser and emptier regions; even where 0.
        contrast
            How much they differ: from 10 on, islands with nothing between them, the smaller the higher.
        """
        height, width = (e + 2 * gap_um for e in self.extent_um)
        count = max(1, round(density * height * width / gap_um**2))
        darts = rng.random((count, 2)) * (width, height) - gap_um
        if clumped_um:
            size = self.region(clumped_um)
            crowd = self.coarse(size / 6)
            level = crowd.noise(rng, size)
            row, column = (
                np.clip(darts[:, k] / e * n, 0, n - 1).astype(np.int64)
                for k, e, n in zip((1, 0), self.extent_um, crowd.shape, strict=True)
            )
            # Islands are rarer than what lies between them.
            excess = level[row, column] - 0.06 * contrast + 0.15
            darts = darts[rng.random(count) < expit(contrast * excess)]
        taken = np.zeros(len(darts), bool)
        kept = []
        for i, near in enumerate(cKDTree(darts).query_ball_point(darts, gap_um)):
            if not taken[i]:
                kept.append(i)
                taken[near] = True
        return np.asarray(darts[kept], np.float64).reshape(-1, 2)


def _middles(samples: int, extent_um: float) -> Floats:
    return np.asarray((np.arange(samples) + 0.5) * (extent_um / samples), np.float32)


def _cubic(fine: int, coarse: int) -> csr_array:
    """``[fine, coarse]`` weights of Catmull-Rom interpolation between samples in the middles of squares."""
    at = (np.arange(fine) + 0.5) * coarse / fine - 0.5
    base = np.floor(at).astype(np.int64)
    t = at - base
    weights = [
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (t**3 - t**2),
    ]
    columns = np.clip(base[:, None] + np.arange(-1, 3), 0, coarse - 1)
    rows = np.repeat(np.arange(fine), 4)
    return csr_array(
        (np.stack(weights, 1).astype(np.float32).ravel(), (rows, columns.ravel())),
        shape=(fine, coarse),
    )


def turned(dx: Floats, dy: Floats, angle: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Offsets along and across a direction (radians from x)."""
    c, s = np.float32(1) * np.cos(angle), np.float32(1) * np.sin(angle)
    c, s = c.astype(np.float32), s.astype(np.float32)
    return dx * c + dy * s, dy * c - dx * s


def step_up(values: Floats, width: float) -> Floats:
    """0 below zero, 1 above `width`, smooth between."""
    t = np.clip(values * np.float32(1 / width), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))
