"""Scale, zero and magnification of a through-focus series by the contrast transfer of a thin phase specimen.

At a spatial frequency f a weak phase object φ(f) shows the contrast H(f, z)·φ(f) at defocus z, where H follows
from wavelength, aperture and light alone (Guigay 1977; for a plane wave 2·sin(πλzf²): the Thon rings of electron
microscopy). All planes of a series share one φ, so for each zero and scale of z the φ that fits best follows in closed
form, and what it leaves is a likelihood. A strong specimen bends it a little: `focus_model` starts from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.optimize import minimize, minimize_scalar

from pipeline.experiment import Optics
from pipeline.optics.illumination import Source
from pipeline.optics.propagation import EDGE

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

# Scales of the lens, relative to its nominal one, that are looked through.
_SCALES = np.geomspace(0.4, 2.5, 29)
# Steps of z in the table of transfer functions: so many to a half turn of the finest detail's phase.
_STEPS = 40
# Frequencies of light that isn't symmetric about the axis: the strongest of them do.
_MOST_FREQUENCIES = 1200
# Share of the camera's Nyquist frequency up to which the pixel passes enough and aliases little.
_SAMPLED = 0.9
# Slower than so many periods in the field tells nothing of z, and is the flat field's.
_SLOWEST = 6.0
# Largest change of the magnification over the series that is looked for.
_MOST_ZOOM = 0.06
# Neighbouring frequencies of a windowed field are not independent.
_DEPENDENT = 2.0


def finest_per_um(optics: Optics, source: Source, pixel_um: float) -> float:
    """The highest frequency, cycles/µm, at which light and camera show phase."""
    oblique = float(source.frequencies.norm(dim=1).max())
    return min(optics.cutoff_per_um + min(oblique, optics.cutoff_per_um), _SAMPLED / (2 * pixel_um))


@dataclass(frozen=True)
class FocusFit:
    """True focus z_zero + scale · commanded, and zoom: relative magnification per commanded µm.

    `explained` share of the frames' contrast that the transfer functions account for; `zoom_sigma` standard
    uncertainty.
    """

    scale: float
    zero_um: float
    zoom_per_um: float
    zoom_sigma: float
    explained: float


class _Transfer:
    """Contrast per radian at given frequencies, tabulated in z."""

    def __init__(
        self, fx: Floats, fy: Floats, optics: Optics, source: Source, reach_um: float
    ) -> None:
        finest = float(np.hypot(fx, fy).max())
        step = 1 / (_STEPS * optics.wavelength_um * finest**2) * optics.refractive_index
        self._half = math.ceil(reach_um / step)
        self._step = step
        z = np.arange(-self._half, self._half + 1) * step
        table = np.zeros((len(z), len(fx)), np.complex128)
        passed = 0.0
        cut = (optics.cutoff_per_um * (1 + EDGE)) ** 2
        for (sx, sy), weight in zip(
            source.frequencies.tolist(), source.weights.tolist(), strict=True
        ):
            if sx**2 + sy**2 > cut:
                continue
            passed += weight
            own = _path(np.asarray(sx**2 + sy**2), optics)
            for sign in (1, -1):
                f2 = (sx + sign * fx) ** 2 + (sy + sign * fy) ** 2
                turn = 2 * np.pi * (_path(f2, optics) - own) * (f2 <= cut)
                wave = (f2 <= cut) * np.exp(1j * sign * z[:, None] * turn)
                table += sign * 1j * weight * wave
        self._table = table / passed

    def __call__(self, z_um: Floats) -> Complex:
        """``[..., F]`` at each z, by linear interpolation."""
        at = np.clip(z_um / self._step + self._half, 0, 2 * self._half - 1e-6)
        low = at.astype(int)
        share = (at - low)[..., None]
        return np.asarray((1 - share) * self._table[low] + share * self._table[low + 1])


def _path(f2: Floats, optics: Optics) -> Floats:
    """√((n/λ)² − f²) − n/λ."""
    k = optics.refractive_index / optics.wavelength_um
    return np.asarray(-f2 / (np.sqrt(np.maximum(k * k - f2, 0)) + k))


def is_symmetric(source: Source) -> bool:
    """Whether every direction has its opposite: z and −z then differ by nothing but the specimen's sign."""
    mean = (source.frequencies * source.weights[:, None]).sum(0).norm()
    return bool(mean <= 0.02 * source.frequencies.norm(dim=1).max() + 1e-12)


