"""What a training says on a terminal, on stderr: a line now and then."""

from __future__ import annotations

import sys
from typing import Any

_EVERY_STEPS = 500


class Progress:
    """Takes the lines of a training's log."""

    def __call__(self, line: dict[str, Any]) -> None:
        """Print those that somebody waits for."""
        if "fields_made" in line:
            self._say(f"{line['fields_made']} fields made, {line['minutes']:.1f} min")
        elif "recorded" in line:
            out = "".join(f"; left out: {reason}, {n}" for reason, n in line["left_out"].items())
            self._say(f"{line['recorded']} recorded pairs, {line['kept_back']} kept back{out}")
            for remark in line["remarks"]:
                self._say(remark)
        elif line.get("begins_at_step"):
            self._say(f"goes on at step {line['begins_at_step']}")
        elif "validation" in line:
            figures = line["validation"]
            kept = "kept" if line["kept"] else "not kept"
            foreground = (
                f"foreground {figures['ssim_foreground']:.3f}, "
                if "ssim_foreground" in figures
                else ""
            )
            self._say(
                f"step {line['step']}, {line['minutes']:.1f} min, {100 * line['progress']:.0f} %: "
                f"SSIM {figures['ssim']:.3f}, {foreground}RMSE {figures['rmse_rad']:.3f} rad, {kept}"
            )
        elif line.get("step", 1) % _EVERY_STEPS == 0 and "loss" in line:
            self._say(f"step {line['step']}, {line['minutes']:.1f} min: loss {line['loss']:.4f}")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
