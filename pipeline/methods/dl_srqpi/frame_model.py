"""What a fine phase leaves unexplained in the frame, and where: the weak-object model, aliasing and all.

Decision. A network that sees a frame once spends itself on learning by heart which fine structures fold into which
pixels. How a phase becomes a frame is known, and nearly linear: of the frames of cells of 2 to 4 rad it leaves
0.003 of the background at z = 4 µm, little more than the paper's noise (0.0025). So between two U-Nets the first
one's phase is compared with the frame, and the second is told the difference and where it comes from, as in
unrolled reconstructions of undersampled magnetic resonance images (Hammernik et al., Magn. Reson. Med. 79,
3055, 2018). In trials of seven minutes from scratch, U-Nets on half of the camera's grid, mean of both SSIM on
specimens of the training's kinds: 0.685 with two small ones, 0.669 with one that takes the same time.

Propagation over a few µm reaches a few pixels, so both directions are small convolutions on the camera's grid,
the fine pixels of each camera pixel being channels.
"""

from __future__ import annotations

from functools import lru_cache
from math import asin, ceil, tan

import numpy as np
import torch
from torch.nn import functional

from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.weak_model import transfer_of

# Camera pixels on each side that a kernel has at least: at 10x all that the trained foci reach.
_LEAST_REACH = 5
# Periods λ/NA that diffraction reaches beyond the cone of light.
_FRINGES = 2
# Camera pixels over which a kernel is computed: the next one's is twice as far away as it reaches.
_EXTENT = 4


def kernel_reach(conditions: Conditions) -> int:
    """Camera pixels that a phase acts upon to each side of its own."""
    c = conditions
    sine = min(c.numerical_aperture / c.refractive_index, 0.98)
    cone = c.z_um * tan(asin(sine)) * (1 + c.coherence)
    return max(
        _LEAST_REACH,
        ceil((cone + _FRINGES * c.wavelength_um / c.numerical_aperture) / c.pixel_um),
    )


@lru_cache(maxsize=4096)
def frame_kernel(conditions: Conditions, upsampling: int) -> torch.Tensor:
    """``[u², n, n]`` contrast per radian of each fine pixel of the camera pixels around one; n is odd.

    Channels are in the order of a pixel shuffle.
    """
    c, u, reach = conditions, upsampling, kernel_reach(conditions)
    side, fine = u * (2 * reach + 1), c.pixel_um / u
    samples = u * _EXTENT * (2 * reach + 1)
    f = np.fft.fftfreq(samples, fine)
    fy, fx = f[:, None], f[None]
    transfer = transfer_of(c, float(np.hypot(f, f).max()))(fy, fx)
    # An even number of fine pixels has the camera pixel's middle between two of them.
    middle = np.exp(-2j * np.pi * (fy + fx) * fine * (0.5 if side % 2 == 0 else 0.0))
    whole = np.fft.ifft2(transfer * middle).real
    taken = (np.arange(side) - side // 2 + (side % 2 == 0)) % samples
    kernel = whole[np.ix_(taken, taken)].reshape(2 * reach + 1, u, 2 * reach + 1, u)
    channels = kernel.transpose(1, 3, 0, 2).reshape(u * u, 2 * reach + 1, 2 * reach + 1)
    return torch.from_numpy(channels.astype(np.float32))


def explained(phase: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """The frame ``[B, 1, Y, X]`` that a phase ``[B, u², Y, X]`` explains, by each one's kernels ``[B, u², n, n]``."""
    reach = kernels.shape[-1] // 2
    beyond = functional.pad(phase, (reach,) * 4, mode="replicate")
    if not _differentiated(phase):
        return torch.cat([_correlated(p, k) for p, k in zip(beyond, kernels, strict=True)])
    spectrum = torch.fft.rfft2(beyond) * _transform(kernels, beyond.shape[-2:]).conj()
    return _inner(spectrum.sum(1, keepdim=True), beyond.shape[-2:], reach)


def sent_back(frame: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """The phase ``[B, u², Y, X]`` that a frame ``[B, 1, Y, X]`` asks for: the transpose of `explained`."""
    reach = kernels.shape[-1] // 2
    if not _differentiated(frame):
        back = kernels.flip(-2, -1)[:, :, None]
        return torch.cat(
            [functional.conv2d(f[None], k, padding=reach) for f, k in zip(frame, back, strict=True)]
        )
    beyond = functional.pad(frame, (reach,) * 4)
    spectrum = torch.fft.rfft2(beyond) * _transform(kernels, beyond.shape[-2:])
    return _inner(spectrum, beyond.shape[-2:], reach)


def _correlated(phase: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """``[1, 1, Y, X]`` of ``[u², Y + n - 1, X + n - 1]``: each row of the kernel by itself, then their sum.

    Convolutions to a single channel are six times slower on a processor than this one to n.
    """
    n = kernel.shape[-1]
    rows = functional.conv2d(phase[None], kernel.transpose(0, 1)[:, :, None])
    height = rows.shape[-2] - n + 1
    total = rows[:, :1, :height].clone()
    for i in range(1, n):
        total += rows[:, i : i + 1, i : i + height]
    return total


def _differentiated(images: torch.Tensor) -> bool:
    # Convolutions with kernels of each patch's own are slow to differentiate, six times slower than FFTs.
    return torch.is_grad_enabled() and len(images) > 0


def _transform(kernels: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    n = kernels.shape[-1]
    padded = functional.pad(kernels, (0, shape[1] - n, 0, shape[0] - n))
    spectrum: torch.Tensor = torch.fft.rfft2(padded.roll((-(n // 2), -(n // 2)), (-2, -1)))
    return spectrum


def _inner(spectrum: torch.Tensor, shape: torch.Size, reach: int) -> torch.Tensor:
    whole: torch.Tensor = torch.fft.irfft2(spectrum, s=(shape[0], shape[1]))
    return whole[..., reach:-reach, reach:-reach]
