"""All that a row compares: the network, and what it has to beat, on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.errors import MethodError
from pipeline.evaluation.linear_oracle import linear_oracle
from pipeline.evaluation.plan import Row
from pipeline.evaluation.tie_dct import TieDct
from pipeline.experiment import Condenser, Experiment
from pipeline.methods.contract import Reconstructor
from pipeline.methods.dl_srqpi import DlSrqpi
from pipeline.methods.dl_srqpi.conditions import Conditions
from pipeline.methods.dl_srqpi.fit import PACKAGED, packaged, true_conditions, why_unfit
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.tie import Tie
from pipeline.quality import nyquist_oracle

Image = NDArray[np.float32]

NETWORK = "network"
ORACLES = ("nyquist_oracle", "linear_oracle")
"""What is told the truth, or of it: they bound, and nobody has them."""
BASELINES = (*ORACLES, "tie_fft", "tie_dct", "srcnn", "bicubic")
TUNED = ("tie_fft", "tie_dct", "bicubic")
SRCNN_FIX = (
    "train one under the network's conditions with `livephase train dl_srqpi --experiment EXPERIMENT.yaml "
    "--network srcnn`, and give it as --srcnn"
)


@dataclass(frozen=True)
class Tuning:
    """Settings of one TIE under the conditions of one row.

    Parameters
    ----------
    first
        Its first frame's focus in units of the second's: -1 or 0.
    regularisation
        See `TieDct` and `pipeline.methods.tie`.
    """

    first: float
    regularisation: float


# By row and name of the contender.
Tunings = Mapping[Row, Mapping[str, Tuning]]


class Contenders:
    """Phases ``[s·Y, s·X]`` from noisy frames ``[Y, X]`` of one specimen, not aligned to the truth.

    - ``network``: through the live path, `Method.load`, at the row's z and S.
    - ``nyquist_oracle``: the truth, low-passed at the camera's Nyquist frequency. Not a method: what beats it
      resolves beyond the pixels.
    - ``linear_oracle``: see there. Not a method, either.
    - ``tie_fft``: `pipeline.methods.tie` from two frames (one more than the network gets) on the camera's
      grid, interpolated.
    - ``tie_dct``: `TieDct` from two frames, interpolated.
    - ``srcnn``: the paper's learned baseline, trained on the same data.
    - ``bicubic``: FFT-TIE from the network's own frame, the one in focus taken as even, interpolated.

    Interpolation is bicubic. Loaded ones are kept: use one object for many fields.
    """

    def __init__(
        self,
        experiment: Experiment,
        weights: Path,
        srcnn: Path | None,
        upsampling: int,
        tunings: Tunings,
    ) -> None:
        self._experiment = experiment
        self._weights = {NETWORK: weights} | ({"srcnn": srcnn} if srcnn else {})
        self._upsampling = upsampling
        self._tunings = tunings
        self._loaded: dict[tuple[str, float, float, int], Reconstructor] = {}

    def foci(self, row: Row) -> set[float]:
        """Where frames are needed."""
        firsts = {tuning.first * row.z_um for tuning in self._tunings.get(row, {}).values()}
        return {row.z_um} | firsts

    def images(
        self, row: Row, truth: Image, frames: Mapping[float, Image]
    ) -> Iterator[tuple[str, Image]]:
        """Each contender's, by name.

        Parameters
        ----------
        frames
            By focus in µm: `foci` of the row.
        """
        frame = frames[row.z_um]
        for name in self._weights:
            yield name, self.network(name, row, frame)
        yield "nyquist_oracle", nyquist_oracle(truth, self._upsampling).astype(np.float32)
        conditions = row_conditions(self._experiment, row)
        yield "linear_oracle", linear_oracle(truth, frame, conditions, self._upsampling)
        for name, tuning in self._tunings.get(row, {}).items():
            # bicubic has one frame: what would be in focus is as even as a transparent specimen's.
            first = np.ones_like(frame) if name == "bicubic" else frames[tuning.first * row.z_um]
            yield name, self.tie(name, row, tuning, first, frame)

    def network(self, name: str, row: Row, frame: Image) -> Image:
        """Of the network, or of SRCNN."""
        side = frame.shape[-1]
        key = (name, row.z_um, row.coherence, side)
        if key not in self._loaded:
            self._loaded[key] = DlSrqpi().load(
                taken(self._experiment, row, (row.z_um,), side),
                Calibration(),
                "cpu",
                self._weights[name],
            )
        return reconstruct(self._loaded[key], frame)

    def tie(self, name: str, row: Row, tuning: Tuning, first: Image, second: Image) -> Image:
        """Of a TIE with some settings, interpolated."""
        foci = (tuning.first * row.z_um, row.z_um)
        side = second.shape[-1]
        experiment = taken(self._experiment, row, foci, side)
        if name == "tie_dct":
            solve = TieDct(
                (side, side), experiment.pixel_um, experiment.optics, foci, tuning.regularisation
            )
            return self._interpolated(torch.from_numpy(solve(first, second).astype(np.float32)))
        settings = {"regularisation": tuning.regularisation}
        reconstruction = experiment.reconstruction.model_copy(
            update={"method": "tie", "settings": settings}
        )
        experiment = experiment.model_copy(update={"reconstruction": reconstruction})
        tie = Tie().load(experiment, Calibration(), "cpu", None)
        return self._interpolated(torch.from_numpy(reconstruct(tie, first, second)))

    def _interpolated(self, phase: torch.Tensor) -> Image:
        fine = torch.nn.functional.interpolate(
            phase[None, None], scale_factor=self._upsampling, mode="bicubic", align_corners=False
        )
        return np.asarray(fine[0, 0].numpy())


def taken(experiment: Experiment, row: Row, foci_um: tuple[float, ...], side: int) -> Experiment:
    """The same instrument with other foci, coherence and edge of a frame."""
    light = experiment.illumination
    assert isinstance(light, Condenser)  # others are refused before any table is made
    microscope = experiment.microscope
    camera = microscope.camera.model_copy(update={"shape_px": (side, side)})
    return experiment.model_copy(
        update={
            "microscope": microscope.model_copy(update={"camera": camera}),
            "illumination": light.model_copy(update={"coherence": row.coherence}),
            "sequence": experiment.sequence.model_copy(update={"foci_um": foci_um}),
        }
    )


def row_conditions(experiment: Experiment, row: Row) -> Conditions:
    """What a network is told of a row's frames."""
    return true_conditions(taken(experiment, row, (row.z_um,), 64), None, 0)


