"""The camera comes first: other stages take what processor time it leaves, and give their memory before it has to.

The ring and Micro-Manager's buffer hold seconds of frames; a camera that is not asked in time loses them. So
where there are too few cores for all, the recorder lags, and the reconstructor before it. And where memory runs out,
Linux kills the largest process: with the ring in it that would be acquisition, whose death fails the run, while a
reconstructor or a recorder that dies is started again and nothing is lost.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

# Steps of POSIX niceness; Windows has one class below normal. Enough that DemoCamera at
# 2048² keeps 0.9 of its rate on two cores (`livephase bench camera`); not so many that another program's work stops it.
_NICENESS = {"record": 9, "reconstruct": 10, "report": 15, "export": 15}
# Thousandths of the machine's memory, added to what a process has in use when it is judged.
_SOONER_KILLED = {"record": 300, "reconstruct": 600, "report": 900, "export": 900}
_MOST_SOONER = 1000
_JUDGED_BY = Path("/proc/self/oom_score_adj")


def come_after_the_camera(stage: str) -> None:
    """Lower this process's priority if it is a stage, or a command beside a run, that can wait.

    Before it starts any thread.
    """
    kind = stage.partition("-")[0]
    if kind not in _NICENESS:
        return
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        # Beside the priority that the whole run was started with; lowering needs no right.
        process.nice(min(process.nice() + _NICENESS[kind], 19))
    if sys.platform == "linux":
        # A sandbox may hide it: then the kernel chooses as it likes.
        with suppress(OSError, ValueError):
            sooner = int(_JUDGED_BY.read_text(encoding="ascii")) + _SOONER_KILLED[kind]
            _JUDGED_BY.write_text(str(min(sooner, _MOST_SOONER)), encoding="ascii")
