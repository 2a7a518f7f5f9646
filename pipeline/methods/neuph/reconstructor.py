"""The method `neuph`, loaded: a latent of each tile, and phase out of it on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.calibration import Calibration
from pipeline.errors import SlotError
from pipeline.experiment import Experiment
from pipeline.frames import Region
from pipeline.methods.background import background_level
from pipeline.methods.mosaic import Mosaic, Span, plan_spans
from pipeline.methods.neuph.inputs import NeuPhInputs, scaled
from pipeline.methods.neuph.networks import Grid, NeuPh
from pipeline.methods.neuph.record import WeightsRecord
from pipeline.methods.neuph.settings import NeuPhSettings
from pipeline.methods.neuph.weights import load_network
from pipeline.methods.precision import body_dtype, channels_last
from pipeline.methods.tiled import Tile, TiledReconstructor, region_of


class NeuPhReconstructor(TiledReconstructor[torch.Tensor]):
    """Frames ``[B, K, Y, X]`` → phase ``[B, 1, u·Y, u·X]`` in radians, background at zero.

    Parameters
    ----------
    network, record
        As loaded.
    frames
        Their indices along the slot's K axis, in the record's order of patterns.
    """

    def __init__(
        self,
        network: NeuPh,
        record: WeightsRecord,
        experiment: Experiment,
        calibration: Calibration,
        settings: NeuPhSettings,
        frames: Sequence[int],
        device: str,
    ) -> None:
        self._device = torch.device(device)
        self._dtype = body_dtype(self._device, settings.precision)
        self._record = record
        self.upsampling = settings.upsampling or record.training.upsampling
        self.finest_um = 0.5 * record.light.wavelength_um / record.light.synthetic_na
        bright = sum(p.brightfield for p in record.light.patterns)
        self._inputs = NeuPhInputs(experiment, calibration, frames, bright, device)
        self._encoders = channels_last(network.encoders.to(self._device, self._dtype))
        self._decoder = network.ready_decoder(self._device, self._dtype)
        shape = experiment.plan().frame_shape
        spans = plan_spans(shape, settings.tile_px, min(settings.overlap_px, min(shape) // 2))
        super().__init__(Mosaic(shape, spans, self.upsampling), region_of(settings.first_px))

    @classmethod
    def load(
        cls,
        path: Path,
        experiment: Experiment,
        calibration: Calibration,
        settings: NeuPhSettings,
        frames: Sequence[int],
        device: str,
    ) -> NeuPhReconstructor:
        """From a weights file. Raises `MethodError` if it can't be used."""
        network, record = load_network(path)
        return cls(network, record, experiment, calibration, settings, frames, device)

    def prepared(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """As `TiledReconstructor`: what the encoders see, ``[K + 1, Y, X]``; `SlotError` for dark brightfield."""
        frames = frames.to(self._device, torch.float32)
        good = valid.to(self._device) & torch.isfinite(frames)
        if float(torch.where(good, frames, 0)[0].mean()) <= 0:
            raise SlotError(
                "a brightfield frame has no light", "look at the LED array and exposure time"
            )
        return scaled(self._inputs(frames[None], good[None]), self._record.scale)[0]

    def tile(self, prepared: torch.Tensor, span: Span) -> Tile:
        """As `TiledReconstructor`."""
        known = self._encoded(span.cut(prepared))
        return Tile(self._asked(known, Grid.whole(span.shape, self.upsampling))[None])

    def latent(self, frames: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """As `Continuous`: a vector of the decoder's first layer for each camera pixel, the same for all grids."""
        with torch.inference_mode():
            return self._encoded(self.prepared(frames, valid)).cpu()

    def query(self, latent: torch.Tensor, region: Region, density: float) -> torch.Tensor:
        """As `Continuous`.

        Answers stand for the cells that the network was trained with, whatever the grid: a finer one interpolates.
        """
        latent = latent.to(self._device)
        wanted = Grid.region((region.y, region.x), (region.height, region.width), density)
        # The background is found on as many points as there are camera pixels: enough of them.
        whole = Grid.whole((int(latent.shape[0]), int(latent.shape[1])), 1)
        with torch.inference_mode():
            level = background_level(self._asked(latent, whole))
            return (self._asked(latent, wanted) - level).cpu()

    def _encoded(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[Y, X, hidden]`` float32 of ``[K + 1, Y, X]``."""
        seen = inputs[None].to(self._dtype).contiguous(memory_format=torch.channels_last)
        return self._decoder.prepared(self._encoders(seen).float())[0]

    def _asked(self, latent: torch.Tensor, grid: Grid) -> torch.Tensor:
        """``[Y, X]`` radians on a grid in the latent's camera pixels; piston as the network has it."""
        return self._decoder(latent[None], grid, 1 / self._record.training.upsampling)[0]
