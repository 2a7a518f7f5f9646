"""The report's pictures: a camera frame, phase over time, every position; all phase on one scale."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameStatus, SlotKey
from pipeline.lifecycle.report.liveliest import liveliest
from pipeline.lifecycle.report.png import GREY, png
from pipeline.lifecycle.spread import spread_slots
from pipeline.store.reader import RunReader
from pipeline.wording import round_length

# Enough to see the cells change, few enough to take in.
_PICTURES = 4
_MOST_POSITIONS = 8
_LARGE_FIELD_PX = 512
# A column of the page, on a screen of two device pixels a CSS pixel.
_MOST_PX = 512
_SMALL_PX = 150
# Steps of grey or colour: more can't be seen, and compress worse.
_STEPS = 128
_BAR_SHARE = 0.3


def pictures_html(reader: RunReader) -> str:
    """The pictures with scale bars and the colours' scale; of what there is."""
    done = reader.reconstructed()
    if not done.any():
        return _frame_only(reader)
    place = int(np.argmax(done.any(axis=0)))
    # One place over time; every place would be a wall of pictures.
    here = np.zeros_like(done)
    here[:, place] = done[:, place]
    keys = spread_slots(here, most=_PICTURES)
    newest = int(np.flatnonzero(done.any(axis=1))[-1])
    places = [SlotKey(newest, int(p)) for p in np.flatnonzero(done[newest])[:_MOST_POSITIONS]]
    views = {key: _whole(reader, key) for key in [*keys, *places]}
    scale = _scale(list(views.values()))
    shape = reader.phase_layout().level_shapes[0]
    field_um = shape[1] * reader.phase_pixel_um()
    parts = [
        _grid(
            [
                _camera_frame(reader, keys[0]),
                *(_phase(views[k], scale, field_um, _when(reader, k)) for k in keys),
            ]
        )
    ]
    if min(shape) >= _LARGE_FIELD_PX:
        # A cell is a few dozen pixels of a large field: a part of it is shown again, enlarged.
        window = liveliest([views[key] for key in keys], shape)
        enlarged = [
            (key, reader.phase_part(key, 0, 0, *window)[::step, ::step])
            for step in (max(1, -(-max(s.stop - s.start for s in window) // _MOST_PX)),)
            for key in keys
        ]
        parts.append('<p class="note">Where there is most to see, enlarged:</p>')
        parts.append(_grid([_phase(v, scale, field_um / 4, _when(reader, k)) for k, v in enlarged]))
    if len(places) > 1:
        parts.append(f'<p class="note">Positions at timepoint {newest + 1}:</p>')
        parts.append(
            _grid(
                _phase(views[k], scale, field_um, reader.plan.positions[k.position].name)
                for k in places
            )
        )
    return "".join((*parts, _colours(scale)))


def _frame_only(reader: RunReader) -> str:
    keys = spread_slots(reader.committed(), most=_PICTURES)
    return _grid([_camera_frame(reader, key) for key in keys]) if keys else ""


def _whole(reader: RunReader, key: SlotKey) -> NDArray[np.float32]:
    """The phase of a slot from the coarsest level that is fine enough."""
    shapes = reader.phase_layout().level_shapes
    level = max((i for i, s in enumerate(shapes) if max(s) >= _MOST_PX), default=0)
    step = max(1, max(shapes[level]) // _MOST_PX)
    return reader.phase_part(key, 0, level, slice(None), slice(None))[::step, ::step]


def _camera_frame(reader: RunReader, key: SlotKey) -> str:
    records = reader.raw_records.get(key)
    assert records is not None
    written = np.flatnonzero(records["frames"]["status"] == FrameStatus.WRITTEN)
    when = _when(reader, key)
    if not len(written):
        return f"<figure><figcaption>no camera frame of {escape(when)}</figcaption></figure>"
    frame = reader.raw_frame(key, int(written[0]))
    step = max(1, -(-max(frame.shape) // _MOST_PX))
    shown = frame[::step, ::step].astype(np.float32)
    low, high = (float(np.quantile(shown, q)) for q in (0.001, 0.999))
    channel = reader.plan.channels[int(written[0]) // len(reader.plan.foci_um)].name
    return _figure(
        _picture(shown, low, high, GREY),
        shown.shape,
        frame.shape[1] * reader.raw_pixel_um(),
        f"camera frame, {channel}, {when}; {low:.0f} to {high:.0f} counts",
    )


def _phase(
    image: NDArray[np.float32], scale: tuple[float, float], field_um: float, caption: str
) -> str:
    return _figure(_picture(image, *scale, _magma()), image.shape, field_um, f"phase, {caption}")


def _scale(images: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """One scale for all, so that brighter means thicker from picture to picture."""
    values = np.concatenate([image.ravel()[::7] for image in images])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = (float(np.quantile(values, q)) for q in (0.005, 0.998))
    low = min(low, 0.0)
    return low, max(high, low + 1e-6)


def _picture(image: NDArray[Any], low: float, high: float, palette: NDArray[np.uint8]) -> bytes:
    share = np.nan_to_num((image - low) / max(high - low, 1e-12))
    steps = np.round(np.clip(share, 0, 1) * (_STEPS - 1))
    return png((steps * (255 / (_STEPS - 1))).astype(np.uint8), palette)


def _magma() -> NDArray[np.uint8]:
    from matplotlib import colormaps  # noqa: PLC0415 - a run that records only need not wait for it

    colours = colormaps["magma"](np.arange(256), bytes=True)[:, :3]
    return np.ascontiguousarray(colours, np.uint8)


def _figure(content: bytes, shape: tuple[int, ...], field_um: float, caption: str) -> str:
    data = base64.b64encode(content).decode()
    small = ' class="small"' if max(shape) < _SMALL_PX else ""
    bar_um = round_length(field_um * _BAR_SHARE)
    return (
        f'<figure><div class="pic"><img{small} alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f'<span class="bar" style="width:{100 * bar_um / field_um:.2f}%">{bar_um:g} µm</span></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _grid(figures: Any) -> str:
    return f'<div class="pictures">{"".join(figures)}</div>'


def _colours(scale: tuple[float, float]) -> str:
    palette = _magma()[::15]
    stops = ",".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette.tolist())
    low, high = (round(end, 2) + 0.0 for end in scale)  # no minus before nothing
    return (
        f'<div class="colours"><span>{low:.2f} rad</span><i style="background:linear-gradient(90deg,{stops})">'
        f"</i><span>{high:.2f} rad</span></div>"
    )


def _when(reader: RunReader, key: SlotKey) -> str:
    several = len(reader.plan.positions) > 1
    place = f", {reader.plan.positions[key.position].name}" if several else ""
    return f"timepoint {key.timepoint + 1}{place}"
