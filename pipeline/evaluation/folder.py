"""What an evaluation leaves behind: its tables as JSON and Markdown, and its plots."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import ExperimentError
from pipeline.evaluation.dl_srqpi import Tables
from pipeline.evaluation.markdown import tables_text
from pipeline.evaluation.neuph.real import RealComparison, real_text


def make_folder(folder: Path) -> None:
    """Before anything is computed.

    Raises
    ------
    ExperimentError
        If it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(
            f"the folder {folder} can't be made ({error.strerror})",
            "give another one with --out",
        ) from error


def write_tables(tables: Tables, folder: Path) -> None:
    """``tables.json``, ``tables.md`` and the plots, over those of an earlier evaluation."""
    from pipeline.evaluation.plots import write_plots  # noqa: PLC0415 - matplotlib takes a second

    text = json.dumps(tables.data, indent=1)
    (folder / "tables.json").write_text(text + "\n", encoding="utf-8")
    pictures = write_plots(
        tables.data, tables.sheets, tables.correlations, tables.upsampling, folder
    )
    links = "\n".join(f"![{p.stem}]({p.name})" for p in pictures)
    (folder / "tables.md").write_text(f"{tables_text(tables.data)}\n{links}\n", encoding="utf-8")


def write_real(comparison: RealComparison, folder: Path) -> None:
    """``neuph_real.json``, ``.md`` and ``.png``: reference, NeuPh and DPC side by side, in the same greys."""
    from pipeline.evaluation.plots import write_side_by_side  # noqa: PLC0415 - matplotlib takes a second

    text = json.dumps(comparison.data, indent=1)
    (folder / "neuph_real.json").write_text(text + "\n", encoding="utf-8")
    write_side_by_side(comparison.images, folder / "neuph_real.png")
    (folder / "neuph_real.md").write_text(
        f"{real_text(comparison.data)}\n![reference, NeuPh, DPC](neuph_real.png)\n",
        encoding="utf-8",
    )
