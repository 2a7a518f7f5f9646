"""Figures and tables as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def number(value: float | None, digits: int) -> str:
    """A dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, aligned for a terminal."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    # Words to the left, figures to the right.
    align: list[Callable[[str, int], str]] = [str.ljust, *[str.rjust] * (len(head) - 1)]

    def line(cells: Sequence[str]) -> str:
        parts = [put(cell, w) for put, cell, w in zip(align, cells, widths, strict=True)]
        return f"| {' | '.join(parts)} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])])
    return "\n".join([line(head), f"|{rule}|", *(line(row) for row in rows)])
