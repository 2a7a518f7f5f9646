"""What steered a run, in its reports: actions, probes and the light that these cost."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from pipeline.lifecycle.action_log import ActionLog
from pipeline.lifecycle.report.html import facts, table
from pipeline.store.run_folder import RunFolder
from pipeline.store.steering_file import SteeringFile

# `actions.jsonl` has all of them.
_MOST_ROWS = 40
_OUTCOMES = ("ordered", "dropped", "dry run", "done")


def control_report(folder: RunFolder) -> dict[str, Any]:
    """Counts of decisions by who asked and what became of it, settings, and `extra` frames and seconds of light.

    Empty for a run that nobody steered and that took no probes.
    """
    actions, steering = ActionLog(folder.path), SteeringFile(folder.path)
    lines, probes = actions.lines(), steering.probes()
    course = steering.course(folder.experiment().plan())
    if not lines and not probes and not course.settings:
        return {}
    asked: dict[str, Counter[str]] = {}
    for line in lines:
        if line.get("proposed"):
            asked.setdefault(line["by"], Counter())[line["outcome"]] += 1
    last = course.last
    return {
        "decisions": {by: {o: counts[o] for o in _OUTCOMES} for by, counts in asked.items()},
        "applied": sum(line["outcome"] == "applied" for line in lines),
        "refused": sum(line["outcome"] == "refused" for line in lines),
        "failures": [line["why"] for line in lines if line["outcome"] == "failed"],
        "last": {
            "focus_um": last.focus_um,
            "stage_um": list(last.stage_um),
            "interval_s": last.interval_s,
        },
        "extra": {
            "probes": len(probes),
            "frames": sum(probe["frames"] for probe in probes),
            "light_s": round(sum(probe["light_s"] for probe in probes), 6),
        },
    }


def control_line(report: dict[str, Any]) -> str:
    """For the terminal; empty where there is nothing to say."""
    control = report.get("control")
    if not control:
        return ""
    extra = control["extra"]
    parts = [f"{control['applied']} actions applied"]
    if control["refused"]:
        parts.append(f"{control['refused']} refused")
    if extra["frames"]:
        parts.append(f"{extra['frames']} extra frames, {extra['light_s']:.3g} s of light")
    if control["failures"]:
        parts.append(f"{len(control['failures'])} failures of controllers")
    return "  ".join(parts)


def control_html(folder: RunFolder, report: dict[str, Any]) -> str:
    """For the page: totals, then each action that was applied."""
    control = report.get("control")
    if not control:
        return ""
    rows = [
        (
            escape(by),
            escape(", ".join(f"{count} {what}" for what, count in counts.items() if count)),
        )
        for by, counts in control["decisions"].items()
    ]
    extra = control["extra"]
    light = f"{extra['frames']}, {extra['light_s']:.4g} s of full brightness"
    rows.append(("frames beside the plan", light))
    rows += [("failed", escape(why)) for why in control["failures"]]
    settings = SteeringFile(folder.path).course(folder.experiment().plan()).settings
    steps = [
        [
            str(s.timepoint + 1),
            f"{s.focus_um:+.3f}",
            f"{s.stage_um[0]:+.1f}, {s.stage_um[1]:+.1f}",
            f"{s.interval_s:g}",
        ]
        for s in settings[-_MOST_ROWS:]
    ]
    heads = ["from timepoint", "focus / µm", "stage / µm", "interval / s"]
    return facts(rows) + (table(heads, steps) if steps else "")
