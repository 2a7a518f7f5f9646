"""What the fields found, put together as tables: plain data for JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy
import torch

from pipeline import __version__
from pipeline.evaluation import microlens
from pipeline.evaluation.ahead import beside_baselines
from pipeline.evaluation.contenders import BASELINES, NETWORK, Tuning, Tunings
from pipeline.evaluation.plan import Row
from pipeline.evaluation.rows import FieldScores, HeadlineField
from pipeline.evaluation.scores import FIGURES, Scores, mean_scores
from pipeline.evaluation.setting import Setting
from pipeline.methods.weights_file import sha256
from pipeline.quality.slope import slope_by_size


def headline_table(fields: Sequence[HeadlineField]) -> dict[str, Any]:
    """Means over the headline's fields, by family and field too, and the phase slope over all their cells."""
    means = _means([f.scores for f in fields])
    slopes = np.concatenate([f.slopes for f in fields])
    areas = np.concatenate([f.areas_px for f in fields])
    families = dict.fromkeys(f.family for f in fields)
    return {
        **beside_baselines(means, NETWORK),
        "phase_slope": float(slopes.mean()) if slopes.size else None,
        "phase_slope_spread": float(slopes.std()) if slopes.size else None,
        "phase_slope_by_size": slope_by_size(slopes, areas),
        "cells": int(slopes.size),
        "by_family": {
            name: beside_baselines(_means([f.scores for f in fields if f.family == name]), NETWORK)
            for name in families
        },
        "fields": [
            {"family": f.family, "seed": f.seed, **mean_scores([f.scores[NETWORK]])} for f in fields
        ],
    }


def sweeps_table(setting: Setting, fields: Sequence[Mapping[Row, FieldScores]]) -> dict[str, Any]:
    """Means over the sweeps' fields, by defocus, coherence and noise."""

    def table(rows: Sequence[Row], name: Callable[[Row], str]) -> dict[str, Any]:
        return {
            name(row): beside_baselines(_means([f[row] for f in fields]), NETWORK) for row in rows
        }

    by_defocus = table(setting.rows.by_defocus, lambda row: f"{row.z_um:g}")
    by_coherence = table(setting.rows.by_coherence, lambda row: f"{row.coherence:g}")
    return {
        "ssim_by_defocus": {name: row["ssim"] for name, row in by_defocus.items()},
        "ssim_by_coherence": {name: row["ssim"] for name, row in by_coherence.items()},
        "by_defocus": by_defocus,
        "by_coherence": by_coherence,
        "by_noise": table(setting.rows.by_noise, lambda row: row.noise),
    }


def microlenses_table(setting: Setting, results: Sequence[Any]) -> dict[str, Any]:
    """Errors of microlenses, and the largest period that one frame measures.

    Parameters
    ----------
    results
        Of `microlens.measure_array` for each of the plan's diameters, then of `microlens.measure_isolated`.
    """
    plan = setting.plan
    arrays = [row for rows in results[: len(plan.lens_um)] for row in rows]
    limits = {
        peak: microlens.largest_period_um(setting.experiment, setting.rows.headline, peak)
        for peak in sorted({1.0, *plan.lens_rad})
    }
    largest = limits[1.0]
    measured = [r for r in arrays if r["relative_error"] is not None]

    def worst(rows: Iterable[Mapping[str, Any]], period_um: float | None) -> float | None:
        if period_um is None:
            return None
        within = [abs(r["relative_error"]) for r in rows if r["period_um"] <= period_um]
        return max(within, default=None)

    by_peak = {
        f"{peak:g}": {
            "largest_period_um": _rounded(period_um),
            "height_error": worst([r for r in measured if r["peak_rad"] == peak], period_um),
        }
        for peak, period_um in limits.items()
    }
    return {
        "microlens_height_error": worst(measured, largest),
        "largest_period_um": _rounded(largest),
        "microlens": {
            "delta_n": microlens.DELTA_N,
            "pitch_diameters": microlens.PITCH_DIAMETERS,
            "largest_period_is": (
                f"where noise alone puts the height of one lens of 1 rad off by "
                f"{100 * microlens.TOLERANCE:g} %"
            ),
            "by_peak": by_peak,
            "arrays": arrays,
            "isolated": list(results[len(plan.lens_um) :]),
        },
    }


def _rounded(period_um: float | None) -> float | None:
    return None if period_um is None else round(period_um, 1)


def outside_table(fields: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Means over the fields of each deviation from what the network was trained for."""
    names = ("phase_slope", "phase_slope_spread")
    table: dict[str, Any] = {}
    for row in fields[0]:
        rows = [f[row] for f in fields]
        slopes = {name: [r[name] for r in rows if np.isfinite(r[name])] for name in names}
        means = {name: float(np.mean(v)) if v else None for name, v in slopes.items()}
        table[row] = {**mean_scores(rows), **means}
    return table


def _means(fields: Sequence[FieldScores]) -> dict[str, Scores]:
    """By contender; the row of a baseline that nobody has is empty."""
    means: dict[str, Scores] = {name: mean_scores([f[name] for f in fields]) for name in fields[0]}
    return means | {n: dict.fromkeys(FIGURES) for n in BASELINES if n not in means}


def _chosen(tunings: Mapping[str, Tuning]) -> dict[str, Any]:
    return {
        name: {"first_focus": tuning.first, "regularisation": tuning.regularisation}
        for name, tuning in tunings.items()
    }


def conditions_table(setting: Setting, tunings: Tunings) -> dict[str, Any]:
    """What a reader needs to take the same figures again."""
    plan, rows, optics = setting.plan, setting.rows, setting.experiment.optics
    return {
        "plan": plan.name,
        "weights": setting.weights.name,
        "sha256": sha256(setting.weights),
        "srcnn": setting.srcnn.name if setting.srcnn else None,
        "srcnn_sha256": sha256(setting.srcnn) if setting.srcnn else None,
        "headline": {
            **rows.headline._asdict(),
            "specimens": setting.headline_set.name,
            "field_px": plan.field_px,
        },
        "sweeps": {
            "specimens": setting.sweep_set.name,
            "field_px": plan.sweep_px,
            "by_defocus_coherence": rows.by_defocus[0].coherence,
            "by_coherence_and_noise_z_um": rows.headline.z_um,
        },
        "upsampling": setting.upsampling,
        "pixel_um": setting.experiment.pixel_um,
        "wavelength_um": optics.wavelength_um,
        "numerical_aperture": optics.numerical_aperture,
        "refractive_index": optics.refractive_index,
        "aligned": "piston",
        "tuning": {
            "specimens": setting.tuning_set.name,
            "field_px": plan.tuning_px,
            "for": "SSIM",
            "headline": _chosen(tunings[rows.headline]),
            "rows": [{**row._asdict(), **_chosen(own)} for row, own in tunings.items()],
        },
        "versions": {
            "livephase": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "cores": os.cpu_count(),
    }
