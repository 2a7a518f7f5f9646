"""What a network makes of its validation fields, to look at while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.methods.dl_srqpi.networks import Network
from pipeline.training.validation import Case


def save_picture(network: Network, cases: Sequence[Case], path: Path, title: str) -> None:
    """A PNG: frame, reconstruction and truth of each case in a row, the phases on one scale."""
    import matplotlib.figure as mpl  # noqa: PLC0415 - a training needs it now and then, its tests never

    figure = mpl.Figure(figsize=(10.5, 3.5 * len(cases)), layout="constrained")
    figure.suptitle(title)
    rows = figure.subplots(len(cases), 3, squeeze=False)
    for row, case in zip(rows, cases, strict=True):
        image = case.reconstruct(network)
        top = float(np.max(case.truth))
        row[0].imshow(case.frame[0, 0].numpy(), cmap="gray")
        row[0].set_title(f"z = {case.conditions.z_um:.2f} µm, S = {case.conditions.coherence:.2f}")
        for axes, phase, name in ((row[1], image, "phase"), (row[2], case.truth, "truth")):
            axes.imshow(phase, cmap="gray", vmin=-0.05 * top, vmax=top)
            axes.set_title(f"{name}, 0 to {top:.2f} rad")
        for axes in row:
            axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)
