"""Pictures in a terminal: two pixels a character, in the terminal's own colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from pipeline.preview.looking import Look

# Magma, sampled: dark is thin, light is thick. Importing matplotlib for a colour map would cost a second.
_MAGMA = np.array(
    [
        (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100),
        (251, 135, 97), (254, 194, 135), (252, 253, 191),
    ],
    np.float64,
)  # fmt: skip
_GREY = np.array([(0, 0, 0), (255, 255, 255)], np.float64)
_GAP = 2


def shrunk(image: NDArray[np.floating], height: int, width: int) -> NDArray[np.float64]:
    """An image as means over ``[height, width]`` equal fields; never enlarged."""
    out: NDArray[np.float64] = np.asarray(image, np.float64)
    for axis, most in ((0, height), (1, width)):
        pixels = out.shape[axis]
        size = min(most, pixels)
        edges = np.arange(size) * pixels // size
        lengths = np.diff([*edges, pixels])
        sums = np.add.reduceat(out, edges, axis=axis)
        out = sums / (lengths[:, None] if axis == 0 else lengths)
    return out


def coloured(
    image: NDArray[np.floating], low: float, high: float, colours: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """``[Y, X, 3]`` colours of values, `low` the first of `colours` and `high` the last."""
    place = np.clip((image - low) / max(high - low, 1e-12), 0, 1) * (len(colours) - 1)
    place = np.nan_to_num(place)
    below = np.minimum(place.astype(int), len(colours) - 2)
    part = (place - below)[..., None]
    mixed = (1 - part) * colours[below] + part * colours[below + 1]
    return np.asarray(np.rint(mixed), np.uint8)


class TerminalPicture:
    """A frame, and beside it the phase if there is one, as large as the terminal takes.

    Parameters
    ----------
    frame
        ``[Y, X]``, in greys between its 0.5 and 99.5 % quantiles.
    phase
        ``[Y, X]`` radians, in magma from 0 or below.
    rows
        Most lines that it may take; those of the terminal less those below the picture.
    """

    def __init__(
        self, frame: NDArray[np.floating], phase: NDArray[np.floating] | None, rows: int
    ) -> None:
        self._images = [(frame, *_quantiles(frame), _GREY)]
        if phase is not None:
            low, high = _quantiles(phase)
            self._images.append((phase, min(low, 0.0), high, _MAGMA))
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Half blocks: the upper pixel is the character's colour, the lower one its background's."""
        count = len(self._images)
        most_wide = (options.max_width - _GAP * (count - 1)) // count
        pictures = []
        for image, low, high, colours in self._images:
            y, x = image.shape
            # A character is twice as high as wide, so a half block is a square.
            scale = min(most_wide / x, 2 * self._rows / y, 1.0)
            height, width = max(2, int(y * scale) // 2 * 2), max(1, int(x * scale))
            pictures.append(coloured(shrunk(image, height, width), low, high, colours))
        lines = max(-(-p.shape[0] // 2) for p in pictures)
        for line in range(lines):
            for i, picture in enumerate(pictures):
                if i:
                    yield Segment(" " * _GAP)
                yield from _line(picture, line)
            yield Segment.line()


def look_picture(look: Look, rows: int) -> TerminalPicture:
    """The first frame that came, and beside it the phase."""
    first = look.figures[0].place
    return TerminalPicture(look.corrected[first], look.phase, rows)


def _line(picture: NDArray[np.uint8], line: int) -> list[Segment]:
    """One line of characters; neighbours of one colour share a segment."""
    y, x, _ = picture.shape
    if 2 * line >= y:
        return [Segment(" " * x)]
    upper = picture[2 * line]
    lower = picture[min(2 * line + 1, y - 1)]
    both = np.concatenate([upper, lower], axis=1)
    begins = np.flatnonzero(np.r_[True, (both[1:] != both[:-1]).any(axis=1)])
    segments = []
    for begin, length in zip(begins, np.diff(np.r_[begins, x]), strict=True):
        ink, paper = (Color.from_rgb(*map(int, c)) for c in (upper[begin], lower[begin]))
        segments.append(Segment("▀" * int(length), Style(color=ink, bgcolor=paper)))
    return segments


def _quantiles(image: NDArray[np.floating]) -> tuple[float, float]:
    sample = image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)]
    low, high = np.quantile(sample, [0.005, 0.995])
    return float(low), float(high)
