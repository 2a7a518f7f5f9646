"""`livephase bench dl_srqpi`: how long the networks take, beside the paper's, and how good they are.

The baseline is the paper's form at width 64 as it comes from training: float32, norms not folded, layer by
layer. Its time doesn't depend on its weights, so it has none. The networks go the live path. All take
turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch

from pipeline.bench.dl_srqpi_gpu import GpuBench
from pipeline.bench.machine import load_average, processor
from pipeline.calibration import Calibration
from pipeline.errors import LivephaseError
from pipeline.evaluation.contenders import reconstruct, taken
from pipeline.evaluation.plan import Plan, rows_for
from pipeline.evaluation.scores import mean_scores, score
from pipeline.evaluation.setting import Setting, imaged
from pipeline.experiment import Experiment
from pipeline.lifecycle.demo import demo_experiment
from pipeline.methods.dl_srqpi import DlSrqpi
from pipeline.methods.dl_srqpi.fit import PACKAGED, default_weights
from pipeline.methods.dl_srqpi.header import read_record
from pipeline.methods.dl_srqpi.inference import DlSrqpiReconstructor
from pipeline.methods.dl_srqpi.inputs import CHANNELS
from pipeline.methods.dl_srqpi.networks import build_network
from pipeline.methods.dl_srqpi.record import NetworkRecord
from pipeline.methods.dl_srqpi.settings import Packaged
from pipeline.methods.weights_file import sha256

PAPER = NetworkRecord(form="paper", width=64, levels=4)
# Beside the packaged networks, untrained, for what their forms cost on the live path.
FORMS = (
    PAPER,
    NetworkRecord(form="paper", width=16, levels=4),
    NetworkRecord(form="sub_pixel", width=64, levels=3),
    NetworkRecord(form="sub_pixel", width=32, levels=3),
)


@dataclass(frozen=True)
class DlSrqpiBench:
    """The measurement's size.

    Parameters
    ----------
    field_px
        Edge of a frame in camera pixels.
    fields
        Of the evaluation set's headline; the first eight are of different families.
    repeats
        Turns of the networks.
    reference_runs
        Of the baseline, which takes half a minute or more, and of `forms`; the first turns have them.
    threads
        Of torch.
    """

    field_px: int = 512
    fields: int = 8
    repeats: int = 9
    reference_runs: int = 2
    threads: int = 2
    baseline: NetworkRecord = PAPER
    forms: tuple[NetworkRecord, ...] = FORMS
    gpu: GpuBench = field(default_factory=GpuBench)

    def measure(self, folder: Path = PACKAGED, disk: Path | None = None) -> dict[str, Any]:
        """Time and score the packaged networks.

        Parameters
        ----------
        folder
            Of the weights.
        disk
            A folder on the disk that a GPU's runs are written to; the system's for temporary files where None.

        Returns
        -------
        dict
            ``networks {name: {seconds, ssim, speedup, …}}``, ``reference {name, seconds}``, ``forms`` (untrained,
            on the live path), ``gpu``, and ``conditions``.

        Raises
        ------
        MethodError
            If a network that livephase names isn't there, or can't be read.
        """
        experiment = demo_experiment("dl_srqpi")
        files = {name: _packaged(experiment, name, folder) for name in get_args(Packaged)}
        before, load = torch.get_num_threads(), load_average()
        # Made first: a folder that can't be written to is found before the minutes of measuring.
        with tempfile.TemporaryDirectory(prefix="livephase-bench-", dir=disk) as temporary:
            torch.set_num_threads(min(self.threads, os.cpu_count() or 1))
            try:
                threads = torch.get_num_threads()
                seconds, ranges, precision = self._times(experiment, files)
                quality = self._quality(experiment, files)
            finally:
                torch.set_num_threads(before)
            try:
                gpu = self.gpu.measure(experiment, files["base"], self.baseline, Path(temporary))
            except LivephaseError as error:  # what was measured of the CPU is kept
                gpu = {"skipped": str(error)}
        reference = seconds[_title(self.baseline, plain=True)]
        networks = {
            name: {
                "seconds": seconds[name],
                "seconds_range": ranges[name],
                "speedup": round(reference / seconds[name], 2),
                **quality[name],
                "parameters_million": _parameters(read_record(path).network),
                "form": _title(read_record(path).network),
                "weights": path.name,
                "sha256": sha256(path),
            }
            for name, path in files.items()
        }
        return {
            "networks": networks,
            "reference": {
                "name": _title(self.baseline, plain=True),
                "seconds": reference,
                "runs": self.reference_runs,
            },
            "forms": {
                _title(form): {
                    "seconds": seconds[_title(form)],
                    "speedup": round(reference / seconds[_title(form)], 2),
                }
                for form in self.forms
            },
            "gpu": gpu,
            "conditions": {
                "frame_shape": [self.field_px, self.field_px],
                "repeats": self.repeats,
                "threads": threads,
                "precision": precision,
                "processor": processor(),
                "cores": os.cpu_count(),
                "load_average_before": load,
                "torch": torch.__version__,
                "specimens": self._setting(experiment, files["base"]).headline_set.name,
            },
        }

    def _times(
        self, experiment: Experiment, files: Mapping[str, Path]
    ) -> tuple[dict[str, float], dict[str, list[float]], str]:
        """Median, and least and most, of the seconds a frame by name; the live path's precision."""
        torch.manual_seed(0)
        frame = 1 + 0.05 * torch.randn(1, 1, self.field_px, self.field_px)
        valid = torch.ones_like(frame, dtype=torch.bool)
        often: dict[str, Callable[[], object]] = {}
        seldom: dict[str, Callable[[], object]] = {}
        precision = ""
        for name, path in files.items():
            live = self._live(experiment, path)
            precision = str(live.body_dtype).removeprefix("torch.")
            often[name] = _call(live, frame, valid)
        conditions = self._live(experiment, files["base"]).conditions
        for form in self.forms:
            live = DlSrqpiReconstructor(build_network(form), conditions)
            seldom[_title(form)] = _call(live, frame, valid)
        plain = build_network(self.baseline).eval()
        inputs = torch.cat([frame - 1] * CHANNELS, dim=1)
        numbers = torch.from_numpy(conditions.numbers())[None]
        # It compares nothing, so it is given nothing to compare by.
        told = inputs, numbers, torch.empty(0)
        seldom[_title(self.baseline, plain=True)] = _call(plain, *told)
        taken_s: dict[str, list[float]] = {name: [] for name in (*often, *seldom)}
        with torch.inference_mode():
            # Kernels are chosen, and memory is taken, at the first call.
            for call in often.values():
                call()
            for turn in range(max(self.repeats, self.reference_runs)):
                due = {**often, **(seldom if turn < self.reference_runs else {})}
                for name, call in due.items():
                    began = time.perf_counter()
                    call()
                    taken_s[name].append(time.perf_counter() - began)
        return (
            {name: round(median(times), 4) for name, times in taken_s.items()},
            {name: [round(min(t), 4), round(max(t), 4)] for name, t in taken_s.items()},
            precision,
        )

    def _live(self, experiment: Experiment, path: Path) -> DlSrqpiReconstructor:
        row = self._setting(experiment, path).rows.headline
        here = taken(experiment, row, (row.z_um,), self.field_px)
        live = DlSrqpi().load(here, Calibration(), "cpu", path)
        assert isinstance(live, DlSrqpiReconstructor)
        return live

    def _quality(
        self, experiment: Experiment, files: Mapping[str, Path]
    ) -> dict[str, dict[str, float | None]]:
        """The headline's figures of `livephase evaluate dl_srqpi`, on the first fields of its set."""
        settings = {name: self._setting(experiment, path) for name, path in files.items()}
        rows = {name: setting.rows.headline for name, setting in settings.items()}
        live = {name: self._live(experiment, path) for name, path in files.items()}
        scores: dict[str, list[dict[str, float]]] = {name: [] for name in files}
        # The networks share each field: drawing and imaging one takes longer than all of them.
        some = next(iter(settings.values()))
        farthest_um = max(row.z_um for row in rows.values())
        for number in range(self.fields):
            drawn = some.field(some.headline_set, number, self.field_px, farthest_um)
            if drawn is None:
                continue
            clean = imaged(drawn, {(row.z_um, row.coherence) for row in rows.values()})
            for name, row in rows.items():
                frame = clean[row.z_um, row.coherence]
                noisy = settings[name].noisy(frame, row, row.z_um, number)
                phase = reconstruct(live[name], noisy)
                scores[name].append(score(phase, drawn.truth, settings[name].upsampling))
        return {name: mean_scores(found) for name, found in scores.items()}

    def _setting(self, experiment: Experiment, path: Path) -> Setting:
        record = read_record(path)
        plan = Plan(fields=self.fields, field_px=self.field_px)
        rows = rows_for(plan, record.optics)
        return Setting(experiment, path, None, record.network.upsampling, plan, rows, 0)


