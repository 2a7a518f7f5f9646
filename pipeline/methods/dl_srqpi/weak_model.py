"""What a weak specimen's phase makes of a frame: the linear model that both estimates invert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil, hypot

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.optics.weak_object import condenser_phase_transfer

Floats = NDArray[np.floating]

# Power spectrum of the phase of cell cultures, P(f) = _POWER / (1 + (f/_KNEE)²)², fitted to the training's own.
_POWER = 34.0  # rad²·µm²
_KNEE = 0.04  # cycles/µm
# The frame is mirrored at its border this far: what the inverse's long tails see there.
_MARGIN_UM = 62.0
_TABULATED = 1024
# Aliases that count: those of the next pixel frequencies, along and across.
_ORDERS = (-1, 0, 1)


@dataclass(frozen=True, eq=False)
class WeakModel:
    """``contrast = transfer · phase``, frequency by frequency, of mirrored frames of one shape.

    Parameters
    ----------
    transfer
        ``[Y', X'//2 + 1]`` float32, contrast per radian, the pixel's own blur included.
    power
        Of a usual specimen's phase in the same frequencies, rad² per pixel.
    aliased
        Of the contrast that pixels fold into them from beyond their Nyquist frequency.
    mirrored_shape
        ``(Y', X')`` of the mirrored frame.
    margin_px
        Camera pixels that a frame is mirrored beyond its first row and column, and at least that many beyond
        its last.
    """

    transfer: torch.Tensor
    power: torch.Tensor
    aliased: torch.Tensor
    mirrored_shape: tuple[int, int]
    margin_px: int

    @property
    def contrast(self) -> float:
        """Root mean square of the contrast that a usual specimen has."""
        # Half of the plane, mirrored, is the whole: the two edge columns count once, so this is near enough.
        return float((self.transfer.square() * self.power).mean().sqrt())

    def spectrum(self, contrast: torch.Tensor) -> torch.Tensor:
        """Of frames ``[B, Y, X]``, mirrored; scaled for `image`."""
        rows, columns = self.mirrored_shape
        mirrored = _mirror(_mirror(contrast, -2, self.margin_px, rows), -1, self.margin_px, columns)
        return self.transform(mirrored)

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Of ``[B, Y', X']``; scaled for `image`."""
        # Forward only: torch 2.13's scaled inverse is wrong for one large complex image on CPUs with AVX-512.
        spectrum: torch.Tensor = torch.fft.rfft2(images, norm="forward")
        return spectrum

    def image(self, spectrum: torch.Tensor) -> torch.Tensor:
        """``[B, Y', X']`` of a spectrum."""
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=self.mirrored_shape, norm="forward")
        return image

    def cropped(self, images: torch.Tensor, frame_shape: torch.Size) -> torch.Tensor:
        """The frame's own part of ``[B, Y', X']``."""
        y, x = frame_shape
        return images[..., self.margin_px : self.margin_px + y, self.margin_px : self.margin_px + x]


def transfer_of(conditions: Conditions, farthest: float) -> Callable[[Floats, Floats], Floats]:
    """A function of frequencies (fy, fx) in cycles/µm: contrast per radian, the camera pixel's own blur included.

    Parameters
    ----------
    farthest
        The largest frequency that it will be asked for.
    """
    c = conditions
    radii = np.linspace(0, farthest, _TABULATED)
    table = condenser_phase_transfer(
        radii,
        wavelength_um=c.wavelength_um,
        numerical_aperture=c.numerical_aperture,
        refractive_index=c.refractive_index,
        z_um=c.z_um,
        coherence=c.coherence,
    )

    def transfer(fy: Floats, fx: Floats) -> Floats:
        pixel = np.sinc(fy * c.pixel_um) * np.sinc(fx * c.pixel_um)
        return np.asarray(np.interp(np.hypot(fy, fx), radii, table) * pixel)

    return transfer


def weak_model(
    conditions: Conditions, frame_shape: tuple[int, int], device: torch.device | str = "cpu"
) -> WeakModel:
    """The model of the conditions for frames of a shape ``(y, x)``."""
    p = conditions.pixel_um
    margin = ceil(_MARGIN_UM / p)
    rows, columns = (next_fast_len(side + 2 * margin, real=True) for side in frame_shape)
    fy, fx = np.fft.fftfreq(rows, p)[:, None], np.fft.rfftfreq(columns, p)
    camera_transfer = transfer_of(conditions, hypot(0.5, 0.5) * (2 * _ORDERS[-1] + 1) / p)

    def at(order_y: int, order_x: int) -> tuple[Floats, Floats]:
        y, x = fy + order_y / p, fx + order_x / p
        power = _POWER / p**2 / (1 + (np.hypot(y, x) / _KNEE) ** 2) ** 2
        return camera_transfer(y, x), power

    transfer, power = at(0, 0)
    folded = (at(*order) for order in product(_ORDERS, _ORDERS) if any(order))
    aliased = sum((t * t * strength for t, strength in folded), np.zeros_like(transfer))

    def tensor(values: Floats) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return WeakModel(tensor(transfer), tensor(power), tensor(aliased), (rows, columns), margin)


def _mirror(frames: torch.Tensor, axis: int, before: int, size: int) -> torch.Tensor:
    """Mirrored at both ends of an axis, as often as needed: a frame may be smaller than the margin."""
    side = frames.shape[axis]
    index = torch.arange(-before, size - before, device=frames.device) % (2 * side)
    index = torch.where(index < side, index, 2 * side - 1 - index)
    return frames.index_select(axis, index)
