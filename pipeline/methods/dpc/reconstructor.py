"""The linear inverse of `dpc`: per call two FFTs and a multiply-add, everything else beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.fft import next_fast_len

from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.methods.background import background_level, zero_background
from pipeline.methods.contract import Reconstruction
from pipeline.methods.dpc.settings import DpcSettings
from pipeline.methods.dpc.transfer import Pupil, sampled_transfer
from pipeline.methods.fill import fill_invalid
from pipeline.optics.illumination import calibrated_source


def load_dpc(
    experiment: Experiment,
    calibration: Calibration,
    settings: DpcSettings,
    frames: Sequence[tuple[str, int]],
    device: str,
) -> DpcReconstructor:
    """Transfer functions of `frames` (channel name, focus index), and their regularised inverse."""
    pixel_um = calibration.pixel_um or experiment.pixel_um
    shape = experiment.microscope.camera.shape_px
    height, width = (_padded(n, settings.padding_px) for n in shape)
    transfer = np.empty((2, len(frames), height, width // 2 + 1), np.complex128)
    aliased = np.zeros(transfer.shape[2:])
    for k, (channel, focus) in enumerate(frames):
        source = calibrated_source(experiment, channel, calibration)
        pupil = Pupil(
            experiment.optics,
            calibration.true_focus_um(experiment.sequence.foci_um[focus]),
            settings.aberration_rad,
        )
        transfer[:, k], folded = sampled_transfer(
            pupil, source.frequencies.numpy(), source.weights.numpy(), (height, width), pixel_um
        )
        aliased += folded / len(frames)
    # What folds back from beyond the camera's Nyquist frequency is noise to whatever it falls on.
    filters = inverse_filters(
        transfer,
        (
            settings.regularisation_phase + aliased,
            settings.regularisation_absorption + aliased,
        ),
    )
    filters *= _half_pixel_shift((height, width), settings.upsampling)
    return DpcReconstructor(
        torch.from_numpy(filters.astype(np.complex64)).to(device),
        shape,
        (height, width),
        settings.upsampling,
        settings.normalise,
    )


def _padded(length: int, margin: int) -> int:
    return int(next_fast_len(length + margin, real=True)) if margin else length


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
        self.fade = tuple(_fade(m - n, filters.device) for n, m in zip(shape, padded, strict=True))

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """See `Reconstructor`; images are phase and absorption, ``[B, 2, s·Y, s·X]``."""
        frames = fill_invalid(frames.to(self.filters.device), valid.to(self.filters.device))
        if self.normalise:
            frames = frames / background_level(frames)[..., None, None]
        spectra = torch.fft.rfft2(self._pad(frames - 1))
        # Over K in a loop: the product of all would need K times the memory.
        out = spectra[:, 0, None] * self.filters[:, 0]
        for k in range(1, spectra.shape[1]):
            out.addcmul_(spectra[:, k, None], self.filters[:, k])
        images = self._interpolate(out)
        images[:, 0] = zero_background(images[:, 0])
        return Reconstruction(images)

    def _pad(self, contrast: torch.Tensor) -> torch.Tensor:
        """Continue the field beyond its edges, fading to the background (zero) and from it to the other side.

        Not mirrored: a mirrored phase object has the opposite contrast under a half circle.
        """
        for axis, (before, after) in zip((-2, -1), self.fade, strict=True):
            if len(before):
                view = (-1, 1) if axis == -2 else (-1,)
                last = contrast.narrow(axis, contrast.shape[axis] - 1, 1) * after.view(view)
                first = contrast.narrow(axis, 0, 1) * before.view(view)
                contrast = torch.cat([contrast, last + first], axis)
        return contrast

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


def _fade(margin: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the first and the last pixel over the margin between them (the grid is periodic)."""
    t = (torch.arange(margin, device=device, dtype=torch.float32) + 1) / (margin + 1)
    after = torch.where(t < 0.5, torch.cos(torch.pi * t) ** 2, torch.zeros_like(t))
    return after.flip(0), after
