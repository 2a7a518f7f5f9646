"""Which of the eight orientations an LED array has to the camera, and its fine rotation: the estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from pipeline.calibrate.led_frames import middle
from pipeline.calibrate.step import CalibrationRefusedError
from pipeline.calibrate.weak_fit import GROUPS, Geometry, Waves, WeakFit, specimen_maps
from pipeline.calibration import LedOrientation
from pipeline.experiment import Optics

Array = NDArray[np.float64]

# A decision needs both: misfits that differ by this ratio, and by so many times the scatter of the difference over
# independent parts of the data.
_RATIO = 1.05
_RATIO_SIGN = 1.01
_TIMES_SCATTER = 5.0
# Of the specimen's own evidence for its sign: correlation of phase with absorption, skewness of the phase about the
# background, and times their scatter over tiles.
_CORRELATION = 0.1
_SKEWNESS = 1.0
_TIMES_SCATTER_SPECIMEN = 3.0
_TILES = 8
# What the linear model of strong specimens leaves of the rotation, degrees.
_MODEL_DEG = 0.3
_COARSE_DEG = 15.0
_COARSE_SAMPLES = 800
# LEDs are taken to differ by so much where their intensities are not measured.
LED_SPREAD = 0.15
_NO_SPECIMEN = "put a specimen with fine detail in focus: cells, a smear, beads"


@dataclass(frozen=True)
class OrientationFit:
    """What the frames say of the array's orientation.

    Parameters
    ----------
    orientation
        The most likely; a rotation within two uncertainties of a quarter turn is that quarter turn.
    rotation_deg, rotation_sigma_deg
        Fine rotation from the nearest of the eight, as fitted, and its standard uncertainty.
    confidence
        Misfit of the next best of the eight over the best's, 180° turns left out.
    sign_from
        What decided between it and the 180° turn: ``"lens"`` (a focus whose sign is calibrated), ``"focus"`` (one whose
        sign the experiment says) or ``"specimen"`` (denser than its medium).
    sign_confidence
        The evidence in units of its own scatter.
    misfit
        Of the eight, relative to the best: ``"flip 90"`` is a mirrored array turned by 90°.
    z_um
        True focus of the first plane, as fitted.
    correlation, skewness
        Of the specimen's phase with its absorption, and of its phase.
    warnings
        Evidence that disagrees.
    """

    orientation: LedOrientation
    rotation_deg: float
    rotation_sigma_deg: float
    confidence: float
    sign_from: str
    sign_confidence: float
    misfit: dict[str, float]
    z_um: float
    correlation: float
    skewness: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    """A mirrored or unmirrored array, turned, at a shift of the focus, with its misfit in each group."""

    mirrored: bool
    angle_deg: float
    shift_um: float
    misfit: Array

    @property
    def mean(self) -> float:
        return float(self.misfit.mean())


class _Search:
    """Geometries held against one set of frames."""

    def __init__(self, fit: WeakFit, z_um: Array) -> None:
        self._fit, self._z_um = fit, z_um

    def at(self, mirrored: bool, angle_deg: float, shift_um: float = 0.0) -> _Candidate:
        geometry = Geometry(_turn(mirrored, angle_deg), self._z_um + shift_um)
        return _Candidate(mirrored, angle_deg, shift_um, self._fit.misfit(geometry))

    def refined(self, start: _Candidate, depth_um: float) -> _Candidate:
        """The nearest minimum over angle and focus."""
        step = np.array([4.0, 0.25 * depth_um])
        simplex = np.array([[0, 0], [1, 0.5], [-0.5, 1]]) - 0.2
        found = minimize(
            lambda p: self.at(start.mirrored, p[0], p[1]).mean,
            (start.angle_deg, start.shift_um),
            method="Nelder-Mead",
            options={
                "initial_simplex": np.array([start.angle_deg, start.shift_um]) + simplex * step,
                "xatol": 0.05,
                "fatol": 1e-5,
                "maxfev": 40,
            },
        )
        angle, shift = found.x
        return self.at(start.mirrored, float(angle), float(shift))


def find_orientation(
    frames: NDArray[np.floating],
    waves: Waves,
    z_um: Sequence[float],
    optics: Optics,
    pixel_um: float,
    *,
    z_sign_calibrated: bool = False,
    led_spread: float = LED_SPREAD,
) -> OrientationFit:
    """Orientation from brightfield frames of one specimen.

    Parameters
    ----------
    frames
        ``[K, Z, Y, X]`` in any unit: each is taken relative to its own median.
    waves
        Of each of the K patterns: array direction sines ``[S, 2]`` and relative intensities ``[S]`` of its LEDs.
    z_um
        ``[Z]`` focus of each plane, as far as it is known; an error common to all planes is fitted.
    z_sign_calibrated
        The direction of the focus was measured; otherwise the specimen, where it is clear, says more.
    led_spread
        Relative spread of the LEDs' intensities beyond what `waves` knows: for the uncertainty.

    Raises
    ------
    CalibrationRefusedError
        If the frames don't decide.
    """
    seen = middle(frames).astype(np.float64)
    level = np.median(seen, axis=(-2, -1), keepdims=True)
    if (level <= 0).any():
        raise CalibrationRefusedError(
            "a frame has no light", "check that the LEDs of every brightfield pattern are lit"
        )
    contrast = seen / level - 1
    planes = np.asarray(z_um, dtype=np.float64)
    try:
        coarse = _Search(WeakFit(contrast, waves, optics, pixel_um, _COARSE_SAMPLES), planes)
        search = _Search(WeakFit(contrast, waves, optics, pixel_um), planes)
    except ValueError as error:
        raise CalibrationRefusedError(str(error), "use a larger region of the camera") from error
    depth_um = depth_of_field_um(optics)
    angles = np.arange(0.0, 360.0, _COARSE_DEG)
    tried = [coarse.at(mirrored, angle) for mirrored in (False, True) for angle in angles]
    kinds = []
    for mirrored in (False, True):
        start = min((c for c in tried if c.mirrored == mirrored), key=lambda c: c.mean)
        kinds.append(search.refined(start, depth_um))
    best = min(kinds, key=lambda c: c.mean)
    eight = {
        (m, q): search.at(m, best.angle_deg + 90.0 * q, best.shift_um)
        for m in (False, True)
        for q in range(4)
    }
    rivals = [c for (m, q), c in eight.items() if m != best.mirrored or q % 2]
    rivals += [c for c in kinds if c.mirrored != best.mirrored]
    rival = min(rivals, key=lambda c: c.mean)
    ratio, sure = _margin(rival, best)
    if ratio < _RATIO or sure < _TIMES_SCATTER:
        raise CalibrationRefusedError(_undecided(best, rival, ratio, contrast), _NO_SPECIMEN)

    focus = _focus_evidence(search, best, planes, depth_um)
    best = focus.best
    geometry = Geometry(_turn(best.mirrored, best.angle_deg), planes + best.shift_um)
    maps = specimen_maps(contrast, waves, optics, pixel_um, geometry)
    specimen = _specimen_evidence(*maps, optics, pixel_um)
    sign = _decide(focus, specimen, z_sign_calibrated)

    half_turn = 180.0 * sign.turned
    sigma = _rotation_sigma(search, best, waves, led_spread)
    fine = best.angle_deg - 90.0 * round(best.angle_deg / 90)
    told = best.angle_deg if abs(fine) > 2 * sigma else best.angle_deg - fine
    return OrientationFit(
        orientation=_named(best.mirrored, told + half_turn),
        rotation_deg=fine,
        rotation_sigma_deg=sigma,
        confidence=ratio,
        sign_from=sign.source,
        sign_confidence=sign.sure,
        misfit=_relative(search, best, half_turn),
        z_um=float(planes[0] + best.shift_um) * (-1 if sign.turned else 1),
        correlation=specimen.correlation * (-1 if sign.turned else 1),
        skewness=specimen.skewness * (-1 if sign.turned else 1),
        warnings=sign.warnings,
    )


def depth_of_field_um(optics: Optics) -> float:
    """Depth of field of the objective, λn/NA²."""
    return optics.wavelength_um * optics.refractive_index / optics.numerical_aperture**2


def _turn(mirrored: bool, angle_deg: float) -> Array:
    return LedOrientation(flip_x=mirrored, rotation_deg=angle_deg).matrix()


def _relative(search: _Search, best: _Candidate, half_turn_deg: float) -> dict[str, float]:
    """Misfits of the eight over the best's, named by how they differ from the orientation that was found."""
    out = {}
    for mirrored in (False, True):
        for quarter in range(4):
            angle = best.angle_deg + 90.0 * quarter + half_turn_deg
            other = search.at(best.mirrored != mirrored, angle, best.shift_um)
            name = f"{'flip ' if mirrored else ''}{90 * quarter}"
            out[name] = math.exp(other.mean - best.mean)
    return out


