"""What the tables are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NeuPhPlan:
    """How much is computed.

    Parameters
    ----------
    cells
        (family, seed) of the held-out specimens that the figures are about.
    leaves
        Seeds of the fields of dead leaves.
    field_px
        Edge of a frame in camera pixels.
    tuning
        (family, seed) on which baselines choose their settings; other specimens.
    electrons
        Brightfield background a pixel; darkfield frames have as much light as their exposures give them.
    tried
        (family, seed) that are also seen by microscopes which aren't as believed.
    trial_step
        Every so many of the trials, beginning with the first.
    """

    name: str = "full"
    cells: tuple[tuple[str, int], ...] = (
        ("amoeboid", 10),
        ("epithelium", 10),
        ("fibroblasts", 10),
        ("neurons", 10),
        ("mitotic", 10),
        ("keratocytes", 10),
        ("amoeboid", 11),
        ("fibroblasts", 11),
        ("neurons", 11),
        ("mitotic", 11),
    )
    leaves: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    field_px: int = 100
    tuning: tuple[tuple[str, int], ...] = (("amoeboid", 20), ("mitotic", 20))
    electrons: float = 10_000.0
    tried: tuple[tuple[str, int], ...] = (("amoeboid", 10), ("epithelium", 10), ("mitotic", 10))
    trial_step: int = 1


FULL = NeuPhPlan()
QUICK = NeuPhPlan(
    name="quick",
    cells=(("amoeboid", 10), ("neurons", 10)),
    leaves=(0,),
    field_px=64,
    tuning=(("amoeboid", 20),),
    tried=(("amoeboid", 10),),
    trial_step=3,
)
