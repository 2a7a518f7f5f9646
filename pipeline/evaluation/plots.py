"""The tables as pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evaluation.contenders import NETWORK
from pipeline.evaluation.microlens import TOLERANCE
from pipeline.evaluation.profiles import Image, Sheet

_COLOURS: Mapping[str, str] = {
    "truth": "#000000",
    NETWORK: "#d1495b",
    "nyquist_oracle": "#8d99ae",
    "linear_oracle": "#7d5ba6",
    "tie_fft": "#2a6f97",
    "tie_dct": "#61a5c2",
    "srcnn": "#e09f3e",
    "bicubic": "#6a994e",
}
# The two TIEs often lie upon each other.
_DASHES: Mapping[str, str] = {"nyquist_oracle": ":", "linear_oracle": ":", "tie_dct": "--"}
_LABELS: Mapping[str, str] = {
    "truth": "truth",
    NETWORK: "network",
    "nyquist_oracle": "Nyquist oracle",
    "linear_oracle": "linear oracle",
    "tie_fft": "TIE, FFT (2 frames)",
    "tie_dct": "TIE, DCT (2 frames)",
    "srcnn": "SRCNN",
    "bicubic": "TIE of 1 frame, bicubic",
}
_AXES: Mapping[str, str] = {
    "ssim": "SSIM",
    "ssim_foreground": "SSIM, foreground",
    "frc_cutoff": "FRC cut-off / Nyquist",
    "psnr_db": "PSNR, dB",
    "rmse_rad": "RMSE, rad",
}
_DPI = 130


def write_plots(
    data: Mapping[str, Any],
    sheets: Sequence[Sheet],
    correlations: Mapping[str, NDArray[np.float64]],
    upsampling: int,
    folder: Path,
) -> list[Path]:
    """PNGs of `evaluate_dl_srqpi` into a folder that exists; returns their paths.

    Parameters
    ----------
    correlations
        ``[rings]`` by contender, up to the phase grid's Nyquist frequency.
    """
    pages: dict[str, Figure] = {
        "by_defocus": _sweep(data["by_defocus"], "defocus z, µm"),
        "by_coherence": _sweep(data["by_coherence"], "coherence S"),
        "by_noise": _sweep(data["by_noise"], "noise"),
        "frc": _correlations(correlations, upsampling),
        "profiles": _profiles(data["profiles"]),
        "microlenses": _microlenses(data),
        "images": _images(sheets),
    }
    written = []
    for name, figure in pages.items():
        FigureCanvasAgg(figure)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=_DPI)
        written.append(path)
    return written


def _sweep(rows: Mapping[str, Any], label: str) -> Figure:
    """Five figures of all contenders, a panel for each; the last panel is the legend's."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    names = list(rows)
    numeric = all(name.replace(".", "").isdigit() for name in names)
    x = [float(n) for n in names] if numeric else list(range(len(names)))
    first = next(iter(rows.values()))["baselines"]
    # A baseline that nobody has weights for.
    others = [name for name, row in first.items() if row["ssim"] is not None]
    for panel, name in zip(panels[:-1], _AXES, strict=True):
        for contender in (*others, NETWORK):
            row = [r if contender == NETWORK else r["baselines"][contender] for r in rows.values()]
            y = [np.nan if r[name] is None else r[name] for r in row]
            _line(panel, x, y, contender, marker="o", markersize=3)
        panel.set_ylabel(_AXES[name])
        panel.set_xlabel(label)
        if not numeric:
            words = [n.replace("_", " ") for n in names]
            panel.set_xticks(x, words, rotation=30, ha="right", fontsize=8)
    panels[-1].axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles[::-1], labels[::-1], loc="center", frameon=False)
    return figure


def _correlations(correlations: Mapping[str, NDArray[np.float64]], upsampling: int) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    panel = figure.subplots()
    for name, values in correlations.items():
        _line(panel, np.linspace(0, upsampling, len(values)), values, name)
    panel.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    panel.axvline(1, color="0.6", linewidth=0.8, linestyle=":")
    panel.set(
        xlabel="spatial frequency / camera's Nyquist",
        ylabel="Fourier ring correlation, mean of fields",
        xlim=(0, min(upsampling, 3)),
        ylim=(-0.5, 1.02),
    )
    panel.legend(frameon=False)
    return figure


def _profiles(profiles: Sequence[Mapping[str, Any]]) -> Figure:
    shown = ("nyquist_oracle", "tie_fft", "tie_dct", NETWORK, "truth")
    figure = Figure(figsize=(11, 2.7 * len(profiles)), layout="constrained")
    panels = figure.subplots(len(profiles), 1, squeeze=False)[:, 0]
    for panel, profile in zip(panels, profiles, strict=True):
        for name in shown:
            _line(panel, profile["x_um"], profile["phases_rad"][name], name)
        panel.set_title(
            f"{profile['family']}, y = {profile['y_um']:.1f} µm", loc="left", fontsize=10
        )
        panel.set_ylabel("phase, rad")
        panel.margins(x=0)
    panels[-1].set_xlabel("x, µm")
    panels[0].legend(
        frameon=False, fontsize=8, ncols=len(shown), loc="lower right", bbox_to_anchor=(1, 1)
    )
    return figure


