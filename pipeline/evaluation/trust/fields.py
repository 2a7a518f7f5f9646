"""One specimen of the evaluation set under good conditions and bad ones: alarms, and slopes of the phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.evaluation import forward
from pipeline.evaluation.field_set import EvaluationField, EvaluationSet, evaluation_field
from pipeline.evaluation.trust.faults import (
    clipped,
    dusty,
    scratched,
    with_foreign_detail,
)
from pipeline.evaluation.trust.instrument import CAMERAS, Conditions, Floats, LiveInstrument, Raw
from pipeline.experiment import Experiment
from pipeline.quality import phase_slope

GOOD = "good"
SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class TrustPlan:
    """How much is computed. `FULL` is what a statement rests on, `QUICK` shows that it works.

    Parameters
    ----------
    fields, field_px
        Of the evaluation set, and their edge in camera pixels: the full frame that an alarm is about.
    cameras
        Names from `CAMERAS`.
    z_errors, wavelength_errors
        Relative errors of z and of λ that are tried, of both signs.
    z_sigmas
        Relative standard uncertainties of z for the scale's coverage, each drawn so many times a field.
    coherence
        S of the light; one plane wave is the quickest to image.
    """

    fields: int = 12
    field_px: int = 256
    cameras: tuple[str, ...] = tuple(CAMERAS)
    z_errors: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    wavelength_errors: tuple[float, ...] = (0.1, 0.2, 0.4)
    z_sigmas: tuple[float, ...] = (0.02, 0.05)
    draws: int = 3
    coherence: float = 0.0


FULL = TrustPlan()
QUICK = TrustPlan(
    fields=3,
    field_px=64,
    cameras=("10000_electrons",),
    z_errors=(0.5, 1.0),
    wavelength_errors=(0.4,),
    z_sigmas=(0.05,),
    draws=1,
)


@dataclass(frozen=True)
class TrustSetting:
    """What every field is told: plain data, so that it can be sent to another process."""

    experiment: Experiment
    weights: Path
    z_um: float
    upsampling: int
    plan: TrustPlan
    seed: int


@dataclass(frozen=True)
class SlopeTrial:
    """A field taken at a z that the instrument doesn't know.

    `slope` of the phase there, `usual` at the right z, `stated` relative standard uncertainty.
    """

    sigma: float
    slope: float
    usual: float
    stated: float


@dataclass(frozen=True)
class TrustField:
    """Of one specimen.

    Parameters
    ----------
    alarms
        Camera → kind → quality figures; `GOOD`, the faults, and ``z +0.5``, ``wavelength -0.1``, ….
    slopes
        Trials of the scale.
    """

    family: str
    alarms: Mapping[str, Mapping[str, Mapping[str, float]]]
    slopes: tuple[SlopeTrial, ...]


def kind_of(what: str, error: float) -> str:
    """Name of a wrong z or λ."""
    return f"{what} {error:+g}"


def trust_field(setting: TrustSetting, number: int) -> TrustField | None:
    """All of one specimen; None where a small field happens to have nothing in it."""
    plan = setting.plan
    family, own = EvaluationSet(setting.seed, plan.fields).members[number]
    rng = np.random.default_rng([setting.seed, number, 86])
    true_z = [
        setting.z_um * (1 + sigma * rng.standard_normal())
        for sigma in plan.z_sigmas
        for _ in range(plan.draws)
    ]
    wrong_z = {e: setting.z_um * (1 + e) for e in _both(plan.z_errors)}
    farthest = max(*true_z, *wrong_z.values(), setting.z_um)
    field = _draw(setting, family, own, farthest)
    if not field.truth.any():
        return None
    clean = _imaged(field, setting, [setting.z_um, -setting.z_um, *wrong_z.values(), *true_z])
    # Light of another wavelength through the same specimen; the phase is what it is there.
    coloured = {
        e: _imaged(_in_light(field, 1 + e), setting, [setting.z_um])[setting.z_um]
        for e in _both(plan.wavelength_errors)
    }
    stranger = _draw(setting, family, own + 1, setting.z_um)
    other = _imaged(stranger, setting, [setting.z_um])[setting.z_um]
    alarms = {}
    for name in plan.cameras:
        rng = np.random.default_rng([setting.seed, number, 87, list(CAMERAS).index(name)])
        live = _instrument(setting, name)
        good = clean[setting.z_um]
        raw = live.raw(good, rng)
        phase, quality = live.reconstruct(raw)
        foreign, _ = live.reconstruct(live.raw(other, rng))
        tampered = with_foreign_detail(phase, foreign, setting.upsampling)
        frames: dict[str, Raw] = {
            "dust": live.raw(dusty(good, rng), rng),
            "scratch": live.raw(scratched(good, rng), rng),
            "saturation": live.overexposed(good, rng, SATURATED_SHARE),
            # A well that is full before the converter is: nobody flags those pixels.
            "saturation_unflagged": clipped(live.raw(good, rng), SATURATED_SHARE),
            "flipped_z": live.raw(clean[-setting.z_um], rng),
            **{kind_of("z", e): live.raw(clean[z], rng) for e, z in wrong_z.items()},
            **{kind_of("wavelength", e): live.raw(f, rng) for e, f in coloured.items()},
        }
        alarms[name] = {
            GOOD: quality,
            "foreign_detail": live.judge(raw, tampered),
            **{kind: live.reconstruct(f)[1] for kind, f in frames.items()},
        }
    return TrustField(family, alarms, _slopes(setting, field, clean, true_z, number))


def _both(errors: Sequence[float]) -> list[float]:
    return [sign * e for e in errors for sign in (-1, 1)]


def _slopes(
    setting: TrustSetting,
    field: EvaluationField,
    clean: Mapping[float, Floats],
    true_z: list[float],
    number: int,
) -> tuple[SlopeTrial, ...]:
    """How wrong the phase's scale gets, and what the instrument says of it."""
    plan, truth = setting.plan, field.truth
    trials = []
    for i, sigma in enumerate(plan.z_sigmas):
        rng = np.random.default_rng([setting.seed, number, 88, i])
        live = _instrument(setting, plan.cameras[0], sigma)
        phase, _ = live.reconstruct(live.raw(clean[setting.z_um], rng))
        usual = phase_slope(phase, truth).mean
        for z in true_z[i * plan.draws : (i + 1) * plan.draws]:
            phase, quality = live.reconstruct(live.raw(clean[z], rng))
            slope = phase_slope(phase, truth).mean
            trials.append(SlopeTrial(sigma, slope, usual, quality["scale_uncertainty"]))
    return tuple(trials)


def _instrument(setting: TrustSetting, camera: str, z_sigma: float = 0.0) -> LiveInstrument:
    plan = setting.plan
    conditions = Conditions(setting.z_um, plan.coherence, CAMERAS[camera], z_sigma)
    return LiveInstrument(setting.experiment, setting.weights, plan.field_px, conditions)


def _draw(setting: TrustSetting, family: str, seed: int, farthest_um: float) -> EvaluationField:
    experiment = setting.experiment
    return evaluation_field(
        family,
        seed,
        experiment.optics,
        experiment.pixel_um,
        setting.plan.field_px,
        setting.upsampling,
        farthest_um=farthest_um,
    )


def _in_light(field: EvaluationField, factor: float) -> EvaluationField:
    wavelength_um = field.optics.wavelength_um * factor
    return replace(field, optics=field.optics.model_copy(update={"wavelength_um": wavelength_um}))


def _imaged(
    field: EvaluationField, setting: TrustSetting, z_um: list[float]
) -> dict[float, Floats]:
    conditions = [forward.Conditions(z, setting.plan.coherence) for z in z_um]
    return dict(zip(z_um, field.frames(conditions), strict=True))
