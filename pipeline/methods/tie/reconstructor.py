"""The transport-of-intensity equation, solved by FFT on the mirrored field.

With I(z) the intensity z downstream of the specimen and k = 2πn/λ,

    k ∂I/∂z = -∇·(I ∇φ)

(Teague, J. Opt. Soc. Am. 73, 1983): a thick place focuses light, so its image brightens downstream.

What the phase does at the field's edge is not in the data. Here it is zero there (the field continues as
its negative mirror image): a cell that the edge cuts is wrong by its own height at most, and less inside. Continued as
a plain mirror image, the same cell would lose light through the edge and bend the whole field.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import SlotError
from pipeline.experiment import Experiment
from pipeline.methods.background import zero_background
from pipeline.methods.contract import Reconstruction
from pipeline.methods.fill import fill_invalid
from pipeline.methods.tie.magnification import EvenMagnification
from pipeline.methods.tie.settings import TieSettings

# Darker places scatter rather than absorb: dividing by less would only raise noise.
_DARKEST = 0.1


def load_tie(
    experiment: Experiment, calibration: Calibration, settings: TieSettings, device: str
) -> TieReconstructor:
    """Everything that does not depend on the frames."""
    foci = np.array([calibration.true_focus_um(z) for z in experiment.sequence.foci_um])
    intensity, derivative = focus_fit(foci, settings.order)
    pixel_um = calibration.pixel_um or experiment.pixel_um
    optics = experiment.optics
    k = 2 * math.pi * optics.refractive_index / optics.wavelength_um
    turnover = settings.regularisation * (2 * math.pi * optics.cutoff_per_um) ** 2
    shape = experiment.microscope.camera.shape_px
    grown = 1 + (calibration.magnification_per_um or 0.0) * foci
    return TieReconstructor(
        torch.tensor(intensity, dtype=torch.float32, device=device),
        torch.tensor(-k * derivative, dtype=torch.float32, device=device),
        shape,
        pixel_um,
        turnover,
        settings.intensity == "uniform",
        EvenMagnification(grown, shape, device),
    )


def focus_fit(
    foci_um: NDArray[np.float64], order: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the frames that give intensity and axial derivative at focus 0.

    Least squares of a polynomial in z through all foci: of all unbiased linear estimates it
    has the least noise.

    Returns
    -------
    intensity, derivative
        ``[K]`` each; derivative in 1/µm.
    """
    # In units of the range, so that high orders stay well conditioned.
    scale = np.abs(foci_um).max()
    powers = np.vander(foci_um / scale, order + 1, increasing=True)
    fit = np.linalg.pinv(powers)
    return fit[0], fit[1] / scale


class TieReconstructor:
    """`tie`, loaded for one camera, set of foci and device.

    Parameters
    ----------
    intensity, transport
        ``[K]`` weights that give the intensity in focus, and -k times its axial derivative in 1/µm².
    turnover
        Squared angular frequency, 1/µm², below which the inverse Laplacian is damped.
    even
        Undoes what the lens does to the magnification.
    """

    def __init__(
        self,
        intensity: torch.Tensor,
        transport: torch.Tensor,
        shape: tuple[int, int],
        pixel_um: float,
        turnover: float,
        uniform: bool,
        even: EvenMagnification,
    ) -> None:
        self.intensity = intensity
        self.transport = transport
        self.shape = shape
        self.uniform = uniform
        self.even = even
        device = intensity.device
        # The mirrored field, twice the size along each axis, has no edges.
        self.wave_y, self.wave_x = (
            2 * math.pi * frequencies(2 * n, d=pixel_um).to(device)
            for n, frequencies in zip(shape, (torch.fft.fftfreq, torch.fft.rfftfreq), strict=True)
        )
        square = self.wave_y[:, None] ** 2 + self.wave_x**2
        # The constant term has no say: what is divided there is zero.
        square[0, 0] = 1.0
        self.inverse_laplacian = -square / (square**2 + turnover**2)
        self.undamped_inverse = -1 / square

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """See `Reconstructor`; the image is the phase, ``[B, 1, Y, X]``. A dark frame is a `SlotError`."""
        device = self.intensity.device
        frames = self.even(fill_invalid(frames.to(device), valid.to(device)))
        # Defocus moves light about but loses none, so a change of the mean is flicker of the lamp. The
        # background would not do: defocus skews its noise by 1e-4, and that much bends the field.
        level = frames.mean((-2, -1), keepdim=True)
        if not bool((level > 0).all()):
            raise SlotError("a frame has no light", "look at lamp, shutter and exposure time")
        frames = frames / level
        transport = torch.einsum("k,bkyx->byx", self.transport, frames)
        if self.uniform:
            phase = self._real(self._spectrum(transport) * self.inverse_laplacian)
        else:
            intensity = torch.einsum("k,bkyx->byx", self.intensity, frames).clamp(min=_DARKEST)
            phase = self._through_auxiliary(transport, intensity)
        return Reconstruction(zero_background(phase)[:, None].contiguous())

    def _through_auxiliary(self, transport: torch.Tensor, intensity: torch.Tensor) -> torch.Tensor:
        """Teague's way: ∇ψ = I∇φ, so ψ = ∇⁻²(-k ∂I/∂z) and φ = ∇⁻²∇·(∇ψ / I)."""
        psi = self._spectrum(transport) * self.inverse_laplacian
        mirrored = _mirror(intensity, 1)
        size = mirrored.shape[-2:]
        divergence = torch.zeros_like(psi)
        for wave in (self.wave_y[:, None], self.wave_x):
            flow = torch.fft.irfft2(1j * wave * psi, s=size) / mirrored
            divergence += 1j * wave * torch.fft.rfft2(flow)
        # The first inverse has damped what is slow; damping it twice would only blur the limit.
        return self._real(divergence * self.undamped_inverse)

    def _spectrum(self, image: torch.Tensor) -> torch.Tensor:
        spectrum: torch.Tensor = torch.fft.rfft2(_mirror(image, -1))
        return spectrum

    def _real(self, spectrum: torch.Tensor) -> torch.Tensor:
        y, x = self.shape
        image: torch.Tensor = torch.fft.irfft2(spectrum, s=(2 * y, 2 * x))
        return image[..., :y, :x]


def _mirror(image: torch.Tensor, sign: int) -> torch.Tensor:
    """``[..., Y, X]`` → ``[..., 2Y, 2X]``, each half `sign` times the mirror image of the other."""
    image = torch.cat([image, sign * image.flip(-1)], -1)
    return torch.cat([image, sign * image.flip(-2)], -2)
