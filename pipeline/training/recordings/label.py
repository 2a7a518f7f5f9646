"""The label: TIE phase at the camera's full resolution.

Decision. One polynomial through all foci is either noisy (high orders) or blurs (low ones). Each frequency
is taken from the lowest order that still passes it: low ones, where TIE is noisiest, from a parabola through
the widest foci, fine detail from what the narrow foci tell (Zuo et al., Opt. Express 21, 2013, 5346, choose
among Savitzky-Golay filters so). The focus of the network's input is left out: noise that the label
shared with the input would be learnt. Kept in, the label's noise below the binned camera's Nyquist frequency
is correlated with the input's by 0.40 (foci ±2, ±4 µm) or 0.15 (the nine of the example experiment); left out, by 0.01
at most.

A label knows what TIE knows. It ends at (1 + S)·NA/λ and at the camera's Nyquist frequency; periods of several
cells' diameters are damped and flattened; a thick or steep specimen, where the intensity at the narrow foci
is no longer linear in z, is wrong by some per cent; its noise is independent of the input, so that a
network's mean square error averages it out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from pipeline.experiment import Condenser, Optics
from pipeline.methods.tie.reconstructor import TieReconstructor, focus_fit, load_tie
from pipeline.methods.tie.settings import TieSettings
from pipeline.optics.weak_object import condenser_phase_transfer
from pipeline.training.recordings.flatten import flatten_background
from pipeline.training.recordings.settings import RecordingSettings
from pipeline.training.recordings.stack import Stack

Array = NDArray[np.float64]

# An order serves up to the frequency that it passes this share of; what it loses by then is given back.
_PASSES = 0.8
# Of the transition from one order to the next, as a Butterworth filter's.
_STEEPNESS = 8
_HIGHEST_ORDER = 8
_TABULATED = 512


class LabelMaker:
    """Labels for the pairs of one recording and one input focus.

    Parameters
    ----------
    stack
        The recording.
    left_out
        Index of the input's focus. Where no foci on both sides are left without it, it stays in
        (`shares_noise` says so).
    """

    def __init__(self, stack: Stack, left_out: int, settings: RecordingSettings) -> None:
        z = stack.true_foci_um
        kept = [i for i in range(len(z)) if i != left_out]
        self.shares_noise = not z[kept].min() < 0 < z[kept].max()
        self._foci = list(range(len(z))) if self.shares_noise else kept
        self._background_um = settings.background_um
        self._pixel_um = stack.pixel_um
        sequence = stack.experiment.sequence
        foci = tuple(sequence.foci_um[i] for i in self._foci)
        experiment = stack.experiment.model_copy(
            update={"sequence": sequence.model_copy(update={"foci_um": foci})}
        )
        orders = _orders(len(foci))
        self._tie: list[TieReconstructor] = [
            load_tie(
                experiment,
                stack.calibration,
                TieSettings(order=order, regularisation=settings.regularisation),
                "cpu",
            )
            for order in orders
        ]
        self._shares = _frequency_shares(stack, z[self._foci], orders)

    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> NDArray[np.float32]:
        """Phase in radians, background zero.

        Parameters
        ----------
        frames, valid
            ``[K, Y, X]`` of `Stack.frames_of`, all foci.

        Returns
        -------
        ``[Y, X]`` float32.

        Raises
        ------
        SlotError
            A frame has no light.
        """
        frames, valid = frames[None, self._foci], valid[None, self._foci]
        spectrum: NDArray[np.float32] | float = 0.0
        for tie, share in zip(self._tie, self._shares, strict=True):
            spectrum = spectrum + dctn(tie(frames, valid).images[0, 0].numpy()) * share
        phase = idctn(spectrum)
        return flatten_background(phase, self._pixel_um, self._background_um)


def _orders(foci: int) -> list[int]:
    """Even ones: through foci that lie evenly about the specimen they are as good as the odd one below, through
    others they don't take the curvature for a slope."""
    return [order for order in range(2, _HIGHEST_ORDER + 1, 2) if order < foci] or [1]


def _frequency_shares(stack: Stack, foci_um: Array, orders: list[int]) -> list[NDArray[np.float32]]:
    """``[Y, X]`` for each order: by what each frequency of its field's cosine transform is multiplied."""
    rows, columns = stack.experiment.plan().frame_shape
    fy, fx = (np.arange(n) / (2 * n * stack.pixel_um) for n in (rows, columns))
    frequency = np.hypot(fy[:, None], fx)
    light = stack.experiment.illumination
    assert isinstance(light, Condenser)  # the stack's check_light
    band = (1 + light.coherence) * stack.experiment.optics.cutoff_per_um
    radii = np.linspace(0, band, _TABULATED + 1)[1:]
    left = _below(frequency, band)
    shares = []
    for order in orders:
        passed = _passed(foci_um, order, radii, stack.experiment.optics, light.coherence)
        poor = np.flatnonzero(passed < _PASSES)
        own = left
        if order != orders[-1]:
            own = left * _below(frequency, float(radii[poor[0]]) if poor.size else band)
        left = left - own
        gain = np.interp(frequency, radii, passed.clip(_PASSES, None))
        shares.append((own / gain).astype(np.float32))
    return shares


def _below(frequency: Array, cutoff: float) -> Array:
    return np.asarray(1 / (1 + (frequency / cutoff) ** _STEEPNESS))


def _passed(foci_um: Array, order: int, radii: Array, optics: Optics, coherence: float) -> Array:
    """``[N]`` share of a weak phase that a polynomial of the order through the foci gives, by frequency."""
    slopes = focus_fit(foci_um, order)[1]
    seen = np.zeros_like(radii)
    for slope, z in zip(slopes, foci_um, strict=True):
        seen += slope * condenser_phase_transfer(
            radii,
            wavelength_um=optics.wavelength_um,
            numerical_aperture=optics.numerical_aperture,
            refractive_index=optics.refractive_index,
            z_um=float(z),
            coherence=coherence,
        )
    return seen / (2 * math.pi * optics.wavelength_um / optics.refractive_index * radii**2)
