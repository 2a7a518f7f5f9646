"""The light that the specimen had, in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from pipeline.lifecycle.lost_light import light_dose_s
from pipeline.lifecycle.report.html import facts
from pipeline.lifecycle.sessions import Session
from pipeline.store.reader import RunReader

# The table of a page, and a line of text, show so many positions; `report.json` has all.
_MOST_ROWS = 20


def light_report(reader: RunReader, sessions: Sequence[Session]) -> dict[str, Any]:
    """`light_dose_s` by position, `light_on_s` (None where a session's counters were lost) and the limit."""
    names = [position.name for position in reader.plan.positions]
    count = Counter(names)
    # Two places of one name are two places.
    keys = [n if count[n] == 1 else f"{n} ({i})" for i, n in enumerate(names)]
    known = [s.light_on_s for s in sessions if s.light_on_s is not None]
    return {
        "light_dose_s": {
            key: round(dose, 6) for key, dose in zip(keys, light_dose_s(reader), strict=True)
        },
        "light_on_s": round(sum(known), 3) if known and len(known) == len(sessions) else None,
        "light_dose_limit_s": reader.experiment.safety.dose_limit_s,
    }


def light_line(report: dict[str, Any]) -> str:
    """For the terminal."""
    doses = list(report["light_dose_s"].values())
    most, least = max(doses), min(doses)
    dose = f"{most:.4g} s" if most - least <= 1e-6 * most else f"{least:.4g} to {most:.4g} s"
    each = "" if len(doses) == 1 else " a position"
    limit = report["light_dose_limit_s"]
    within = "" if limit is None else f" of {limit:.4g} s allowed"
    return f"{dose} of full brightness{each}{within}, lit for {_lit(report)}"


def light_html(report: dict[str, Any]) -> str:
    """For the page."""
    limit = report["light_dose_limit_s"]
    rows = [
        (f"dose at {name}, seconds of full brightness", f"{dose:.4g}")
        for name, dose in list(report["light_dose_s"].items())[:_MOST_ROWS]
    ]
    if len(report["light_dose_s"]) > _MOST_ROWS:
        rows.append(("more positions", "see report.json"))
    rows.append(("allowed at each position", "no limit" if limit is None else f"{limit:.4g}"))
    rows.append(("light on", _lit(report)))
    return facts((k, escape(v)) for k, v in rows)


def _lit(report: dict[str, Any]) -> str:
    seconds = report["light_on_s"]
    return "a time not known" if seconds is None else f"{seconds:.4g} s"
