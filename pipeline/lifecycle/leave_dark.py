"""No run leaves its light on: what a service manager starts once the service has ended, however it did.

    python -m pipeline.lifecycle.leave_dark RUNS

With the service, its runs' processes were killed, the light keepers among them. This looks at every run folder
below RUNS and puts out what was left on; where nothing was, that is a look at one file a run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.errors import LivephaseError
from pipeline.lifecycle.light_off import turn_light_off
from pipeline.stages.light_mark import LightMark
from pipeline.store.run_folder import RunFolder


def leave_dark(runs: Path) -> list[Path]:
    """Put out the light of every run that died and left it on; the runs where that did not succeed."""
    still_lit = []
    for path in sorted(runs.iterdir()) if runs.is_dir() else ():
        folder = RunFolder(path)
        if not LightMark(path).is_set() or not folder.is_run() or folder.in_use():
            continue
        try:
            dark = turn_light_off(path, folder.experiment())
        except LivephaseError:
            dark = False  # an experiment file that can't be read any more
        print(f"{path}: {'its light is off' if dark else 'THE LIGHT MAY STILL BE ON'}", flush=True)
        if not dark:
            still_lit.append(path)
    return still_lit


if __name__ == "__main__":
    sys.exit(1 if leave_dark(Path(sys.argv[1])) else 0)
