"""A calibration in words: each aspect, its value with its uncertainty, when it was measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.calibration import Calibration, LedOrientation


@dataclass(frozen=True)
class Aspect:
    """One thing that is known of an instrument.

    Parameters
    ----------
    name
        In the words of the report.
    text
        Value and uncertainty, with units.
    step
        Which step of `livephase calibrate` measures it.
    measured_utc
        When, in seconds since the epoch; None where the calibration does not say.
    warnings
        Of the step that measured it.
    """

    name: str
    text: str
    step: str
    measured_utc: float | None = None
    warnings: tuple[str, ...] = ()

    def age(self, now_utc: float | None = None) -> str:
        """How long ago it was measured, in words; empty where nobody knows."""
        if self.measured_utc is None:
            return ""
        seconds = max((time.time() if now_utc is None else now_utc) - self.measured_utc, 0.0)
        for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
            if seconds >= 2 * length:
                return f"{seconds / length:.0f} {unit} ago"
        return "just now"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "text": self.text,
            "step": self.step,
            "measured_utc": self.measured_utc,
            "warnings": list(self.warnings),
        }


def overview(calibration: Calibration) -> list[Aspect]:
    """Everything that the calibration knows, in the order in which it is measured."""
    aspects = []
    for name, step, text in _known(calibration):
        entry = calibration.steps.get(step, {})
        aspects.append(
            Aspect(
                name,
                text,
                step,
                entry.get("time_utc"),
                tuple(entry.get("warnings", ())),
            )
        )
    return aspects


def _known(c: Calibration) -> list[tuple[str, str, str]]:
    """Name, step and text of each aspect that there is."""

    def sigma(step: str, figure: str) -> float | None:
        """An uncertainty that only the step's figures have."""
        value = c.steps.get(step, {}).get("figures", {}).get(figure)
        return float(value) if value is not None else None

    known: list[tuple[str, str, str | None]] = [
        ("timing", "timing", c.timing),
        ("dark", "dark", _levels(c.dark)),
        ("bad pixels", "dark", _bad(c.bad_pixels)),
        (
            "gain",
            "photon_transfer",
            _pm(c.gain_e_per_count, sigma("photon_transfer", "gain_sigma_e_per_count"), " e/count"),
        ),
        (
            "read noise",
            "photon_transfer",
            _pm(c.read_noise_e, sigma("photon_transfer", "read_noise_sigma_e"), " e"),
        ),
        ("saturation", "linearity", _text(c.saturation_counts, ".0f", " counts")),
        (
            "nonlinearity",
            "linearity",
            _pm(_percent(c.nonlinearity), _percent(sigma("linearity", "nonlinearity_sigma")), " %"),
        ),
        ("exposures", "exposure", _each(c.balanced_exposure_ms, " ms")),
        ("flat", "flat", _levels(c.flat)),
        ("pixel size", "pixel_size", _pm(c.pixel_um, sigma("pixel_size", "sigma_um"), " µm")),
        (
            "LED orientation",
            "orientation",
            _orientation(c.led_orientation, sigma("orientation", "rotation_sigma_deg")),
        ),
        ("LED intensities", "led_intensity", _intensities(c.led_intensity)),
        ("z scale", "lens", _pm(c.z_scale, c.z_scale_sigma, " µm per µm commanded")),
        ("z zero", "lens", _pm(c.z_zero_um, c.z_zero_sigma_um, " µm")),
        (
            "magnification change",
            "lens",
            _pm(
                _percent(c.magnification_per_um),
                _percent(sigma("lens", "magnification_sigma_per_um")),
                " % per µm",
            ),
        ),
    ]
    return [(name, step, text) for name, step, text in known if text is not None]


def _text(value: float | None, form: str, unit: str) -> str | None:
    return None if value is None else f"{value:{form}}{unit}"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _pm(value: float | None, sigma: float | None, unit: str) -> str | None:
    if value is None:
        return None
    if not sigma:
        return f"{value:.4g}{unit}"
    # As many digits as the uncertainty's second.
    digits = max(0, 1 - int(np.floor(np.log10(sigma))))
    return f"{value:.{digits}f} ± {sigma:.{digits}f}{unit}"


def _each(values: dict[str, float], unit: str) -> str | None:
    return ", ".join(f"{k} {v:.4g}" for k, v in values.items()) + unit if values else None


def _levels(planes: dict[str, NDArray[np.float32]]) -> str | None:
    """Median of each channel, and between which values the pixels lie, all but the outermost 2 %."""
    if not planes:
        return None
    medians = ", ".join(f"{name} {float(np.median(plane)):.5g}" for name, plane in planes.items())
    low = min(float(np.quantile(plane, 0.01)) for plane in planes.values())
    high = max(float(np.quantile(plane, 0.99)) for plane in planes.values())
    return f"{medians} counts; over the field {low:.4g} to {high:.4g}"


def _bad(bad: NDArray[np.bool_] | None) -> str | None:
    return None if bad is None else f"{int(bad.sum())} of {bad.size}"


def _orientation(o: LedOrientation | None, sigma_deg: float | None) -> str | None:
    if o is None:
        return None
    flips = [t for t, on in (("x mirrored", o.flip_x), ("x and y exchanged", o.swap_xy)) if on]
    if abs(o.rotation_deg) >= 0.05:
        flips.append(f"rotated by {o.rotation_deg:.1f}°")
    sure = "" if sigma_deg is None else f" (rotation ± {sigma_deg:.1f}°)"
    return (", ".join(flips) or "as the camera") + sure


def _intensities(values: dict[int, float]) -> str | None:
    if not values:
        return None
    spread = float(np.std(list(values.values())))
    return f"{len(values)} LEDs, spread {100 * spread:.2g} %"