def _microlenses(data: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    arrays, alone = figure.subplots(1, 2)
    found = data["microlens"]
    peaks = sorted({row["peak_rad"] for row in found["arrays"]})
    for i, peak in enumerate(peaks):
        rows = [r for r in found["arrays"] if r["peak_rad"] == peak]
        arrays.plot(
            [r["period_um"] for r in rows],
            [_percent(r["relative_error"]) for r in rows],
            marker="o",
            markersize=3,
            color=str(0.75 - 0.75 * i / max(1, len(peaks) - 1)),
            label=f"peak {peak:g} rad",
        )
    within = 100 * TOLERANCE
    arrays.axhspan(
        -within, within, color="#6a994e", alpha=0.15, linewidth=0, label=f"± {within:g} %"
    )
    largest = data["largest_period_um"]
    if largest is not None:
        limit: Mapping[str, Any] = {"color": "#d1495b", "linewidth": 0.9, "linestyle": "--"}
        arrays.axvline(largest, label="largest period, 1 rad", **limit)
        diameter = largest / found["pitch_diameters"]
        alone.axvline(diameter, label="diameter at the largest period", **limit)
    arrays.set(xlabel="period of the array, µm", ylabel="error of the mean height, %")
    arrays.legend(frameon=False)
    rows = found["isolated"]
    x = [r["diameter_um"] for r in rows]
    alone.errorbar(
        x,
        [_percent(r["relative_error"]) for r in rows],
        [_percent(r["spread"]) for r in rows],
        color=_COLOURS[NETWORK],
        marker="o",
        markersize=3,
        capsize=2,
        label="lenses of 1 rad that stand alone",
    )
    noise = np.array([_percent(r["noise_of_one_lens"]) for r in rows])
    alone.fill_between(
        x, -noise, noise, color="0.5", alpha=0.2, linewidth=0, label="noise of one lens"
    )
    alone.set(xlabel="diameter, µm", ylabel="error of the height, %")
    alone.legend(frameon=False)
    return figure


def _images(sheets: Sequence[Sheet]) -> Figure:
    """Two rows for each field: the whole, and a crop of it at full resolution."""
    columns: Sequence[tuple[str, Callable[[Mapping[str, Image]], Image]]] = (
        (_LABELS["bicubic"], lambda images: images["bicubic"]),
        (_LABELS["tie_dct"], lambda images: images["tie_dct"]),
        (_LABELS[NETWORK], lambda images: images[NETWORK]),
        (_LABELS["truth"], lambda images: images["truth"]),
        ("network - truth", lambda images: images[NETWORK] - images["truth"]),
    )
    figure = Figure(figsize=(16, 5.6 * len(sheets)), layout="constrained")
    panels = figure.subplots(2 * len(sheets), 1 + len(columns), squeeze=False)
    for i, one in enumerate(sheets):
        peak = float(one.whole["truth"].max())
        for row, images in ((2 * i, one.whole), (2 * i + 1, one.crop)):
            top = peak if row % 2 == 0 else float(images["truth"].max())
            for panel, (label, pick) in zip(panels[row, 1:], columns, strict=True):
                error = "-" in label
                shade = panel.imshow(
                    pick(images),
                    cmap="RdBu_r" if error else "magma",
                    vmin=-top / 4 if error else -0.05 * top,
                    vmax=top / 4 if error else top,
                    interpolation="nearest",
                )
                panel.set_title(label, fontsize=9)
                if error or label == _LABELS["truth"]:
                    figure.colorbar(shade, ax=panel, shrink=0.7, label="rad")
        panels[2 * i, 0].imshow(one.frame, cmap="gray", interpolation="nearest")
        panels[2 * i, 0].set_title(f"{one.family}: frame", fontsize=9)
        panels[2 * i + 1, 0].imshow(one.frame_crop, cmap="gray", interpolation="nearest")
        panels[2 * i + 1, 0].set_title("crop", fontsize=9)
    for panel in panels.ravel():
        panel.set_xticks([])
        panel.set_yticks([])
    return figure


def _line(
    panel: Axes, x: Sequence[float] | Any, y: Sequence[float] | Any, name: str, **how: Any
) -> None:
    bold = name in (NETWORK, "truth")
    panel.plot(
        x,
        y,
        color=_COLOURS[name],
        label=_LABELS[name],
        linewidth=1.8 if bold else 1.1,
        linestyle=_DASHES.get(name, "-"),
        **how,
    )


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def write_side_by_side(images: Mapping[str, Image], path: Path) -> None:
    """A PNG of phase images in the same greys, which are those of the first; below, the middle third of each."""
    first = next(iter(images.values()))
    low, high = np.percentile(first, (0.5, 99.5))
    figure = Figure(figsize=(6 * len(images), 12.3), layout="constrained")
    panels = figure.subplots(2, len(images), squeeze=False)
    for column, (name, image) in enumerate(images.items()):
        middle = tuple(slice(n // 3, 2 * n // 3) for n in image.shape)
        for row, part in enumerate((image, image[middle])):
            shade = panels[row, column].imshow(
                part, cmap="gray", vmin=low, vmax=high, interpolation="nearest"
            )
            panels[row, column].set_axis_off()
        panels[0, column].set_title(name, fontsize=11)
    figure.colorbar(shade, ax=panels[:, -1], shrink=0.5, label="rad")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI)
