"""What is inside a cell, as spots: granules, droplets, mitochondria, fibres, ruffles, nucleoli, chromatin.

Each organelle has numbers of its own among the cell's `seeds`, a place relative to the outline and
the nucleus (so that it follows them), and a small wander of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.samples.outline import ANGLES, Outlines
from pipeline.samples.population import Population
from pipeline.samples.splat import COARSE_UM, FINE_UM, MIDDLE_UM, Spots
from pipeline.samples.style import CultureStyle

Floats = NDArray[np.float32]
_TAU = np.float32(2 * np.pi)


def organelles_of(
    cells: Population, outlines: Outlines, style: CultureStyle, peak_phase_rad: float
) -> dict[float, Spots]:
    """Spots by size, peaks in proportion to the cells' peak phase (written here for 2 rad)."""
    interior = _Interior(cells, outlines, style, peak_phase_rad / 2)
    for draw in (
        _granules,
        _texture,
        _mitochondria,
        _fibres,
        _ruffles,
        _envelope,
        _nucleoli,
        _chromatin,
    ):
        draw(interior)
    return {sigma: Spots.join(parts) for sigma, parts in interior.spots.items()}


class _Interior:
    """Looks up places in all cells at once and collects spots."""

    def __init__(
        self, cells: Population, outlines: Outlines, style: CultureStyle, scale: float
    ) -> None:
        self.cells, self.outlines, self.style, self.scale = cells, outlines, style, scale
        self.t = np.float32(cells.time_h)
        self.flat = (1 - cells.roundness).astype(np.float32)[:, None]
        self.plate = cells.plate.astype(np.float32)[:, None]
        # Sisters still in one ball show half each of what the mother showed.
        share = np.clip(cells.mass, 0, 1) * (0.5 + 0.5 * cells.apart)
        self.share = share.astype(np.float32)[:, None]
        self.spots: dict[float, list[Spots]] = {FINE_UM: [], MIDDLE_UM: [], COARSE_UM: []}
        self._row = (np.arange(len(cells)) * ANGLES)[:, None]
        self._used = 80  # the outlines' numbers come first

    def seeds(self, *shape: int) -> list[Floats]:
        """The next numbers of each cell: as many arrays ``[N, …]`` as the first of `shape` says."""
        size = int(np.prod(shape))
        block = self.cells.seeds[:, self._used : self._used + size]
        self._used += size
        if block.shape[1] < size:
            raise ValueError("the organelles need more seeds than a cell has: raise lineage.SEEDS")
        return list(np.moveaxis(block.reshape(len(self.cells), *shape), 1, 0))

    def at(self, table: Floats, angle: Floats) -> Floats:
        """A radius at some angles, ``[N, K]``."""
        bin_ = np.rint(angle * np.float32(ANGLES / (2 * np.pi))).astype(np.int64) % ANGLES
        return np.asarray(table.ravel()[self._row + bin_])

    def place(self, share: Floats, angle: Floats) -> tuple[Floats, Floats]:
        """From the nuclear envelope (share 0) to the edge of the thick part (share 1)."""
        inner, outer = self.at(self.outlines.nucleus, angle), self.at(self.outlines.middle, angle)
        rho = inner + (outer - inner) * share
        return rho * np.cos(angle), rho * np.sin(angle)

    def wander(
        self, x: Floats, y: Floats, a: Floats, b: Floats, size_um: float = 0.35
    ) -> tuple[Floats, Floats]:
        """Brownian-like motion that is a function of time."""
        fast = _TAU * (self.t / (0.4 + a) + b)
        slow = _TAU * (self.t / (1.1 + b) + a)
        size = np.float32(size_um)
        return x + size * (np.cos(fast) + np.sin(slow)), y + size * (np.sin(fast) + np.cos(slow))

    def add(
        self, sigma_um: float, x: Floats, y: Floats, peak: Floats, *, where: str = "cytoplasm"
    ) -> None:
        """Spots at places relative to the cells' middles; they fade where their compartment ends."""
        n = len(self.cells)
        shape = np.broadcast_shapes(x.shape, y.shape, peak.shape)
        each = int(np.prod(shape[1:]))
        x, y, peak = (
            np.broadcast_to(a, shape).reshape(n, each).astype(np.float32, copy=False)
            for a in (x, y, peak)
        )
        if where != "anywhere":
            rho, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
            margin = self.at(self.outlines.edge, angle) - rho
            peak = peak * np.clip(margin / np.float32(1.2) - np.float32(0.3), 0, 1)
            if where == "cytoplasm":
                outside = rho - self.at(self.outlines.nucleus, angle) + np.float32(0.3)
                peak = peak * np.clip(outside + 0.15 * self.flat, 0.12, 1)
        middle = self.cells.xy_um.astype(np.float32)
        self.spots[sigma_um].append(
            Spots(
                (x + middle[:, :1]).ravel(),
                (y + middle[:, 1:]).ravel(),
                (peak * self.share * np.float32(self.scale * Spots.peak_to_mass(sigma_um))).ravel(),
            )
        )


