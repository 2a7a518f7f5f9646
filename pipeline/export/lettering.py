"""What is written and drawn around a picture: words, bars, colours."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

INK = (235, 238, 242)
PAPER = (18, 21, 25)
# Of pixels that hold no number, and of what is not there at all.
NO_VALUE = (96, 110, 128)
_HATCH = (40, 46, 54)


def palette(name: str) -> Rgb:
    """``[256, 3]``: "gray" for what a camera counts, "magma" for phase."""
    from matplotlib import colormaps  # noqa: PLC0415 - an OME-TIFF has no use for it

    return np.ascontiguousarray(colormaps[name](np.arange(256), bytes=True)[:, :3], np.uint8)


@lru_cache(maxsize=256)
def _written(text: str, px: int) -> NDArray[np.float32]:
    """Coverage 0 … 1 of a line of text of this height of letters, cropped to it along x."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - as above
    from matplotlib.figure import Figure  # noqa: PLC0415

    height = round(px * 1.5)
    width = max(8, round(px * 0.9 * len(text)) + 8)
    sheet = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="black")
    # Points are 1/72 inch; no mathematics in names with a dollar sign.
    sheet.text(
        0,
        0.5,
        text,
        color="white",
        fontsize=px * 72 / 100,
        va="center_baseline",
        parse_math=False,
    )
    canvas = FigureCanvasAgg(sheet)
    with warnings.catch_warnings():
        # A name in letters that the font lacks is shown as boxes; that is no reason to fail.
        warnings.simplefilter("ignore")
        canvas.draw()
    ink: NDArray[np.float32] = np.asarray(canvas.buffer_rgba())[..., 0].astype(np.float32)
    ink /= 255
    used = np.flatnonzero(ink.any(axis=0))
    return ink[:, : int(used[-1]) + 2] if len(used) else ink[:, :1]


def text_width(text: str, px: int) -> int:
    """How many pixels a line takes."""
    return int(_written(text, px).shape[1])


def write(image: Rgb, text: str, x: int, y: int, px: int, *, from_right: bool = False) -> None:
    """Write a line over an image, its top left (or right) corner at x, y; what does not fit is cut."""
    ink = _written(text, px)
    if from_right:
        x = max(0, x - ink.shape[1])
    part = image[y : y + ink.shape[0], x : x + ink.shape[1]]
    cover = ink[: part.shape[0], : part.shape[1], None]
    part[:] = np.round(part + (np.array(INK, np.float32) - part) * cover).astype(np.uint8)


def shortened(text: str, px: int, most: int) -> str:
    """The text, its middle left out where it is wider than `most` pixels."""
    if text_width(text, px) <= most:
        return text
    keep = len(text)
    while keep > 4 and text_width(_without_middle(text, keep), px) > most:
        keep -= 2
    return _without_middle(text, keep)


def _without_middle(text: str, keep: int) -> str:
    return f"{text[: -(-keep // 2)]}…{text[len(text) - keep // 2 :]}"


def blank(height: int, width: int) -> Rgb:
    """An empty strip."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = PAPER
    return image


def absent(height: int, width: int, lines: tuple[str, ...], px: int) -> Rgb:
    """In the place of a picture that is not there: hatched, with the reason in the middle."""
    image = blank(height, width)
    y, x = np.mgrid[:height, :width]
    image[(y + x) % (2 * px) < px // 2] = _HATCH
    wrapped = [part for line in lines for part in _wrapped(line, px, width - 2 * px)]
    step = round(px * 1.5)
    top = max(0, (height - step * len(wrapped)) // 2)
    # On plain ground, to be read.
    image[max(0, top - px // 2) : top + step * len(wrapped) + px // 2] = PAPER
    for i, line in enumerate(wrapped):
        write(image, line, max(0, (width - text_width(line, px)) // 2), top + i * step, px)
    return image


def _wrapped(text: str, px: int, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, px) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
