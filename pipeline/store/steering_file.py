"""`steering.jsonl`: what a run's microscope was set to, and the frames that were taken beside the plan.

A line of JSON each, durable before the first frame that it is true of. With the frames' own records it tells after the
fact what any action has done; a resumed run goes on from its last setting.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.course import Course, Setting
from pipeline.durable import append
from pipeline.frames import Plan, SlotKey
from pipeline.store.failures import write_failure

_SETTING, _REFUSED, _PROBE = "setting", "refused", "probe"


class SteeringFile:
    """The file in a run folder; only the acquire stage writes."""

    def __init__(self, run: Path) -> None:
        self.path = run / "steering.jsonl"

    def add_setting(self, number: int, setting: Setting) -> None:
        """A target was taken up. Raises `StoreError` if that can't be written: then it must not be."""
        self._add({"what": _SETTING, "number": number, **asdict(setting)})

    def add_refusal(self, number: int, timepoint: int, why: str) -> None:
        """The microscope refused a target. Raises `StoreError`."""
        self._add({"what": _REFUSED, "number": number, "timepoint": timepoint, "why": why})

    def add_probe(self, slot: SlotKey, frames: int, light_s: float) -> None:
        """So many frames beside the plan are about to be taken before a slot. Raises `StoreError`.

        `light_s` is what they cost the position, in seconds of full brightness.
        """
        self._add(
            {
                "what": _PROBE,
                "timepoint": slot.timepoint,
                "position": slot.position,
                "frames": frames,
                "light_s": light_s,
            }
        )

    def course(self, plan: Plan) -> Course:
        """All settings so far."""
        return Course(
            plan,
            [
                Setting(
                    since=line["since"],
                    timepoint=line["timepoint"],
                    due_s=line["due_s"],
                    interval_s=line["interval_s"],
                    focus_um=line["focus_um"],
                    stage_um=(line["stage_um"][0], line["stage_um"][1]),
                )
                for line in self._lines(_SETTING)
            ],
        )

    def last_number(self) -> int:
        """Of the newest target that was dealt with; 0 if none was."""
        return max((line["number"] for line in self._lines() if "number" in line), default=0)

    def refusal(self, number: int) -> str:
        """Why the microscope refused a target; empty if it did not."""
        whys = [line["why"] for line in self._lines(_REFUSED) if line["number"] == number]
        return whys[-1] if whys else ""

    def probes(self) -> list[dict[str, Any]]:
        """Every probe: timepoint, position, frames, light_s, time_utc."""
        return self._lines(_PROBE)

    def _add(self, line: dict[str, Any]) -> None:
        text = json.dumps({"time_utc": time.time(), **line})
        try:
            # Begun by a line's end: what a power cut has torn before it stays apart.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                append(fd, f"\n{text}".encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise write_failure(self.path, error) from error

    def _lines(self, what: str = "") -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # torn by a power cut before anything followed from it
            if not what or line["what"] == what:
                lines.append(line)
        return lines
