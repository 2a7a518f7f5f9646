"""Do these weights fit these optics? A network that doesn't gives a plausible, wrong phase.

No torch: the preflight asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pipeline.calibration import Calibration
from pipeline.errors import MethodError
from pipeline.experiment import Condenser, Experiment
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.record import OpticsRecord, WeightsRecord
from pipeline.methods.dl_srqpi.settings import DlSrqpiSettings, Packaged
from pipeline.methods.settings import read_settings

PACKAGED = Path(__file__).resolve().parents[2] / "weights"

# Largest relative differences. The contrast of a weak phase goes with λ·z/pixel², so the phase is
# wrong by nearly as much as λ is, and by twice as much as the pixel is.
WAVELENGTH_TOLERANCE = 0.02
PIXEL_TOLERANCE = 0.015
# NA and medium decide what passes at all, not the scale.
NA_TOLERANCE = 0.05
INDEX_TOLERANCE = 0.02
# Beyond the range that was trained, relative: the network is told the true z.
Z_TOLERANCE = 0.05
# Of S, absolute: a disc this much wider blurs a frame at the usual defocus by a small part of a
# camera pixel.
COHERENCE_TOLERANCE = 0.02
# Before the calibration is read: no lens or pixel is further off its nominal value than this.
COARSE_TOLERANCE = 0.35


def true_conditions(
    experiment: Experiment, calibration: Calibration | None, focus: int
) -> Conditions:
    """What a frame at `focus` (index into `sequence.foci_um`) was really taken with.

    Calibrated values before nominal ones.
    """
    optics, light = experiment.optics, experiment.illumination
    pixel_um = calibration.pixel_um if calibration else None
    return Conditions(
        wavelength_um=optics.wavelength_um,
        numerical_aperture=optics.numerical_aperture,
        refractive_index=optics.refractive_index,
        pixel_um=experiment.pixel_um if pixel_um is None else pixel_um,
        z_um=(calibration or Calibration()).true_focus_um(experiment.sequence.foci_um[focus]),
        coherence=light.coherence if isinstance(light, Condenser) else float("nan"),
    )


def nearest_focus(experiment: Experiment, record: WeightsRecord) -> int:
    """Index into `sequence.foci_um` of the focus nearest to the weights' own z.

    Of those in their range, if there are any.
    The first channel's frames come first in a slot, so it is the index along the slot's K axis, too.
    """
    foci = experiment.sequence.foci_um
    trained = record.optics

    def distance(i: int) -> tuple[bool, float]:
        outside = not trained.z_min_um <= foci[i] <= trained.z_max_um
        return outside, abs(foci[i] - trained.z_um)

    return min(range(len(foci)), key=distance)


def why_unfit(record: WeightsRecord, conditions: Conditions, coarse: bool = False) -> str:
    """The first reason why the weights don't fit, or nothing.

    Parameters
    ----------
    coarse
        The calibration isn't known yet: z and pixel may be off by `COARSE_TOLERANCE`.
    """
    return next(_reasons(record.optics, conditions, coarse), "")


def remedy(record: WeightsRecord, conditions: Conditions) -> str:
    """What to do about weights that don't fit."""
    optics = record.optics
    train = "train weights for it with `livephase train dl_srqpi --experiment EXPERIMENT.yaml`"
    focus = f"set sequence.foci_um within {optics.z_min_um:g} to {optics.z_max_um:g} µm"
    if not conditions.z_um > 0:
        return f"focus downstream of the specimen: {focus}"
    if not optics.z_min_um <= conditions.z_um <= optics.z_max_um:
        return f"{focus}, or {train}"
    return f"correct the experiment where it is not so, or {train}"


def _reasons(trained: OpticsRecord, here: Conditions, coarse: bool) -> Iterator[str]:
    for name, there, given, tolerance in (
        ("wavelength", trained.wavelength_um, here.wavelength_um, WAVELENGTH_TOLERANCE),
        ("NA", trained.numerical_aperture, here.numerical_aperture, NA_TOLERANCE),
        ("refractive index", trained.refractive_index, here.refractive_index, INDEX_TOLERANCE),
        (
            "camera pixel at the sample",
            trained.pixel_um,
            here.pixel_um,
            COARSE_TOLERANCE if coarse else PIXEL_TOLERANCE,
        ),
    ):
        # Written so that a NaN is refused, too.
        if not abs(given - there) <= tolerance * there:
            unit = "" if name in ("NA", "refractive index") else " µm"
            yield (
                f"{name} {given:.4g}{unit}, trained for {there:.4g}{unit} "
                f"(tolerance {100 * tolerance:g} %)"
            )
    slack = COARSE_TOLERANCE if coarse else Z_TOLERANCE
    if not trained.z_min_um * (1 - slack) <= here.z_um <= trained.z_max_um * (1 + slack):
        yield (
            f"defocus {here.z_um:.4g} µm, trained for {trained.z_min_um:.4g} to "
            f"{trained.z_max_um:.4g} µm"
        )
    low = trained.coherence_min - COHERENCE_TOLERANCE
    high = trained.coherence_max + COHERENCE_TOLERANCE
    if not low <= here.coherence <= high:
        yield (
            f"coherence S = {here.coherence:g}, trained for {trained.coherence_min:g} to "
            f"{trained.coherence_max:g}"
        )


def packaged(name: str, folder: Path = PACKAGED) -> list[Path]:
    """The weights files that come with livephase of the network of a name (base, fast, srcnn), one for each optics."""
    return [p for p in sorted(folder.glob("dl_srqpi*.safetensors")) if read_record(p).name == name]


def weights_named(given: Path, folder: Path = PACKAGED) -> Path:
    """A weights file, or the first packaged one of a name.

    Raises
    ------
    MethodError
        If it is neither.
    """
    if given.is_file():
        return given
    of_name = packaged(str(given), folder)
    if not of_name:
        raise MethodError(
            f"the weights {given} don't exist",
            f"give a weights file, or the name of packaged ones: {' or '.join(get_args(Packaged))}",
        )
    return of_name[0]


def default_weights(experiment: Experiment, folder: Path = PACKAGED) -> Path:
    """The packaged weights that fit an experiment's nominal optics, of the network that its settings name.

    Raises
    ------
    MethodError
        If none do, with why the nearest don't, and how to train some.
    """
    wanted = read_settings(DlSrqpiSettings, experiment).network
    fitting, unfit, fix = [], [], ""
    for path in packaged(wanted, folder):
        record = read_record(path)
        conditions = true_conditions(experiment, None, nearest_focus(experiment, record))
        reason = why_unfit(record, conditions, coarse=True)
        if reason:
            unfit.append(f"{path.name}: {reason}")
            fix = fix or remedy(record, conditions)
        else:
            fitting.append((abs(conditions.z_um - record.optics.z_um), path))
    if fitting:
        return min(fitting)[1]
    have = "; ".join(unfit) or "none are installed"
    raise MethodError(
        f"no weights of dl_srqpi come with livephase for these optics ({have})",
        (fix or "train with `livephase train dl_srqpi --experiment EXPERIMENT.yaml`")
        + "; name others than the packaged ones in reconstruction.weights",
    )
