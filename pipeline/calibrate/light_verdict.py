"""What the light's lag means, in words: in step, late, early, mixed, rolling shutter, slipping, or no answer at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.calibrate.light_lag import (
    Floats,
    Shares,
    Slips,
    band_means,
    band_places,
    caught_light,
    find_slips,
)

_BANDS = 16
# A share of another frame's light below this is what switching takes, or noise.
_LEAST_SHARE = 0.01
_SIGMAS = 5.0
# Frames at a burst's ends, whose neighbours belong to no frame of it.
_FIRST, _LAST = 3, 2
# Lit and dark differ by less than this share of the lit level: the light does not answer.
_NO_ANSWER = 0.02
_NO_ANSWER_COUNTS = 1.0
# A frame that differs by more from one lag's prediction for the whole burst shows that the lag changed.
_CHANGED = 0.15
# More changes or strays than this share of the frames follow no rule.
_RANDOM = 0.1
NO_SLIPS = Slips((), (), ())
# The ways in which a shutter runs over rows 0 … 1; dual-port sensors run from the middle or to it.
_SHUTTERS: dict[str, Callable[[Floats], Floats]] = {
    "from the first row to the last": lambda u: u,
    "from the last row to the first": lambda u: 1 - u,
    "from the middle to the edges": lambda u: np.abs(2 * u - 1),
    "from the edges to the middle": lambda u: 1 - np.abs(2 * u - 1),
}


@dataclass(frozen=True)
class LightTiming:
    """How the light follows the camera.

    Parameters
    ----------
    verdict
        In words: ``"in step"``, or the faults.
    late_frames
        By whole frames; negative: early.
    mixed_share
        Of each frame's light that is another frame's, alike in all rows: of the frame before the one that it mostly
        shows; negative: of the frame after.
    rolling_share
        Of the exposure by which the last rows' lags behind the first rows'.
    rolling_way
        Which way the shutter runs; empty if it does not.
    rows_affected
        Share of the rows that catch more than 1 % of another frame's light by the rolling shutter.
    sigma
        Standard uncertainty of a share.
    slips
        Changes within the burst.
    first_frame_share
        Light that the burst's first frame, which was to be lit, did see: 1 is right.
    dark_counts, lit_counts
        Mean levels.
    """

    verdict: str
    late_frames: int = 0
    mixed_share: float = 0.0
    rolling_share: float = 0.0
    rolling_way: str = ""
    rows_affected: float = 0.0
    sigma: float = 0.0
    slips: Slips = NO_SLIPS
    first_frame_share: float = 1.0
    dark_counts: float = 0.0
    lit_counts: float = 0.0


def judge(
    frames: NDArray[np.unsignedinteger],
    asked: NDArray[np.bool_],
    *,
    there: NDArray[np.bool_],
    starts: Sequence[int] = (0,),
    offset_counts: float = 0.0,
) -> LightTiming:
    """How the light followed the camera.

    Parameters
    ----------
    frames
        ``[N, Y, X]`` raw counts in the order of exposure.
    asked
        ``[N]`` whether each was to be lit, by `light_lag.code`.
    there
        ``[N]`` False for frames that the camera lost.
    starts
        The first frame of each burst.
    offset_counts
        What the camera counts in the dark.
    """
    rows, columns = (band_means(frames, _BANDS, axis) for axis in (1, 2))
    places = [band_places(frames.shape[axis], _BANDS) for axis in (1, 2)]
    level = rows.mean(1)
    dark, lit = _two_levels(level[there])
    if lit - dark < max(_NO_ANSWER * (lit - offset_counts), _NO_ANSWER_COUNTS):
        # Half of the camera's noise floor above its offset is light.
        is_lit = level[there].mean() > offset_counts * 1.05 + 10
        return LightTiming(
            f"light never changes: it is always {'on' if is_lit else 'off'}",
            dark_counts=dark,
            lit_counts=lit,
        )
    use = there & _away_from_ends(len(asked), starts)
    share = (level - dark) / (lit - dark)
    slips = NO_SLIPS
    fitted = caught_light(rows, places[0], asked, use)
    if np.abs(fitted.misfit).max() > _CHANGED:
        slips = find_slips(share, asked, use)
        if len(slips.at) + len(slips.strays) > _RANDOM * len(asked) or not (
            slips.at or slips.strays
        ):
            return LightTiming(
                f"random: {len(slips.strays)} of {len(asked)} frames show no light that was asked for nearby",
                slips=slips,
                dark_counts=dark,
                lit_counts=lit,
            )
        use &= _longest_run(len(asked), slips)
        fitted = caught_light(rows, places[0], asked, use)
    return _worded(
        fitted,
        caught_light(columns, places[1], asked, use),
        slips,
        float(share[starts[0]]),
        dark,
        lit,
    )


def _two_levels(level: Floats) -> tuple[float, float]:
    """Dark and lit: in each quarter of the frames that is the darkest and the brightest all neighbours agree."""
    ordered = np.sort(level)
    quarter = max(1, len(ordered) // 8)
    return float(ordered[:quarter].mean()), float(ordered[-quarter:].mean())


def _away_from_ends(frames: int, starts: Sequence[int]) -> NDArray[np.bool_]:
    use = np.ones(frames, bool)
    for start in (*starts, frames):
        use[max(start - _LAST, 0) : start + _FIRST] = False
    return use


def _longest_run(frames: int, slips: Slips) -> NDArray[np.bool_]:
    """The frames of the longest time without a slip, those at its ends and stray ones left out."""
    edges = np.array([0, *slips.at, frames])
    longest = int(np.diff(edges).argmax())
    use = np.zeros(frames, bool)
    use[edges[longest] + _FIRST : max(edges[longest + 1] - _LAST, 0)] = True
    use[list(slips.strays)] = False
    return use


def _worded(
    rows: Shares, columns: Shares, slips: Slips, first: float, dark: float, lit: float
) -> LightTiming:
    way, slope, start, explained = "", 0.0, float(rows.lag.mean()), 0.0
    sigma = float(np.sqrt(np.mean(np.square(rows.sigma)) / len(rows.sigma)))
    for name, found in (("row", rows), ("column", columns)):
        uneven = float(np.square(found.lag - found.lag.mean()).sum())
        for words, shape in _SHUTTERS.items():
            design = np.stack([np.ones_like(found.place), -shape(found.place)], axis=1)
            (zero, fall), *_ = np.linalg.lstsq(design, found.lag, rcond=None)
            rest = float(np.square(found.lag - design @ (zero, fall)).sum())
            spread = float(np.sqrt(np.linalg.inv(design.T @ design)[1, 1]))
            least = max(_LEAST_SHARE, _SIGMAS * spread * float(found.sigma.max()))
            if fall > least and rest < uneven / 2 and uneven - rest > explained:
                explained = uneven - rest
                way, slope, start = words.replace("row", name), float(fall), float(zero)
    late = int(np.floor(start + 0.5)) if abs(start) < 0.5 else int(np.floor(start))
    limit = max(_LEAST_SHARE, _SIGMAS * sigma)
    if start - late > 1 - limit:
        late += 1
    mixed = start - late
    if abs(mixed) < limit:
        mixed = 0.0
    faults = []
    if late:
        count = {1: "one frame", 2: "two frames", 3: "three frames"}[abs(late)]
        faults.append(f"{count} {'late' if late > 0 else 'early'}")
    if mixed:
        faults.append(
            f"mixed: {abs(mixed):.0%} of each frame's light is that of the frame {'before' if mixed > 0 else 'after'}"
        )
    if way:
        faults.append(f"rolling-shutter overlap: {slope:.0%} of the exposure, {way}")
    if slips.at:
        listed = ", ".join(str(n - 1) for n in slips.at[:5])
        faults.append(
            f"slips: after frame {listed}{' …' if len(slips.at) > 5 else ''} the light is {_slipped(slips.by)}"
        )
    elif slips.strays:
        faults.append(f"intermittent: {len(slips.strays)} frames show another light")
    affected = 0.0
    if way:
        affected = float(np.clip(1 - _LEAST_SHARE / slope, 0, 1))
    return LightTiming(
        "; ".join(faults) or "in step",
        late,
        mixed,
        slope,
        way,
        affected,
        sigma,
        slips,
        first,
        dark,
        lit,
    )


def _slipped(by: Sequence[int]) -> str:
    if all(step == 1 for step in by):
        return "one frame later each time"
    if all(step == -1 for step in by):
        return "one frame earlier each time"
    return "shifted by " + ", ".join(f"{step:+d}" for step in by[:5]) + " frames"
