"""Dark frames: what the camera counts without light, and which pixels do so without sense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.averaging import average, robust_spread
from pipeline.calibrate.shots import Frames, dark_shots
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.experiment.camera import Camera

_FEWEST = 8
# Share of the samples that may lie at either end of the camera's range.
_AT_AN_END = 0.01
# Limits of what is still the camera's own, as shares of its range: level above the nominal offset,
# its growth with the exposure, and structure across the field (beyond the noise).
_HIGHEST = 0.10
_GROWTH = 0.02
_STRUCTURE = 0.005
# From the first quarter of the frames to the last, as a share of the level, and at least in counts.
_DRIFT = 0.005
_DRIFT_COUNTS = 0.5
# A pixel is hot beyond so many standard deviations of the pixels' levels and this share of the range, or
# if it is so many times as noisy as others.
_HOT = 8.0
_HOT_SHARE = 0.01
_NOISY = 6.0
_BLOCKS = 8
_LEAK_FIX = (
    "close the light path, darken the room, cover the stage; check that brightness 0 is dark"
)


@dataclass(frozen=True)
class DarkFrame:
    """The dark of one exposure.

    Parameters
    ----------
    mean
        ``[Y, X]`` float32 counts.
    sigma_counts
        Standard uncertainty of a pixel of `mean`, typical.
    level_counts, pattern_counts
        Median of the pixels, and their spread about it.
    noise_counts
        Standard deviation of one frame's pixel, root mean square, digitisation included.
    drift_counts
        From the first quarter of the frames to the last.
    hot
        ``[Y, X]`` bool: far from the others' level, or far noisier.
    outliers
        Samples that were left out, such as cosmic rays.
    """

    mean: NDArray[np.float32]
    sigma_counts: float
    level_counts: float
    pattern_counts: float
    noise_counts: float
    drift_counts: float
    hot: NDArray[np.bool_]
    outliers: int


def estimate_dark(frames: Frames, camera: Camera) -> DarkFrame:
    """Mean dark of `frames` ``[N, Y, X]`` raw counts.

    Raises
    ------
    CalibrationRefusedError
        If they are too few, not dark, clipped or drifting.
    """
    if len(frames) < _FEWEST:
        raise CalibrationRefusedError(
            f"{len(frames)} dark frames are too few", f"take {_FEWEST} or more"
        )
    top = 2**camera.bit_depth - 1
    _check_ends(frames, top)
    mean, std, outliers = average(frames)
    level = float(np.median(mean))
    if level > camera.offset_counts + _HIGHEST * top:
        raise CalibrationRefusedError(
            f"without light the camera counts {level:.0f}, {camera.offset_counts:.0f} were expected: "
            "light leaks in",
            f"{_LEAK_FIX}; if it is dark, set microscope.camera.offset_counts to {level:.0f}",
        )
    pattern = robust_spread(mean)
    # A typical pixel's variance: the median over pixels would be zero for a very quiet camera.
    noise = float(np.sqrt(np.mean(np.square(std[std <= np.quantile(std, 0.99)]))))
    hot = np.abs(mean - level) > max(_HOT * pattern, _HOT_SHARE * top)
    hot |= std > max(_NOISY * noise, 2.0)
    _check_structure(np.where(hot, level, mean), pattern, top)
    drift = _drift(frames, ~hot)
    if abs(drift) > max(_DRIFT * level, _DRIFT_COUNTS):
        raise CalibrationRefusedError(
            f"the dark level drifted by {drift:+.2f} counts of {level:.1f} within {len(frames)} frames",
            "let the camera reach its temperature, and see that no light comes or goes",
        )
    sigma = float(np.hypot(noise, 1e-3) / np.sqrt(len(frames)))
    return DarkFrame(mean, sigma, level, pattern, noise, drift, hot, outliers)


def _check_ends(frames: Frames, top: int) -> None:
    for end, share in (
        (top, float(np.mean(frames >= top))),
        (0, float(np.mean(frames == 0))),
    ):
        if share <= _AT_AN_END:
            continue
        cause = f"{share:.0%} of the dark pixels are {'saturated' if end else '0'}, where the camera's range "
        if end:
            raise CalibrationRefusedError(f"{cause}ends", _LEAK_FIX)
        raise CalibrationRefusedError(
            f"{cause}begins: what lies below is lost, and the dark comes out too high",
            "raise the camera's offset (black level), or check that it delivers frames at all",
        )


def _check_structure(mean: NDArray[np.float32], pattern: float, top: int) -> None:
    """Light that leaks in is brighter on one side; a camera's own pattern is the same all over."""
    levels = [
        np.median(block)
        for band in np.array_split(mean, min(_BLOCKS, mean.shape[0]), axis=0)
        for block in np.array_split(band, min(_BLOCKS, mean.shape[1]), axis=1)
    ]
    low, high = np.quantile(levels, [0.02, 0.98])
    # A median of n pixels scatters by 1.25 / √n of their spread; a few of those are no structure.
    scatter = 6 * 1.25 * pattern / np.sqrt(mean.size / len(levels))
    if high - low > max(_STRUCTURE * top, scatter):
        raise CalibrationRefusedError(
            f"the dark level differs by {high - low:.1f} counts across the field: light leaks in",
            _LEAK_FIX,
        )


