"""How a run went over time: rate, queue, latency and residual, out of the times in the ledgers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.frames import FrameStatus
from pipeline.lifecycle.report.charts import Span, chart
from pipeline.store.reader import RunReader

Values = NDArray[np.float64]

_MOST_BINS = 240
_FRAMES_A_BIN = 8
# From which length of a run on its time is given in these.
_UNITS = ((3 * 86400, 86400.0, "days"), (3 * 3600, 3600.0, "hours"), (300, 60.0, "minutes"))


def course_html(reader: RunReader, held: Sequence[tuple[float, float]]) -> str:
    """The charts.

    Parameters
    ----------
    held
        Begin and end, in seconds since the epoch, of pauses and of the time between sessions.
    """
    frames = reader.raw_records.last("frames")
    committed = reader.committed()
    return "".join(
        (
            _rate(frames[committed], reader.raw_records.last("time_utc")[committed], held),
            _queue(reader, held),
            _by_timepoint(reader, "latency_s", "Last frame to phase / s"),
            _by_timepoint(
                reader,
                "residual",
                "Residual (reduced χ²)",
                "1 is the camera's own noise.",
                alarms=True,
            ),
        )
    )


def queue_over_time(reader: RunReader) -> tuple[Values, Values]:
    """When the reconstruction's queue changed (seconds since the epoch), and its length from then on.

    A slot joins when it is recorded and leaves when its phase is, or when it is found that none can be
    made. One that lacks frames and was never worked on did not wait.
    """
    committed, done, skipped = reader.committed(), reader.reconstructed(), reader.skipped()
    frames = reader.raw_records.last("frames")
    whole = (frames["status"] == FrameStatus.WRITTEN).all(axis=-1)
    waited = committed & (done | skipped | whole)
    recorded = reader.raw_records.last("time_utc")
    left = np.where(
        done, reader.phase_records.last("time_utc"), reader.skip_records.last("time_utc")
    )
    gone = waited & (done | skipped)
    times = np.concatenate([recorded[waited], np.maximum(left, recorded)[gone]])
    steps = np.concatenate([np.ones(int(waited.sum())), -np.ones(int(gone.sum()))])
    # Who comes and goes at the same moment has been there.
    order = np.lexsort((-steps, times))
    return times[order], np.cumsum(steps[order])


def _rate(
    frames: NDArray[np.void], committed_utc: Values, held: Sequence[tuple[float, float]]
) -> str:
    written = frames["status"] == FrameStatus.WRITTEN
    times = frames["time_utc"][written]
    title = "Frames a second"
    if not np.isfinite(times).any():
        # A recording need not know when its frames were taken.
        times = np.repeat(committed_utc, written.sum(axis=-1))
        title = "Frames stored a second"
    times = np.sort(times[np.isfinite(times)])
    if len(times) < 2 or times[-1] <= times[0]:
        return ""
    bins = int(np.clip(len(times) // _FRAMES_A_BIN, 2, _MOST_BINS))
    counts, edges = np.histogram(times, bins)
    rate: Values = counts / np.diff(edges).astype(np.float64)
    return _over_time(title, edges, np.append(rate, rate[-1]), held)


def _queue(reader: RunReader, held: Sequence[tuple[float, float]]) -> str:
    if not len(reader.phase_records.records):
        return ""
    times, length = queue_over_time(reader)
    return _over_time(
        "Timepoints waiting for reconstruction",
        times,
        length,
        held,
        "From being stored until the phase is.",
    )


def _over_time(
    title: str,
    times: Values,
    values: Values,
    held: Sequence[tuple[float, float]],
    note: str = "",
) -> str:
    if len(times) < 2:
        return ""
    begin, length = float(times[0]), float(times[-1] - times[0])
    unit_s, unit = next(((s, name) for least, s, name in _UNITS if length >= least), (1.0, "s"))
    shaded = [Span((a - begin) / unit_s, (b - begin) / unit_s) for a, b in held]
    shaded = [s for s in shaded if s.end > 0 and s.begin < length / unit_s]
    if shaded:
        note += " Grey: paused, or between two sessions."
    elapsed: Values = ((times - begin) / unit_s).astype(np.float64)
    return chart(
        title,
        elapsed,
        values,
        x_label=f"{unit} since the first",
        connected=True,
        shaded=shaded,
        note=note,
    )


def _by_timepoint(
    reader: RunReader, field: str, title: str, note: str = "", *, alarms: bool = False
) -> str:
    done = reader.reconstructed()
    values = reader.phase_records.last(field)
    marked = None
    if alarms:
        marked = (reader.phase_records.last("alarm") > 1)[done]
        if marked.any():
            note += " Red: images that want looking at."
    return chart(
        title,
        np.nonzero(done)[0].astype(np.float64) + 1,
        values[done].astype(np.float64),
        x_label="timepoint",
        marked=marked,
        note=note,
    )
