"""Large imports without the garbage collector.

It looks through all that has been made again and again while torch makes its million objects, none of which is
garbage: a fifth of the time that such an import takes, in each of a run's processes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Imports in here are not interrupted by collections."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
