"""One thing that `livephase doctor` looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    text_: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        data = asdict(self)
        data["text"] = data.pop("text_")
        return data

    def text(self) -> str:
        """One line."""
        mark = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}[self.level]
        return f"{mark}  {self.name}: {self.text_}" + (f". {self.fix}" if self.fix else "")
