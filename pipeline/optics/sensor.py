"""The camera's side: pixels and noise going in, calibrated frames coming out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.frames import PlannedChannel
from pipeline.optics.illumination import background_intensity, calibrated_source
from pipeline.optics.propagation import EDGE

# A pixel whose flat is below this share of the median collects too little light to be divided by it.
_DEAD = 0.05
# The background is found on at most about this many pixels a side: as good a median, and quick.
_MEDIAN_SIDE = 256
# Signals below one count are noise, not a background to divide by.
_LEAST_LEVEL = 1.0


def bin_pixels(intensity: torch.Tensor, n: int) -> torch.Tensor:
    """Average over pixels of ``n x n`` samples: ``[..., n·Y, n·X]`` → ``[..., Y, X]``."""
    if n == 1:
        return intensity
    # Sums of strided slices: nine times faster (2 x 2 of 288², one core) than a mean over two short axes between long
    # ones.
    rows = _sum([intensity[..., k::n, :] for k in range(n)])
    return _sum([rows[..., k::n] for k in range(n)]) / n**2


def _sum(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total


def expose(
    electrons: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    gain_e_per_count: float,
    read_noise_e: float,
    offset_counts: float | NDArray[np.floating],
    bit_depth: int,
    response: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> NDArray[np.uint16]:
    """Raw counts of a camera that collects `electrons` on average, with shot and read noise.

    Parameters
    ----------
    electrons
        ``[Y, X]`` expected electrons per pixel after binning.
    rng
        Where the noise comes from: the same generator state gives the same frame.
    response
        Electrons collected → electrons that the amplifier makes of them; the same where None.

    Returns
    -------
    ``[Y, X]`` uint16, clipped to 0 … 2^bit_depth − 1.
    """
    signal = rng.poisson(electrons).astype(np.float64)
    if response is not None:
        signal = response(signal)
    signal += rng.normal(0.0, read_noise_e, signal.shape)
    counts = np.rint(signal / gain_e_per_count + offset_counts)
    return np.clip(counts, 0, 2**bit_depth - 1).astype(np.uint16)


class Corrected(NamedTuple):
    """Frames as methods take them.

    `frames` ``[..., K, Y, X]`` float32 (1: brightfield background), `valid` the same shape bool, `level`
    counts that stand for 1, ``[..., K, Y or 1, X or 1]`` float32.
    """

    frames: torch.Tensor
    valid: torch.Tensor
    level: torch.Tensor


class Correction:
    """Raw counts → calibrated frames, on the way into a method.

    With a flat of the channel: (raw − dark) / flat, the flat scaled to the present exposure.
    Without one: a brightfield frame is divided by its own median, which takes the background to be
    most of the field. A darkfield frame has no background of its own: its level follows from that
    of the brightfield frames of the same measurement in proportion to exposure, brightness and
    intensity of the LEDs lit; where there are none, from its own mean, and its scale then means nothing.

    Bad pixels (of the calibration's map, and where a flat is dead) become the mean of their good
    neighbours, missing frames the background; both, and saturated pixels, are flagged.

    Parameters
    ----------
    frames
        Indices ``channel * n_foci + focus`` of the frames that it will be given.
    device
        Where it computes.

    Raises
    ------
    ExperimentError
        If the calibration does not fit the camera, or leaves no good pixel.
    """

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        frames: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        plan = experiment.plan()
        channels = [plan.channels[k // len(plan.foci_um)] for k in frames]
        calibration.check([c.name for c in channels], plan.frame_shape)
        camera = experiment.microscope.camera
        self._saturation = calibration.saturation_counts or 2.0**camera.bit_depth - 1
        self.device = torch.device(device)
        offset = np.float32(camera.offset_counts)
        self._dark = self._stack([calibration.dark.get(c.name, offset) for c in channels])
        flats = [scaled_flat(calibration, c) for c in channels]
        self._has_flat = torch.tensor([f is not None for f in flats], device=self.device)
        dead = [None if f is None else f <= max(_DEAD * float(np.median(f)), 0.0) for f in flats]
        self._flat = self._stack(
            [
                np.float32(1.0) if f is None or d is None else np.where(d, np.median(f), f)
                for f, d in zip(flats, dead, strict=True)
            ]
        )
        sources = [calibrated_source(experiment, c.name, calibration) for c in channels]
        passing = [background_intensity(s, experiment.optics) for s in sources]
        self._background = torch.tensor([float(p > 0) for p in passing], device=self.device)
        lit = [
            c.exposure_ms * c.brightness * s.power for c, s in zip(channels, sources, strict=True)
        ]
        self._light = torch.tensor(lit, dtype=torch.float32, device=self.device)
        self._passing = torch.tensor(passing, dtype=torch.float32, device=self.device)
        bad = _bad_pixels(calibration, dead, plan.frame_shape)
        self._good = torch.from_numpy(~bad).to(self.device)
        self._fill = [torch.from_numpy(a).to(self.device) for a in _neighbours(bad)]

    def __call__(
        self,
        raw: torch.Tensor | NDArray[np.unsignedinteger],
        present: torch.Tensor | NDArray[np.bool_],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``(frames, valid)`` of `correct`."""
        out = self.correct(raw, present)
        return out.frames, out.valid

    def correct(
        self,
        raw: torch.Tensor | NDArray[np.unsignedinteger],
        present: torch.Tensor | NDArray[np.bool_],
    ) -> Corrected:
        """Correct frames.

        Parameters
        ----------
        raw
            ``[..., K, Y, X]`` uint8 or uint16 counts.
        present
            ``[..., K]`` bool, False where a frame is missing.
        """
        counts = torch.as_tensor(raw).to(self.device).to(torch.float32)
        present = torch.as_tensor(present).to(self.device)[..., None, None]
        valid = (counts < self._saturation) & present & self._good
        signal = counts - self._dark
        level = self._levels(signal, present)
        frames = signal / level
        where, neighbours, weights = self._fill
        pixels = frames.flatten(-3)  # a view: the bad pixels of `frames` are filled in place
        pixels[..., where] = (pixels[..., neighbours] * weights).sum(-1)
        frames = torch.where(present, frames, self._background[:, None, None])
        return Corrected(frames, valid, level)

    def _levels(self, signal: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Counts that stand for 1, frame by frame."""
        if bool(self._has_flat.all()):
            return self._flat.expand(*signal.shape[:-2], *self._flat.shape[-2:])
        stride = max(1, max(signal.shape[-2:]) // _MEDIAN_SIDE)
        sample = signal[..., ::stride, ::stride].flatten(-2)
        bright = self._background > 0
        own = torch.where(bright, sample.median(-1).values, sample.mean(-1))
        known = torch.where(self._has_flat, self._flat.flatten(-2).median(-1).values, own)
        # Counts that one LED at unit exposure and brightness gives, from the brightfield frames.
        counted = bright & present[..., 0, 0]
        per_light = torch.where(counted, known / (self._light * self._passing.clamp_min(EDGE)), 0)
        number = counted.sum(-1, keepdim=True)
        per_light = per_light.sum(-1, keepdim=True) / number.clamp_min(1)
        implied = torch.where(number > 0, per_light * self._light, own)
        level = torch.where(bright, own, implied).clamp_min(_LEAST_LEVEL)[..., None, None]
        return torch.where(self._has_flat[:, None, None], self._flat, level)

    def _stack(self, planes: Sequence[NDArray[np.float32] | np.float32]) -> torch.Tensor:
        """``[K, Y or 1, X or 1]`` float32 on the device."""
        arrays = np.broadcast_arrays(*(np.atleast_2d(np.asarray(p, np.float32)) for p in planes))
        return torch.from_numpy(np.stack(arrays)).to(self.device)


def scaled_flat(calibration: Calibration, channel: PlannedChannel) -> NDArray[np.float32] | None:
    """A channel's flat at its present exposure, counts; None where it is not calibrated."""
    flat = calibration.flat.get(channel.name)
    if flat is None:
        return None
    taken_ms = calibration.exposure_ms.get(channel.name, channel.exposure_ms)
    return np.asarray(flat * np.float32(channel.exposure_ms / taken_ms), np.float32)


def _bad_pixels(
    calibration: Calibration,
    dead: Sequence[NDArray[np.bool_] | np.bool_ | None],
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """``[K, Y, X]``: pixels that the calibration distrusts, or whose flat is dead."""
    bad = np.zeros((len(dead), *shape), bool)
    if calibration.bad_pixels is not None:
        bad |= calibration.bad_pixels
    for k, plane in enumerate(dead):
        if plane is not None:
            bad[k] |= plane
    if bad.all(axis=(1, 2)).any():
        raise ExperimentError("the calibration leaves no good pixel", "calibrate again, with light")
    return bad


def _neighbours(
    bad: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Bad pixels ``[P]``, pixels that stand in for them ``[P, 8]`` and their weights, as flat indices.

    The good ones of the eight around; inside a larger cluster the nearest good pixel.
    """
    k, y, x = np.nonzero(bad)
    _, height, width = bad.shape
    steps = np.array([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)])
    ny, nx = y[:, None] + steps[:, 0], x[:, None] + steps[:, 1]
    inside = (ny >= 0) & (ny < height) & (nx >= 0) & (nx < width)
    ny, nx = ny.clip(0, height - 1), nx.clip(0, width - 1)
    good = inside & ~bad[k[:, None], ny, nx]
    lonely = ~good.any(axis=1)
    for plane in np.unique(k[lonely]):
        nearest = distance_transform_edt(bad[plane], return_distances=False, return_indices=True)
        here = lonely & (k == plane)
        ny[here, 0], nx[here, 0] = nearest[:, y[here], x[here]]
        good[here, 0] = True
    weights = (good / good.sum(axis=1, keepdims=True)).astype(np.float32)
    flat = np.ravel_multi_index((np.broadcast_to(k[:, None], ny.shape), ny, nx), bad.shape)
    return np.ravel_multi_index((k, y, x), bad.shape), flat, weights