def _margin(worse: _Candidate, better: _Candidate) -> tuple[float, float]:
    """Ratio of two misfits, and its logarithm in units of its scatter over the groups."""
    difference = worse.misfit - better.misfit
    scatter = difference.std(ddof=1) / math.sqrt(GROUPS)
    return math.exp(difference.mean()), float(difference.mean() / max(scatter, 1e-12))


def _undecided(best: _Candidate, rival: _Candidate, ratio: float, contrast: Array) -> str:
    which = "mirrored" if rival.mirrored != best.mirrored else "turned by 90°"
    return (
        f"the frames don't tell how the LEDs lie: {which} they fit nearly as well (misfit {ratio:.3f} times "
        f"the best's, contrast {contrast.std():.3f}); the field is nearly empty or out of focus, "
        "or the patterns look alike"
    )


@dataclass(frozen=True)
class _Focus:
    """What the focus says of an orientation and its 180° turn, if its direction is what it is said to be."""

    best: _Candidate
    ratio: float
    sure: float

    @property
    def tells(self) -> bool:
        return self.ratio >= _RATIO_SIGN and self.sure >= _TIMES_SCATTER


@dataclass(frozen=True)
class _Sign:
    turned: bool
    source: str
    sure: float
    warnings: tuple[str, ...] = ()


