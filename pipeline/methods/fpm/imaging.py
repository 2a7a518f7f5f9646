"""From an object's spectrum to the camera's frames, and back: the two steps of every solver.

Spectra are centred and hold coefficients: ``fftshift(fft2(object)) / (H·W)``, so an empty specimen is one
coefficient of 1 and every brightfield image of it is 1.
"""

from __future__ import annotations

import torch

from pipeline.methods.fpm.waves import Waves
from pipeline.optics.sensor import bin_pixels

# Amplitudes below have no direction to be corrected along.
_DARKEST = 1e-9


def object_spectrum(field: torch.Tensor) -> torch.Tensor:
    """``[H, W]`` complex64 → its centred coefficients."""
    spectrum: torch.Tensor = torch.fft.fftshift(torch.fft.fft2(field) / field.numel())
    return spectrum


def object_field(spectrum: torch.Tensor) -> torch.Tensor:
    """The inverse of `object_spectrum`."""
    field: torch.Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum), norm="forward")
    return field


def power(values: torch.Tensor) -> torch.Tensor:
    """|z|² of complex values, without the root that `abs` takes."""
    return values.real.square() + values.imag.square()


class Imaging:
    """The frames of a measurement from an object's spectrum, a few at a time.

    Parameters
    ----------
    waves
        On the device of the spectra.
    """

    def __init__(self, waves: Waves) -> None:
        self.waves = waves
        self.fine = (waves.shape[0] * waves.samples, waves.shape[1] * waves.samples)
        device = waves.corner.device
        rows, columns = (torch.arange(n, device=device) for n in waves.window)
        inside = rows[:, None] * waves.grid[1] + columns
        corner = waves.corner[:, 0] * waves.grid[1] + waves.corner[:, 1]
        self._places = corner[:, None, None] + inside

    def lit(self, frames: slice) -> slice:
        """The waves of a range of frames."""
        first = self.waves.first
        return slice(first[frames.start], first[frames.stop])

    def windows(self, spectrum: torch.Tensor, waves: slice) -> torch.Tensor:
        """``[n, h, w]`` of the object's spectrum under each wave's pupil."""
        return spectrum.flatten()[self._places[waves]]

    def add_windows(self, total: torch.Tensor, windows: torch.Tensor, waves: slice) -> None:
        """Add windows ``[n, h, w]`` to a spectrum where they were cut out."""
        total.view(-1).index_add_(0, self._places[waves].flatten(), windows.flatten())

    def fields(self, passed: torch.Tensor) -> torch.Tensor:
        """Fields ``[n, s·Y, s·X]`` in the image, of what passed the pupil ``[n, h, w]``, times a tilt.

        The window is taken for the first samples of the spectrum, which saves to fill in zeros and to transform
        columns of them. It lies elsewhere, so all fields have the same tilt, which no intensity shows.
        """
        columns = torch.fft.ifft(passed, self.fine[0], dim=-2, norm="forward")
        fields: torch.Tensor = torch.fft.ifft(columns, self.fine[1], dim=-1, norm="forward")
        return fields

    def amplitude(self, fields: torch.Tensor, frames: slice) -> torch.Tensor:
        """``[k, Y, X]`` root of the light that falls on each pixel, of the frames that the fields make up."""
        intensity = bin_pixels(power(fields), self.waves.samples)
        intensity *= self.waves.weights[self.lit(frames), None, None]
        return self._per_frame(intensity, frames).sqrt().clamp_min(_DARKEST)

    def frames(
        self, spectrum: torch.Tensor, pupil: torch.Tensor, light: torch.Tensor
    ) -> torch.Tensor:
        """``[K, Y, X]`` that an object makes through a pupil ``[h, w]`` under light ``[K]``."""
        out = []
        for k in range(len(self.waves.first) - 1):
            one = slice(k, k + 1)
            waves = self.lit(one)
            passed = self.windows(spectrum, waves) * (self.waves.pupils[waves] * pupil)
            out.append(light[k] * self.amplitude(self.fields(passed), one)[0].square())
        return torch.stack(out)

    def together(self, fields: torch.Tensor, others: torch.Tensor, frames: slice) -> torch.Tensor:
        """``[k, Y, X]`` Re(ψ*·χ) on each pixel, float64, of one wave a frame: half of what ψ + χ adds."""
        both = bin_pixels(fields.real * others.real + fields.imag * others.imag, self.waves.samples)
        return (both * self.waves.weights[self.lit(frames), None, None]).double()

    def back(self, fields: torch.Tensor, factor: torch.Tensor, frames: slice) -> torch.Tensor:
        """``[n, h, w]`` spectra of the waves' fields times a factor ``[k, Y, X]`` of their frame's pixels."""
        waves = self.lit(frames)
        first = torch.tensor(self.waves.first[frames.start : frames.stop + 1])
        spread = factor.repeat_interleave((first[1:] - first[:-1]).to(factor.device), 0)
        spread = spread * (self.waves.weights[waves, None, None] / (self.fine[0] * self.fine[1]))
        n, (y, x) = self.waves.samples, self.waves.shape
        apart = fields.reshape(-1, y, n, x, n) * spread[:, :, None, :, None]
        h, w = self.waves.window
        rows = torch.fft.fft(apart.reshape(-1, *self.fine), dim=-1)[..., :w]
        spectra: torch.Tensor = torch.fft.fft(rows, dim=-2)[:, :h]
        return spectra

    def _per_frame(self, images: torch.Tensor, frames: slice) -> torch.Tensor:
        """Sums over the waves of each frame."""
        first = self.waves.first
        if first[frames.stop] - first[frames.start] == frames.stop - frames.start:
            return images
        base = first[frames.start]
        return torch.stack(
            [
                images[first[k] - base : first[k + 1] - base].sum(0)
                for k in range(frames.start, frames.stop)
            ]
        )
