"""`livephase evaluate neuph`: the tables as a person reads them."""

from __future__ import annotations

from typing import Any

from pipeline.evaluation.neuph.contenders import NEUPH, OBJECT_FIELD, TWO_AXES
from pipeline.evaluation.neuph.ptychography import ONE_BY_ONE
from pipeline.evaluation.neuph.resolution import RESOLVED
from pipeline.evaluation.neuph.scores import FIGURES
from pipeline.evaluation.text import number, table

_TRIED = (NEUPH, TWO_AXES)
_DIGITS = {"psnr_db": 1, "frc_cutoff": 2, "mse": 4}


def neuph_text(data: dict[str, Any]) -> str:
    """All of them, in Markdown, with what they hold for."""
    conditions = data["conditions"]
    names = [*FIGURES, "ssim_dead_leaves"]
    rows = [["neuph", *(number(data[n], _DIGITS.get(n, 3)) for n in names)]]
    for baseline, figures in data["baselines"].items():
        if figures is not None:
            rows.append([baseline, *(number(figures[n], _DIGITS.get(n, 3)) for n in names)])
    by_all = data[ONE_BY_ONE]
    rows.append([ONE_BY_ONE, *(number(by_all[n], _DIGITS.get(n, 3)) for n in names)])
    absent = ", ".join(name for name, figures in data["baselines"].items() if figures is None)
    return (
        f"# NeuPh: what it reaches, and what it is compared with\n\n"
        f"Weights {conditions['weights']}; {conditions['light']}; {conditions['cells']} fields of cells and "
        f"{conditions['dead_leaves']} of dead leaves that no training has seen, "
        f"{conditions['field_px']}² camera pixels, "
        f"{conditions['electrons']:g} electrons, phase {conditions['upsampling']} times finer; pistons aligned but in "
        f"ssim_zero_background and dry_mass_error. "
        f"{data['seconds']:.0f} s on {conditions['threads']} threads.\n\n"
        + table(["", *names], rows)
        + f"\n\n{OBJECT_FIELD} and {ONE_BY_ONE}: the first {conditions['slow_fields']} fields of cells only; the "
        f"latter is no rival: it has the {conditions['leds']} LEDs one by one, as bright as in NeuPh's frames. "
        + (f"Without weights, so without a row: {absent}.\n" if absent else "\n")
        + _trials_text(data["trials"])
        + _resolution_text(data["resolution"])
        + _densities_text(data["densities"])
    )


def _trials_text(rows: list[dict[str, Any]]) -> str:
    shown = [
        [
            row["trial"],
            *(number(row[n][f], d) for f, d in (("ssim", 3), ("mse", 4)) for n in _TRIED),
        ]
        for row in rows
    ]
    head = ["", *(f"{f}, {n}" for f in ("ssim", "mse") for n in _TRIED)]
    return f"\n## Where the microscope is not as believed\n\n{table(head, shown)}\n"


def _resolution_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    periods = list(next(iter(found.values()))["transfer"])
    rows = [
        [
            name,
            *(number(min(f["transfer"][p]), 2) for p in periods),
            number(f["finest_um"], 3),
            number(f["made_up"], 2),
        ]
        for name, f in found.items()
    ]
    return (
        "\n## Groups of three bars: share that is shown, the worse of two directions\n\n"
        + table(["period, µm", *periods, "finest, µm", "where there is none"], rows)
        + f"\n\nResolved: {RESOLVED:g} or more, and all coarser ones, too. Nothing made up: 0 in the last column.\n"
    )


def _densities_text(found: dict[str, Any]) -> str:
    rows = [
        [d, f"{100 * found['disagreement'][d]:.4f} %"]
        + [f"{found[n][d]:.2e}" for n in ("beyond", "beyond_first_grid")]
        for d in found["disagreement"]
    ]
    head = [
        "points per camera pixel",
        "off at shared places",
        "power beyond the synthetic NA",
        "beyond the first grid's Nyquist",
    ]
    return f"\n## The same region at five densities\n\n{table(head, rows)}\n"
