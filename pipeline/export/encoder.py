"""Frames of a movie into a file, one by one."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np

from pipeline.errors import LivephaseError
from pipeline.export.lettering import Rgb, palette


class _Codec(NamedTuple):
    name: str
    pixels: str
    options: dict[str, str]


# Quality before size, and speed before the last percent: a movie is made on the microscope's own computer.
_CODECS: Final = {
    ".mp4": _Codec("libx264", "yuv420p", {"crf": "17", "preset": "veryfast"}),
    ".webm": _Codec(
        "libvpx-vp9",
        "yuv420p",
        {"crf": "26", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    ),
    ".gif": _Codec("gif", "pal8", {}),
}
MOVIE_ENDINGS: Final = tuple(_CODECS)
# ITU-R BT.709, as players take for granted of anything larger than a postcard.
_BT709 = 1
_LIMITED_RANGE = 1
_GIF_GREYS = 72


class Encoder:
    """Writes a movie of one size.

    Parameters
    ----------
    path
        Its ending says the kind: one of `MOVIE_ENDINGS`.
    shape
        ``(y, x)``, both even.
    fps
        Frames a second.

    Raises
    ------
    LivephaseError
        This installation of PyAV can't make such a file.
    OSError
        It can't be written.
    """

    def __init__(self, path: Path, shape: tuple[int, int], fps: float) -> None:
        import av  # noqa: PLC0415 - brings FFmpeg, which nobody else needs

        self._av = av
        codec = _CODECS[path.suffix.lower()]
        if codec.name not in av.codecs_available:
            raise LivephaseError(
                f"this installation of PyAV has no {codec.name}, which a {path.suffix} needs",
                f"end the file with {' or '.join(e for e in _CODECS if e != path.suffix)}, or `pip install av`",
            )
        options = {"movflags": "+faststart"} if path.suffix.lower() == ".mp4" else {}
        self._container = av.open(str(path), "w", options=options)
        rate = Fraction(fps).limit_denominator(1000)
        self._stream: Any = self._container.add_stream(codec.name, rate=rate, options=codec.options)
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = codec.pixels
        self._pixels = codec.pixels
        self._quantiser: _Quantiser | None = None
        if codec.pixels == "pal8":
            self._quantiser = _Quantiser()
        else:
            context = self._stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
        self._next = 0

    def add(self, image: Rgb) -> None:
        """The next frame ``[y, x, 3]``. Raises `OSError` if the disk does not take it."""
        if self._quantiser is not None:
            frame: Any = self._av.VideoFrame.from_ndarray(
                (self._quantiser(image), self._quantiser.argb), format="pal8"
            )
        else:
            frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=self._pixels, dst_colorspace="ITU709")
        frame.pts = self._next
        self._next += 1
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def finish(self) -> None:
        """Write what is still in the encoder, and the end. Raises `OSError` as `add`."""
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            # The first failure is the one to tell.
            with suppress(OSError):
                self._container.close()


class _Quantiser:
    """Colours to one palette for the whole of a GIF: the phase's and greys."""

    def __init__(self) -> None:
        magma = palette("magma")[np.linspace(0, 255, 256 - _GIF_GREYS).round().astype(int)]
        greys = np.linspace(0, 255, _GIF_GREYS).round().astype(np.uint8)
        colours = np.concatenate([magma, np.repeat(greys[:, None], 3, axis=1)])
        # Five bits of each of red, green and blue: the nearest colour of the palette.
        steps = np.arange(32) * 8 + 4
        cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        distance = (cube**2).sum(1)[:, None] - 2 * cube @ colours.T.astype(np.int64)
        distance += (colours.astype(np.int64) ** 2).sum(1)
        self._nearest = distance.argmin(axis=1).astype(np.uint8)
        self.argb = np.concatenate(
            [np.full((256, 1), 255, np.uint8), colours.astype(np.uint8)], axis=1
        )

    def __call__(self, image: Rgb) -> Rgb:
        """``[y, x]`` numbers in the palette."""
        r, g, b = (image[..., i].astype(np.intp) >> 3 for i in range(3))
        numbers: Rgb = self._nearest[(r << 10) | (g << 5) | b]
        return numbers
