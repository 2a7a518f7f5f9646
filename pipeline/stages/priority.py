"""The camera comes first: other stages take what processor time it leaves.

The ring and Micro-Manager's buffer hold seconds of frames; a camera that is not asked in time loses them. So
where there are too few cores for all, the recorder lags, and the reconstructor before it.
"""

from __future__ import annotations

import sys

import psutil

# Steps of POSIX niceness; Windows has one class below normal. Enough that DemoCamera at
# 2048² keeps 0.9 of its rate on two cores (`livephase bench camera`); not so many that another program's work stops it.
_NICENESS = {"record": 9, "reconstruct": 10, "report": 15, "export": 15}


def come_after_the_camera(stage: str) -> None:
    """Lower this process's priority if it is a stage, or a command beside a run, that can wait.

    Before it starts any thread.
    """
    niceness = _NICENESS.get(stage.partition("-")[0])
    if niceness is None:
        return
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        # Beside the priority that the whole run was started with; lowering needs no right.
        process.nice(min(process.nice() + niceness, 19))
