"""A neural field for one object: no training set, and minutes for each field.

Coordinates as random Fourier features through a small network to phase and amplitude (Tancik et al., NeurIPS 2020),
fitted through the forward model to the very frames that NeuPh gets.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.methods.fpm.imaging import Imaging, object_spectrum
from pipeline.methods.fpm.waves import Waves

_FEATURES, _HIDDEN = 128, 96
# Cycles per camera pixel: the spread of the random frequencies.
_SPREAD = 0.35
_STEPS, _RATE = 60, 4e-3


def fitted_field(waves: Waves, frames: torch.Tensor) -> torch.Tensor:
    """Phase ``[u·Y, u·X]`` in radians that explains frames ``[K, Y, X]``."""
    generator = torch.Generator().manual_seed(0)
    frequencies = torch.randn(2, _FEATURES, generator=generator) * _SPREAD
    at = [
        (torch.arange(n) + 0.5) * (side / n)
        for n, side in zip(waves.grid, waves.shape, strict=True)
    ]
    y, x = torch.meshgrid(*at, indexing="ij")
    waves_of = 2 * math.pi * (y[..., None] * frequencies[0] + x[..., None] * frequencies[1])
    known = torch.cat([waves_of.sin(), waves_of.cos()], -1)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(2 * _FEATURES, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, 2),
    )
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        # To begin with there is no specimen.
        last.weight.mul_(0.1)
        last.bias.zero_()
    adam = torch.optim.Adam(network.parameters(), lr=_RATE)
    imaging, amplitudes = Imaging(waves), frames.clamp_min(0).sqrt()
    # Darkfield frames count as much as they are bright: by their own amplitude.
    share = 1 / amplitudes.square().mean((1, 2))
    pupil = torch.ones(waves.window, dtype=torch.complex64)
    for _ in range(_STEPS):
        phase, darkness = network(known).unbind(-1)
        spectrum = object_spectrum(torch.polar(torch.exp(-darkness.clamp_min(0)), phase))
        loss = frames.new_zeros(())
        for k in range(len(frames)):
            one = slice(k, k + 1)
            some = imaging.lit(one)
            fields = imaging.fields(imaging.windows(spectrum, some) * (waves.pupils[some] * pupil))
            missed = (imaging.amplitude(fields, one)[0] - amplitudes[k]).square().mean()
            loss = loss + share[k] * missed
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own signature
        adam.step()
    with torch.no_grad():
        found: torch.Tensor = network(known)[..., 0]
        return found
