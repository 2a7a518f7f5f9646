"""What happened to a run: its sessions, its pauses and restarts, and what it warned of."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.lifecycle.report.html import table
from pipeline.lifecycle.sessions import Session
from pipeline.wording import clock, lasting, many, number

# A log of weeks may say things ten thousand times.
_MOST_EVENTS = 60
_MOST_WARNINGS = 40
_MOST_ACTIONS = 60
_EVENTS = {
    "state": "{state}",
    "order": "ordered: {command}",
    "paused": "paused, light off",
    "resumed": "went on after {held_s} s",
    "stage died": "the {stage} stage died ({how})",
    "light off after the acquire stage died": "the light was turned off after the acquire stage died",
    "the session before was killed": "the session before was killed",
    "the light keeper died: another is started": "the light keeper died and was replaced",
}
_SAID_ELSEWHERE = frozenset({"the light keeper stands by"})


@dataclass
class Repeated:
    """A warning or an error; the same with other figures counts as the same."""

    level: str
    process: str
    text: str
    first_utc: float
    last_utc: float
    count: int = 1


@dataclass
class History:
    """What the log tells.

    Parameters
    ----------
    events
        When (seconds since the epoch) and what.
    pauses
        Begin and end of each; one that has no end as yet lasts until the log's last line.
    """

    events: list[tuple[float, str]] = field(default_factory=list)
    warnings: list[Repeated] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)


def read_history(log: Path) -> History:
    """Take a run's log in, line by line; what is torn in it is left out."""
    history = History()
    seen: dict[tuple[str, str, str], Repeated] = {}
    paused: float | None = None
    last = 0.0
    for line in _lines(log):
        try:
            last = when = datetime.fromisoformat(line["time"]).timestamp()
            level, process = str(line["level"]), str(line["process"])
            message = str(line["message"])
        except (KeyError, TypeError, ValueError):
            continue
        if message == "paused":
            paused = when
        elif message == "resumed" and paused is not None:
            history.pauses.append((paused, when))
            paused = None
        if message in _EVENTS:
            history.events.append((when, _EVENTS[message].format_map(_Known(line))))
        elif level != "info" and message not in _SAID_ELSEWHERE:
            _count(seen, level, process, _with_details(message, line), when)
    if paused is not None:
        history.pauses.append((paused, last))
    history.warnings = list(seen.values())
    return history


def held_times(sessions: Sequence[Session], history: History) -> list[tuple[float, float]]:
    """When the run did not go on: pauses, and from the end of a session to the next."""
    between = [
        (before.ended_utc, after.began_utc)
        for before, after in pairwise(sessions)
        if before.ended_utc is not None
    ]
    return sorted([*history.pauses, *between])


def sessions_html(sessions: Sequence[Session], source: str | None) -> str:
    """A line for each start of the run."""
    if not sessions:
        made = f"Reconstructed from the recording <code>{escape(source)}</code>." if source else ""
        return (
            f"<p>{made or 'No session has begun: the run was cut short while it was created.'}</p>"
        )
    rows = []
    for i, s in enumerate(sessions, 1):
        ended = s.state if s.error is None else f'<span class="bad">{escape(s.error)}</span>'
        restarts = ", ".join(f"{escape(name)} {count}×" for name, count in s.restarts.items())
        length = None if s.ended_utc is None else s.ended_utc - s.began_utc
        rows.append(
            (
                str(i),
                f'<span class="tag">{clock(s.began_utc)}</span>',
                lasting(length) if length is not None else "-",
                ended if s.error is None else f"{escape(s.state)}: {ended}",
                "-" if s.acquired is None else f"{s.acquired:,}",
                "-" if s.light_on_s is None else number(s.light_on_s, "s"),
                restarts or "none",
            )
        )
    heads = ("", "began", "lasted", "ended", "frames delivered", "light on", "stages restarted")
    return table(heads, rows, wrap=3)


def events_html(history: History) -> str:
    """Starts, pauses, orders and deaths in their order."""
    if not history.events:
        return ""
    rows = [(f'<span class="tag">{clock(t)}</span>', escape(what)) for t, what in history.events]
    left = len(rows) - _MOST_EVENTS
    if left > 0:
        half = _MOST_EVENTS // 2
        rows[half:-half] = [("…", f"{many(left, 'more event')}; log.jsonl has all")]
    return table(("when", "what"), rows)


def warnings_html(history: History) -> str:
    """Warnings and errors, the same ones counted together, errors first."""
    if not history.warnings:
        return ""
    found = sorted(history.warnings, key=lambda w: (w.level == "warning", w.first_utc))
    rows = []
    for w in found[:_MOST_WARNINGS]:
        level = "warning" if w.level == "warning" else f'<span class="bad">{escape(w.level)}</span>'
        last = "" if w.count == 1 else f", last {clock(w.last_utc)}"
        when = f"{clock(w.first_utc)}{last}"
        rows.append((level, escape(w.process), f"{w.count:,}", escape(w.text), when))
    heads = ("", "process", "times", "what was said", "when")
    left = len(found) - _MOST_WARNINGS
    rest = (
        f'<p class="note">And {many(left, "more kind")}; log.jsonl has all.</p>' if left > 0 else ""
    )
    return table(heads, rows, wrap=3) + rest


def alarms_html(care: Any) -> str:
    """Alarms that were raised while the run went on, and what it paused itself for; of `report.json`'s ``care``."""
    if not isinstance(care, dict):
        return ""
    alarms, suspensions = care.get("alarms") or [], care.get("suspensions") or []
    paused = f"<h3>Paused by itself</h3>{_records_html(suspensions)}" if suspensions else ""
    return (_records_html(alarms) if alarms else "") + paused


def _records_html(records: Sequence[Any]) -> str:
    """Mappings as a table, whatever their keys are; the last ones where they are many."""
    shown = [r for r in records if isinstance(r, dict)][-_MOST_ACTIONS:]
    heads = list(dict.fromkeys(key for record in shown for key in record))
    if not heads:
        return ""
    rows = [[_cell(head, record.get(head)) for head in heads] for record in shown]
    left = len(records) - len(shown)
    note = f'<p class="note">The last {len(shown)} of {len(records):,}.</p>' if left > 0 else ""
    return note + table([head.removesuffix("_utc").replace("_", " ") for head in heads], rows)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("utc") and isinstance(value, int | float):
        return f'<span class="tag">{clock(float(value))}</span>'
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return escape(", ".join(value))
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _count(
    seen: dict[tuple[str, str, str], Repeated], level: str, process: str, text: str, when: float
) -> None:
    key = (level, process, re.sub(r"\d+(\.\d+)?", "#", text))
    if key in seen:
        seen[key].count += 1
        seen[key].last_utc = when
    else:
        seen[key] = Repeated(level, process, text, when, when)


def _with_details(message: str, line: dict[str, Any]) -> str:
    known = ("time", "level", "process", "message", "traceback")
    details = [f"{k} {v}" for k, v in line.items() if k not in known]
    return message + (f" ({', '.join(details)})" if details else "")


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _lines(path: Path) -> Any:
    """The objects of a file of JSON lines; nothing where there is none."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError:
        return
    with file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # torn by a power cut
            if isinstance(line, dict):
                yield line
