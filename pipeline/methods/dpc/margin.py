"""Fields continued beyond their edges, so that a filter's opposite edges don't see each other."""

from __future__ import annotations

import torch


class FadedMargin:
    """Fades from each edge to the background (zero), and from it to the opposite edge: the grid is periodic.

    Not mirrored: a mirrored phase object has the opposite contrast under a half circle.

    Parameters
    ----------
    shape, padded
        ``(Y, X)`` of the field and ``(H, W)`` of the grid.
    """

    def __init__(
        self, shape: tuple[int, int], padded: tuple[int, int], device: torch.device | str
    ) -> None:
        self.shape, self.padded = shape, padded
        self._fade = tuple(_fade(m - n, device) for n, m in zip(shape, padded, strict=True))

    def __call__(self, contrast: torch.Tensor) -> torch.Tensor:
        """``[..., Y, X]``, background 0 → ``[..., H, W]``."""
        for axis, (before, after) in zip((-2, -1), self._fade, strict=True):
            if len(before):
                view = (-1, 1) if axis == -2 else (-1,)
                last = contrast.narrow(axis, contrast.shape[axis] - 1, 1) * after.view(view)
                first = contrast.narrow(axis, 0, 1) * before.view(view)
                contrast = torch.cat([contrast, last + first], axis)
        return contrast


def _fade(margin: int, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the first and the last pixel over the margin between them."""
    t = (torch.arange(margin, device=device, dtype=torch.float32) + 1) / (margin + 1)
    after = torch.where(t < 0.5, torch.cos(torch.pi * t) ** 2, torch.zeros_like(t))
    return after.flip(0), after
