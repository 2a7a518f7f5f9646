"""What a network takes over from another one of its form whose phase is finer or coarser."""

from __future__ import annotations

import torch

from pipeline.methods.dl_srqpi.networks import Network


def inherited(parent: Network, network: Network) -> dict[str, torch.Tensor]:
    """Parameters for `network`, with which its phase is the parent's, binned or repeated to its own pixels.

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
    return {
        name: value
        if own[name].shape == value.shape
        # A last layer with channels for the fine pixels; for their order see `fused.fine_image`.
        else _resampled(value, parent.record.upsampling, network.record.upsampling)
        for name, value in parent.state_dict().items()
    }


def _resampled(value: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """``[old², stride², ...]`` channels as ``[new², stride², ...]``, both flat: means over the fine pixels' areas."""
    shares = _shares(old, new)
    places = value.reshape(old, old, -1, *value.shape[1:])
    return torch.einsum("ai,bj,ij...->ab...", shares, shares, places).flatten(0, 2)


def _shares(old: int, new: int) -> torch.Tensor:
    """``[new, old]`` share of each of `new` pixels that lies in each of `old`, over the same length."""
    mine, theirs = torch.arange(new)[:, None] / new, torch.arange(old) / old
    overlap = torch.minimum(mine + 1 / new, theirs + 1 / old) - torch.maximum(mine, theirs)
    return new * overlap.clamp_min(0)
