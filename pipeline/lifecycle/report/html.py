"""Words of the page: tables, sections, numbers, times, and its one style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources

# Printed with the page, which asks nothing of any network.
STYLE = (resources.files(__package__) / "style.css").read_text(encoding="utf-8")


# A number and its unit stay on one line, also on a phone; a sentence need not.
_SHORT = 16


def figure(value: float | None, form: str, unit: str = "") -> str:
    """A number with its unit; a dash where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"


def number(value: float | None, unit: str = "") -> str:
    """To four digits, with its unit; a dash where there is none."""
    return "-" if value is None else f"{value:.4g} {unit}".strip()


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names (text) and values (HTML)."""
    cells = "".join(
        f'<tr><th>{escape(k)}</th><td class="n{" tag" if len(v) < _SHORT else ""}">{v}</td></tr>'
        for k, v in rows
    )
    return f'<div class="scroll"><table>{cells}</table></div>' if cells else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: int = -1) -> str:
    """A table with heads (text) over rows of cells (HTML); the column `wrap` may break anywhere."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    last = wrap % len(heads)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=wrap' if i == last else ''}>{c}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead>{body}</table></div>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A section that can be linked to; nothing where it would be empty."""
    body = "\n".join(part for part in parts if part)
    head = f'<h2 id="{anchor}"><a href="#{anchor}">{escape(title)}</a></h2>'
    return f"{head}\n{body}" if body else ""


def folded(title: str, body: str) -> str:
    """What is there for those who want it."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def clock(time_utc: float | None) -> str:
    """A point in time as people write it, in UTC."""
    if time_utc is None or not math.isfinite(time_utc):
        return "-"
    return datetime.fromtimestamp(time_utc, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(seconds: float | None) -> str:
    """A duration in the unit that fits: ``4.2 s``, ``12 min 30 s``, ``3 h 5 min``, ``2 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for big, small, in_s in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= in_s:
            rest = whole % in_s // {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // in_s} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def many(count: int, thing: str) -> str:
    """``1 frame``, ``2,000 frames``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
