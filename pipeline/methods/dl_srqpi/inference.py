"""Live inference: norms folded, channels last, one frame at a time on a processor."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.errors import MethodError
from pipeline.methods.background import zero_background
from pipeline.methods.contract import Reconstruction
from pipeline.methods.dl_srqpi.networks import (
    DlSrqpiNetwork,
    channels_last,
    computes_bf16,
    fold_norms,
    normalise,
)
from pipeline.methods.dl_srqpi.settings import Precision
from pipeline.methods.dl_srqpi.weights import load_network
from pipeline.methods.fill import fill_invalid


class DlSrqpiReconstructor:
    """Frames ``[B, 1, Y, X]`` → phase ``[B, 1, 4Y, 4X]`` in radians, background at zero.

    On a processor each frame goes through the network by itself: convolution libraries choose
    their algorithm by the batch's size, so a frame's bits would depend on its company, and a run
    that was killed and resumed would differ from an undisturbed one.

    Parameters
    ----------
    network
        Is folded and moved.
    contrast_gain
        As in its `WeightsRecord`.
    """

    def __init__(
        self,
        network: DlSrqpiNetwork,
        contrast_gain: float,
        device: str = "cpu",
        precision: Precision = "auto",
    ) -> None:
        self._device = torch.device(device)
        self._gain = contrast_gain
        network = channels_last(fold_norms(network).to(self._device))
        self.body_dtype = _body_dtype(self._device, precision)
        network.body.to(self.body_dtype)
        self._network = network

    @classmethod
    def load(
        cls, path: Path, device: str = "cpu", precision: Precision = "auto"
    ) -> DlSrqpiReconstructor:
        """From a weights file. Raises `MethodError` if it can't be used."""
        network, record = load_network(path)
        return cls(network, record.contrast_gain, device, precision)

    def __call__(self, frames: torch.Tensor, valid: torch.Tensor) -> Reconstruction:
        """Reconstruct; `valid` ``[B, 1, Y, X]`` marks pixels that can be trusted."""
        if frames.ndim != 4 or frames.shape[1] != 1:
            raise MethodError(
                f"dl_srqpi was given frames of shape {tuple(frames.shape)}",
                "give one frame a measurement: [B, 1, Y, X]",
            )
        with torch.inference_mode():
            frames = frames.to(self._device, torch.float32)
            good = valid.to(self._device) & torch.isfinite(frames)
            filled = fill_invalid(frames, good)
            step = 1 if self._device.type == "cpu" else len(filled)
            phases = [self._phase(part) for part in torch.split(filled, max(step, 1))]
            height, width = frames.shape[-2:]
            phase = torch.cat(phases) if phases else frames.new_zeros(0, 1, 4 * height, 4 * width)
        return Reconstruction(phase)

    def _phase(self, frames: torch.Tensor) -> torch.Tensor:
        x = normalise(frames, self._gain)
        phase = self._network(x.contiguous(memory_format=torch.channels_last))
        return zero_background(phase.contiguous())


def _body_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """What the network's body computes in; its last layer is always float32."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if computes_bf16() else torch.float32
