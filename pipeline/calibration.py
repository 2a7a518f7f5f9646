"""What is known of the instrument: one versioned object, stored in every run.

Frames are corrected on their way into a method, never in the raw store. What
is not calibrated is said to be so in every result (`Calibration.missing`).
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.durable import replace_file, sync_directory
from pipeline.errors import ExperimentError, RunFolderError

VERSION = 2
_READABLE = (1, 2)  # 2 only adds
# Everything that a quantitative result rests on, in the words of the report.
_ASPECTS = ("dark", "flat", "gain", "pixel size", "LED orientation", "z scale")


@dataclass(frozen=True)
class LedOrientation:
    """How the LED array lies to the camera's axes.

    A light source at array coordinates ``(x, y)`` shifts the spectrum along the camera's
    axes by ``rotate(rotation_deg) @ flip @ (x, y)``.

    Parameters
    ----------
    flip_x, swap_xy
        Mirror along x, then exchange of the axes: with the four quarter turns of
        `rotation_deg` they make the eight possible orientations.
    rotation_deg
        Anticlockwise in image coordinates (x to the right, y down counted positive from x to y).
    """

    flip_x: bool = False
    swap_xy: bool = False
    rotation_deg: float = 0.0

    def matrix(self) -> NDArray[np.float64]:
        """2x2 matrix that takes array ``(x, y)`` to camera ``(x, y)``."""
        m = np.diag([-1.0 if self.flip_x else 1.0, 1.0])
        if self.swap_xy:
            m = np.array([[0.0, 1.0], [1.0, 0.0]]) @ m
        a = np.deg2rad(self.rotation_deg)
        rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        return rotation @ m


@dataclass(frozen=True)
class Calibration:
    """Camera, light and geometry of one instrument, as measured.

    A field that is None was not calibrated: methods then fall back on the experiment's
    nominal values and the result says "uncalibrated".

    Parameters
    ----------
    dark
        Channel name → dark level in counts, ``[Y, X]`` or ``[]`` float32.
    flat
        Channel name → counts without a specimen, dark subtracted, ``[Y, X]`` or ``[]`` float32. For a
        darkfield channel, which has no light without a specimen, the level that its LEDs and
        exposure give in brightfield.
    exposure_ms
        Channel name → exposure at which dark and flat were taken.
    gain_e_per_count, read_noise_e
        Electrons per count; standard deviation of the read noise in electrons.
    saturation_counts
        Raw counts at and above which a pixel is saturated.
    bad_pixels
        ``[Y, X]`` bool, True where a pixel can't be trusted.
    pixel_um
        Camera pixel (after binning) at the sample, µm.
    led_orientation
        Geometry of LEDs to camera.
    led_intensity
        LED number → intensity relative to the mean of those measured.
    z_scale, z_scale_sigma
        True µm of focus per µm commanded (negative: the lens runs the other way), and its standard
        uncertainty. A relative error of z is nearly the same relative error of the phase of a
        single-frame or TIE method.
    z_zero_um, z_zero_sigma_um
        True focus where 0 is commanded, and its standard uncertainty.
    magnification_per_um
        Relative change of the magnification per µm of true focus.
    balanced_exposure_ms
        Channel name → exposure at which its background (a darkfield channel: its specimen) reaches the
        target level.
    nonlinearity
        Largest deviation from a straight line through the camera's used range, relative to the range.
    timing
        How light and camera are synchronised: ``"in step"``, or the fault found, in words.
    steps
        Step name → what it measured: time, conditions, figures and uncertainties, as JSON keeps them.
    source
        Who measured it and when: goes into every report.
    """

    dark: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    flat: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    exposure_ms: dict[str, float] = field(default_factory=dict)
    gain_e_per_count: float | None = None
    read_noise_e: float | None = None
    saturation_counts: float | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    pixel_um: float | None = None
    led_orientation: LedOrientation | None = None
    led_intensity: dict[int, float] = field(default_factory=dict)
    z_scale: float | None = None
    z_scale_sigma: float | None = None
    z_zero_um: float | None = None
    z_zero_sigma_um: float | None = None
    magnification_per_um: float | None = None
    balanced_exposure_ms: dict[str, float] = field(default_factory=dict)
    nonlinearity: float | None = None
    timing: str | None = None
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: str = "none"

    def true_focus_um(self, commanded_um: float) -> float:
        """Where the plane in focus really lies when `commanded_um` is asked for."""
        scale = 1.0 if self.z_scale is None else self.z_scale
        return (self.z_zero_um or 0.0) + scale * commanded_um

    def missing(self) -> list[str]:
        """Names of the aspects that are not calibrated; empty when all are."""
        have = (
            bool(self.dark),
            bool(self.flat),
            self.gain_e_per_count is not None,
            self.pixel_um is not None,
            self.led_orientation is not None,
            self.z_scale is not None,
        )
        return [name for name, known in zip(_ASPECTS, have, strict=True) if not known]

    def check(self, channels: list[str], frame_shape: tuple[int, int]) -> None:
        """Refuse a calibration of another camera size or with unphysical values.

        Raises
        ------
        ExperimentError
            Naming the array, its shape and the shape that the experiment has.
        """
        arrays: list[tuple[str, NDArray[Any] | None]] = [
            *((f"dark of {c}", self.dark.get(c)) for c in channels),
            *((f"flat of {c}", self.flat.get(c)) for c in channels),
            ("bad pixel map", self.bad_pixels),
        ]
        for name, array in arrays:
            if array is None or array.ndim == 0:
                continue
            if array.shape != frame_shape:
                raise ExperimentError(
                    f"the calibration's {name} has shape {array.shape}, the experiment's frames {frame_shape}",
                    "calibrate with this camera region and binning, or set camera.shape_px to match",
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ExperimentError(
                    f"the calibration's {name} has NaN or infinite pixels", "calibrate again"
                )
        for name, value in (
            ("gain", self.gain_e_per_count),
            ("pixel size", self.pixel_um),
            # A lens may run backwards, but it has to run.
            ("z scale", None if self.z_scale is None else abs(self.z_scale)),
        ):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ExperimentError(
                    f"the calibration's {name} is {value}", "it must be positive: calibrate again"
                )

    def save(self, folder: Path) -> None:
        """Write ``calibration.json`` and ``calibration.npz`` into `folder` (made if absent), durably.

        Raises
        ------
        RunFolderError
            If the folder can't be written.
        """
        scalars: dict[str, Any] = {"version": VERSION}
        for name in (
            "exposure_ms",
            "gain_e_per_count",
            "read_noise_e",
            "saturation_counts",
            "pixel_um",
            "z_scale",
            "z_scale_sigma",
            "z_zero_um",
            "z_zero_sigma_um",
            "magnification_per_um",
            "balanced_exposure_ms",
            "nonlinearity",
            "timing",
            "steps",
            "source",
        ):
            scalars[name] = getattr(self, name)
        scalars["led_intensity"] = {str(led): value for led, value in self.led_intensity.items()}
        if self.led_orientation is not None:
            o = self.led_orientation
            scalars["led_orientation"] = {
                "flip_x": o.flip_x,
                "swap_xy": o.swap_xy,
                "rotation_deg": o.rotation_deg,
            }
        arrays: dict[str, NDArray[Any]] = {f"dark:{k}": v for k, v in self.dark.items()}
        arrays |= {f"flat:{k}": v for k, v in self.flat.items()}
        if self.bad_pixels is not None:
            arrays["bad_pixels"] = self.bad_pixels
        stored = io.BytesIO()
        np.savez_compressed(stored, allow_pickle=False, **arrays)
        text = json.dumps(scalars, indent=2) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sync_directory(folder.parent)
            replace_file(folder / "calibration.npz", stored.getvalue())
            # Last: without it there is no calibration.
            replace_file(folder / "calibration.json", text.encode())
        except OSError as error:
            raise RunFolderError(
                f"the calibration can't be written to {folder} ({error.strerror or error})",
                "give a folder that you may write to, on a disk with space",
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ExperimentError
            If the folder holds no calibration, or one of an unknown version.
        """
        try:
            scalars = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
            with np.load(folder / "calibration.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise ExperimentError(
                f"no readable calibration in {folder} ({error})",
                "give the folder that `calibration.json` and `calibration.npz` are in",
            ) from error
        if scalars.pop("version", None) not in _READABLE:
            raise ExperimentError(
                f"the calibration in {folder} is of another version", "calibrate again"
            )
        orientation = scalars.pop("led_orientation", None)
        intensity = scalars.pop("led_intensity", {})
        calibration = cls(
            dark={k.removeprefix("dark:"): v for k, v in arrays.items() if k.startswith("dark:")},
            flat={k.removeprefix("flat:"): v for k, v in arrays.items() if k.startswith("flat:")},
            bad_pixels=arrays.get("bad_pixels"),
            led_intensity={int(led): value for led, value in intensity.items()},
            **scalars,
        )
        return (
            replace(calibration, led_orientation=LedOrientation(**orientation))
            if orientation
            else calibration
        )