def _granules(cell: _Interior) -> None:
    """Vesicles and lysosomes (fine, bright), lipid droplets (very bright, near the nucleus), vacuoles (dark)."""
    share, angle, size, a, b = cell.seeds(5, 110)
    x, y = cell.wander(*cell.place(share**1.25, angle * _TAU), a, b, 0.3)
    cell.add(FINE_UM, x, y, cell.style.granules * (0.06 + 0.34 * size**4))

    share, angle, size, a, b = cell.seeds(5, 22)
    side = cell.cells.traits[:, 51:52] * _TAU
    many = size < 0.2 + 0.8 * cell.cells.traits[:, 52:53] ** 2
    x, y = cell.wander(*cell.place(0.05 + 0.75 * share, side + (angle - 0.5) * 3.2), a, b, 0.25)
    peak = cell.style.droplets * (0.25 + 0.6 * b * b) * many
    cell.add(FINE_UM, x, y, peak * 0.55)
    cell.add(MIDDLE_UM, x, y, peak * 0.4)

    share, angle, size, a, b = cell.seeds(5, 14)
    x, y = cell.wander(*cell.place(share, angle * _TAU), a, b)
    cell.add(MIDDLE_UM, x, y, -0.16 * cell.style.granules * (size < 0.6) * cell.flat)


def _texture(cell: _Interior) -> None:
    """Endoplasmic reticulum and whatever else has no outline of its own: lumps at two sizes, up and down."""
    share, angle, sign, a, b = cell.seeds(5, 36)
    x, y = cell.wander(*cell.place(np.sqrt(share), angle * _TAU), a, b, 0.5)
    cell.add(COARSE_UM, x, y, 0.16 * (sign - 0.42) * cell.flat)
    share, angle, sign, a = cell.seeds(4, 90)
    x, y = cell.wander(*cell.place(share, angle * _TAU), a, sign, 0.3)
    cell.add(MIDDLE_UM, x, y, 0.26 * cell.style.granules * (sign - 0.46))


