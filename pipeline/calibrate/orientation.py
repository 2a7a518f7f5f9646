"""Orientation of the LED array to the camera, from a specimen's own frames under half circles or single LEDs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from drivers.taking import Microscope
from pipeline.calibrate.led_frames import (
    LedFrames,
    led_array,
    list_pattern,
    metered_ms,
    middle,
    moves_focus,
    radii_na,
    shows_any_pattern,
    take_led_frames,
)
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibrate.weak_fit import GROUPS, Geometry, Waves, WeakFit, specimen_maps
from pipeline.calibration import Calibration, LedOrientation
from pipeline.experiment import Condenser, Experiment, Optics
from pipeline.experiment.illumination import LightChannel
from pipeline.experiment.micromanager import MicroManagerMicroscope
from pipeline.optics.illumination import led_intensities

Array = NDArray[np.float64]

# A decision needs both: misfits that differ by this ratio, and by so many times the scatter of the difference over
# independent parts of the data.
_RATIO = 1.05
_RATIO_SIGN = 1.01
_TIMES_SCATTER = 5.0
# Of the specimen's own evidence for its sign: correlation of phase with absorption, and times its scatter over tiles.
_CORRELATION = 0.1
_TIMES_SCATTER_SPECIMEN = 3.0
_TILES = 8
# What the linear model of strong specimens leaves of the rotation, degrees.
_MODEL_DEG = 0.3
# Half circles that are shown, or summed from single LEDs.
_DIRECTIONS = (0.0, 90.0, 180.0, 270.0)
_COARSE_DEG = 15.0
_COARSE_SAMPLES = 800
# LEDs are taken to differ by so much where their intensities are not measured.
_LED_SPREAD = 0.15
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
        sign the experiment says) or ``"specimen"`` (dense matter delays light).
    sign_confidence
        The evidence in units of its own scatter.
    misfit
        Of the eight, relative to the best: ``"flip 90"`` is a mirrored array turned by 90°.
    z_um
        True focus of the first plane, as fitted.
    correlation
        Of the specimen's phase with its absorption.
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
    led_spread: float = _LED_SPREAD,
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
    depth_um = _depth_um(optics)
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
    correlation, clear = _phase_with_absorption(*maps, optics, pixel_um)
    sign = _decide(focus, correlation, clear, z_sign_calibrated)

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
        correlation=abs(correlation) if sign.source == "specimen" else correlation,
        warnings=sign.warnings,
    )


def _depth_um(optics: Optics) -> float:
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


def _phase_with_absorption(
    phase: Array, absorption: Array, optics: Optics, pixel_um: float
) -> tuple[float, float]:
    """Correlation of two maps at the size of well resolved detail, and in units of its scatter over tiles."""
    resolution_px = optics.wavelength_um / optics.numerical_aperture / pixel_um
    a, b = (
        gaussian_filter(m, 0.6 * resolution_px) - gaussian_filter(m, 4 * resolution_px)
        for m in (phase, absorption)
    )
    border = [n // 10 for n in a.shape]
    inner = tuple(slice(m, n - m) for m, n in zip(border, a.shape, strict=True))
    ab, aa, bb = (_tiles(product[inner]) for product in (a * b, a * a, b * b))

    def correlation(keep: NDArray[np.bool_]) -> float:
        return float(ab[keep].sum() / math.sqrt(aa[keep].sum() * bb[keep].sum()))

    everything = np.ones(len(ab), bool)
    left_out = np.array([correlation(np.arange(len(ab)) != i) for i in range(len(ab))])
    scatter = math.sqrt((len(ab) - 1) * left_out.var())
    value = correlation(everything)
    return value, abs(value) / max(scatter, 1e-12)


def _tiles(product: Array) -> Array:
    return np.array(
        [
            tile.sum()
            for band in np.array_split(product, _TILES)
            for tile in np.array_split(band, _TILES, axis=1)
        ]
    )


def _decide(focus: _Focus, correlation: float, clear: float, calibrated: bool) -> _Sign:
    """Whether `focus.best` has to be turned by 180°.

    In the frames nothing can tell: the conjugate specimen under the turned array at the opposite focus gives the
    same ones. What tells is the direction in which the focus moves, where that was measured; then that matter which
    takes light away also delays it, as cells in their medium do; then the direction of the focus as it is said to be.
    """
    specimen_tells = abs(correlation) >= _CORRELATION and clear >= _TIMES_SCATTER_SPECIMEN
    against = specimen_tells and correlation < 0
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
        return _Sign(against, "specimen", clear, warnings)
    if focus.tells:
        return _Sign(False, "focus", focus.sure)
    raise CalibrationRefusedError(
        "an orientation and its 180° turn fit alike: in focus a turned array makes the same frames of a specimen of "
        f"the opposite phase, and this one does not show its sign (phase with absorption: {correlation:+.2f})",
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


@dataclass
class Orientation:
    """Which of the eight orientations the array has to the camera, and its fine rotation.

    Where any LEDs can be lit, half circles are shown; elsewhere the experiment's own brightfield patterns. Where the
    focus can be moved, a second plane is taken.
    """

    name: str = "orientation"
    subject: Subject = "specimen"
    purpose: str = (
        "how the LED array lies to the camera: turned or mirrored, every oblique frame is taken for another, "
        "and the phase comes out with the wrong shape or sign"
    )

    def needed(self, experiment: Experiment) -> str | None:
        """Not with a condenser."""
        if isinstance(experiment.illumination, Condenser):
            return "a condenser has no LEDs to orient"
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `led_orientation`."""
        foci_um = _foci(experiment)
        frames = _brightfield_frames(microscope, experiment, known, foci_um)
        summed = _half_circles(frames, experiment)
        light = led_array(experiment)
        intensity = led_intensities(light.array, known)
        # In a sum of single frames every LED has the same part.
        if intensity is None or summed is not frames:
            intensity = np.ones(light.array.rows * light.array.columns)
        sines = light.array.sines()
        fit = find_orientation(
            summed.counts,
            [(sines[leds], intensity[leds]) for leds in summed.leds],
            [known.true_focus_um(z) for z in summed.foci_um],
            experiment.optics,
            known.pixel_um or experiment.pixel_um,
            z_sign_calibrated=known.z_scale is not None,
            led_spread=0.03 if known.led_intensity else _LED_SPREAD,
        )
        o = fit.orientation
        figures: dict[str, Any] = {
            "flip_x": o.flip_x,
            "swap_xy": o.swap_xy,
            "rotation_deg": o.rotation_deg,
            "fine_rotation_deg": round(fit.rotation_deg, 3),
            "rotation_sigma_deg": round(fit.rotation_sigma_deg, 3),
            "confidence": round(fit.confidence, 4),
            "relative_misfit": {name: round(value, 4) for name, value in fit.misfit.items()},
            "sign_from": _SIGN_FROM[fit.sign_from],
            "sign_confidence": round(fit.sign_confidence, 2),
            "phase_with_absorption": round(fit.correlation, 3),
            "fitted_focus_um": round(fit.z_um, 2),
            "patterns": list(summed.names),
            "foci_um": list(summed.foci_um),
        }
        turned = f"rotation {o.rotation_deg:g} ± {fit.rotation_sigma_deg:.1f}°"
        mirrored = " and ".join(
            word for word, is_so in (("x mirrored", o.flip_x), ("axes swapped", o.swap_xy)) if is_so
        )
        return Finding(
            replace(known, led_orientation=o),
            figures,
            f"{mirrored or 'not mirrored'}, {turned}; the next best of the eight fits {fit.confidence:.2f} times "
            f"worse; told from its 180° turn by {_SIGN_FROM[fit.sign_from]}",
            fit.warnings,
        )