def reconstruct(method: Reconstructor, *frames: Image) -> Image:
    """One measurement ``[Y, X]`` each through a loaded method."""
    stack = torch.stack([torch.from_numpy(np.ascontiguousarray(f, np.float32)) for f in frames])
    result = method(stack[None], torch.ones_like(stack[None], dtype=torch.bool))
    return np.asarray(result.images[0, 0].float().numpy())


def packaged_srcnn(
    experiment: Experiment, rows: Sequence[Row], upsampling: int, folder: Path = PACKAGED
) -> Path:
    """SRCNN's weights for these optics.

    Raises
    ------
    MethodError
        If livephase has none.
    """
    reasons = []
    for path in packaged("srcnn", folder):
        reason = why_no_srcnn(path, experiment, rows, upsampling)
        if not reason:
            return path
        reasons.append(f"{path.name}: {reason}")
    raise MethodError(
        f"no SRCNN comes with livephase for these optics ({'; '.join(reasons) or 'none is installed'})",
        f"its row stays empty; {SRCNN_FIX}",
    )


def why_no_srcnn(path: Path, experiment: Experiment, rows: Sequence[Row], upsampling: int) -> str:
    """The first reason why weights can't be the learned baseline in these rows, or nothing.

    Raises
    ------
    MethodError
        If they can't be read.
    """
    if not path.is_file():
        return "there is no such file"
    record = read_record(path)
    if record.network.form != "srcnn":
        return f"its network is of the form {record.network.form}, not srcnn"
    if record.network.upsampling != upsampling:
        return f"its phase is {record.network.upsampling} times finer, the network's {upsampling} times"
    reasons = (why_unfit(record, row_conditions(experiment, row)) for row in rows)
    return next(filter(None, reasons), "")
