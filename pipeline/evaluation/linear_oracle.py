"""How far a linear filter gets that is told what no method knows: a row to compare with, not a method."""

from __future__ import annotations

from math import ceil, hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.weak_model import transfer_of

Image = NDArray[np.float32]
_Floats = NDArray[np.float64]

# Frames are mirrored this far beyond their border: what the filter's long tails see there.
_MARGIN_UM = 62.0
_TINY = np.finfo(np.float64).tiny


def linear_oracle(
    truth: Image, frame: NDArray[np.floating], conditions: Conditions, upsampling: int
) -> Image:
    """A Wiener estimate of the phase behind one frame that knows all but the phase itself.

    Decision. How much of an error is the network's, and how much the frame's? A Wiener filter for the fine
    grid, aliases and all, is told what no method knows: the power spectrum of this very specimen, that of noise
    and of what isn't linear in this very frame, and how high each period comes out. What a network has beyond it, it
    has from what is not linear, and from knowing how specimens look. It is set for the field with its mirrored margin:
    in small fields, where the margin is half of it, one frame's TIE can come out a little ahead (128², no noise: 0.135
    against 0.149 rad).

    Parameters
    ----------
    truth
        ``[u·Y, u·X]`` radians.
    frame
        ``[Y, X]``, noisy.
    upsampling
        u, phase pixels per camera pixel.

    Returns
    -------
    ``[u·Y, u·X]`` radians, of the truth's mean, which no frame tells.
    """
    u, pixel_um = upsampling, conditions.pixel_um
    margin = ceil(_MARGIN_UM / pixel_um)
    mean = float(truth.mean())
    fine = _mirrored(truth - mean, u * margin)
    rows, columns = fine.shape
    fy, fx = fft.fftfreq(rows, pixel_um / u)[:, None], fft.fftfreq(columns, pixel_um / u)[None]
    transfer = transfer_of(conditions, hypot(fy.max(), fx.max()) * 1.01)(fy, fx)
    # From the middle of a camera pixel's first fine one to its own; a camera pixel is the mean of u² samples.
    shift = np.exp(2j * np.pi * (fy + fx) * (u - 1) / 2 * pixel_um / u)
    forward = transfer * shift / u**2
    spectrum = fft.fft2(fine)
    seen = fft.fft2(_mirrored(frame / frame.mean() - 1.0, margin))
    folded = (rows // u, columns // u)
    power = _ring_means(np.abs(spectrum) ** 2, fy, fx)
    unexplained = np.abs(seen - _folded(forward * spectrum, folded)) ** 2
    camera = fft.fftfreq(folded[0], pixel_um)[:, None], fft.fftfreq(folded[1], pixel_um)[None]
    total = _folded(np.abs(forward) ** 2 * power, folded) + _ring_means(unexplained, *camera)
    found = power * forward.conj() * np.tile(seen / total, (u, u))
    found[0, 0] = 0
    # What isn't linear makes contrasts lower or higher (light that fine structure scatters beyond the aperture makes
    # wide cells dark): each ring's height is set right, too.
    gain = _ring_means((spectrum * found.conj()).real, fy, fx)
    found *= gain / np.maximum(_ring_means(np.abs(found) ** 2, fy, fx), _TINY)
    edge = slice(u * margin, -u * margin)
    return np.asarray(fft.ifft2(found).real[edge, edge] + mean, np.float32)


def _mirrored(image: NDArray[np.floating], margin: int) -> _Floats:
    return np.pad(np.asarray(image, np.float64), margin, mode="symmetric")


def _folded(spectrum: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """What sampling every so many pixels makes of a spectrum: the sum of its aliases."""
    (rows, columns), (y, x) = spectrum.shape, shape
    folded: NDArray[Any] = spectrum.reshape(rows // y, y, columns // x, x).sum((0, 2))
    return folded


def _ring_means(power: _Floats, fy: _Floats, fx: _Floats) -> _Floats:
    """Each value replaced by its ring's mean; rings are one frequency sample wide."""
    step = max(float(fy[1, 0]), float(fx[0, 1]))
    rings = np.rint(np.hypot(fy, fx) / step).astype(np.intp)
    counts = np.bincount(rings.ravel())
    return np.asarray((np.bincount(rings.ravel(), power.ravel()) / np.maximum(counts, 1))[rings])
