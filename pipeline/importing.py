"""Large imports without the garbage collector.

It looks again and again through all that has been made so far, none of which is garbage: a fifth of the time that
importing torch takes, and two of a run's processes do.
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
