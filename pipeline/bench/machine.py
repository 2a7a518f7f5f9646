"""What a figure was measured on."""

from __future__ import annotations

import os

from pipeline.lifecycle.machine import processor

__all__ = ["load_average", "processor"]


def load_average() -> float | None:
    """Of the last minute: what else the machine did; None where the system doesn't say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