class Series:
    """A through-focus series as its spectra.

    Parameters
    ----------
    frames
        ``[K, Y, X]`` light relative to the background.
    foci_um
        ``[K]`` commanded.
    """

    def __init__(
        self,
        frames: Floats,
        foci_um: Floats,
        pixel_um: float,
        optics: Optics,
        source: Source,
    ) -> None:
        self.frames, self.foci_um = frames, np.asarray(foci_um, np.float64)
        self._pixel_um = pixel_um
        height, width = frames.shape[1:]
        fy, fx = np.fft.fftfreq(height, pixel_um)[:, None], np.fft.fftfreq(width, pixel_um)
        f = np.hypot(fy, fx)
        least = 1 / (min(height, width) * pixel_um)
        half = (fx > 0) | ((fx == 0) & (fy > 0))
        self._chosen = half & (f > _SLOWEST * least) & (f < finest_per_um(optics, source, pixel_um))
        self._window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
        self._symmetric = is_symmetric(source)
        where = f[self._chosen]
        if self._symmetric:
            # Rings half a sample wide share one transfer.
            _, self._bin = np.unique(np.rint(2 * where / least), return_inverse=True)
            count = np.bincount(self._bin)
            at = np.bincount(self._bin, where) / count
            points = (at, np.zeros_like(at))
        else:
            spectra = self._spectra(0.0)
            strength = (np.abs(spectra) ** 2).sum(1) * where**2
            best = np.argsort(strength)[-_MOST_FREQUENCIES:]
            flat = np.flatnonzero(self._chosen)[best]
            self._chosen = np.zeros_like(self._chosen)
            self._chosen.flat[flat] = True
            points = tuple(np.broadcast_to(g, f.shape)[self._chosen] for g in (fx, fy))
            self._bin = np.arange(len(points[0]))
        self._count = np.bincount(self._bin)
        span = float(np.abs(self.foci_um).max())
        self._transfer = _Transfer(points[0], points[1], optics, source, span * (1 + _SCALES[-1]))
        self._span = span

    def _spectra(self, zoom: float) -> Complex:
        """``[F, K]`` of the windowed frames, their magnification made equal."""
        frames = self.frames if zoom == 0 else unzoomed(self.frames, self.foci_um, zoom)
        contrast = frames / frames.mean((1, 2), keepdims=True) - 1
        return np.asarray(np.fft.fft2(contrast * self._window)[:, self._chosen].T)

    def _covariance(self, zoom: float) -> Complex:
        """``[B, K, K]`` sums over each bin's frequencies."""
        d = self._spectra(zoom)
        order = np.argsort(self._bin, kind="stable")
        edges = np.concatenate([[0], np.cumsum(self._count)])
        return np.stack([d[order[a:b]].T @ d[order[a:b]].conj() for a, b in pairwise(edges)])

    def _left(self, covariance: Complex, scale: float, zero: float) -> Floats:
        """``[B]`` power that the best phase leaves."""
        h = self._transfer(zero + scale * self.foci_um).T
        fitted = np.einsum("bi,bij,bj->b", h.conj(), covariance, h).real
        return np.asarray(self._power(covariance) - fitted / ((np.abs(h) ** 2).sum(1) + 1e-6))

    @staticmethod
    def _power(covariance: Complex) -> Floats:
        return np.asarray(np.trace(covariance, axis1=1, axis2=2).real)

    def _badness(self, covariance: Complex, scale: float, zero: float) -> float:
        """Minus the log-likelihood, each ring's or the whole series' noise unknown."""
        left = np.maximum(self._left(covariance, scale, zero), 1e-12)
        freedom = len(self.foci_um) - 1
        if self._symmetric:
            return float((self._count * np.log(left)).sum() * freedom)
        return float(len(left) * freedom * np.log(left.sum()))

    def fit(self) -> FocusFit:
        """The likeliest scale, zero and zoom; the scale is positive unless the light itself tells its sign."""
        covariance = self._covariance(0.0)
        signs = (1,) if self._symmetric else (1, -1)
        zeros = np.linspace(-self._span, self._span, 41)
        start = min(
            ((s * sign, z) for s in _SCALES for sign in signs for z in zeros),
            key=lambda p: self._badness(covariance, *p),
        )
        scale, zero = self._nearby(covariance, start)
        zoom = 0.0
        for _ in range(2):
            zoom, sigma = self._zoom(scale, zero, zoom)
            covariance = self._covariance(zoom)
            scale, zero = self._nearby(covariance, (scale, zero))
        left, power = self._left(covariance, scale, zero), self._power(covariance)
        return FocusFit(scale, zero, zoom, sigma, float(1 - left.sum() / power.sum()))

    def _nearby(self, covariance: Complex, start: tuple[float, float]) -> tuple[float, float]:
        found = minimize(
            lambda p: self._badness(covariance, *p),
            start,
            method="Nelder-Mead",
            options={
                "initial_simplex": [start, (start[0] * 1.04, start[1]), (start[0], start[1] + 0.3)],
                "xatol": 1e-4,
                "fatol": 1e-3,
            },
        )
        return float(found.x[0]), float(found.x[1])

    def _zoom(self, scale: float, zero: float, start: float) -> tuple[float, float]:
        """The likeliest change of the magnification per commanded µm, and its uncertainty."""

        def badness(zoom: float) -> float:
            return self._badness(self._covariance(float(zoom)), scale, zero)

        # Half of the finest detail at the edge of the windowed field.
        half_um = min(self.frames.shape[1:]) * self._pixel_um / 4
        step = 0.5 * self._pixel_um / half_um / self._span
        if start == 0.0:
            reach = math.ceil(_MOST_ZOOM / self._span / (2 * step))
            start = float(min((2 * step * i for i in range(-reach, reach + 1)), key=badness))
        found = minimize_scalar(
            badness,
            bounds=(start - 2 * step, start + 2 * step),
            method="bounded",
            options={"xatol": step / 200},
        )
        small = step / 4
        low, middle, high = (badness(found.x + d) for d in (-small, 0.0, small))
        curvature = max((low - 2 * middle + high) / small**2, 1e-12)
        return float(found.x), float(_DEPENDENT / math.sqrt(curvature))


def unzoomed(frames: Floats, foci_um: Floats, zoom_per_um: float) -> Floats:
    """Frames ``[K, Y, X]`` resampled about their middle to the magnification that focus 0 has."""
    out = np.empty_like(frames)
    middle = (np.array(frames.shape[1:]) - 1) / 2
    for k, z in enumerate(foci_um):
        grown = 1 + zoom_per_um * float(z)
        out[k] = affine_transform(
            frames[k], [grown, grown], middle * (1 - grown), order=3, mode="nearest"
        )
    return out