def _threads(
    cell: _Interior, count: int, points: int, step_um: float, bend: float, along: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Curved threads ``[N, count, points]`` and a number per thread ``[N, count, 1]``."""
    share, angle, heading, curve, a, b = cell.seeds(6, count)
    x, y = cell.wander(*cell.place(share, angle * _TAU), a, b, 0.3)
    start = heading * _TAU if along is None else along + (heading - 0.5) * 0.5
    s = (np.arange(points, dtype=np.float32) - np.float32((points - 1) / 2)) * np.float32(step_um)
    swing = (curve * 2 - 1)[..., None] * np.float32(bend)
    direction = (
        start[..., None]
        + swing * s
        + np.float32(0.5)
        * swing
        * np.sin(s * np.float32(1.4) + (_TAU * (a + cell.t / 0.9))[..., None])
    )
    step = np.float32(step_um)
    return (
        x[..., None]
        + step * np.cumsum(np.cos(direction), -1)
        - step * points / 2 * np.cos(start)[..., None],
        y[..., None]
        + step * np.cumsum(np.sin(direction), -1)
        - step * points / 2 * np.sin(start)[..., None],
        b[..., None],
    )


def _mitochondria(cell: _Interior) -> None:
    x, y, b = _threads(cell, 22, 13, 0.36, 0.35, None)
    length = np.abs(np.arange(13, dtype=np.float32) - 6) < 2.5 + 5 * b
    cell.add(
        FINE_UM,
        x,
        y,
        cell.style.mitochondria * (0.08 + 0.08 * b) * length * (0.3 + 0.7 * cell.flat[..., None]),
    )


def _fibres(cell: _Interior) -> None:
    """Stress fibres: straight, parallel to the cell's long axis, gone in a ball."""
    x, y, b = _threads(cell, 7, 36, 0.45, 0.012, _TAU * cell.cells.traits[:, 27:28])
    cell.add(FINE_UM, x, y, cell.style.fibres * 0.045 * b * cell.flat[..., None], where="cell")


def _ruffles(cell: _Interior) -> None:
    """Folds of the membrane near the edge: they rise, run inwards and vanish."""
    angle, width, depth, phase = cell.seeds(4, 5)
    s = np.linspace(-1, 1, 22, dtype=np.float32)
    life = cell.t / (0.3 + 0.4 * width) + phase
    life = life - np.floor(life)
    theta = (_TAU * angle + 0.4 * np.sin(cell.t + _TAU * phase))[..., None] + (0.12 + 0.3 * width)[
        ..., None
    ] * s
    n = len(cell.cells)
    rim = cell.at(cell.outlines.edge, theta.reshape(n, 5 * 22)).reshape(theta.shape)
    rho = rim - (0.9 + 2.2 * life * depth)[..., None] - 0.5 * s**2
    peak = (
        cell.style.ruffles
        * 0.16
        * (np.sin(np.pi * life) * depth)[..., None]
        * (1 - s**2)
        * cell.flat[..., None]
    )
    cell.add(MIDDLE_UM, rho * np.cos(theta), rho * np.sin(theta), peak, where="anywhere")


def _envelope(cell: _Interior) -> None:
    """The rim of the nucleus, dissolved in mitosis."""
    angle = np.arange(52, dtype=np.float32)[None] * (_TAU / 52) + cell.flat * 0
    rho = cell.at(cell.outlines.nucleus, angle)
    peak = (
        0.07
        * cell.flat
        * (1 - cell.plate)
        * (0.7 + 0.6 * np.sin(angle + 6 * cell.cells.traits[:, 53:54]))
    )
    cell.add(MIDDLE_UM, rho * np.cos(angle), rho * np.sin(angle), peak, where="anywhere")


def _nucleoli(cell: _Interior) -> None:
    """One to four dense lumps in the nucleus, gone while the chromosomes are condensed."""
    share, angle, size, a = cell.seeds(4, 4)
    there = (np.arange(4) < 1 + 3.4 * cell.cells.traits[:, 54:55]) * (0.5 + 0.5 * size)
    angle = (angle * 0.6 + np.arange(4, dtype=np.float32) * np.float32(0.5)) * _TAU + 0.2 * np.sin(
        cell.t + _TAU * a
    )
    rho = cell.at(cell.outlines.nucleus, angle) * (0.12 + 0.5 * np.sqrt(share))
    x, y = rho * np.cos(angle), rho * np.sin(angle)
    dx, dy, weight = cell.seeds(3, 4, 4)
    spread = (0.5 + 0.8 * size)[..., None]
    x, y = x[..., None] + spread * (dx - 0.5) * 1.6, y[..., None] + spread * (dy - 0.5) * 1.6
    peak = (
        there[..., None]
        * (0.10 + 0.14 * weight)
        * (1 - cell.plate)[..., None]
        * (0.4 + 0.6 * cell.flat)[..., None]
    )
    cell.add(COARSE_UM, x, y, peak * 0.8, where="anywhere")
    cell.add(MIDDLE_UM, x, y, peak * 0.7, where="anywhere")


def _chromatin(cell: _Interior) -> None:
    """Faint texture of the nucleus; in mitosis the same lumps, dense, on the metaphase plate."""
    share, angle, weight, a = cell.seeds(4, 44)
    angle = angle * _TAU
    rho = cell.at(cell.outlines.nucleus, angle) * 0.92 * np.sqrt(share)
    x, y = cell.wander(rho * np.cos(angle), rho * np.sin(angle), a, weight, 0.15)
    turn = cell.cells.axis_rad.astype(np.float32)[:, None]
    half = cell.cells.radius_um.astype(np.float32)[:, None]
    across, along = 0.34 * half * (weight - 0.5), 1.2 * half * (share - 0.5)
    plate_x = across * np.cos(turn) - along * np.sin(turn)
    plate_y = across * np.sin(turn) + along * np.cos(turn)
    x, y = x + cell.plate * (plate_x - x), y + cell.plate * (plate_y - y)
    peak = (1 - cell.plate) * 0.22 * (weight - 0.5) + cell.plate * 0.24 * (0.5 + a)
    cell.add(MIDDLE_UM, x, y, peak, where="anywhere")