_SIGN_FROM = {
    "lens": "the calibrated direction of the lens",
    "focus": "the direction of the focus, as the experiment states it",
    "specimen": "the specimen: what takes light away also delays it",
}


def _foci(experiment: Experiment) -> tuple[float, ...]:
    """The focus as it is and a second one about a depth of field away; the experiment's own where none can be set."""
    own = experiment.sequence.foci_um
    if not moves_focus(experiment):
        return own
    depth_um = _depth_um(experiment.optics)
    near = min(own, key=abs)
    for other in (*own, *(near + s * depth_um for s in (0.8, -0.8, 0.4, -0.4))):
        if 0.3 * depth_um <= abs(other - near) <= 1.5 * depth_um and _reached(experiment, other):
            return (near, round(other, 3))
    return (near,)


def _reached(experiment: Experiment, focus_um: float) -> bool:
    microscope = experiment.microscope
    if not isinstance(microscope, MicroManagerMicroscope) or microscope.lens is None:
        return True
    limits = microscope.lens.limits
    return limits is None or limits[0] <= microscope.lens.position(focus_um) <= limits[1]


def _brightfield_frames(
    microscope: Microscope, experiment: Experiment, known: Calibration, foci_um: Sequence[float]
) -> LedFrames:
    """Of four half circles where any LEDs can be lit; of the experiment's own brightfield channels elsewhere."""
    light, na = led_array(experiment), experiment.optics.numerical_aperture
    radii = radii_na(experiment)
    if shows_any_pattern(experiment):
        patterns = {
            f"half {angle:g}": list_pattern(leds)
            for angle, leds in _halves(experiment, np.flatnonzero(radii <= na)).items()
            if len(leds)
        }
        if len(patterns) < len(_DIRECTIONS):
            raise CalibrationRefusedError(
                f"no LED of the array lies within the objective's NA {na:g} on one of its sides",
                "use an objective of larger NA, or check pitch_mm, distance_mm and offset_mm",
            )
        # One exposure for all: their light differs little.
        exposure_ms = metered_ms(microscope, experiment, known, patterns["half 0"])
        channels = {name: LightChannel(pattern=name, exposure_ms=exposure_ms) for name in patterns}
        return take_led_frames(microscope, experiment, known, channels, patterns, foci_um)
    own = [
        name
        for name in experiment.channel_names
        if light.channels[name].brightness > 0
        and (radii[light.leds(light.channels[name].pattern or "", na)] <= na).all()
    ]
    if len(own) < 2:
        raise CalibrationRefusedError(
            f"the experiment has {len(own)} channels whose LEDs all lie within the objective's NA",
            "add the four half circles (kind: half_circle, direction_deg: 0, 90, 180, 270) to the channels",
        )
    return take_led_frames(microscope, experiment, known, own, foci_um=foci_um)


