"""The tables as a person reads them, in Markdown that is plain enough for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.evaluation.contenders import BASELINES, NETWORK
from pipeline.evaluation.scores import FIGURES
from pipeline.evaluation.text import number, table
from pipeline.evaluation.trust.text import trust_sections

_NAMES: Mapping[str, str] = {
    NETWORK: "network",
    "nyquist_oracle": "Nyquist oracle (not a method)",
    "linear_oracle": "linear oracle (not a method)",
    "tie_fft": "TIE by FFT, two frames",
    "tie_dct": "TIE by DCT, iterated, two frames",
    "srcnn": "SRCNN",
    "bicubic": "one frame's TIE, bicubic",
}
_HEADS: Mapping[str, str] = {
    "ssim": "SSIM",
    "ssim_foreground": "foreground",
    "frc_cutoff": "FRC/Nyquist",
    "psnr_db": "PSNR dB",
    "rmse_rad": "RMSE rad",
    "ssim_unaligned": "SSIM unaligned",
}
_DIGITS: Mapping[str, int] = {"frc_cutoff": 2, "psnr_db": 1}


def tables_text(data: Mapping[str, Any]) -> str:
    """All tables of `evaluate_dl_srqpi`."""
    return "\n\n".join(_sections(data)) + "\n"


def _sections(data: Mapping[str, Any]) -> Iterable[str]:
    conditions, headline = data["conditions"], data["conditions"]["headline"]
    sweeps = conditions["sweeps"]
    yield "# DL-SRQPI: what the network reaches, and what it is compared with"
    yield (
        f"Weights {conditions['weights']} (sha256 {conditions['sha256'][:12]}…); {headline['specimens']}; "
        f"{headline['field_px']}² camera pixels of {conditions['pixel_um']:g} µm, phase "
        f"{conditions['upsampling']} times finer; z = {headline['z_um']:g} µm, S = {headline['coherence']:g}, "
        f"noise {headline['noise']}. Pistons are aligned. {data['seconds']:.0f} s on {conditions['cores']} cores"
        + (". A quick look, not what statements rest on" if conditions["plan"] != "full" else "")
        + "."
    )
    yield _contenders(data)
    if data["srcnn_absent"]:
        yield f"SRCNN's row is empty: {data['srcnn_absent']}."
    yield (
        f"Phase slope {number(data['phase_slope'], 3)} ± {number(data['phase_slope_spread'], 3)} "
        f"(mean and spread over {data['cells']} cells; by size: "
        + ", ".join(f"{name} {value:.3f}" for name, value in data["phase_slope_by_size"].items())
        + ")."
    )
    yield _ahead(data["ahead_of_baselines"])
    yield "## By family of specimens"
    yield _figures(data["by_family"], "family")
    yield f"## By defocus (S = {sweeps['by_defocus_coherence']:g})"
    yield (
        f"Here and in the next two tables: {sweeps['specimens']}, {sweeps['field_px']}² camera pixels, "
        "whose edges weigh more than the headline's."
    )
    yield _figures(data["by_defocus"], "z µm")
    yield _versus(data["by_defocus"], "z µm")
    yield f"## By coherence (z = {sweeps['by_coherence_and_noise_z_um']:g} µm)"
    yield _figures(data["by_coherence"], "S")
    yield _versus(data["by_coherence"], "S")
    yield f"## By noise (z = {headline['z_um']:g} µm, S = {headline['coherence']:g})"
    yield "`none` is the bound: what no camera improves on."
    yield _figures(data["by_noise"], "noise")
    yield _versus(data["by_noise"], "noise")
    yield "## Microlenses"
    yield from _microlenses(data)
    yield "## Outside of the training's range"
    yield (
        "The method refuses these z and S; the rows go around it. The network is told the true z and S, "
        "and nothing of the rest."
    )
    yield _outside(data["outside"])
    yield "## How far to trust an image"
    yield from trust_sections(data)
    tuning = conditions["tuning"]
    yield "## How the baselines were set"
    yield (
        "Both TIEs got two frames, at ±z or at 0 and z, and the regularisation that gave the best "
        f"{tuning['for']} for each row, on {tuning['specimens']} ({tuning['field_px']}² camera pixels), which "
        "share no specimen with the tables. In the headline: "
        + "; ".join(
            f"{name} frames at {'0' if t['first_focus'] == 0 else '-z'} and z, {t['regularisation']:g}"
            for name, t in tuning["headline"].items()
            if name != "bicubic"
        )
        + "."
    )


def _contenders(data: Mapping[str, Any]) -> str:
    rows = {NETWORK: data} | {name: data["baselines"][name] for name in BASELINES}
    return table(
        ["", *_HEADS.values()],
        [[_NAMES[name], *(_figure(row, f) for f in FIGURES)] for name, row in rows.items()],
    )


def _ahead(ahead: Mapping[str, Any]) -> str:
    if ahead["ok"]:
        return f"Ahead of every baseline but the oracles in all {ahead['compared']} comparisons."
    behind = ahead["behind"]
    places: dict[tuple[str, str, str], list[str]] = {}
    for b in behind:
        places.setdefault((b["table"], b["baseline"], b["figure"]), []).append(
            f"{b['row']} ({b['baseline_value']:.4g} to {b['network_value']:.4g})"
        )
    lines = [
        f"- {table}, {_NAMES[baseline]}, {_HEADS[figure]}: {', '.join(rows)}"
        for (table, baseline, figure), rows in places.items()
    ]
    count = (
        f"Not ahead of a baseline in {len(behind)} of {ahead['compared']} comparisons (row, the baseline's figure "
        "to the network's):"
    )
    return count + "\n\n" + "\n".join(lines)


def _figures(rows: Mapping[str, Any], head: str) -> str:
    """The network's figures, and the oracle's SSIM beside them."""
    return table(
        [head, *_HEADS.values(), "oracle's SSIM", "foreground"],
        [
            [
                name,
                *(_figure(row, f) for f in FIGURES),
                *(_figure(row["baselines"]["nyquist_oracle"], f) for f in list(FIGURES)[:2]),
            ]
            for name, row in rows.items()
        ],
    )


def _versus(rows: Mapping[str, Any], head: str) -> str:
    """SSIM of all contenders but the Nyquist oracle, which is the same in all rows."""
    others = [name for name in BASELINES if name != "nyquist_oracle"]
    return table(
        [f"SSIM at {head}", *(_NAMES[n] for n in (NETWORK, *others))],
        [
            [name, _figure(row, "ssim"), *(_figure(row["baselines"][n], "ssim") for n in others)]
            for name, row in rows.items()
        ],
    )


def _microlenses(data: Mapping[str, Any]) -> Iterable[str]:
    found = data["microlens"]
    yield (
        f"Spherical caps of Δn = {found['delta_n']:g}, arrays of pitch {found['pitch_diameters']:g} diameters, the "
        "headline's z, S and noise. Relative error of the mean height in % (± spread over the lenses)."
    )
    arrays = found["arrays"]
    peaks = sorted({row["peak_rad"] for row in arrays})
    by_size: dict[float, dict[float, Mapping[str, Any]]] = {}
    for row in arrays:
        by_size.setdefault(row["diameter_um"], {})[row["peak_rad"]] = row

    def error(row: Mapping[str, Any]) -> str:
        if row["relative_error"] is None:
            return "-"
        return f"{100 * row['relative_error']:+.1f} ± {100 * row['spread']:.1f}"

    yield table(
        ["diameter µm", "period µm", *(f"{peak:g} rad" for peak in peaks)],
        [
            [f"{d:g}", f"{d * found['pitch_diameters']:g}", *(error(row[p]) for p in peaks)]
            for d, row in by_size.items()
        ],
    )
    yield (
        f"Largest period that one frame measures ({found['largest_period_is']}): "
        f"{_limit(data['largest_period_um'], data['microlens_height_error'])}. A higher lens is seen better; for its "
        "own peak: "
        + "; ".join(
            f"{p} rad {_limit(v['largest_period_um'], v['height_error'])}"
            for p, v in found["by_peak"].items()
        )
        + "."
    )
    yield "Lenses of 1 rad that stand alone, beside what noise alone does to one of them:"
    yield table(
        ["diameter µm", "error %", "of which noise can explain %"],
        [
            [f"{row['diameter_um']:g}", error(row), f"{100 * row['noise_of_one_lens']:.1f}"]
            for row in found["isolated"]
        ],
    )


def _outside(rows: Mapping[str, Any]) -> str:
    figures = ("ssim", "ssim_foreground", "rmse_rad")
    return table(
        ["", *(_HEADS[f] for f in figures), "phase slope", "spread"],
        [
            [
                name,
                *(_figure(row, f) for f in figures),
                number(row["phase_slope"], 3),
                number(row["phase_slope_spread"], 3),
            ]
            for name, row in rows.items()
        ],
    )


def _figure(row: Mapping[str, Any], figure: str) -> str:
    return number(row[figure], _DIGITS.get(figure, 3))


def _limit(period_um: float | None, worst: float | None) -> str:
    """A largest period, and the largest error of the arrays up to it."""
    if period_um is None:
        return "none, noise is too large at any"
    error = "no array is that small" if worst is None else f"errors up to {100 * worst:.1f} %"
    return f"{period_um:g} µm, {error}"
