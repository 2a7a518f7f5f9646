"""Numbers, lengths, times and gaps as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime


def figure(value: float | None, form: str, unit: str = "") -> str:
    """A number with its unit; a dash where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"


def number(value: float | None, unit: str = "") -> str:
    """To four digits, with its unit; a dash where there is none."""
    return "-" if value is None else f"{value:.4g} {unit}".strip()


def many(count: int, thing: str) -> str:
    """``1 frame``, ``2,000 frames``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def clock(time_utc: float | None) -> str:
    """A point in time, seconds since the epoch, in UTC."""
    if time_utc is None or not math.isfinite(time_utc):
        return "-"
    return datetime.fromtimestamp(time_utc, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(seconds: float | None) -> str:
    """A duration in the units that fit: ``4.2 s``, ``12 min 30 s``, ``3 h 5 min``, ``2 d 4 h``."""
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


def round_length(most_um: float) -> float:
    """For a scale bar: 1, 2 or 5 times a power of ten, at most so much."""
    decade = 10.0 ** math.floor(math.log10(most_um))
    return max(n * decade for n in (0.5, 1, 2, 5) if n * decade <= most_um * (1 + 1e-9))


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Rising numbers as runs of neighbours, first and last."""
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and found[-1][1] == n - 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


def timepoints_in_words(timepoints: Sequence[tuple[int, int]], most: int = 12) -> str:
    """Ranges of timepoints, from 0 on, as people count them: ``timepoints 3, 7–9 and 12``.

    Parameters
    ----------
    timepoints
        First and last of each range; one at least.
    most
        So many ranges are named, of the rest it is said how many timepoints they are.
    """
    shown = [str(a + 1) if a == b else f"{a + 1}–{b + 1}" for a, b in timepoints[:most]]
    if len(timepoints) > most:
        first, last = timepoints[most][0] + 1, timepoints[-1][1] + 1
        left = sum(b - a + 1 for a, b in timepoints[most:])
        shown.append(f"{left:,} more from {first} to {last}")
    text = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    single = len(timepoints) == 1 and timepoints[0][0] == timepoints[0][1]
    return f"timepoint{'' if single else 's'} {text}"
