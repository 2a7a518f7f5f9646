"""The report that a person reads: one HTML file with its pictures inside, no script, no network."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

from pipeline.errors import StoreError
from pipeline.experiment import Experiment
from pipeline.lifecycle.report.about import (
    citing_html,
    experiment_html,
    made_with_html,
    trust_words,
)
from pipeline.lifecycle.report.calibration import calibration_html
from pipeline.lifecycle.report.control import control_html
from pipeline.lifecycle.report.course import course_html
from pipeline.lifecycle.report.gaps import gaps_html
from pipeline.lifecycle.report.history import (
    alarms_html,
    events_html,
    held_times,
    read_history,
    sessions_html,
    warnings_html,
)
from pipeline.lifecycle.report.html import STYLE, facts, folded, section
from pipeline.lifecycle.report.light import light_html
from pipeline.lifecycle.report.pictures import pictures_html
from pipeline.lifecycle.report.summary import needs_attention, summary
from pipeline.lifecycle.report.trust import trust_rows
from pipeline.lifecycle.sessions import read_sessions
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder
from pipeline.wording import clock, figure, lasting, number


def report_page(
    folder: RunFolder, experiment: Experiment, reader: RunReader, report: dict[str, Any]
) -> str:
    """The whole page."""
    sessions, history = read_sessions(folder), read_history(folder.log)
    reconstructs = report["method"] != "none"
    sections = {
        "pictures": ("Pictures", _or_why_not(lambda: pictures_html(reader))),
        "frames": ("Frames", _frames_table(report)),
        "gaps": ("Gaps", gaps_html(reader, reconstructs=reconstructs)),
        "course": ("Over time", course_html(reader, held_times(sessions, history))),
        "phase": ("Phase", _reconstruction_table(report) if report["reconstructed"] else ""),
        "trust": ("Trust", _trust(report) + folded("What this means", trust_words(report))),
        "alarms": ("Alarms", alarms_html(report.get("care"))),
        "steering": ("Steering", control_html(folder, report)),
        "light": ("Light", light_html(report)),
        "calibration": ("Calibration", calibration_html(report["calibration"])),
        "sessions": (
            "Sessions",
            sessions_html(sessions, report["source"])
            + folded("Starts, pauses, orders and restarts", events_html(history)),
        ),
        "warnings": ("Warnings and errors", warnings_html(history)),
        "made-with": ("Made with", made_with_html(report)),
        "experiment": ("Experiment", experiment_html(experiment)),
        "citing": (
            "Using it elsewhere",
            _or_why_not(lambda: citing_html(experiment, reader, report)),
        ),
    }
    there = {anchor: part for anchor, part in sections.items() if part[1]}
    links = "".join(f'<a href="#{a}">{escape(title)}</a>' for a, (title, _) in there.items())
    attention = needs_attention(report)
    body = "\n".join(
        (
            f"<h1>{escape(experiment.name)}</h1>",
            f'<p class="note">{_tag(report["state"], bad=attention)} · method {escape(report["method"])} · '
            f"begun {clock(report['created_utc'])} · <code>{escape(str(folder.path.resolve()))}</code></p>",
            f'<p class="lead{" bad" if attention else ""}" id="summary">{escape(summary(reader, report))}</p>',
            f"<nav>{links}</nav>",
            *(section(anchor, *part) for anchor, part in there.items()),
            f'<p class="note">Written {clock(time.time())} from what is on the disk; '
            f"<code>livephase report {escape(str(folder.path))}</code> writes it again.</p>",
        )
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(experiment.name)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def _or_why_not(part: Callable[[], str]) -> str:
    """A part that needs the images; they may have been moved away since, the ledgers are enough for the rest."""
    try:
        return part()
    except StoreError as error:
        return f'<p class="note">Left out: {escape(error.cause)}.</p>'


def _tag(state: str, *, bad: bool) -> str:
    return f'<b class="{"bad" if bad else ""}">{escape(state)}</b>'


def _frames_table(report: dict[str, Any]) -> str:
    missing = report["missing"]
    rows = [(k, f"{report[k]:,}") for k in ("planned", "acquired", "written")]
    reasons = ", ".join(f"{escape(k)} {v:,}" for k, v in report["missing_by_reason"].items() if v)
    bad = f'<span class="bad">{missing:,}</span> ({reasons})' if missing else "0"
    rows.append(("missing", bad))
    if report["pending"]:
        rows.append(("still to come", f"{report['pending']:,}"))
    if report["reacquired"]:
        rows.append(("taken again after an interruption", f"{report['reacquired']:,}"))
    if report["fps"]:
        rows.append(("frames a second", f"{report['fps']:.4g}"))
    return facts(rows)


def _reconstruction_table(report: dict[str, Any]) -> str:
    latency, seconds = report["latency_ms"], report["stages"]["reconstruct_s"]
    return facts(
        [
            ("phase images", f"{report['reconstructed']:,}"),
            ("first result after the start", lasting(report["first_result_s"])),
            ("computing, median", number(seconds["p50"], "s")),
            ("last frame to phase, median", number(latency["p50"], "ms")),
            ("last frame to phase, 99 %", number(latency["p99"], "ms")),
        ]
    )


def _trust(report: dict[str, Any]) -> str:
    rows = trust_rows(report)
    quality = report.get("quality")
    if quality:
        rows += [
            ("SSIM against the simulator's truth", figure(quality["ssim"], ".4f")),
            ("PSNR", figure(quality["psnr_db"], ".2f", " dB")),
            ("RMSE", figure(quality["rmse_rad"], ".4f", " rad")),
            ("phase images compared", str(quality["images"])),
        ]
    return facts(rows)
