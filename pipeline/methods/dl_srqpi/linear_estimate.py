"""The phase that a Wiener filter finds on the camera's grid.

Decision. A network that sees the contrast alone has to learn, for every defocus and coherence, how
contrast and phase are related, and to carry it over hundreds of pixels, for the frequencies of whole
cells hardly transfer. All of that is known: the weak-object transfer function, the spectrum of cells and
the noise make a Wiener filter, one FFT of the frame. In a trial of 1200 steps over z = 1 … 13 µm and
S = 0 … 0.42, foreign specimens: SSIM 0.627 with it, 0.608 without.
"""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.weak_model import WeakModel

# Of contrast, per pixel: camera noise, and what is not linear.
_NOISE = 0.005


class LinearEstimate:
    """Phase ``[B, Y, X]`` in radians of contrast ``[B, Y, X]``, of either sign, zero on average."""

    def __init__(self, model: WeakModel) -> None:
        self._model = model
        t, power = model.transfer, model.power
        self._response = t * power / (t * t * power + _NOISE**2)

    def __call__(self, contrast: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        """See the class; `spectrum` is the model's, of the contrast."""
        phase = self._model.image(spectrum * self._response)
        return self._model.cropped(phase, contrast.shape[-2:])
