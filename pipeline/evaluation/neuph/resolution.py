"""Down to which period a target of bars is resolved, and what of that comes from the darkfield frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.evaluation.neuph.contenders import (
    ABLATIONS,
    MULTIPLEXED,
    NEUPH,
    TWO_AXES,
    Contenders,
)
from pipeline.evaluation.neuph.fields import PERIODS_UM, PatternField
from pipeline.evaluation.neuph.ptychography import Image
from pipeline.evaluation.specimens.bars import bar_target, made_up, squares, transfer

# A period is resolved where so much of its bars is shown, the right way round, along both axes.
RESOLVED = 0.2
WITHOUT_DARKFIELD = "neuph_darkfield_frames_of_nothing"


def resolved(
    contenders: Contenders,
    seen: PatternField,
    empty: PatternField,
    pixel_um: float,
    others: Mapping[str, Image],
) -> dict[str, Any]:
    """Shares of each period's bars along x and y, and the finest period with all coarser ones resolved.

    Parameters
    ----------
    seen, empty
        The target of bars, and no specimen, under the same light.
    pixel_um
        Of a phase pixel.
    others
        Images of the same target, by name: rows as they are.

    Returns
    -------
    dict
        By contender ``transfer {period: [x, y]}``, ``finest_um`` (None: not one), ``made_up`` (the most that an empty
        square shows of any period's frequencies). NeuPh is asked twice: with its own frames, and with darkfield frames
        of nothing.
    """
    bright = sum(p.brightfield for p in contenders.patterns)
    dark = slice(bright, len(contenders.patterns))
    frames = seen.frames.copy()
    frames[dark] = empty.frames[dark]
    rows = {
        NEUPH: contenders(NEUPH, seen),
        WITHOUT_DARKFIELD: contenders(NEUPH, replace(seen, frames=frames)),
        **{row: contenders(row, seen) for row in ABLATIONS if row in contenders.ablations},
        TWO_AXES: contenders(TWO_AXES, seen),
        MULTIPLEXED: contenders(MULTIPLEXED, seen),
        **others,
    }
    height, width = seen.truth.shape
    target = bar_target(PERIODS_UM, (height, width), pixel_um)
    filled = [s for s in squares(PERIODS_UM) if s.period_um]
    bare = [s for s in squares(PERIODS_UM) if not s.period_um]
    figures: dict[str, Any] = {}
    for name, image in rows.items():
        shown = {
            period: [transfer(image, target, pixel_um, s) for s in filled if s.period_um == period]
            for period in PERIODS_UM
        }
        finest = None
        for period in PERIODS_UM:
            if min(shown[period]) < RESOLVED:
                break
            finest = period
        figures[name] = {
            "finest_um": finest,
            "transfer": {f"{p:g}": shown[p] for p in PERIODS_UM},
            "made_up": max(
                made_up(image, target, pixel_um, empty_one, like)
                for empty_one in bare
                for like in filled
            ),
        }
    return figures