def table(result: Mapping[str, Any]) -> str:
    """The speed-quality table of a result, in Markdown."""
    lines = [
        "| network | form | parameters | s per frame | times faster | SSIM | foreground | FRC | PSNR | RMSE |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["networks"].items():
        figures = " | ".join(
            _figure(row[key], digits)
            for key, digits in (
                ("ssim", 3),
                ("ssim_foreground", 3),
                ("frc_cutoff", 2),
                ("psnr_db", 1),
                ("rmse_rad", 4),
            )
        )
        lines.append(
            f"| {name} | {row['form']} | {row['parameters_million']} M | {row['seconds']:.3f} | "
            f"{row['speedup']:.1f} | {figures} |"
        )
    for form, row in result["forms"].items():
        lines.append(
            f"| untrained | {form} | | {row['seconds']:.3f} | {row['speedup']:.1f} | | | | | |"
        )
    reference = result["reference"]
    lines.append(
        f"| untrained | {reference['name']} | | {reference['seconds']:.1f} | 1 | | | | | |"
    )
    return "\n".join(lines)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _call(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)


def _packaged(experiment: Experiment, name: str, folder: Path) -> Path:
    settings = experiment.reconstruction.model_copy(update={"settings": {"network": name}})
    return default_weights(experiment.model_copy(update={"reconstruction": settings}), folder)


def _title(network: NetworkRecord, *, plain: bool = False) -> str:
    return f"{network.sizes}, plain float32" if plain else network.sizes


def _parameters(network: NetworkRecord) -> float:
    return round(sum(p.numel() for p in build_network(network).parameters()) / 1e6, 2)


def bench_dl_srqpi(
    disk: Path, size: DlSrqpiBench | None = None, folder: Path = PACKAGED
) -> dict[str, Any]:
    """See `DlSrqpiBench.measure`; up to twelve minutes on two cores."""
    return (size or DlSrqpiBench()).measure(folder, disk)
