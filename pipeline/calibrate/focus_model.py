"""Scale and zero of a through-focus series by the full model: a strong specimen, imaged plane by plane.

Phase, absorption, scale, zero and a sideways drift are fitted together to all planes. In Fourier space the phase is
scaled by what the planes show of it, which makes the problem nearly round: some tens of steps suffice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from pipeline.experiment import Optics
from pipeline.optics.illumination import Source
from pipeline.optics.propagation import axial_frequency
from pipeline.optics.pupil import pupil

Floats = NDArray[np.float64]

# Typical errors to begin with, of scale (relative), zero (µm), drift (µm sideways per µm) and absorption per radian.
_STEPS = (0.02, 0.2, 0.01, 0.01, 0.02)
# Pure phase is likely: what absorbs beside it is small.
_ABSORPTION = 0.02
_PRIOR = 1e-4
# Squared transfer below which the planes hardly show a frequency.
_HARDLY_SEEN = 0.3
# Pixels at the border that light from outside reaches.
_BORDER = 12


@dataclass(frozen=True)
class FocusModel:
    """What a fit found: `drift` in µm sideways (y, x) per commanded µm; `skewness` of the phase."""

    scale: float
    zero_um: float
    drift: tuple[float, float]
    skewness: float


def fit_focus_model(
    frames: Floats,
    foci_um: Floats,
    pixel_um: float,
    optics: Optics,
    source: Source,
    start: tuple[float, float],
    *,
    iterations: int = 40,
) -> FocusModel:
    """Fit frames ``[K, N, N]`` (light relative to its mean), from a scale and zero nearby."""
    model = _Model(frames, foci_um, pixel_um, optics, source, start)
    found = minimize(
        model.badness,
        np.zeros(model.unknowns),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": 12},
    )
    return model.told(np.asarray(found.x))


class _Model:
    """Sum of squared misfits and its gradient."""

    def __init__(
        self,
        frames: Floats,
        foci_um: Floats,
        pixel_um: float,
        optics: Optics,
        source: Source,
        start: tuple[float, float],
    ) -> None:
        self._seen = torch.tensor(frames, dtype=torch.float32)
        self._foci = [float(z) for z in foci_um]
        self._n = n = frames.shape[-1]
        self._start = start
        self._weight = _window(n)
        f = torch.fft.fftfreq(n, pixel_um, dtype=torch.float64)
        self._fy, self._fx = f[:, None], f[None, :]
        waves = source.frequencies
        fy = self._fy + waves[:, 1, None, None]
        fx = self._fx + waves[:, 0, None, None]
        own = axial_frequency(waves.square().sum(1), optics.wavelength_um, optics.refractive_index)[
            :, None, None
        ]
        path = axial_frequency(fy**2 + fx**2, optics.wavelength_um, optics.refractive_index)
        self._path = (2 * math.pi * (path - own)).float()
        self._passes = pupil(fy, fx, optics).to(torch.complex64)
        self._share = source.weights.float()[:, None, None] / source.weights.sum().float()
        self._pixel = (torch.sinc(self._fy * pixel_um) * torch.sinc(self._fx * pixel_um)).float()
        on_axis = (
            2
            * math.pi
            * axial_frequency(
                self._fy**2 + self._fx**2, optics.wavelength_um, optics.refractive_index
            )
        )
        planes = [start[1] + start[0] * z for z in self._foci]
        shown = sum(((2 * torch.sin(on_axis * z)) ** 2 for z in planes), torch.zeros(()))
        self._scaling = (shown + _HARDLY_SEEN).rsqrt().float()
        self._steps = torch.tensor(
            [_STEPS[0] * abs(start[0]), _STEPS[1], _STEPS[2], _STEPS[2], _STEPS[4]]
        )
        self.unknowns = 2 * n * n + 5

    def badness(self, x: Floats) -> tuple[float, Floats]:
        """Misfit and gradient."""
        unknowns = torch.tensor(x, dtype=torch.float32, requires_grad=True)
        field, lens = self._specimen(unknowns)
        # The planes are taken one by one: all at once would need a gigabyte.
        shared = [t.detach().requires_grad_(True) for t in (field, lens)]
        total = 0.0
        for z, seen in zip(self._foci, self._seen, strict=True):
            rest = self._image(shared[0], shared[1], z) - seen
            rest = (rest - (rest * self._weight).sum() / self._weight.sum()) * self._weight
            loss = rest.square().sum()
            torch.autograd.backward(loss)
            total += float(loss.detach())
        torch.autograd.backward((field, lens), (shared[0].grad, shared[1].grad))
        assert unknowns.grad is not None
        object_ = unknowns.detach()[:-5]
        gradient = unknowns.grad.clone()
        gradient[:-5] += 2 * _PRIOR * object_
        return total + _PRIOR * float(object_.square().sum()), gradient.double().numpy()

    def told(self, x: Floats) -> FocusModel:
        """The unknowns in their own units."""
        with torch.inference_mode():
            unknowns = torch.tensor(x, dtype=torch.float32)
            phase, _ = self._phase(unknowns)
            _, lens = self._specimen(unknowns)
        inner = phase[_BORDER:-_BORDER, _BORDER:-_BORDER]
        apart = inner - inner.median()
        skewness = float((apart**3).mean() / apart.square().mean().clamp_min(1e-12) ** 1.5)
        scale, zero, dy, dx = (float(v) for v in lens[:4])
        return FocusModel(scale, zero, (dy, dx), skewness)

    def _phase(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n = self._n
        rough = unknowns[: n * n].reshape(n, n)
        phase = torch.fft.ifft2(torch.fft.fft2(rough) * self._scaling).real
        own = unknowns[n * n : 2 * n * n].reshape(n, n) * _ABSORPTION
        absorption = own + unknowns[-1] * self._steps[-1] * (phase - phase.mean())
        return phase, absorption

    def _specimen(self, unknowns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spectrum of the field, and (scale, zero, drift y, drift x)."""
        phase, absorption = self._phase(unknowns)
        field = torch.exp(torch.complex(-absorption, phase))
        begin = torch.tensor([*self._start, 0.0, 0.0])
        return torch.fft.fft2(field), begin + unknowns[-5:-1] * self._steps[:4]

    def _image(self, spectrum: torch.Tensor, lens: torch.Tensor, commanded: float) -> torch.Tensor:
        """Light on the camera: on a grid of half the pixel, which holds all of the intensity's frequencies."""
        turn = self._path * (lens[1] + lens[0] * commanded)
        waves = spectrum * self._passes * torch.polar(torch.ones_like(turn), turn)
        fine = torch.fft.ifft2(_grown(waves, self._n)) * 4
        light = ((fine.real.square() + fine.imag.square()) * self._share).sum(0)
        seen = _shrunk(torch.fft.fft2(light), self._n) / 4 * self._pixel
        sideways = (
            -2 * math.pi * commanded * (self._fy.float() * lens[2] + self._fx.float() * lens[3])
        )
        image: torch.Tensor = torch.fft.ifft2(
            seen * torch.polar(torch.ones_like(sideways), sideways)
        ).real
        return image


def _window(n: int) -> torch.Tensor:
    """0 at the border that light from outside reaches, rising to 1."""
    edge = torch.minimum(torch.arange(n), torch.arange(n).flip(0)).float()
    rise = torch.sin(math.pi / 2 * ((edge - _BORDER / 2) / _BORDER).clamp(0, 1))
    return rise[:, None] * rise


def _grown(spectrum: torch.Tensor, n: int) -> torch.Tensor:
    """Zeros around: a grid twice as fine."""
    pad = n // 2
    centred = torch.fft.fftshift(spectrum, dim=(-2, -1))
    grown: torch.Tensor = torch.fft.ifftshift(
        torch.nn.functional.pad(centred, (pad,) * 4), dim=(-2, -1)
    )
    return grown


def _shrunk(spectrum: torch.Tensor, n: int) -> torch.Tensor:
    """Back to the camera's grid."""
    pad = n // 2
    centred = torch.fft.fftshift(spectrum, dim=(-2, -1))[..., pad:-pad, pad:-pad]
    shrunk: torch.Tensor = torch.fft.ifftshift(centred, dim=(-2, -1))
    return shrunk
