"""Where the background of an image lies: the convention that phase is zero there.

The background is the densest level of an image: cells spread over many values, bare
medium does not. Where no level stands out (a confluent field, or no specimen at all), it is
the field's median. There is no state, so equal images give equal levels at any timepoint.
"""

from __future__ import annotations

import torch

# Enough that the level of a 0.1 rad noise is good to a milliradian, and quick to sort.
_SAMPLES = 16384
# The background must fill this share of the field to be found for certain.
_SHARE = 0.25
# Width of the densest quarter against the interquartile range: 0.5 for a flat distribution, 0.47 for a
# Gaussian, below 0.35 when a level stands out. Between, the answers are blended, so that a
# slow change of the specimen can't make the background jump.
_CLEAR, _UNCLEAR = 0.35, 0.45


def background_level(images: torch.Tensor) -> torch.Tensor:
    """Level of the background of each image.

    Parameters
    ----------
    images
        ``[..., Y, X]``, finite.

    Returns
    -------
    torch.Tensor
        ``[...]``, in the units and of the type of `images`.
    """
    y, x = images.shape[-2:]
    stride = max(1, int((y * x / _SAMPLES) ** 0.5))
    # The offset keeps the grid of samples off the border, where edge effects are.
    values = images[..., stride // 2 :: stride, stride // 2 :: stride].flatten(-2).sort(-1).values
    n = values.shape[-1]
    held = max(1, int(_SHARE * n))
    median = values[..., n // 2]
    if held >= n:
        return median
    widths = values[..., held:] - values[..., :-held]
    width, start = widths.min(-1)
    centre = values.gather(-1, (start + held // 2)[..., None])
    # The densest quarter jitters along a broad peak; the median of what lies around it does not.
    around = (values - centre).abs() <= 2 * width[..., None]
    first = around.to(torch.int8).argmax(-1)
    mode = values.gather(-1, (first + around.sum(-1) // 2)[..., None]).squeeze(-1)
    spread = values[..., 3 * n // 4] - values[..., n // 4]
    # An image of one value has no spread: both answers are that value.
    ratio = width / spread.clamp(min=torch.finfo(values.dtype).tiny)
    trust = ((_UNCLEAR - ratio) / (_UNCLEAR - _CLEAR)).clamp(0, 1)
    return median + trust * (mode - median)


def zero_background(phase: torch.Tensor) -> torch.Tensor:
    """`phase` ``[..., Y, X]`` with its background at zero."""
    return phase - background_level(phase)[..., None, None]
