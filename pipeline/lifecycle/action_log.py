"""`actions.jsonl`: every decision of a run: what was seen, what was asked for, what became of it, by whom."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

log = logging.getLogger("livephase")


class ActionLog:
    """The audit log in a run folder; only the supervisor writes.

    What the microscope was really set to is in `steering.jsonl`, durably; a full disk must not end a run for this one.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "actions.jsonl"

    def add(self, **line: Any) -> None:
        """Append a line."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time_utc": time.time(), **line}, ensure_ascii=False) + "\n")
        except OSError as error:
            log.warning(
                "a line of actions.jsonl is lost", extra={"line": line, "error": str(error)}
            )

    def lines(self) -> list[dict[str, Any]]:
        """Every line that is whole."""
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines
