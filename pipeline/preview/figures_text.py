"""A look in words and bars."""

from __future__ import annotations

import numpy as np

from pipeline.preview.looking import FrameFigures, Look
from pipeline.quality import Histogram

_BARS = " ▁▂▃▄▅▆▇█"
_PIXELS_MATTER = 1e-4
"""A saturated share above this is worth a warning: less is hot pixels."""


def bars(histogram: Histogram, width: int = 32) -> str:
    """The histogram as a row of blocks; heights are logarithmic, so that a few saturated pixels show."""
    pixels = histogram.pixels
    groups = np.add.reduceat(pixels, np.arange(width) * len(pixels) // width)
    heights = np.log1p(groups) / max(float(np.log1p(groups.max())), 1.0)
    # What is there at all is seen.
    steps = np.where(groups > 0, np.maximum(np.rint(heights * 8), 1), 0).astype(int)
    return "".join(_BARS[s] for s in steps)


def figures_line(f: FrameFigures, several_foci: bool) -> str:
    """One frame in one line."""
    name = f"{f.channel} {f.focus_um:+g} µm" if several_foci else f.channel
    target = f" ({f.background / f.target:.0%} of its target)" if f.target else ""
    saturated = f"  saturated {f.saturated:.2%}" if f.saturated else ""
    return (
        f"{name:<14} {f.minimum:>5} {f.median:>7.0f} {f.maximum:>6}  |{bars(f.histogram)}|"
        f"  background {f.background:.0f}{target}  focus {f.focus:.3g}{saturated}"
    )


def look_text(look: Look) -> str:
    """All of a look, a line a frame."""
    several = len({f.focus_um for f in look.figures}) > 1
    lines = [f"{'channel':<14} {'min':>5} {'median':>7} {'max':>6}  counts"]
    lines += [figures_line(f, several) for f in look.figures]
    phase = look.phase_range()
    if phase is not None:
        low, high = phase
        residual = "" if look.residual is None else f"  residual {look.residual:.3g} (reduced chi²)"
        lines.append(f"phase          {low:.2f} to {high:.2f} rad{residual}")
    for f in look.figures:
        if f.saturated > _PIXELS_MATTER:
            lines.append(
                f"warning: {f.saturated:.1%} of '{f.channel}' is saturated: lower its exposure_ms or brightness"
            )
    lines += [f"note: {remark}" for remark in look.remarks]
    return "\n".join(lines)
