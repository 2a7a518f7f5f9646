"""Do these weights fit these optics? A network that doesn't gives a plausible, wrong phase.

No torch: the preflight asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.calibration import Calibration
from pipeline.errors import MethodError
from pipeline.experiment import Condenser, Experiment
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.record import WeightsRecord

PACKAGED = Path(__file__).resolve().parents[2] / "weights"

# Largest relative differences. The contrast of a weak phase goes with λ·z/pixel², so the phase is
# wrong by nearly as much as λ and z are, and by twice as much as the pixel is.
WAVELENGTH_TOLERANCE = 0.02
Z_TOLERANCE = 0.03
PIXEL_TOLERANCE = 0.015
# NA and medium decide what passes at all, not the scale.
NA_TOLERANCE = 0.05
INDEX_TOLERANCE = 0.02
# Of S, absolute: a disc this much wider blurs a frame at the usual defocus by a small part of a
# camera pixel.
COHERENCE_TOLERANCE = 0.02
# Before the calibration is read: no lens or pixel is further off its nominal value than this.
COARSE_TOLERANCE = 0.35


@dataclass(frozen=True)
class TrueOptics:
    """An experiment's optics as far as they are known: calibrated values before nominal ones."""

    wavelength_um: float
    numerical_aperture: float
    refractive_index: float
    pixel_um: float
    z_um: float
    coherence: float


def true_optics(experiment: Experiment, calibration: Calibration | None, focus: int) -> TrueOptics:
    """What a frame at `focus` (index into `sequence.foci_um`) was really taken with."""
    optics, light = experiment.optics, experiment.illumination
    pixel_um = calibration.pixel_um if calibration else None
    return TrueOptics(
        wavelength_um=optics.wavelength_um,
        numerical_aperture=optics.numerical_aperture,
        refractive_index=optics.refractive_index,
        pixel_um=experiment.pixel_um if pixel_um is None else pixel_um,
        z_um=(calibration or Calibration()).true_focus_um(experiment.sequence.foci_um[focus]),
        coherence=light.coherence if isinstance(light, Condenser) else float("nan"),
    )


def nearest_focus(experiment: Experiment, record: WeightsRecord) -> int:
    """Index into `sequence.foci_um` of the focus nearest to the weights' z.

    The first channel's frames come first in a slot, so it is the index along the slot's K axis, too.
    """
    foci = experiment.sequence.foci_um
    return min(range(len(foci)), key=lambda i: abs(foci[i] - record.optics.z_um))


def why_unfit(record: WeightsRecord, optics: TrueOptics, coarse: bool = False) -> str:
    """The first reason why the weights don't fit, or nothing.

    Parameters
    ----------
    coarse
        The calibration isn't known yet: z and pixel may be off by `COARSE_TOLERANCE`.
    """
    return next(_reasons(record, optics, coarse), "")


def _reasons(record: WeightsRecord, optics: TrueOptics, coarse: bool) -> Iterator[str]:
    trained = record.optics
    for name, there, here, tolerance in (
        ("wavelength", trained.wavelength_um, optics.wavelength_um, WAVELENGTH_TOLERANCE),
        ("NA", trained.numerical_aperture, optics.numerical_aperture, NA_TOLERANCE),
        ("refractive index", trained.refractive_index, optics.refractive_index, INDEX_TOLERANCE),
        (
            "camera pixel at the sample",
            trained.pixel_um,
            optics.pixel_um,
            COARSE_TOLERANCE if coarse else PIXEL_TOLERANCE,
        ),
        ("defocus", trained.z_um, optics.z_um, COARSE_TOLERANCE if coarse else Z_TOLERANCE),
    ):
        # Written so that a NaN is refused, too.
        if not abs(here - there) <= tolerance * abs(there):
            unit = "" if name in ("NA", "refractive index") else " µm"
            yield (
                f"{name} {here:.4g}{unit}, trained for {there:.4g}{unit} "
                f"(tolerance {100 * tolerance:g} %)"
            )
    low = trained.coherence_min - COHERENCE_TOLERANCE
    high = trained.coherence_max + COHERENCE_TOLERANCE
    if not low <= optics.coherence <= high:
        yield (
            f"coherence S = {optics.coherence:g}, trained for {trained.coherence_min:g} to "
            f"{trained.coherence_max:g}"
        )


def default_weights(experiment: Experiment, folder: Path = PACKAGED) -> Path:
    """The packaged weights that fit an experiment's nominal optics.

    Raises
    ------
    MethodError
        If none do, with why the nearest don't, and how to train some.
    """
    fitting, unfit = [], []
    for path in sorted(folder.glob("dl_srqpi*.safetensors")):
        record = read_record(path)
        optics = true_optics(experiment, None, nearest_focus(experiment, record))
        reason = why_unfit(record, optics, coarse=True)
        if reason:
            unfit.append(f"{path.name}: {reason}")
        else:
            fitting.append((abs(optics.z_um - record.optics.z_um), path))
    if fitting:
        return min(fitting)[1]
    have = "; ".join(unfit) or "none are installed"
    raise MethodError(
        f"no weights of dl_srqpi come with livephase for these optics ({have})",
        "train with `livephase train dl_srqpi --experiment EXPERIMENT.yaml` and name the file in "
        "reconstruction.weights",
    )