def _drift(frames: Frames, good: NDArray[np.bool_]) -> float:
    """Last quarter's level less the first's; a flash in one frame does not count."""
    levels = [float(np.mean(frame[good])) for frame in frames]
    quarter = len(levels) // 4
    return float(np.median(levels[-quarter:]) - np.median(levels[:quarter]))


@dataclass
class Dark:
    """Dark frames for the exposure of each channel, light off.

    Parameters
    ----------
    frames
        Averaged for each exposure.
    """

    frames: int = 32
    name: str = "dark"
    subject: Subject = "anything"
    purpose: str = (
        "what the camera counts without light, pixel by pixel: an offset that is not subtracted "
        "lowers every contrast, and with it the phase"
    )

    def needed(self, experiment: Experiment) -> str | None:  # noqa: ARG002 - every camera has a dark
        """Always."""
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`: replaces `dark` and `exposure_ms`, adds to `bad_pixels`."""
        exposures = {c.name: c.exposure_ms for c in experiment.plan().channels}
        # A tenth of the shortest tells dark current, and light, which grow with time, from the offset.
        reference = min(exposures.values()) / 10
        wanted = sorted({reference, *exposures.values()})
        camera = experiment.microscope.camera
        found = {
            ms: estimate_dark(stack, camera)
            for ms, stack in dark_shots(microscope, experiment, wanted, self.frames)
        }
        longest = max(wanted)
        hot = np.logical_or.reduce([dark.hot for dark in found.values()])
        rise = (found[longest].mean - found[reference].mean)[~hot]
        if rise.mean() > _GROWTH * 2**camera.bit_depth:
            raise CalibrationRefusedError(
                f"the dark level rises by {rise.mean():.1f} counts from {reference:g} to {longest:g} ms: "
                "light leaks in",
                _LEAK_FIX,
            )
        seconds = (longest - reference) / 1e3
        bad = hot if known.bad_pixels is None else hot | known.bad_pixels
        worst = max(found.values(), key=lambda dark: dark.noise_counts)
        figures: dict[str, Any] = {
            "frames": self.frames,
            "level_counts": {f"{ms:g} ms": round(d.level_counts, 3) for ms, d in found.items()},
            "pixel_sigma_counts": worst.sigma_counts,
            "pattern_counts": worst.pattern_counts,
            "noise_counts": worst.noise_counts,
            "drift_counts": {f"{ms:g} ms": round(d.drift_counts, 3) for ms, d in found.items()},
            "rise_counts_per_s": float(rise.mean()) / seconds,
            "rise_sigma_counts_per_s": float(rise.std() / np.sqrt(rise.size)) / seconds,
            "hot_pixels": int(hot.sum()),
            "outlying_samples": sum(d.outliers for d in found.values()),
        }
        at_longest = found[longest]
        return Finding(
            replace(
                known,
                dark={**known.dark, **{c: found[ms].mean for c, ms in exposures.items()}},
                flat=_at_exposures(known, exposures),
                exposure_ms={**known.exposure_ms, **exposures},
                bad_pixels=bad if bad.any() else known.bad_pixels,
            ),
            figures,
            f"dark level {at_longest.level_counts:.1f} counts, pixel to pixel ± {at_longest.pattern_counts:.2f}, "
            f"noise {worst.noise_counts:.2f} counts, {int(hot.sum())} hot pixels",
        )


def _at_exposures(
    known: Calibration, exposures_ms: dict[str, float]
) -> dict[str, NDArray[np.float32]]:
    """Flats that were taken before, as they are at the exposures that darks were now taken at.

    Dark and flat share the calibration's `exposure_ms`.
    """
    flats = dict(known.flat)
    for channel, ms in exposures_ms.items():
        before = known.exposure_ms.get(channel, ms)
        if channel in flats and before != ms:
            flats[channel] = np.asarray(flats[channel] * (ms / before), np.float32)
    return flats
