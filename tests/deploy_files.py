"""What tests of deploy/ share: reading its files as the tools do that they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parent.parent / "deploy"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze isn't installed"
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) isn't installed"
)


def call(*command: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=100, check=False
    )


def unit_file(text: str) -> dict[str, list[tuple[str, str]]]:
    """Sections of a unit, each a list of (key, value): a key may come again."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            here = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            here.append((key, value))
    return sections


def seconds(span: str) -> float:
    scale = {"s": 1, "min": 60, "m": 60, "h": 3600}
    number, unit = re.fullmatch(r"(\d+)([a-z]*)", span).groups()
    return int(number) * scale[unit or "s"]
