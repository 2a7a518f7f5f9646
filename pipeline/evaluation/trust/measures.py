"""How well an alarm ranks frames, from where on an error is detected, and how often a stated uncertainty holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from pipeline.evaluation.trust.fields import TrustField

# What counts as detected.
DETECTED_AUC = 0.95
# Standard uncertainties on either side within which the truth is to lie.
COVERAGE_FACTOR = 2.0


def roc_auc(good: ArrayLike, bad: ArrayLike) -> float:
    """Chance that a bad one is above a good one, ties counting half; NaN where there are none of a kind."""
    g, b = np.asarray(good, np.float64), np.asarray(bad, np.float64)
    if not g.size or not b.size:
        return math.nan
    return float(((b[:, None] > g) + 0.5 * (b[:, None] == g)).mean())


def detectable(auc: Mapping[float, float | None], nominal: float) -> dict[str, float | None]:
    """The smallest error, less and more, from which on all that were tried are detected; None where none is."""
    found: dict[str, float | None] = {}
    for name, sign in (("less", -1), ("more", 1)):
        ordered = sorted((e for e in auc if e * sign > 0), key=abs, reverse=True)
        limit = None
        for e in ordered:
            value = auc[e]
            if value is None or value < DETECTED_AUC:
                break
            limit = round(abs(e) * nominal, 4)
        found[name] = limit
    return found


def scale_coverage(fields: Iterable[TrustField]) -> dict[str, dict[str, float | None]]:
    """σ_z/z → share of fields and draws whose phase is as right in scale as is said, and by how much it isn't.

    ``covered``: of the error that z brings, slope / slope at the right z - 1. ``covered_in_all``: of
    the whole error, slope - 1, that of the network itself included.
    """
    trials = [t for f in fields for t in f.slopes if math.isfinite(t.slope / (t.usual or math.nan))]
    table: dict[str, dict[str, float | None]] = {}
    for sigma in sorted({t.sigma for t in trials}):
        own = [t for t in trials if t.sigma == sigma]
        by_z = np.array([t.slope / t.usual - 1 for t in own])
        whole = np.array([t.slope - 1 for t in own])
        stated = COVERAGE_FACTOR * np.array([t.stated for t in own])
        table[f"{sigma:g}"] = {
            "covered": float((abs(by_z) <= stated).mean()),
            "covered_in_all": float((abs(whole) <= stated).mean()),
            # None where the method's scale can't be measured: then nothing is covered.
            "stated": float(stated.mean() / COVERAGE_FACTOR) if np.isfinite(stated).all() else None,
            "found": float(np.sqrt(np.mean(by_z**2))),
            "found_in_all": float(np.sqrt(np.mean(whole**2))),
            "trials": float(len(own)),
        }
    return table
