"""Charts without a script or a picture: the lines are SVG that stretches, the words are text that does not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# A page of 68 rem has no more columns of pixels to tell apart; so a chart of a million values stays small.
_COLUMNS = 480
_WIDTH, _HEIGHT = 1000.0, 100.0
# So that a dot at an end of the axis is seen whole.
_MARGIN = 0.01
# One value that is hundreds of times the others would press them flat.
_OUTLIER = 8.0


class Span(NamedTuple):
    """A part of the x axis that is shaded."""

    begin: float
    end: float


def chart(
    title: str,
    x: Values,
    y: Values,
    *,
    x_label: str,
    connected: bool = False,
    marked: NDArray[np.bool_] | None = None,
    shaded: Iterable[Span] = (),
    note: str = "",
) -> str:
    """Values over an axis, from zero on; many of them as median and spread of each column.

    Parameters
    ----------
    connected
        Joined by a line, where each value holds until the next.
    marked
        Which of them stand out.

    Returns
    -------
    HTML; nothing where there are fewer than two values.
    """
    known = np.isfinite(x) & np.isfinite(y)
    marked = marked[known] if marked is not None else np.zeros(int(known.sum()), bool)
    order = np.argsort(x[known], kind="stable")
    x, y, marked = x[known][order], y[known][order], marked[order]
    if len(x) < 2:
        return ""
    low, high = float(x[0]), float(x[-1])
    if high <= low:
        high = low + 1.0
    margin = _MARGIN * (high - low)
    low, high = low - margin, high + margin
    top = float(y.max())
    usual = float(np.quantile(y, 0.99))
    above = 0
    if usual > 0 and top > _OUTLIER * usual:
        top = 1.5 * usual
        above = int((y > top).sum())
    y_ticks = ticks(0.0, top if top > 0 else 1.0)
    top = max(y_ticks[-1], top) or 1.0
    px = (x - low) / (high - low) * _WIDTH
    py = (1 - np.clip(y, 0, top) / top) * _HEIGHT
    parts = [_rectangle(span, low, high) for span in shaded]
    parts += [
        f'<path class="grid" d="M0 {(1 - t / top) * _HEIGHT:.1f}h{_WIDTH:.0f}"/>' for t in y_ticks
    ]
    parts += _lines(px, py, connected)
    if marked.any():
        some = np.flatnonzero(marked)
        some = some[:: -(-len(some) // _COLUMNS)]
        parts.append(_dots(px[some], py[some], "dots alarm"))
    if above:
        note += f" {above} of {len(y)} values lie above the chart."
    return _framed(title, "".join(parts), (low, high), (top, y_ticks), x_label, note)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` on, the last at or just beyond `high`."""
    step = _round_step((high - low) / (most - 1) or 1.0)
    first = math.floor(low / step)
    count = math.ceil(high / step - 1e-9) - first
    return [round((first + i) * step, 12) for i in range(count + 1)]


def _round_step(least: float) -> float:
    decade = 10.0 ** math.floor(math.log10(least))
    return next(n * decade for n in (1, 2, 5, 10) if n * decade >= least * (1 - 1e-9))


def _lines(px: Values, py: Values, connected: bool) -> list[str]:
    if len(px) <= 2 * _COLUMNS:
        if not connected:
            return [_dots(px, py, "dots")]
        steps = "".join(f"H{a:.1f}V{b:.1f}" for a, b in zip(px[1:], py[1:], strict=True))
        return [f'<path class="line" d="M{px[0]:.1f} {py[0]:.1f}{steps}"/>']
    column = np.minimum((px / _WIDTH * _COLUMNS).astype(np.intp), _COLUMNS - 1)
    begins = np.flatnonzero(np.diff(column, prepend=-1))
    least, most = np.minimum.reduceat(py, begins), np.maximum.reduceat(py, begins)
    middle = [float(np.median(part)) for part in np.split(py, begins[1:])]
    at = (column[begins] + 0.5) / _COLUMNS * _WIDTH
    spread = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in zip(at, least, most, strict=True))
    line = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(at, middle, strict=True))
    return [f'<path class="spread" d="{spread}"/>', f'<path class="line" d="M{line}"/>']


def _dots(px: Values, py: Values, kind: str) -> str:
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(px, py, strict=True))
    return f'<path class="{kind}" d="{dots}"/>'


def _rectangle(span: Span, low: float, high: float) -> str:
    begin, end = (min(max((v - low) / (high - low), 0.0), 1.0) * _WIDTH for v in span)
    if end <= begin:
        return ""
    width = max(end - begin, 2.0)
    return f'<rect class="held" x="{begin:.1f}" y="0" width="{width:.1f}" height="{_HEIGHT:.0f}"/>'


def _framed(
    title: str,
    drawing: str,
    x_range: tuple[float, float],
    y_axis: tuple[float, Sequence[float]],
    x_label: str,
    note: str,
) -> str:
    (low, high), (top, y_ticks) = x_range, y_axis
    y_labels = "".join(f'<span style="bottom:{100 * t / top:.1f}%">{t:,g}</span>' for t in y_ticks)
    inside = [round(t, 12) + 0.0 for t in ticks(low, high, 7) if low <= t <= high]
    x_labels = "".join(_x_label(t, (t - low) / (high - low)) for t in inside)
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> {escape(note.strip())}</figcaption>'
        f'<div class="plot"><div class="y">{y_labels}</div>'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{drawing}</svg>'
        f'<div class="x">{x_labels}</div><div class="label">{escape(x_label)}</div></div></figure>'
    )


def _x_label(value: float, share: float) -> str:
    # Those at the ends stay within the frame.
    edge = ' class="first"' if share < 0.02 else ' class="last"' if share > 0.98 else ""
    return f'<span{edge} style="left:{100 * share:.1f}%">{value:,g}</span>'
