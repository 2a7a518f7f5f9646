"""Where the LEDs really are, from the frames themselves.

If wave n has the frequency f_n + δ, its field is that of O(f - f_n - δ): to first order the field changes by
-δ·F{-i2πr·o(r)} under the pupil, and its amplitude with it. Two unknowns an LED, as many equations as pixels: a
Gauss-Newton step. What all LEDs ask for together tells how the array lies (its place, turn, distance); a single
LED's own wish is mostly noise, and where it isn't, an array of good boards has no such errors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from pipeline.methods.fpm.imaging import Imaging, object_field, object_spectrum
from pipeline.methods.fpm.solver import Solution
from pipeline.methods.fpm.waves import Waves

# Of the frame's edge at each side: what lies outside of the field reaches in.
_BORDER = 0.1


class Wish(NamedTuple):
    """Of each wave.

    `steps` ``[N, 2]`` (fx, fy) cycles/µm to be added to its frequency, `weights` ``[N]`` how well it is known.
    """

    steps: torch.Tensor
    weights: torch.Tensor


def position_wishes(
    waves: Waves, frames: torch.Tensor, valid: torch.Tensor, found: Solution, pixel_um: float
) -> Wish:
    """By how much each wave's frequency misses what its frame shows; waves of frames with one LED each.

    Parameters
    ----------
    frames, valid
        As for `solve`.
    pixel_um
        Camera pixel at the specimen.
    """
    imaging = Imaging(waves)
    moved = _moments(waves, found.spectrum, pixel_um)
    inner = tuple(slice(int(_BORDER * n), n - int(_BORDER * n)) for n in waves.shape)
    steps, weights = [], []
    for k in range(len(frames)):
        one = slice(k, k + 1)
        some = imaging.lit(one)
        pupils = waves.pupils[some] * found.pupil
        fields = imaging.fields(imaging.windows(found.spectrum, some) * pupils)
        shining = float(found.light[k]) ** 0.5
        amplitude = imaging.amplitude(fields, one)
        slopes = [
            shining
            * imaging.together(fields, imaging.fields(imaging.windows(m, some) * pupils), one)
            / amplitude
            for m in moved
        ]
        mask = valid[one][:, inner[0], inner[1]].double()
        lacking = frames[one].clamp_min(0).sqrt() - shining * amplitude
        columns = torch.stack([(s[:, inner[0], inner[1]] * mask).flatten() for s in slopes], 1)
        rest = (lacking[:, inner[0], inner[1]] * mask).flatten()
        normal = columns.T @ columns
        steps.append(torch.linalg.lstsq(normal, columns.T @ rest).solution)
        weights.append(normal.diagonal().mean())
    return Wish(torch.stack(steps), torch.stack(weights))


def _moments(waves: Waves, spectrum: torch.Tensor, pixel_um: float) -> list[torch.Tensor]:
    """Spectra of i2πx·o and i2πy·o: how the object's spectrum changes as it moves along fx and fy."""
    field = object_field(spectrum)
    moved = []
    for axis in (1, 0):
        n = waves.grid[axis]
        at = (torch.arange(n, device=field.device) - (n - 1) / 2) * (
            pixel_um * waves.shape[axis] / n
        )
        view = (-1, 1) if axis == 0 else (1, -1)
        moved.append(object_spectrum(field * (2j * math.pi * at).view(view)))
    return moved


def array_step(
    sines: torch.Tensor, steps: torch.Tensor, weights: torch.Tensor, wavelength_um: float
) -> torch.Tensor:
    """``[N, 2]`` change of direction sines that a moved, turned and stretched array explains.

    Parameters
    ----------
    sines
        ``[N, 2]`` of the LEDs, in the camera's axes: a wave's frequency is -sine/λ.
    steps, weights
        Of `Wish`.
    """
    root = weights.sqrt()[:, None]
    about = torch.cat([torch.ones(len(sines), 1, dtype=sines.dtype), sines], 1)
    found = torch.linalg.lstsq(about * root, -wavelength_um * steps * root).solution
    change: torch.Tensor = about @ found
    return change
