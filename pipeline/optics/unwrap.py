"""Phase without its jumps of 2π.

Least squares: the image whose differences come nearest to the wrapped ones solves a Poisson equation, which
cosine transforms do at once; where some differences are to be trusted more than others, they precondition
conjugate gradients (Ghiglia and Romero, J. Opt. Soc. Am. A 11, 107, 1994). What is left of the wrapped image is
wrapped again and added, and in the end whole turns are added to the wrapped image, so that it is what was given but
for those.
"""

from __future__ import annotations

import math

import torch

_ROUNDS = 4
_GRADIENT_STEPS = 12
# Of the largest weight: no pixel is cut off from the others.
_LEAST_WEIGHT = 1e-3


def unwrap(phase: torch.Tensor, trust: torch.Tensor | None = None) -> torch.Tensor:
    """Unwrapped phase.

    Parameters
    ----------
    phase
        ``[Y, X]`` radians, float32, modulo 2π.
    trust
        ``[Y, X]`` not negative: how well each pixel's phase is known, such as the light it has. Phase
        has vortices where there is no light, and those would put whole cells a turn too high.

    Returns
    -------
    ``[Y, X]``; it differs from `phase` by whole multiples of 2π, of which most pixels have none.
    """
    weights = None
    if trust is not None:
        known = (trust / trust.amax()).clamp_min(_LEAST_WEIGHT)
        weights = torch.minimum(known[1:], known[:-1]), torch.minimum(known[:, 1:], known[:, :-1])
    smooth = torch.zeros_like(phase)
    for _ in range(_ROUNDS):
        smooth = smooth + _least_squares(_wrapped(phase - smooth), weights)
    turns = torch.round((smooth - phase) / (2 * math.pi))
    # The constant, which differences don't tell: the one that changes most pixels least.
    return phase + 2 * math.pi * (turns - turns.median())


def _wrapped(phase: torch.Tensor) -> torch.Tensor:
    return torch.remainder(phase + math.pi, 2 * math.pi) - math.pi


def _least_squares(
    phase: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor] | None
) -> torch.Tensor:
    """The image whose differences are nearest to `phase`'s wrapped ones."""
    down, across = _wrapped(phase.diff(dim=0)), _wrapped(phase.diff(dim=1))
    if weights is None:
        return _poisson(_divergence(down, across))
    heavy, wide = weights
    rest = _divergence(heavy * down, wide * across)
    image, direction, before = torch.zeros_like(phase), torch.zeros_like(phase), math.inf
    for _ in range(_GRADIENT_STEPS):
        solved = _poisson(rest)
        product = float((rest * solved).sum())
        direction = solved + direction * (product / before)
        curved = _divergence(heavy * direction.diff(dim=0), wide * direction.diff(dim=1))
        bend = float((direction * curved).sum())
        # Both are negative: the Laplacian is.
        if bend == 0 or product == 0:
            break
        image = image + direction * (product / bend)
        rest = rest - curved * (product / bend)
        before = product
    return image


def _divergence(down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """``[Y, X]`` of differences ``[Y - 1, X]`` and ``[Y, X - 1]``; none leaves the image."""
    out = down.new_zeros(across.shape[0], down.shape[1])
    out[:-1] += down
    out[1:] -= down
    out[:, :-1] += across
    out[:, 1:] -= across
    return out


def _poisson(divergence: torch.Tensor) -> torch.Tensor:
    """The image of zero mean whose Laplacian it is, even across its borders."""
    y, x = divergence.shape
    # A cosine transform is the FFT of the image mirrored at its border.
    mirrored = torch.cat([divergence, divergence.flip(0)], 0)
    mirrored = torch.cat([mirrored, mirrored.flip(1)], 1)
    fy = torch.arange(2 * y, device=divergence.device, dtype=torch.float64) * (math.pi / y)
    fx = torch.arange(x + 1, device=divergence.device, dtype=torch.float64) * (math.pi / x)
    curvature = 2 * (fy.cos()[:, None] + fx.cos() - 2)
    curvature[0, 0] = 1
    spectrum = torch.fft.rfft2(mirrored) / curvature.to(divergence.dtype)
    spectrum[0, 0] = 0
    solved: torch.Tensor = torch.fft.irfft2(spectrum, s=(2 * y, 2 * x))
    return solved[:y, :x]
