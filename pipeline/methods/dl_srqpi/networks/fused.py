"""What a processor does faster in one pass over memory than layer by layer, where no gradient is asked for.

At 2048² tensors of 16 to 64 MB lie between the convolutions, each written, read again and its pages given back.
Processor time of the base network at 512² (bf16, one thread): 439 ms layer by layer, 425 with
convolutions fused, 430 with the last layer in strips, 404 with both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Camera rows of a strip: what is made of them stays in a processor's cache.
_STRIP = 32


def convolve(
    layer: nn.Conv2d, x: torch.Tensor, *, plus: torch.Tensor | None = None, relu: bool = False
) -> torch.Tensor:
    """``layer(x) + plus``, and max(·, 0) of it where `relu`: one operation on a processor."""
    if not _fusable(layer, x):
        out: torch.Tensor = layer(x)
        out = out if plus is None else plus + out
        return functional.relu(out) if relu else out
    # oneDNN's own, by the names that torch's compiler calls them.
    operations: Any = torch.ops.mkldnn
    shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
    after = "relu" if relu else None
    if plus is None:
        fused: torch.Tensor = operations._convolution_pointwise(
            x, layer.weight, layer.bias, *shape, after or "none", [], ""
        )
    else:
        fused = operations._convolution_pointwise.binary(
            x, plus, layer.weight, layer.bias, *shape, "add", None, after, [], None
        )
    return fused


def fine_image(
    head: nn.Conv2d, features: torch.Tensor, upsampling: int, plus: torch.Tensor | None = None
) -> torch.Tensor:
    """Features → image on the fine grid: ReLU, last layer in float32 and pixel shuffle.

    The last layer computes in float32 whatever the features are: bf16 phases would step by 0.4 %.

    Parameters
    ----------
    head
        3 x 3 with padding; its u² channels are in the order of a pixel shuffle.
    features
        ``[B, C, Y, X]``.
    plus
        ``[B, 1, Y, X]``, added to all phase pixels of each, or ``[B, u², Y, X]``, in the order of a pixel shuffle.

    Returns
    -------
    torch.Tensor
        ``[B, 1, u·Y, u·X]`` float32.
    """
    with torch.autocast(features.device.type, enabled=False):
        if features.device.type == "cpu" and not torch.is_grad_enabled():
            return _by_strips(head, features, upsampling, plus)
        details: torch.Tensor = head(functional.relu(features.float()))
        details = details if plus is None else details + plus
        return functional.pixel_shuffle(details, upsampling)


def _by_strips(
    head: nn.Conv2d, features: torch.Tensor, upsampling: int, plus: torch.Tensor | None
) -> torch.Tensor:
    batch, _, rows, columns = features.shape
    u = upsampling
    image = features.new_empty((batch, 1, u * rows, u * columns), dtype=torch.float32)
    # [B, Y, 1 row of fine pixels each, X, fine pixels in it]
    places = image.view(batch, rows, u, columns, u)
    for start in range(0, rows, _STRIP):
        end = min(start + _STRIP, rows)
        # A row more at each side, which is not kept: the convolution reaches there.
        first, last = max(start - 1, 0), min(end + 1, rows)
        strip = functional.relu(features[:, :, first:last].float(), inplace=True)
        details = functional.conv2d(strip, head.weight, head.bias, padding=1)
        details = details[:, :, start - first : end - first]
        if plus is not None:
            details = details + plus[:, :, start:end]
        places[:, start:end] = torch.unflatten(details, 1, (u, u)).permute(0, 3, 1, 4, 2)
    return image


def _fusable(layer: nn.Conv2d, x: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == layer.weight.dtype
        and layer.padding_mode == "zeros"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
