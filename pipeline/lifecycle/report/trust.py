"""The report's part on how far to trust the phase: what the light says, and what it can't."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Fields of a phase record that the report tells of.
TRUST_FIELDS = ("residual", "unexplained", "alarm", "scale_uncertainty")


def trust_report(phase: Mapping[str, Values]) -> dict[str, Any]:
    """Keys ``residual``, ``unexplained`` (medians), ``alarms``, ``scale_uncertainty`` of `report.json`.

    Parameters
    ----------
    phase
        Name from `TRUST_FIELDS` → values over the phase images, NaN where there is none.
    """
    scale = phase["scale_uncertainty"]
    alarm = finite(phase["alarm"])
    return {
        "residual": quantile(finite(phase["residual"]), 0.5),
        "unexplained": quantile(finite(phase["unexplained"]), 0.5),
        # Of those that were checked: not every method's light can be.
        "alarms": int((alarm > 1).sum()) if len(alarm) else None,
        # Of the worst image: resumed with another calibration, they may differ.
        "scale_uncertainty": quantile(scale, 1.0) if np.isfinite(scale).all() else None,
    }


def trust_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and figures for people; what isn't known is said to be unknown."""
    scale = report["scale_uncertainty"]
    rows = []
    if report["residual"] is not None:
        rows.append(
            ("residual (reduced χ²; 1 is the camera's own noise)", f"{report['residual']:.3g}")
        )
    if report["unexplained"] is not None:
        rows.append(("measured structure left unexplained", f"{100 * report['unexplained']:.2g} %"))
    if report["alarms"] is not None:
        rows.append(
            ("images that want looking at", f"{report['alarms']} of {report['reconstructed']}")
        )
    uncertain = "not known" if scale is None else f"± {100 * scale:.2g} %"
    rows.append(("scale of the phase, from the calibrated focus (k = 1)", uncertain))
    return rows


def trust_lines(report: Mapping[str, Any]) -> list[str]:
    """The same for the terminal."""
    if not report["reconstructed"]:
        return []
    lines = []
    if report["residual"] is not None:
        lines.append(
            f"residual {report['residual']:.3g} (reduced chi²; 1 is the camera's own noise)"
        )
    scale, alarms = report["scale_uncertainty"], report["alarms"]
    parts = ["scale uncertainty not known" if scale is None else f"scale ± {100 * scale:.2g} %"]
    if report["unexplained"] is not None:
        parts.append(f"unexplained {100 * report['unexplained']:.2g} %")
    if alarms:
        parts.append(f"{alarms} of {report['reconstructed']} images want looking at")
    lines.append(f"trust    {', '.join(parts)}")
    return lines


def finite(values: Values) -> Values:
    """Those that are."""
    return np.asarray(values[np.isfinite(values)])


def quantile(values: Values, q: float) -> float | None:
    """Of finite values, to four significant digits; None where there are none."""
    return None if not len(values) else _rounded(float(np.quantile(values, q)))


def _rounded(value: float) -> float:
    """Four significant digits: more would be noise in a report."""
    return value if value == 0 else round(value, 3 - math.floor(math.log10(abs(value))))
