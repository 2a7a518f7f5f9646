"""The evaluation set: which specimens, how they are drawn, and how they are seen.

How hard it is was settled before any network was looked at. Sizes, phases and densities of the
families are about what quantitative phase microscopes show of such cells (a red cell of 7-8 µm and
1-2 rad, a round dividing cell of 3-4 rad, a lamella of 0.3-0.4 rad, granules of a few tenths of a
radian). Within these ranges the detail inside cells, the coverage, and which family enters how often
were then chosen by one figure, the SSIM of the Nyquist oracle (the truth, low-passed at the
camera's Nyquist frequency): it tells how much there is beyond the pixels, and was to lie at 0.92-0.95
on the field and 0.87-0.91 on the foreground. On 512² camera pixels at seed 0 its means are 0.921
and 0.887. Blood and yeast, most of which is finer than pixels of 2.6 µm, are far below both, and
enter once each, the other families twice.

The specimens are transparent, as the paper's. One defocused frame doesn't tell a little absorption from
phase: 1 % of the amplitude is as much contrast as 0.6 rad of a structure of 20 µm at z = 4 µm. What that costs is
a table of its own (`outside`).

Sampling: light through NA 0.4 with S up to 0.4 carries periods of 1 µm and longer of the field
behind a specimen; samples λ/4NA apart or closer (0.325 µm) hold 0.65 µm. The specimen is what its
samples interpolate to; imaging it from twice as many changes a frame by less than 6e-4 of its contrast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.forward import Conditions, image, margin_px
from pipeline.evaluation.specimens import FAMILIES, draw
from pipeline.experiment import Optics

Floats = NDArray[np.float32]

# Raised whenever a specimen, its imaging or the list changes: figures of two versions don't compare.
VERSION = 2

# Taken in this order, so that the first few of a smaller set are different families.
_MEMBERS: tuple[tuple[str, int], ...] = (
    ("amoeboid", 0),
    ("epithelium", 0),
    ("fibroblasts", 0),
    ("neurons", 0),
    ("mitotic", 0),
    ("keratocytes", 0),
    ("blood", 0),
    ("microbes", 0),
    ("amoeboid", 1),
    ("epithelium", 1),
    ("fibroblasts", 1),
    ("neurons", 1),
    ("mitotic", 1),
    ("keratocytes", 1),
)
# Seeds of one family within a set.
_SEEDS = 2
# The farthest focus that a field's margin is wide enough for, unless told otherwise.
_FARTHEST_UM = 13.0


@dataclass(frozen=True)
class EvaluationSet:
    """A fixed list of specimens.

    Parameters
    ----------
    seed
        0 is the set of the tables; any other is as hard on average, and shares no specimen with it.
    count
        How many of the list, from its beginning.
    """

    seed: int = 0
    count: int = len(_MEMBERS)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(_MEMBERS) or self.seed < 0:
            raise ValueError(
                f"the evaluation set has 1 to {len(_MEMBERS)} fields of a seed from 0 on, "
                f"not {self.count} of seed {self.seed}"
            )

    @property
    def name(self) -> str:
        """What a table says of the set that it was made on."""
        return f"held-out families, version {VERSION}, seed {self.seed}, {self.count} fields"

    @property
    def members(self) -> list[tuple[str, int]]:
        """(family, seed) of each field."""
        return [(family, _SEEDS * self.seed + own) for family, own in _MEMBERS[: self.count]]


@dataclass(frozen=True)
class EvaluationField:
    """One specimen, drawn finely and larger than the frame.

    Parameters
    ----------
    family, seed
        Which one.
    drawn
        ``[V, U]`` phase in radians, `oversampling` samples per phase pixel along each axis, margins included.
    absorption
        ``[V, U]`` share of the amplitude, or None for a transparent one, as the set's are.
    optics, camera_pixel_um, field_px, upsampling, oversampling
        What it was drawn for: camera pixel at the specimen, edge of a frame, phase pixels per camera pixel.
    """

    family: str
    seed: int
    drawn: Floats
    absorption: Floats | None
    optics: Optics
    camera_pixel_um: float
    field_px: int
    upsampling: int
    oversampling: int

    @property
    def truth(self) -> Floats:
        """``[s·Y, s·X]`` true phase: the mean over each phase pixel."""
        n, side = self.oversampling, self.field_px * self.upsampling
        edge = (len(self.drawn) - side * n) // 2
        inner = self.drawn[edge : edge + side * n, edge : edge + side * n]
        return np.asarray(inner.reshape(side, n, side, n).mean((1, 3)))

    def frames(self, conditions: Sequence[Conditions], *, workers: int = 1) -> Floats:
        """``[K, Y, X]`` without noise, background 1; see `pipeline.evaluation.forward.image`."""
        return image(
            self.drawn,
            self.camera_pixel_um / (self.upsampling * self.oversampling),
            self.optics,
            self.camera_pixel_um,
            (self.field_px, self.field_px),
            conditions,
            absorption=self.absorption,
            workers=workers,
        )


def evaluation_field(
    family: str,
    seed: int,
    optics: Optics,
    camera_pixel_um: float,
    field_px: int = 512,
    upsampling: int = 4,
    *,
    farthest_um: float = _FARTHEST_UM,
) -> EvaluationField:
    """Draw one specimen for an instrument.

    Parameters
    ----------
    family, seed
        One of `EvaluationSet.members`.
    camera_pixel_um
        At the specimen, after binning.
    field_px
        Edge of a frame in camera pixels; another edge gives another specimen.
    upsampling
        Phase pixels per camera pixel along each axis.
    farthest_um
        The largest defocus that it will be imaged at.

    Raises
    ------
    ValueError
        If there is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"no held-out family is called '{family}': choose from {list(FAMILIES)}")
    phase_pixel_um = camera_pixel_um / upsampling
    oversampling = max(2, ceil(phase_pixel_um * 4 * optics.cutoff_per_um * (1 - 1e-6)))
    side = field_px + 2 * margin_px(optics, camera_pixel_um, farthest_um)
    samples = side * upsampling * oversampling
    drawn = draw(family, seed, (samples, samples), phase_pixel_um / oversampling)
    return EvaluationField(
        family,
        seed,
        drawn,
        None,
        optics,
        camera_pixel_um,
        field_px,
        upsampling,
        oversampling,
    )
