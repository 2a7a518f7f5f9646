"""Live inference: conditions and norms folded, channels last, one frame at a time."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from pipeline.errors import MethodError, SlotError
from pipeline.methods.background import background_level
from pipeline.methods.contract import Reconstruction
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.cuda import Compute, replayed
from pipeline.methods.dl_srqpi.inputs import NetworkInputs
from pipeline.methods.dl_srqpi.networks import Network
from pipeline.methods.dl_srqpi.settings import DlSrqpiSettings
from pipeline.methods.dl_srqpi.tiles import by_tiles, bytes_per_pixel, plan_tiles
from pipeline.methods.dl_srqpi.weights import load_network
from pipeline.methods.fill import fill_invalid
from pipeline.methods.precision import body_dtype, channels_last
from pipeline.methods.settings import Precision

# Shapes of frames that it is ready for: a run has one; each has a filter, and on a GPU a graph with its tensors.
_MOST_SHAPES = 4


class DlSrqpiReconstructor:
    """Frames ``[B, 1, Y, X]`` → phase ``[B, 1, u·Y, u·X]`` in radians, background at zero.

    Each frame goes through the network by itself: convolution libraries choose their algorithm by the
    batch's size, so a frame's bits would depend on its company, and a run that was killed and resumed
    would differ from an undisturbed one. Nothing waits for a batch to fill, either. For one thread at a time.

    Parameters
    ----------
    network
        Is copied; the copy is folded and moved.
    conditions
        Under which the frames were taken.
    memory_mb
        Of inference, the images themselves aside; a field that needs more is cut into tiles.
    graphs
        On a GPU, record the work for a shape once and replay it: pays from the second frame on.
    """

    def __init__(
        self,
        network: Network,
        conditions: Conditions,
        device: str = "cpu",
        precision: Precision = "auto",
        memory_mb: float = DlSrqpiSettings().memory_mb,
        *,
        graphs: bool = True,
    ) -> None:
        self._device = torch.device(device)
        self._graphs = graphs and self._device.type == "cuda"
        self.conditions = conditions
        self._ready: dict[tuple[int, int], Compute] = {}
        # Of a training it lies on a GPU; the conditions are folded where they are.
        network = copy.deepcopy(network).cpu().eval()
        numbers = torch.from_numpy(conditions.numbers())
        network.specialise(numbers)
        self._numbers = numbers[None].to(self._device)
        self._network = channels_last(network.to(self._device))
        self.body_dtype = body_dtype(self._device, precision)
        self._network.body.to(self.body_dtype)
        self._most_px = 1e6 * memory_mb / bytes_per_pixel(network, self.body_dtype)

    @classmethod
    def load(
        cls,
        path: Path,
        conditions: Conditions,
        device: str = "cpu",
        precision: Precision = "auto",
        memory_mb: float = DlSrqpiSettings().memory_mb,
    ) -> DlSrqpiReconstructor:
        """From a weights file. Raises `MethodError` if it can't be used."""
        return cls(load_network(path)[0], conditions, device, precision, memory_mb)

    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """Reconstruct; `valid` ``[B, 1, Y, X]`` marks pixels that can be trusted. A dark frame is a `SlotError`."""
        if frames.ndim != 4 or frames.shape[1] != 1:
            raise MethodError(
                f"dl_srqpi was given frames of shape {tuple(frames.shape)}",
                "give one frame a measurement: [B, 1, Y, X]",
            )
        with torch.inference_mode():
            # In one layout: sums over another would round another way.
            frames = frames.to(self._device, torch.float32).contiguous()
            good = valid.to(self._device) & torch.isfinite(frames)
            filled = fill_invalid(frames, good)[:, 0]
            if not bool((filled.mean((-2, -1)) > 0).all()):
                raise SlotError("a frame has no light", "look at lamp, shutter and exposure time")
            if not len(filled):
                u = self._network.record.upsampling
                return Reconstruction(
                    filled.new_empty(0, 1, u * frames.shape[2], u * frames.shape[3])
                )
            phases = [self._computing(frame)(frame) for frame in torch.split(filled, 1)]
            # One is not copied: that takes as long as a layer.
            return Reconstruction(phases[0] if len(phases) == 1 else torch.cat(phases))

    def _computing(self, frame: torch.Tensor) -> Compute:
        """What makes ``[1, 1, u·Y, u·X]`` of frames like this one, ``[1, Y, X]`` without gaps."""
        shape = (int(frame.shape[-2]), int(frame.shape[-1]))
        if shape not in self._ready:
            if len(self._ready) == _MOST_SHAPES:
                del self._ready[next(iter(self._ready))]
            compute = self._prepared(shape)
            self._ready[shape] = replayed(compute, frame) if self._graphs else compute
        return self._ready[shape]

    def _prepared(self, shape: tuple[int, int]) -> Compute:
        inputs = NetworkInputs(self.conditions, shape, self._device)
        kernels = inputs.kernels(self._network.record.upsampling)
        tiles = plan_tiles(
            shape,
            reach=self._network.reach + self._network.comparisons * (kernels.shape[-1] - 1),
            multiple=self._network.multiple,
            most_px=self._most_px,
        )

        def compute(frame: torch.Tensor) -> torch.Tensor:
            phase = by_tiles(self._network, inputs(frame), self._numbers, kernels, tiles)
            # In place: a new tensor of this size costs more than the subtraction.
            return phase.sub_(background_level(phase)[..., None, None])

        return compute
