"""A look as a PNG: corrected frames and phase, with scale bar and colour bar."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pipeline.preview.looking import Look
from pipeline.wording import round_length

_PANEL_IN = 4.0
_MOST_COLUMNS = 4
# A page holds no more than this many pixels along an edge of a panel.
_MOST_PX = 1024
_BAR_SHARE = 0.25


def png(look: Look, title: str) -> bytes:
    """The picture of a look: every frame that came at its own grey scale, then the images of the method."""
    several = len({f.focus_um for f in look.figures}) > 1
    panels: list[tuple[str, NDArray[np.float32], str]] = []
    for f in look.figures:
        name = f"{f.channel} {f.focus_um:+g} µm" if several else f.channel
        panels.append((name, look.corrected[f.place], "frame"))
    if look.result is not None:
        for name, image in zip(look.outputs, look.result.images, strict=True):
            panels.append((name, image, name))
    # Phase first: it is what the others are taken for.
    panels.sort(key=lambda p: p[2] == "frame")
    columns = min(len(panels), _MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(_PANEL_IN * columns + 0.8, (_PANEL_IN + 0.3) * rows + 0.3), layout="constrained"
    )
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    field_um = look.raw.shape[-1] * look.pixel_um
    for axis, (name, image, kind) in zip(axes.flat, panels, strict=False):
        _panel(figure, axis, name, image, kind, field_um)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _panel(
    figure: Figure,
    axis: Axes,
    name: str,
    image: NDArray[np.float32],
    kind: str,
    field_um: float,
) -> None:
    step = max(1, -(-max(image.shape) // _MOST_PX))
    shown = image[::step, ::step]
    low, high = (float(np.quantile(shown, q)) for q in (0.005, 0.995))
    drawn = axis.imshow(
        shown,
        cmap="gray" if kind != "phase" else "magma",
        vmin=low,
        vmax=max(high, low + 1e-6),
        interpolation="nearest",
    )
    axis.set_title(name)
    label = {"phase": "phase / rad", "frame": "relative to the background"}.get(kind, kind)
    figure.colorbar(drawn, ax=axis, label=label, shrink=0.8)
    _scale_bar(axis, shown.shape, field_um)


def _scale_bar(axis: Axes, shape: tuple[int, ...], field_um: float) -> None:
    """A round length of at most a quarter of the field, in the lower left corner."""
    length_um = round_length(field_um * _BAR_SHARE)
    y, x = shape
    width, height = length_um / field_um * x, max(1.0, y / 100)
    left, top = 0.04 * x, 0.93 * y
    axis.add_patch(Rectangle((left, top), width, height, color="white", ec="black", lw=0.5))
    axis.text(
        left + width / 2,
        top - 0.01 * y,
        f"{length_um:g} µm",
        color="white",
        ha="center",
        va="bottom",
        fontsize="small",
        bbox={"facecolor": "black", "alpha": 0.5, "pad": 1, "lw": 0},
    )
