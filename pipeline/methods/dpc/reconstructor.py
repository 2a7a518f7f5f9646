"""The linear inverse of `dpc`: per call two FFTs and a multiply-add, everything else beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.background import background_level, zero_background
from pipeline.methods.contract import Reconstruction
from pipeline.methods.dpc.margin import FadedMargin
from pipeline.methods.dpc.patterns import pattern_transfer
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.fill import fill_invalid


def load_dpc(
    experiment: Experiment,
    calibration: Calibration,
    settings: DpcSettings,
    frames: Sequence[tuple[str, int]],
    device: str,
) -> DpcReconstructor:
    """Transfer functions of `frames` (channel name, focus index), and their regularised inverse."""
    known = pattern_transfer(experiment, calibration, settings, frames)
    # What folds back from beyond the camera's Nyquist frequency is noise to whatever it falls on.
    filters = inverse_filters(
        known.both,
        (
            settings.regularisation_phase + known.aliased,
            settings.regularisation_absorption + known.aliased,
        ),
    )
    filters *= _half_pixel_shift(known.padded, settings.upsampling)
    return DpcReconstructor(
        torch.from_numpy(filters.astype(np.complex64)).to(device),
        known.shape,
        known.padded,
        settings.upsampling,
        settings.normalise,
    )


def inverse_filters(
    transfer: NDArray[np.complex128], regularisation: tuple[ArrayLike, ArrayLike]
) -> NDArray[np.complex128]:
    """Tikhonov-regularised least squares for two unknowns, at every frequency at once.

    Parameters
    ----------
    transfer
        ``[2, K, ...]``: of the two unknowns in the K frames.
    regularisation
        Of each unknown, against the mean over frames of its squared transfer; a number or ``[...]``.

    Returns
    -------
    numpy.ndarray
        ``[2, K, ...]``: multiply the frames' spectra by it and sum over K.
    """
    first, second = transfer
    a = (np.abs(first) ** 2).mean(0) + regularisation[0]
    d = (np.abs(second) ** 2).mean(0) + regularisation[1]
    b = (np.conj(first) * second).mean(0)
    determinant = (a * d - np.abs(b) ** 2) * len(first)
    return np.stack(
        [
            (d * np.conj(first) - b * np.conj(second)) / determinant,
            (a * np.conj(second) - np.conj(b) * np.conj(first)) / determinant,
        ]
    )


def _half_pixel_shift(shape: tuple[int, int], upsampling: int) -> NDArray[np.complex128]:
    """Moves the interpolated grid so that s x s of its pixels lie exactly on one camera pixel.

    Zero-padding alone puts the first output pixel's centre on the first camera pixel's centre; it
    belongs (s - 1) / 2s of a camera pixel before it. ``[H, W//2 + 1]``.
    """
    shift = -(upsampling - 1) / (2 * upsampling)
    fy, fx = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    return np.asarray(np.exp(2j * np.pi * shift * (fy[:, None] + fx)))


class DpcReconstructor:
    """`dpc`, loaded for one camera, geometry and device.

    Parameters
    ----------
    filters
        ``[2, K, H, W//2 + 1]`` complex64: inverse filters of phase and absorption on the padded grid.
    shape, padded
        ``(Y, X)`` of the frames and ``(H, W)`` of the grid they are padded to.
    """

    def __init__(
        self,
        filters: torch.Tensor,
        shape: tuple[int, int],
        padded: tuple[int, int],
        upsampling: int,
        normalise: bool,
    ) -> None:
        self.filters = filters
        self.shape = shape
        self.padded = padded
        self.upsampling = upsampling
        self.normalise = normalise
        self._margin = FadedMargin(shape, padded, filters.device)

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """See `Reconstructor`; images are phase and absorption, ``[B, 2, s·Y, s·X]``."""
        frames = fill_invalid(frames.to(self.filters.device), valid.to(self.filters.device))
        if self.normalise:
            frames = frames / background_level(frames)[..., None, None]
        spectra = torch.fft.rfft2(self._margin(frames - 1))
        # Over K in a loop: the product of all would need K times the memory.
        out = spectra[:, 0, None] * self.filters[:, 0]
        for k in range(1, spectra.shape[1]):
            out.addcmul_(spectra[:, k, None], self.filters[:, k])
        images = self._interpolate(out)
        images[:, 0] = zero_background(images[:, 0])
        return Reconstruction(images)

    def _interpolate(self, spectra: torch.Tensor) -> torch.Tensor:
        """Back to images, ``[..., s·Y, s·X]``, without the padding."""
        s = self.upsampling
        (height, width), (y, x) = self.padded, self.shape
        if s > 1:
            top = (height + 1) // 2
            fine = spectra.new_zeros(*spectra.shape[:-2], s * height, s * width // 2 + 1)
            fine[..., :top, : spectra.shape[-1]] = spectra[..., :top, :]
            fine[..., top - height :, : spectra.shape[-1]] = spectra[..., top:, :]
            if height % 2 == 0:
                # The row of the Nyquist frequency stands for both signs.
                half = fine[..., top - height, :] / 2
                fine[..., top - height, :] = half
                fine[..., top, : half.shape[-1]] = half
            if width % 2 == 0:
                fine[..., width // 2] /= 2
            spectra = fine * s**2
        images: torch.Tensor = torch.fft.irfft2(spectra, s=(s * height, s * width))
        return images[..., : s * y, : s * x].contiguous()
