"""livephase: from camera to quantitative phase while the cells still move.

What the command line does, a notebook does with these functions. They are
imported when they are first used, so `import pipeline` costs nothing.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# When this process turned to livephase: for the command, right after the interpreter's start. The system's own
# answer is of little use: a shell that executes its last command in its place passes its age on.
STARTED_UTC = time.time()

if TYPE_CHECKING:
    from pipeline.calibrate.session import calibrate
    from pipeline.evaluation import evaluate
    from pipeline.experiment import Experiment, load_experiment, parse_experiment
    from pipeline.export import export_movie, export_ome_tiff
    from pipeline.lifecycle.demo import run_demo
    from pipeline.lifecycle.remote import newest_phase
    from pipeline.lifecycle.report import make_report
    from pipeline.lifecycle.run import run_experiment
    from pipeline.lifecycle.simulate import simulate
    from pipeline.preview.live import live
    from pipeline.preview.snap import snap
    from pipeline.reprocess import reconstruct
    from pipeline.store.reader import RunReader
    from pipeline.store.verify import verify
    from pipeline.training import train

_PLACES = {
    "Experiment": "pipeline.experiment",
    "RunReader": "pipeline.store.reader",
    "calibrate": "pipeline.calibrate.session",
    "evaluate": "pipeline.evaluation",
    "export_movie": "pipeline.export",
    "export_ome_tiff": "pipeline.export",
    "live": "pipeline.preview.live",
    "load_experiment": "pipeline.experiment",
    "make_report": "pipeline.lifecycle.report",
    "newest_phase": "pipeline.lifecycle.remote",
    "parse_experiment": "pipeline.experiment",
    "reconstruct": "pipeline.reprocess",
    "run_demo": "pipeline.lifecycle.demo",
    "run_experiment": "pipeline.lifecycle.run",
    "simulate": "pipeline.lifecycle.simulate",
    "snap": "pipeline.preview.snap",
    "train": "pipeline.training",
    "verify": "pipeline.store.verify",
}

__all__ = [
    "Experiment",
    "RunReader",
    "__version__",
    "calibrate",
    "evaluate",
    "export_movie",
    "export_ome_tiff",
    "live",
    "load_experiment",
    "make_report",
    "newest_phase",
    "parse_experiment",
    "reconstruct",
    "run_demo",
    "run_experiment",
    "simulate",
    "snap",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'pipeline' has no attribute '{name}'")
