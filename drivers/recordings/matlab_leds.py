"""A MATLAB Fourier-ptychography set: one image per LED; patterns are summed from them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.recordings.recording import Recording
from pipeline.errors import DriverError, ExperimentError
from pipeline.experiment import Experiment, LedIllumination
from pipeline.frames import FrameKey

_WAVELENGTH_TOLERANCE = 0.02
# Share of the camera's range that the brightest pixel of the set gets: clear of the level at
# which a pixel counts as saturated.
_HEADROOM = 0.9


class MatlabLedRecording(Recording):
    """Single-LED images ``[Y, X, N]`` in relative intensity; one timepoint that never changes.

    A channel is the sum of the images of the LEDs that its pattern lights: light of different LEDs
    does not interfere. It is turned into whole counts as a camera would have,

        counts = round(offset_counts + counts_per_unit · w · sum)

    with `offset_counts` the camera's nominal dark level and ``w`` the channel's exposure time ×
    brightness over the largest of all channels. `counts_per_unit` is one number for the whole set,
    such that the brightest pixel of all channels reaches 0.9 of the camera's range: nothing
    saturates, and the recorded intensity comes back as ``(counts − offset_counts) /
    (counts_per_unit · w)`` to within half a count. Dim darkfield images want `bit_depth` 16.

    Raises
    ------
    DriverError
        If the file can't be read, or an image has NaN or negative pixels.
    ExperimentError
        If the experiment's LED array, wavelength or light is another.
    """

    def __init__(self, path: Path, experiment: Experiment) -> None:
        light = experiment.illumination
        if not isinstance(light, LedIllumination):
            raise ExperimentError(
                f"{path.name} holds one image per LED, but the illumination is a condenser",
                "describe the LED array: illumination.source: led_array",
            )
        stored = _load(path)
        leds = light.array.count
        images = _led_images(stored, leds, path)
        _check_wavelength(stored, experiment, path)
        channels = experiment.plan().channels
        self.path = path
        self.frame_shape = (images.shape[0], images.shape[1])
        self.timepoints = 1
        self.channels = len(channels)
        self.channel_names = tuple(c.name for c in channels)
        sums = []
        for channel in channels:
            pattern = light.channels[channel.name].pattern
            assert pattern is not None, "refused by the experiment's validator"
            lit = light.leds(pattern, experiment.optics.numerical_aperture)
            sums.append(images[..., lit].sum(axis=-1, dtype=np.float64))
        exposure = np.array([c.exposure_ms * c.brightness for c in channels])
        weights = exposure / exposure.max()
        camera = experiment.microscope.camera
        range_counts = _HEADROOM * (2**camera.bit_depth - 1) - camera.offset_counts
        if range_counts <= 0:
            raise ExperimentError(
                f"camera.offset_counts {camera.offset_counts:g} leaves no range to a "
                f"{camera.bit_depth}-bit camera",
                "lower offset_counts or raise bit_depth",
            )
        brightest = max(float(w * s.max()) for w, s in zip(weights, sums, strict=True))
        if brightest == 0:
            raise DriverError(
                f"{path.name}: the images of every pattern are black", "give measured images"
            )
        self.counts_per_unit = range_counts / brightest
        scaled = [w * self.counts_per_unit * s for w, s in zip(weights, sums, strict=True)]
        self.dtype = experiment.plan().dtype
        self._counts: list[NDArray[Any]] = [
            np.rint(camera.offset_counts + s).astype(self.dtype) for s in scaled
        ]
        self.remarks = (
            f"{path.name}: LED images summed by pattern, {self.counts_per_unit:.6g} counts per "
            f"unit of recorded intensity above {camera.offset_counts:g}",
        )

    def frame(self, key: FrameKey) -> NDArray[Any]:
        """Counts of one channel; the same at each call."""
        return self._counts[key.channel]


def _load(path: Path) -> dict[str, Any]:
    # Only this format pays for scipy.
    from scipy.io import loadmat  # noqa: PLC0415
    from scipy.io.matlab import MatReadError  # noqa: PLC0415

    try:
        stored: dict[str, Any] = loadmat(path)
    except NotImplementedError as error:
        raise DriverError(
            f"{path} is a MATLAB 7.3 file", "save it with MATLAB's save(…, '-v7')"
        ) from error
    # A damaged file makes scipy raise almost anything; all of it means the same to the user.
    except (
        MatReadError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        MemoryError,
        zlib.error,
    ) as error:
        raise DriverError(
            f"{path} is not a readable MATLAB file ({error})", "copy or export it again"
        ) from error
    return stored


def _led_images(stored: dict[str, Any], leds: int, path: Path) -> NDArray[Any]:
    stacks = {
        k: v
        for k, v in stored.items()
        if isinstance(v, np.ndarray) and v.ndim == 3 and v.dtype.kind in "uif"
    }
    fitting = {k: v for k, v in stacks.items() if v.shape[2] == leds}
    if len(fitting) != 1:
        found = ", ".join(f"{k} {list(v.shape)}" for k, v in stacks.items()) or "no stack of images"
        raise ExperimentError(
            f"{path.name} should hold one stack [y, x, {leds}] for the array's {leds} LEDs; it has "
            f"{found}",
            "set illumination.array.rows and columns to the array that was used",
        )
    images: NDArray[Any] = np.asarray(next(iter(fitting.values())))
    bad = ~(np.isfinite(images) & (images >= 0)).all(axis=(0, 1))
    if bad.any():
        raise DriverError(
            f"{path.name}: the image of LED {int(np.flatnonzero(bad)[0])} has NaN, infinite or "
            "negative pixels",
            "repair this image: it holds measured intensity",
        )
    return images


def _check_wavelength(stored: dict[str, Any], experiment: Experiment, path: Path) -> None:
    value = stored.get("wlength")
    if not (isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "uif"):
        return
    recorded_um, asked_um = float(value.item()) * 1e6, experiment.optics.wavelength_um
    if abs(recorded_um / asked_um - 1) > _WAVELENGTH_TOLERANCE:
        raise ExperimentError(
            f"{path.name} was recorded at {recorded_um:g} µm, optics.wavelength_um says "
            f"{asked_um:g}",
            f"set optics.wavelength_um: {recorded_um:g}",
        )
