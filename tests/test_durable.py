"""Replacing a file where the system is in the way for a moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import durable
from pipeline.durable import replace_file


@pytest.fixture
def windows(monkeypatch):
    """Windows as far as this module asks: a file that a reader has open is not replaced."""
    replace = Path.replace
    busy = {"times": 0}

    def refusing(self, target):
        if busy["times"]:
            busy["times"] -= 1
            raise PermissionError(13, "Access is denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    # Not `os.name` itself: pathlib asks it too.
    monkeypatch.setattr(durable, "os", _Windows())
    return busy


class _Windows:
    name = "nt"

    def __getattr__(self, name):
        return getattr(os, name)


def test_a_reader_that_has_the_file_open_is_waited_for(tmp_path, windows):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    windows["times"] = 3
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert windows["times"] == 0


def test_not_for_ever(tmp_path, windows, monkeypatch):
    monkeypatch.setattr(durable, "_RENAME_PATIENCE_S", 0.05)
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    windows["times"] = 10**6
    with pytest.raises(PermissionError):
        replace_file(path, b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
