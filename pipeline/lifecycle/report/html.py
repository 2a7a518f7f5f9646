"""What the page is built of: tables, sections, and its one style sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

# Printed with the page, which asks nothing of any network.
STYLE = (resources.files(__package__) / "style.css").read_text(encoding="utf-8")


# A number and its unit stay on one line, also on a phone; a sentence need not.
_SHORT = 16


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
