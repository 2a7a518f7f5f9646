"""Calibration: each step measures one thing of the instrument, or refuses the data with a reason.

A step is a file of its own with two halves: a pure estimator (frames in, figures with uncertainty out),
and a `Step` that takes the frames it needs and puts the figures into a `Calibration`. `session` leads
through them, `registry` knows their order, `history` keeps what they found.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """This package, which is the verb `pipeline.calibrate` too: both bear the one name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """See `pipeline.calibrate.session.calibrate`."""
        from pipeline.calibrate.session import calibrate  # noqa: PLC0415 - steps import what they need

        return calibrate(*args, **options)


sys.modules[__name__].__class__ = _Verb
