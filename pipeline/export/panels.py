"""Pictures of one kind, frame or phase, all of a movie on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.export.lettering import NO_VALUE, Rgb, blank, palette, text_width, write
from pipeline.export.selection import Selection
from pipeline.frames import SlotKey
from pipeline.wording import round_length

# So many timepoints say what is bright and what is dark in all of them.
_SAMPLES = 12
_BAR_SHARE = 0.25


class Panel:
    """Where a movie has its pictures from, and how they are shown.

    Parameters
    ----------
    kind
        ``"raw"`` or ``"phase"``.
    image
        Frame of the slot, or output of the method, from 0 on.
    label
        What it is, for the legend.
    unit
        Of the values.
    most_px
        Longest side of a picture.

    Attributes
    ----------
    shape
        ``(y, x)`` of a picture.
    low, high
        Values of the darkest and the brightest colour.
    """

    def __init__(
        self,
        chosen: Selection,
        kind: str,
        image: int,
        label: str,
        unit: str,
        most_px: int,
    ) -> None:
        self.kind, self.image, self.label, self.unit = kind, image, label, unit
        self._chosen = chosen
        reader = chosen.reader
        if kind == "phase":
            shapes: Sequence[tuple[int, int]] = reader.phase_layout().level_shapes
            # The finest level that is small enough: its pixels are means already.
            self._level = next(
                (i for i, s in enumerate(shapes) if max(s) <= most_px), len(shapes) - 1
            )
            stored = shapes[self._level]
            self.field_um = shapes[0][1] * reader.phase_pixel_um()
        else:
            self._level = 0
            stored = reader.plan.frame_shape
            self.field_um = stored[1] * reader.raw_pixel_um()
        self._step = max(1, -(-max(stored) // most_px))
        self.shape = (stored[0] // self._step, stored[1] // self._step)
        self._palette = palette("magma" if kind == "phase" else "gray")
        self.low, self.high = 0.0, 1.0

    def why_not(self, key: SlotKey) -> str | None:
        """Why there is no picture of a slot; None where there is one."""
        if self.kind == "phase":
            return self._chosen.why_no_phase(key)
        return self._chosen.why_no_frame(key, self.image)

    def values(self, key: SlotKey) -> NDArray[np.float32]:
        """A picture ``[y, x]`` in its own unit; means where it is smaller than what is stored."""
        reader = self._chosen.reader
        if self.kind == "phase":
            stored: NDArray[np.float32] = reader.phase_part(
                key, self.image, self._level, slice(None), slice(None)
            )
        else:
            stored = reader.raw_frame(key, self.image).astype(np.float32)
        if self._step == 1:
            return stored
        y, x = self.shape
        blocks = stored[: y * self._step, : x * self._step]
        means: NDArray[np.float32] = blocks.reshape(y, self._step, x, self._step).mean((1, 3))
        return means

    def scale_by(self, keys: Sequence[SlotKey]) -> None:
        """Choose `low` and `high` so that few pixels of these slots lie outside."""
        some = [keys[i] for i in np.linspace(0, len(keys) - 1, _SAMPLES).round().astype(int)]
        parts = [self.values(key).ravel()[::3] for key in dict.fromkeys(some)]
        values = np.concatenate(parts) if parts else np.empty(0)
        values = values[np.isfinite(values)]
        if not len(values):
            return
        low, high = (float(np.quantile(values, q)) for q in (0.003, 0.998))
        # Phase is zero in the background: it stays on the scale.
        self.low = min(low, 0.0) if self.kind == "phase" else low
        self.high = max(high, self.low + (1e-3 if self.kind == "phase" else 1.0))

    def coloured(self, values: NDArray[np.float32]) -> Rgb:
        """A picture in colours ``[y, x, 3]``."""
        known = np.isfinite(values)
        share = (np.where(known, values, self.low) - self.low) / (self.high - self.low)
        image = self._palette[np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)]
        if not known.all():
            image[~known] = NO_VALUE
        return image

    def legend(self, width: int, px: int) -> Rgb:
        """A strip below a picture of this width: scale bar, and what the colours mean."""
        line = round(px * 1.5)
        strip = blank(2 * line + px // 4, width)
        pad, bar_y = px // 2, px // 2 + line // 4
        bar_um = round_length(self.field_um * _BAR_SHARE)
        bar = max(1, round(bar_um / self.field_um * width))
        thick = max(2, px // 4)
        strip[bar_y : bar_y + thick, pad : pad + bar] = 235
        write(strip, f"{bar_um:g} µm", pad, bar_y + thick, px)
        left = max(pad + bar, pad + text_width(f"{bar_um:g} µm", px)) + 2 * px
        right = width - pad
        if right - left > 4 * px:
            ramp = np.linspace(0, 255, right - left).round().astype(np.uint8)
            strip[bar_y - thick : bar_y + thick, left:right] = self._palette[ramp]
            low, high = self._ends()
            write(strip, low, left, bar_y + thick, px)
            write(strip, high, right, bar_y + thick, px, from_right=True)
            middle = (left + right - text_width(self.label, px)) // 2
            if (
                left + text_width(low, px)
                < middle
                < right - text_width(high, px) - text_width(self.label, px)
            ):
                write(strip, self.label, middle, bar_y + thick, px)
        return strip

    def _ends(self) -> tuple[str, str]:
        if self.kind == "phase":
            return f"{self.low:.2f} {self.unit}".strip(), f"{self.high:.2f} {self.unit}".strip()
        return f"{self.low:.0f}", f"{self.high:.0f} {self.unit}"


def seen_slots(panel: Panel, keys: Sequence[SlotKey]) -> list[SlotKey]:
    """Those of which there is a picture."""
    return [key for key in keys if panel.why_not(key) is None]


def in_focus(foci_um: Sequence[float]) -> int:
    """The focus that is nearest to the position's own."""
    return int(np.argmin(np.abs(np.array(foci_um))))


def resized(image: Rgb, shape: tuple[int, int]) -> Rgb:
    """Nearest pixels, without a blur between what was measured."""
    if image.shape[:2] == shape:
        return image
    y = (np.arange(shape[0]) + 0.5) * image.shape[0] / shape[0]
    x = (np.arange(shape[1]) + 0.5) * image.shape[1] / shape[1]
    return np.ascontiguousarray(image[y.astype(np.intp)][:, x.astype(np.intp)])
