"""One specimen of the evaluation set under good conditions and bad ones: alarms, and slopes of the phase."""

from __future__ import annotations

import math
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
from pipeline.evaluation.trust.instrument import Conditions, Floats, LiveInstrument, Raw
from pipeline.evaluation.trust.plan import CAMERAS, TrustPlan
from pipeline.experiment import Experiment
from pipeline.quality import phase_slope

GOOD = "good"
# How much more the image made at the z that is believed leaves unexplained than the one made at another z
# (logarithm): grows with the true z.
FOCUS = "focus"
# What the true phase, as large as explains the frame at the wrong z, leaves unexplained: no network knows as much.
BOUND = "bound"
# Shares below are the noise's.
_LEAST_SHARE = 1e-3
SATURATED_SHARE = 0.01


@dataclass(frozen=True)
class TrustSetting:
    """What every field is told: plain data, so that it can be sent to another process.

    `z_um` is what the instrument believes; `retold_um` another z that it is told for comparison.
    """

    experiment: Experiment
    weights: Path
    z_um: float
    retold_um: float
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
        Camera → kind → quality figures; `GOOD`, the faults, and ``z +0.5``, ``wavelength -0.1``, …. Of good ones
        and of wrong z and λ also `FOCUS` and `BOUND`.
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
    farthest = max(map(abs, (*true_z, *wrong_z.values(), setting.z_um)))
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
    alarms = {
        name: _alarms(setting, number, name, clean, wrong_z, coloured, other, field.truth)
        for name in plan.cameras
    }
    return TrustField(family, alarms, _slopes(setting, field, clean, true_z, number))


def _alarms(
    setting: TrustSetting,
    number: int,
    camera: str,
    clean: Mapping[float, Floats],
    wrong_z: Mapping[float, float],
    coloured: Mapping[float, Floats],
    other: Floats,
    truth: Floats,
) -> Mapping[str, Mapping[str, float]]:
    """Kind → quality figures, by one camera.

    Parameters
    ----------
    clean
        Frames ``[Y, X]`` without noise by z.
    wrong_z, coloured
        Relative error → z, and frame in light of another wavelength.
    other
        Frame of another specimen.
    truth
        ``[s·Y, s·X]`` true phase.
    """
    rng = np.random.default_rng([setting.seed, number, 87, list(CAMERAS).index(camera)])
    live = _instrument(setting, camera)
    retold = _instrument(setting, camera, z_um=setting.retold_um)
    good = clean[setting.z_um]
    raw = live.raw(good, rng)
    phase, quality = live.reconstruct(raw)
    foreign, _ = live.reconstruct(live.raw(other, rng))
    tampered = with_foreign_detail(phase, foreign, setting.upsampling)

    def out_of_focus(raw: Raw, error: float, quality: Mapping[str, float]) -> dict[str, float]:
        here, there = (
            max(q["unexplained"], _LEAST_SHARE) for q in (quality, retold.reconstruct(raw)[1])
        )
        # Contrast goes nearly as λ·z·φ: the phase that explains it is off as much as z or λ.
        bound = live.judge(raw, truth * np.float32(1 + error))["unexplained"]
        farther = math.copysign(1, setting.retold_um - setting.z_um)
        return {**quality, FOCUS: farther * math.log(here / there), BOUND: bound}

    frames: dict[str, Raw] = {
        "dust": live.raw(dusty(good, rng), rng),
        "scratch": live.raw(scratched(good, rng), rng),
        "saturation": live.overexposed(good, rng, SATURATED_SHARE),
        # A well that is full before the converter is: nobody flags those pixels.
        "saturation_unflagged": clipped(live.raw(good, rng), SATURATED_SHARE),
        "flipped_z": live.raw(clean[-setting.z_um], rng),
    }
    off = {kind_of("z", e): (e, clean[z]) for e, z in wrong_z.items()}
    off |= {kind_of("wavelength", e): (e, frame) for e, frame in coloured.items()}
    found = {
        GOOD: out_of_focus(raw, 0.0, quality),
        "foreign_detail": live.judge(raw, tampered),
        **{kind: live.reconstruct(frame)[1] for kind, frame in frames.items()},
    }
    for kind, (error, frame) in off.items():
        seen = live.raw(frame, rng)
        found[kind] = out_of_focus(seen, error, live.reconstruct(seen)[1])
    return found


def _both(errors: Sequence[float]) -> list[float]:
    return [sign * e for e in errors for sign in (-1, 1)]


def _slopes(
    setting: TrustSetting,
    field: EvaluationField,
    clean: Mapping[float, Floats],
    true_z: list[float],
    number: int,
) -> tuple[SlopeTrial, ...]:
    """How wrong the phase's scale gets, and what the instrument says of it.

    The right z and the wrong ones have the same read noise: the difference is z's, and not what noise
    does to a slope.
    """
    plan, truth = setting.plan, field.truth
    trials = []
    for i, sigma in enumerate(plan.z_sigmas):
        live = _instrument(setting, plan.cameras[0], sigma)

        def slope_at(z_um: float, live: LiveInstrument = live, i: int = i) -> tuple[float, float]:
            rng = np.random.default_rng([setting.seed, number, 88, i])
            phase, quality = live.reconstruct(live.raw(clean[z_um], rng))
            return phase_slope(phase, truth).mean, quality["scale_uncertainty"]

        usual, stated = slope_at(setting.z_um)
        for z in true_z[i * plan.draws : (i + 1) * plan.draws]:
            trials.append(SlopeTrial(sigma, slope_at(z)[0], usual, stated))
    return tuple(trials)


def _instrument(
    setting: TrustSetting, camera: str, z_sigma: float = 0.0, z_um: float | None = None
) -> LiveInstrument:
    plan = setting.plan
    conditions = Conditions(z_um or setting.z_um, plan.coherence, CAMERAS[camera], z_sigma)
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
