"""`livephase train dl_srqpi`: weights for one's own optics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment
from pipeline.instrument import resolve_calibration
from pipeline.methods.dl_srqpi.fit import weights_named
from pipeline.methods.dl_srqpi.networks import Network, build_network
from pipeline.methods.dl_srqpi.record import NetworkRecord, TrainingRecord, WeightsRecord
from pipeline.methods.dl_srqpi.weights import load_network, save_weights
from pipeline.methods.weights_file import sha256
from pipeline.training import Scope
from pipeline.training.inherit import inherited
from pipeline.training.model_card import write_model_card
from pipeline.training.optics import training_optics, weights_name
from pipeline.training.pictures import save_picture
from pipeline.training.presets import network_name, network_named
from pipeline.training.recordings import has_truth, label_quality
from pipeline.training.settings import FINE_TUNING, TrainingSettings, sized
from pipeline.training.sources import make_sources
from pipeline.training.task import dl_srqpi_task
from pipeline.training.trainer import Event, Trainer, given_budget
from pipeline.training.validation import Validation

_NETWORK = "base"
_CHECKPOINT = ".checkpoint"
_PICTURED = 4


def train_dl_srqpi(
    experiment: Experiment,
    out: Path | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    network: str | None = None,
    scope: Scope = "own",
    upsampling: int = 4,
    begin_from: Path | None = None,
    recordings: Sequence[Path] = (),
    fields: int | None = None,
    batch: int | None = None,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a network for an experiment's optics.

    First the simulated fields are made, once for all trainings of the same optics and seed, then the training
    begins. Stopped or killed at any time, the same call goes on where it was.

    Beside `out` lie a checkpoint until all is done, the fields it is trained on (``fields-….pt``, for the next
    training; delete them when done), and for good a log with one JSON object a line, pictures and
    a model card.

    Parameters
    ----------
    out
        The weights file, ``.safetensors``; named after the optics, in the current folder, where None.
    minutes, steps
        How long to train, without the making of fields: 50 minutes where neither is given. In steps, the
        same seed gives the same weights.
    network
        A name of `presets.NETWORKS`, base where None; where `settings` or `begin_from` bring their own, that.
    scope
        See `training_optics`.
    upsampling
        Phase pixels per camera pixel along each axis.
    begin_from
        Weights to fine-tune, of these optics or of others: a file, or the name of packaged ones (base, fast).
    recordings
        Through-focus recordings of one's own: TIE's phase at their full resolution is the label, their binned
        frames the input, beside simulated ones. They also choose the weights that are kept.
    fields, batch
        Simulated specimens, and patches a step, in place of the settings'.
    report
        Called with each line of the log.

    Returns
    -------
    dict
        ``weights`` (those that validated best: name them in `reconstruction.weights`), ``sha256``,
        ``training``; and for recordings that `livephase simulate` made, ``labels``: how good their labels and the
        network are against the truth (`label_quality`).

    Raises
    ------
    ExperimentError
        If the method can't work with the experiment's light and foci, a recording is of other optics, or an
        argument is impossible.
    MethodError
        If weights can't be read, the checkpoint is another training's, the disk is full, or the training diverges.
    """
    budget = given_budget(minutes, steps)
    optics = training_optics(experiment, resolve_calibration(experiment), scope)
    settings = settings or (FINE_TUNING if begin_from else TrainingSettings())
    settings = sized(settings, fields=fields, batch=batch)
    begun, parent = _begin(begin_from, settings, network or _NETWORK, _checked(upsampling), seed)
    settings = settings.model_copy(update={"network": begun.record})
    name = network_name(begun.record)
    if begin_from and network not in (None, name):
        raise ExperimentError(
            f"the weights {begin_from} are of the network '{name}', not of '{network}'",
            f"begin from weights of '{network}', or leave the network's name out",
        )
    out = out or Path(weights_name(name, optics))
    _check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    def note(line: dict[str, Any]) -> None:
        with out.with_suffix(".log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        report(line)

    sources = make_sources(out.parent, optics, settings, seed, recordings, note)
    validation = Validation(sources.kept_back, settings)
    pictures = out.with_suffix(".pictures")

    def keep(network_now: Network, event: Event) -> None:
        record = TrainingRecord(
            seed=seed,
            steps=event.step,
            samples=event.step * settings.batch,
            fields=sources.specimens,
            images=sources.frames,
            data=sources.words,
            begun_from=parent,
            noise=settings.noise,
            minutes=round(event.seconds / 60, 2),
            validation={k: round(v, 5) for k, v in (event.validation or {}).items()},
            livephase=version("livephase"),
            torch=torch.__version__,
        )
        save_weights(
            network_now,
            WeightsRecord(name=name, network=begun.record, optics=optics, training=record),
            out,
        )
        save_picture(
            network_now,
            validation.cases[:_PICTURED],
            pictures / f"step_{event.step:06d}.png",
            f"{out.stem}, step {event.step}",
        )

    trainer = Trainer(
        dl_srqpi_task(begun, sources.batches(settings)),
        settings,
        seed,
        budget,
        f"{optics.model_dump_json()}|{parent}|{sources.fingerprint()}",
        out.with_suffix(_CHECKPOINT),
        device,
    )
    note({"begins_at_step": trainer.step, "device": device, "threads": torch.get_num_threads()})
    trainer.run(validation, keep, lambda event: note(_line(event)))
    best, record = load_network(out)
    labels = {
        path.name: label_quality(path, optics, begun.record.upsampling, {"network": best})
        for path in recordings
        if has_truth(path)
    }
    write_model_card(out, record, experiment.name, sources.kept_back_words, labels)
    trainer.forget()
    result = {
        "weights": str(out),
        "sha256": sha256(out),
        "training": record.training.model_dump(mode="json"),
    }
    return {**result, "labels": labels} if labels else result


def _checked(upsampling: int) -> int:
    try:
        return NetworkRecord(upsampling=upsampling).upsampling
    except ValidationError as error:
        raise ExperimentError(
            f"no network makes the phase {upsampling} times finer than the camera's pixels",
            "give an upsampling of 1 to 8",
        ) from error


def _check_out(out: Path) -> None:
    """Refuse a file that can't be written, or that somebody may want to keep."""
    if out.suffix != ".safetensors":
        raise ExperimentError(
            f"the weights {out} would not be taken for weights",
            "give --out a name that ends in .safetensors",
        )
    if out.exists() and not out.with_suffix(_CHECKPOINT).exists():
        raise ExperimentError(
            f"{out} is there already, and no training of it is under way",
            "give another --out, or delete the file to train anew",
        )


def _begin(
    begin_from: Path | None, settings: TrainingSettings, name: str, upsampling: int, seed: int
) -> tuple[Network, str]:
    """The network to train, and the sha256 of the weights that it begins with."""
    torch.manual_seed(seed)
    if begin_from is None:
        record = settings.network
        if "network" not in settings.model_fields_set:
            record = network_named(name, upsampling)
        return build_network(record), ""
    begin_from = weights_named(begin_from)
    parent, record_there = load_network(begin_from)
    record = record_there.network.model_copy(update={"upsampling": upsampling})
    network = build_network(record)
    network.load_state_dict(inherited(parent, network))
    return network, sha256(begin_from)


def _line(event: Event) -> dict[str, Any]:
    line: dict[str, Any] = {
        "step": event.step,
        "minutes": round(event.seconds / 60, 2),
        "progress": round(event.progress, 4),
        "learning_rate": event.learning_rate,
    }
    if math.isfinite(event.loss):
        line["loss"] = round(event.loss, 5)
    if event.validation is not None:
        line |= {"validation": event.validation, "kept": event.best}
    return line
