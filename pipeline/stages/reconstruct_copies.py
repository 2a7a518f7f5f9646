"""Frames on their way to the device, images on their way back; on a GPU both through page-locked memory.

Decision. The phase of a 512² frame, float32 at 2048², is 16.8 MB; the frame is 0.5 MB. Over PCIe 4 x16
(nominally 25 GB/s) that is 0.7 ms and 0.02 ms from page-locked memory, several times as long from any other,
and the process waits for it; at 200 frames a second a frame has 5 ms. So frames are chosen into a
page-locked buffer, and an image is copied into page-locked memory on a stream of its own while the check
against the measured light computes. The ring itself is not registered: a slot may be overwritten while it
is read, so it is copied and its sequence number is looked at before anything is made of it. Nor does the
next slot's way in overlap with this one's computing: that would win 0.02 ms. Computed from
sizes; no GPU was at hand to measure it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray


class HostCopies:
    """Copies of one worker, one slot after the other.

    Parameters
    ----------
    device
        Where it computes.
    shape, dtype
        Of the frames of a measurement, ``[K, Y, X]``.
    """

    def __init__(self, device: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        if self._on_gpu:
            like = torch.from_numpy(np.empty(0, dtype))
            self._frames = torch.empty(shape, dtype=like.dtype, pin_memory=True)
            self._beside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._sent = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def send(
        self, frames: NDArray[np.unsignedinteger], indices: list[int]
    ) -> tuple[NDArray[np.unsignedinteger], torch.Tensor]:
        """``frames[indices]``, copied: the caller's memory may be a ring's, or read-only; and as a tensor.

        On a GPU the tensor is on it, or will be for what is computed next; the array is good until the next call.
        """
        if not self._on_gpu:
            chosen = frames[indices]
            return chosen, torch.from_numpy(chosen)
        # The slot before may have failed while its frames were on their way.
        self._sent.synchronize()
        # Without `clip`, numpy would fill a buffer of its own first; the indices are right.
        chosen = np.take(frames, indices, axis=0, out=self._frames.numpy(), mode="clip")
        there = self._frames.to(self._device, non_blocking=True)
        self._sent.record(torch.cuda.current_stream(self._device))
        return chosen, there

    def fetch(self, images: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
        """Begin to copy images, not to be changed meanwhile, to the host; the answer waits and gives them."""
        if images.device.type != "cuda":
            return lambda: images.cpu().contiguous().numpy()
        self._beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._beside):
            host = torch.empty(images.shape, dtype=images.dtype, pin_memory=True)
            host.copy_(images, non_blocking=True)
            # Their memory may be given to another tensor only after this stream has read it.
            images.record_stream(self._beside)
            fetched = self._beside.record_event()

        def wait() -> NDArray[np.float32]:
            fetched.synchronize()
            return host.numpy()

        return wait
