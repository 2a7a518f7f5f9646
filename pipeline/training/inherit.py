"""What a network takes over from another one of its form whose phase is finer or coarser."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.inputs import CHANNELS
from pipeline.methods.dl_srqpi.networks import Network


def inherited(parent: Network, network: Network) -> dict[str, torch.Tensor]:
    """Parameters for `network`, with which its phase is the parent's, binned or repeated to its own pixels.

    Of several U-Nets nearly so: what the later ones are told is finer or coarser, too.

    Forms that enlarge the frame before they look at it just go on with the same parameters.

    Parameters
    ----------
    parent, network
        Alike but for `NetworkRecord.upsampling`.

    Returns
    -------
    dict
        For `load_state_dict`.
    """
    own = network.state_dict()
    old, new = parent.record.upsampling, network.record.upsampling

    def taken(name: str, value: torch.Tensor) -> torch.Tensor:
        if own[name].shape == value.shape:
            return value
        if len(own[name]) == len(value):
            return _told_again(value, old, new)
        # A last layer with channels for the fine pixels; for their order see `fused.fine_image`.
        return _resampled(value, old, new)

    return {name: taken(name, value) for name, value in parent.state_dict().items()}


def _told_again(value: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """A layer that reads inputs, fine pixels' phase and what they are asked for, and more: of pixels of another size.

    The same output where the phase is even within the larger of the two pixels.
    """
    fine = old**2
    parts = [CHANNELS, fine, fine, value.shape[1] - CHANNELS - 2 * fine]
    inputs, phase, asked, more = torch.split(value, parts, dim=1)
    shares = _shares(new, old)

    def spread(part: torch.Tensor) -> torch.Tensor:
        places = torch.unflatten(part, 1, (old, old))
        return torch.einsum("ia,jb,oij...->oab...", shares, shares, places).flatten(1, 2)

    # A pixel is asked for in proportion to its area.
    return torch.cat([inputs, spread(phase), (new / old) ** 2 * spread(asked), more], 1)


def _resampled(value: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """``[old², ...]`` channels as ``[new², ...]``: means over the fine pixels' areas."""
    shares = _shares(old, new)
    places = value.reshape(old, old, *value.shape[1:])
    return torch.einsum("ai,bj,ij...->ab...", shares, shares, places).flatten(0, 1)


def _shares(old: int, new: int) -> torch.Tensor:
    """``[new, old]`` share of each of `new` pixels that lies in each of `old`, over the same length."""
    mine, theirs = torch.arange(new)[:, None] / new, torch.arange(old) / old
    overlap = torch.minimum(mine + 1 / new, theirs + 1 / old) - torch.maximum(mine, theirs)
    return new * overlap.clamp_min(0)