def _focus_evidence(search: _Search, best: _Candidate, planes: Array, depth_um: float) -> _Focus:
    """The better of an orientation and its 180° turn, and by how much."""
    opposite = best.angle_deg + 180
    if len(planes) == 1:
        # As the one plane's focus is stated: fitted, the turn would be as good at the opposite focus.
        pair = [search.at(best.mirrored, angle) for angle in (best.angle_deg, opposite)]
        better, worse = sorted(pair, key=lambda c: c.mean)
        if better.angle_deg == opposite:
            best = replace(best, angle_deg=opposite, shift_um=-best.shift_um - 2 * planes[0])
        return _Focus(best, *_margin(worse, better))
    # The turned array wants all planes mirrored; the nearest to that are the planes in the other order.
    starts = (best.shift_um, -best.shift_um - planes.min() - planes.max())
    turned = [search.refined(search.at(best.mirrored, opposite, s), depth_um) for s in starts]
    better, worse = sorted((best, min(turned, key=lambda c: c.mean)), key=lambda c: c.mean)
    return _Focus(better, *_margin(worse, better))


@dataclass(frozen=True)
class _Specimen:
    """What the specimen itself says of its sign, by the maps made with `_Focus.best`.

    `correlation` of phase with absorption, `skewness` of the phase about its median; each with its size in units of its
    scatter over parts of the field.
    """

    correlation: float
    correlation_sure: float
    skewness: float
    skewness_sure: float

    @property
    def sure(self) -> float:
        """How clear the sign is; 0 where it is not."""
        if (
            abs(self.correlation) >= _CORRELATION
            and self.correlation_sure >= _TIMES_SCATTER_SPECIMEN
        ):
            return self.correlation_sure
        # A transparent specimen on a free background stands out of it on one side. A field that is filled does so too,
        # with its gaps, on the other: so at least the sign of the correlation has to agree.
        if (
            abs(self.skewness) >= _SKEWNESS
            and self.skewness_sure >= _TIMES_SCATTER_SPECIMEN
            and self.skewness * self.correlation > 0
        ):
            return self.skewness_sure
        return 0.0

    @property
    def delays(self) -> bool:
        """Whether what takes light away, or stands out of the background, has the greater phase."""
        return self.correlation > 0


