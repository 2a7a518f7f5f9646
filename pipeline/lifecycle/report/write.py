"""Both reports, counted, drawn and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.durable import replace_file
from pipeline.errors import RunFolderError
from pipeline.experiment import Experiment
from pipeline.lifecycle.report.figures import report_figures
from pipeline.lifecycle.report.page import report_page
from pipeline.store.failures import write_failure
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunFolder


def write_report(folder: RunFolder, experiment: Experiment) -> dict[str, Any]:
    """Count, measure, write both reports into the run folder; the JSON one is returned."""
    with RunReader(folder.path) as reader:
        report = report_figures(folder, experiment, reader)
        replace_file(folder.report_json, (json.dumps(report, indent=2) + "\n").encode())
        replace_file(folder.report_html, report_page(folder, experiment, reader, report).encode())
    return report


def make_report(run: Path | str, out: Path | str | None = None) -> dict[str, Any]:
    """Write a run's report again from what is on the disk; of a run that goes on, a report so far.

    Takes no lock, and touches nothing but the report.

    Parameters
    ----------
    run
        The run folder.
    out
        Where the page goes, and nothing else is written; both reports go into the run folder if not given.

    Returns
    -------
    dict
        What `report.json` holds.

    Raises
    ------
    LivephaseError
        No run folder, a damaged ledger, or a place that can't be written.
    """
    folder = RunFolder(Path(run))
    experiment = folder.experiment()
    try:
        if out is None:
            return write_report(folder, experiment)
        with RunReader(folder.path) as reader:
            report = report_figures(folder, experiment, reader)
            page = report_page(folder, experiment, reader, report)
        replace_file(Path(out), page.encode())
    except OSError as error:
        where = folder.report_html if out is None else Path(out)
        failure = write_failure(where, error)
        raise RunFolderError(
            failure.cause.split(";")[0], "give a place that you may write to as --out"
        ) from error
    return report
