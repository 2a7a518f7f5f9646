"""What a training of neuph makes smaller, and on what."""

from __future__ import annotations

import torch

from pipeline.methods.neuph.networks import NeuPh
from pipeline.training.neuph.batches import QueryBatch, QueryBatches
from pipeline.training.trainer import Task

# Of a field's range: an error below it is as good as none.
_LEAST = 0.003
_LEAST_SPAN_RAD = 0.5
# A crop shows the background where this share of it lies this near zero, in units of its field's range.
_BACKGROUND_SHARE, _NEAR_ZERO = 0.1, 0.02
# Of a field's range: an error of a crop's mean that weighs as much as all else.
_MEAN_ERROR = 0.014


def neuph_task(network: NeuPh, batches: QueryBatches, upsampling: int) -> Task[NeuPh, QueryBatch]:
    """A network on coordinates."""

    def loss(network: NeuPh, batch: QueryBatch, device: torch.device, bf16: bool) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            phase = network(
                batch.inputs.to(device).contiguous(memory_format=torch.channels_last),
                batch.rows.to(device),
                batch.columns.to(device),
                1 / upsampling,
            )
        return query_loss(phase, batch.phases.to(device), batch.spans.to(device))

    return Task(network, NeuPh.inner_kernels, batches.draw, loss)


def query_loss(phase: torch.Tensor, truth: torch.Tensor, spans: torch.Tensor) -> torch.Tensor:
    """How far crops are from the truth, in units of each one's field's range: its details, its large parts, its mean.

    - Mean over crops of the logarithm of the mean absolute error, as in `pipeline.training.loss.error_loss`: in a
      logarithm a crop counts by the share of its error that a step removes, or thick and hopeless ones would decide
      alone.
    - Logarithm of the root of all crops' mean squared error: what decides between thick and thin.
    - Mean of the squared error of each crop's mean phase.

    Parameters
    ----------
    phase, truth
        ``[B, Q]`` radians.
    spans
        ``[B]`` data range of each crop's whole field, radians.

    Decision: three errors. Of a cell that may be as high as this or that, an absolute error asks for the median, and
    its logarithm for what is most frequent. Both lie below the mean: with the absolute error alone all ten of the
    evaluation's fields of cells came out too flat (38 others, kept back: by 12 % on average, median 8 %), with
    a background of exactly zero, so that a whole field was off by a piston. Squared errors have no such bias. From
    those weights, nine minutes of a core each, SSIM and mean squared error of the ten fields, SSIM of six of leaves:
    before 0.648, 0.0074 rad², 0.563; with the squared error too 0.672, 0.0067, 0.578; with that of the mean instead
    0.737, 0.0063, 0.554. No control went on for nine minutes with the absolute error alone, and as the evaluation's
    own fields were looked at, its figures are no blind test of this choice.

    Decision: a crop without background is compared less its mean. Light doesn't tell a constant, and where no
    background is near nothing else does: an error that no network can avoid, and so large that in absolute errors
    the details went without a gradient. Both trials above had it; it was not tried by itself.

    Decision: no structure loss as of dl_srqpi, which needs blocks of neighbouring points. A block of ten camera
    pixels is mostly background, whose small errors then outweigh the heights of cells. Two trainings alike but for
    that, from the same weights, ten minutes of a core each: SSIM 0.732 without and 0.712 with it, 0.191 and 0.214 rad.
    """
    spans = spans.clamp_min(_LEAST_SPAN_RAD)[:, None]
    error = (phase - truth) / spans
    mean = error.mean(1)
    anchored = (truth.abs() < _NEAR_ZERO * spans).float().mean(1) > _BACKGROUND_SHARE
    error = error - torch.where(anchored, 0.0, mean)[:, None]
    details = (error.abs().mean(1) + _LEAST).log().mean()
    large = (error.square().mean() + _LEAST**2).log() / 2
    return details + large + (mean * anchored / _MEAN_ERROR).square().mean()
