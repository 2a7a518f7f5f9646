"""``Device.Property``: how an experiment names one property of one device."""

from __future__ import annotations

from collections.abc import Collection


def split_setting(key: str, labels: Collection[str]) -> tuple[str, str]:
    """(label, property) of a key; labels and properties may have dots of their own.

    Parameters
    ----------
    labels
        Of all devices. Where none of them begins the key, it is split at its first dot.
    """
    parts = key.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:end]) in labels:
            return ".".join(parts[:end]), ".".join(parts[end:])
    label, _, name = key.partition(".")
    return label, name
