"""Specimens that no network has seen, in eight families, each with a construction of its own.

Implicit surfaces, signed distances and level sets of random fields: another construction than that
of `pipeline.samples`, of which nothing is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pipeline.evaluation.specimens.amoeboid import amoeboid
from pipeline.evaluation.specimens.blood import blood
from pipeline.evaluation.specimens.canvas import Canvas, Floats
from pipeline.evaluation.specimens.epithelium import epithelium
from pipeline.evaluation.specimens.fibroblasts import fibroblasts
from pipeline.evaluation.specimens.keratocytes import keratocytes
from pipeline.evaluation.specimens.microbes import microbes
from pipeline.evaluation.specimens.mitotic import mitotic
from pipeline.evaluation.specimens.neurons import neurons

FAMILIES: Mapping[str, Callable[[np.random.Generator, Canvas], Floats]] = {
    "amoeboid": amoeboid,
    "epithelium": epithelium,
    "fibroblasts": fibroblasts,
    "blood": blood,
    "neurons": neurons,
    "mitotic": mitotic,
    "microbes": microbes,
    "keratocytes": keratocytes,
}

# What is thinner than this is background, in radians.
_THIN_RAD = 1e-3
# Streams of random numbers that nothing else draws from.
_STREAM = 8_140


def draw(family: str, seed: int, shape: tuple[int, int], sample_um: float) -> Floats:
    """One specimen.

    Parameters
    ----------
    family
        A name from `FAMILIES`.
    seed
        Each gives another specimen, always the same one; at another sampling the same specimen too.
    shape, sample_um
        (y, x) samples, and their distance: the field's extent, with which the specimen changes.

    Returns
    -------
    ``[Y, X]`` float32 phase in radians at 550 nm, not negative, exactly zero in the background.
    """
    extent = (shape[0] * sample_um, shape[1] * sample_um)
    rng = np.random.default_rng([_STREAM, list(FAMILIES).index(family), seed])
    phase = FAMILIES[family](rng, Canvas(shape, extent))
    phase -= np.float32(_THIN_RAD)
    return np.maximum(phase, 0, out=phase)


__all__ = ["FAMILIES", "draw"]
