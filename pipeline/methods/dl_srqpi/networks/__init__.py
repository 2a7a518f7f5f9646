"""The networks, one file a form, all called alike: ``network(inputs, conditions, kernels)``.

Inputs ``[B, CHANNELS, Y, X]`` and kernels ``[B, u², n, n]`` of `NetworkInputs`, conditions ``[B, NUMBERS]`` of
`Conditions.numbers`; out comes phase ``[B, 1, u·Y, u·X]`` in radians, whose piston means nothing yet.
"""

from __future__ import annotations

from pipeline.methods.dl_srqpi.networks.layers import Network
from pipeline.methods.dl_srqpi.networks.residual import ResidualUNet
from pipeline.methods.dl_srqpi.networks.srcnn import Srcnn
from pipeline.methods.dl_srqpi.networks.unet import PaperUNet, SubPixelUNet
from pipeline.methods.dl_srqpi.record import Form, NetworkRecord

__all__ = ["Network", "build_network"]

_FORMS: dict[Form, type[Network]] = {
    "residual": ResidualUNet,
    "sub_pixel": SubPixelUNet,
    "paper": PaperUNet,
    "srcnn": Srcnn,
}


def build_network(record: NetworkRecord) -> Network:
    """The network that a weights file describes, with fresh weights."""
    return _FORMS[record.form](record)
