"""`nvidia-smi`, played by a script."""

from __future__ import annotations

import sys

import pytest


def fake_nvidia_smi(folder):
    """Put a program into `folder` that says what is in the file that is returned; without the file it fails."""
    answers = folder / "gpus.txt"
    answers.write_text("")
    if sys.platform == "win32":
        pytest.skip("a shell script plays nvidia-smi")
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nwhile read -r line; do echo \"$line\"; done < '{answers}'\n")
    command.chmod(0o755)
    return answers