def _halves(experiment: Experiment, leds: NDArray[np.int64]) -> dict[float, NDArray[np.int64]]:
    """Those of `leds` on each side of the axis."""
    sines = led_array(experiment).array.sines()[leds]
    out = {}
    for angle in _DIRECTIONS:
        a = math.radians(angle)
        out[angle] = leds[sines @ np.array([math.cos(a), math.sin(a)]) > 1e-9]
    return out


def _half_circles(frames: LedFrames, experiment: Experiment) -> LedFrames:
    """Frames of single LEDs, summed to half circles; others as they are.

    Under one LED a strong specimen is far from linear; in the sum over many what is not cancels. Each frame
    is first divided by its median, which takes the LEDs' own intensities out.
    """
    if any(len(leds) != 1 for leds in frames.leds):
        return frames
    single = np.concatenate(frames.leds)
    halves = _halves(experiment, single)
    if any(len(leds) < 2 for leds in halves.values()):
        return frames
    level = np.median(frames.counts, axis=(-2, -1), keepdims=True)
    if (level <= 0).any():
        dark = frames.names[int((level <= 0).any(axis=(1, 2, 3)).argmax())]
        raise CalibrationRefusedError(
            f"channel '{dark}' has no light", "check that its LED is lit, or lengthen its exposure"
        )
    relative = frames.counts / level
    chosen = [np.isin(single, leds) for leds in halves.values()]
    return LedFrames(
        tuple(f"half {angle:g}" for angle in halves),
        np.stack([relative[which].mean(axis=0) for which in chosen]),
        np.stack([frames.valid[which].all(axis=0) for which in chosen]),
        tuple(single[which] for which in chosen),
        np.ones(len(chosen)),
        frames.foci_um,
    )
