"""The camera's pixel at the sample, by a grating or ruler of known period."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivers.taking import Microscope
from pipeline.calibrate.nominal_light import brightest_channel
from pipeline.calibrate.ruling import Ruling, find_ruling
from pipeline.calibrate.shots import nearest_focus_um
from pipeline.calibrate.step import CalibrationRefusedError, Finding, Subject
from pipeline.calibration import Calibration
from pipeline.experiment import Experiment
from pipeline.experiment.vary import vary
from pipeline.frames import FrameStatus

_FRAMES = 4
# Fewer lines in the field measure less well than the objective's own magnification is known.
_LEAST_PERIODS = 8.0
# Periods shorter than this many pixels alias.
_LEAST_PIXELS = 2.2
# A ruling further from the nominal size is another ruling, or another objective.
_FAR = 0.3
_MOST_SIGMA = 0.005
# Lines that lie this much unevenly, in periods, are no ruling.
_UNEVEN = 0.15
# The image's fundamental has at least this amplitude.
_LEAST_CONTRAST = 0.005
# Off by this much the objective or tube lens deserves a look.
_OFF = 0.03


@dataclass
class PixelSize:
    """Takes an image of a ruling and compares its period with the known one."""

    period_um: float = 10.0
    """Of the grating or ruler, from line to line; a stage micrometer usually has 10 µm."""
    name: str = "pixel_size"
    subject: Subject = "grating"
    purpose: str = (
        "the camera's pixel at the sample: the phase of every method goes with its square"
    )

    def needed(self, experiment: Experiment) -> str | None:  # noqa: ARG002 - the contract's
        """Always: every method rests on it."""
        return None

    def measure(
        self, microscope: Microscope, experiment: Experiment, known: Calibration
    ) -> Finding:
        """As `Step.measure`."""
        self._check_ruling(experiment)
        channel = brightest_channel(experiment, known)
        shot = vary(
            experiment,
            channels=[channel],
            timepoints=_FRAMES,
            foci_um=[nearest_focus_um(experiment)],
            # What a person is asked to put there; a little turned, as it always is.
            specimen={
                "kind": "target",
                "shape": "grating",
                "size_um": self.period_um,
                "rotation_deg": 3.0,
            },
        )
        taken = microscope.take(shot)
        written = taken.records["status"][:, 0, 0, 0] == FrameStatus.WRITTEN
        image = _corrected(taken.frames[written, 0, 0, 0], shot, channel, known)
        ruling = find_ruling(image)
        pixel_um, sigma_um = self._judged(ruling, experiment)
        assert ruling is not None
        nominal = experiment.pixel_um
        figures = {
            "pixel_um": round(pixel_um, 6),
            "sigma_um": round(sigma_um, 7),
            "nominal_um": round(nominal, 6),
            "period_um": self.period_um,
            "period_px": round(1 / ruling.cycles_per_px, 5),
            "angle_deg": round(ruling.angle_deg, 3),
            "contrast": round(ruling.contrast, 4),
            "unevenness_um": round(ruling.unevenness_periods * self.period_um, 4),
            "channel": channel,
            "frames": int(written.sum()),
        }
        off = pixel_um / nominal - 1
        warnings = []
        if abs(off) > _OFF:
            warnings.append(
                f"the pixel is {off:+.1%} off its nominal {nominal:.4g} µm: look at optics.magnification, "
                "camera.pixel_um and camera.binning"
            )
        summary = f"a pixel is {pixel_um:.5g} ± {sigma_um:.1g} µm at the sample (nominal {nominal:.5g}, {off:+.2%})"
        return Finding(replace(known, pixel_um=pixel_um), figures, summary, tuple(warnings))

    def _check_ruling(self, experiment: Experiment) -> None:
        """Refuse a ruling that this camera can't measure, before any light goes on."""
        if not self.period_um > 0:
            raise CalibrationRefusedError(
                f"period_um is {self.period_um:g}", "give the grating's period in µm"
            )
        pixels = self.period_um / experiment.pixel_um
        if pixels < _LEAST_PIXELS:
            raise CalibrationRefusedError(
                f"a period of {self.period_um:g} µm is {pixels:.2f} pixels of nominally {experiment.pixel_um:.4g} µm: "
                "beyond the camera's Nyquist frequency",
                f"use a ruling of {4 * experiment.pixel_um:.3g} µm or more, or bin less",
            )
        finest = 1 / (2 * experiment.optics.cutoff_per_um)
        if self.period_um < finest:
            raise CalibrationRefusedError(
                f"a period of {self.period_um:g} µm is below what the objective resolves ({finest:.3g} µm)",
                "use a coarser ruling",
            )
        periods = min(experiment.microscope.camera.shape_px) / pixels
        if periods < _LEAST_PERIODS:
            raise CalibrationRefusedError(
                f"the field holds {periods:.1f} periods of {self.period_um:g} µm, too few",
                f"use a ruling of {self.period_um * periods / (2 * _LEAST_PERIODS):.2g} µm or less",
            )

    def _judged(self, ruling: Ruling | None, experiment: Experiment) -> tuple[float, float]:
        """Pixel and its standard uncertainty in µm, or a refusal."""
        if (
            ruling is None
            or ruling.contrast < _LEAST_CONTRAST
            or ruling.unevenness_periods > _UNEVEN
        ):
            raise CalibrationRefusedError(
                "no ruling is seen: nothing in the image is periodic over the field",
                "put the grating into the field, fill the field with it, and focus on its lines",
            )
        pixel_um, nominal = self.period_um * ruling.cycles_per_px, experiment.pixel_um
        ratio = pixel_um / nominal
        if abs(ratio - 1) > _FAR:
            factor = max(ratio, 1 / ratio)
            hint = ""
            if abs(factor / round(factor) - 1) < 0.1:
                own = self.period_um * nominal / pixel_um
                hint = f"; by a factor of {round(factor)}: a ruling of {own:.3g} µm would fit"
            raise CalibrationRefusedError(
                f"a period of {self.period_um:g} µm would make the pixel {pixel_um:.4g} µm, nominal is "
                f"{nominal:.4g} µm{hint}",
                "give the ruling's period as period_um, or correct optics.magnification, camera.pixel_um or binning",
            )
        if ruling.sigma > _MOST_SIGMA:
            raise CalibrationRefusedError(
                f"the pixel can be told to ±{ruling.sigma:.1%} only: the lines lie unevenly by "
                f"{ruling.unevenness_periods * self.period_um:.2g} µm",
                "focus on the lines, clean the ruling, and fill the field with it",
            )
        return pixel_um, pixel_um * ruling.sigma


def _corrected(
    frames: NDArray[np.unsignedinteger], shot: Experiment, channel: str, known: Calibration
) -> NDArray[np.float64]:
    """Mean of the frames without dark and vignetting, as far as they are known."""
    top = 2**shot.microscope.camera.bit_depth - 1
    saturated = float((frames >= top).mean())
    if saturated > 0.01:
        raise CalibrationRefusedError(
            f"{saturated:.0%} of the image is saturated",
            f"lower the exposure_ms of channel '{channel}'",
        )
    image: NDArray[np.float64] = frames.mean(0, dtype=np.float64)
    image -= known.dark.get(channel, np.float32(shot.microscope.camera.offset_counts))
    flat = known.flat.get(channel)
    if flat is not None:
        image /= np.maximum(flat / np.median(flat), 0.05)
    if known.bad_pixels is not None:
        image[known.bad_pixels] = np.median(image)
    if image.mean() < 1:
        raise CalibrationRefusedError("the image is dark", "switch the light on, open the shutter")
    return image