def _specimen_evidence(
    phase: Array, absorption: Array, optics: Optics, pixel_um: float
) -> _Specimen:
    resolution_px = optics.wavelength_um / optics.numerical_aperture / pixel_um
    y, x = (slice(n // 10, n - n // 10) for n in phase.shape)
    # At the size of well resolved detail: what is coarser is hardly transferred.
    a, b = (
        (gaussian_filter(m, 0.6 * resolution_px) - gaussian_filter(m, 4 * resolution_px))[y, x]
        for m in (phase, absorption)
    )
    ab, aa, bb = _left_out(a * b), _left_out(a * a), _left_out(b * b)
    above = phase[y, x] - np.median(phase[y, x])
    second, third = _left_out(above**2), _left_out(above**3)
    correlation = ab / np.sqrt(aa * bb)
    skewness = third / second**1.5
    return _Specimen(float(correlation[0]), _sure(correlation), float(skewness[0]), _sure(skewness))


def _left_out(values: Array) -> Array:
    """Mean of all, then the means without each of the tiles of the field."""
    tiles = [
        tile
        for band in np.array_split(values, _TILES)
        for tile in np.array_split(band, _TILES, axis=1)
    ]
    total, number = values.sum(), values.size
    without = [(total - tile.sum()) / (number - tile.size) for tile in tiles]
    return np.array([total / number, *without])


def _sure(estimates: Array) -> float:
    """The first estimate in units of its jackknife scatter, from those without one part each."""
    parts = estimates[1:]
    scatter = math.sqrt((len(parts) - 1) * parts.var())
    return float(abs(estimates[0]) / max(scatter, 1e-12))


def _decide(focus: _Focus, specimen: _Specimen, calibrated: bool) -> _Sign:
    """Whether `focus.best` has to be turned by 180°.

    In the frames nothing can tell: the conjugate specimen under the turned array at the opposite focus gives the
    same ones. What tells is the direction in which the focus moves, where that was measured; then that matter which
    takes light away also delays it, as cells in their medium do; then the direction of the focus as it is said to be.
    """
    specimen_tells = specimen.sure > 0
    against = specimen_tells and not specimen.delays
    if focus.tells and calibrated:
        warnings = (
            (
                "by the direction of the lens the specimen is less dense than its medium; if it is not, the lens "
                "runs the other way: calibrate the lens again",
            )
            if against
            else ()
        )
        return _Sign(False, "lens", focus.sure, warnings)
    if specimen_tells:
        warnings = (
            (
                "the specimen says that the focus moves the other way than the experiment does: calibrate the lens, "
                "or, if the specimen is less dense than its medium, use another",
            )
            if against and focus.tells
            else ()
        )
        return _Sign(against, "specimen", specimen.sure, warnings)
    if focus.tells:
        return _Sign(False, "focus", focus.sure)
    raise CalibrationRefusedError(
        "an orientation and its 180° turn fit alike: in focus a turned array makes the same frames of a specimen of "
        "the opposite phase, and this one does not show its sign (correlation of phase with absorption "
        f"{abs(specimen.correlation):.2f})",
        "use cells or another specimen denser than its medium, or two foci of known direction (sequence.foci_um)",
    )


def _rotation_sigma(search: _Search, best: _Candidate, waves: Waves, led_spread: float) -> float:
    """Standard uncertainty in degrees: scatter over parts of the data, unequal LEDs, and the linear model itself."""
    step = 3.0
    low, here, high = (
        search.at(best.mirrored, best.angle_deg + d, best.shift_um).misfit
        for d in (-step, 0.0, step)
    )
    kept = ~np.eye(GROUPS, dtype=bool)
    slope, bend = (kept @ (high - low)) / 2, kept @ (high + low - 2 * here)
    if (bend <= 0).any():
        return 45.0
    minima = -step * slope / bend
    scatter = math.sqrt((GROUPS - 1) * minima.var())
    # LEDs brighter on one side of a half circle turn its centre of light.
    lit = sum(len(sines) for sines, _ in waves)
    unequal = math.degrees(1.2 * led_spread / math.sqrt(lit))
    return math.hypot(scatter, unequal, _MODEL_DEG)


def _named(mirrored: bool, angle_deg: float) -> LedOrientation:
    """The shortest name of an orientation: least rotation, then fewest exchanges."""
    matrix = _turn(mirrored, angle_deg)
    names = []
    for flip_x in (False, True):
        for swap_xy in (False, True):
            rest = matrix @ LedOrientation(flip_x, swap_xy).matrix().T
            if np.linalg.det(rest) < 0:
                continue
            angle = math.degrees(math.atan2(rest[1, 0], rest[0, 0]))
            angle = round(angle, 3) + 0.0
            names.append(LedOrientation(flip_x, swap_xy, 180.0 if angle == -180 else angle))
    return min(names, key=lambda o: abs(o.rotation_deg) + 50 * (o.flip_x + o.swap_xy))
