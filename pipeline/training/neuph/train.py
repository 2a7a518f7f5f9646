"""`livephase train neuph`: weights for one's own LED array."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, nearest
from pipeline.instrument import resolve_calibration
from pipeline.methods.neuph.fit import light_record
from pipeline.methods.neuph.inputs import NeuPhInputs
from pipeline.methods.neuph.networks import NeuPh
from pipeline.methods.neuph.record import (
    NETWORKS,
    LightRecord,
    TrainingRecord,
    WeightsRecord,
)
from pipeline.methods.neuph.weights import load_network, save_weights
from pipeline.methods.weights_file import sha256
from pipeline.training.neuph.batches import PatternNoise, QueryBatches, QuerySet
from pipeline.training.neuph.begin import begin, blind_to_darkfield
from pipeline.training.neuph.card import write_neuph_card
from pipeline.training.neuph.field_cache import FIELDS_VERSION, cached_pattern_fields
from pipeline.training.neuph.light import inputs_of, relative_light, scale_of
from pipeline.training.neuph.recorded import recorded_fields
from pipeline.training.neuph.settings import FINE_TUNING, NeuPhTraining, Specimens
from pipeline.training.neuph.task import neuph_task
from pipeline.training.neuph.validation import NeuPhValidation
from pipeline.training.settings import sized
from pipeline.training.trainer import Event, Trainer, given_budget

_CHECKPOINT = ".checkpoint"
_VALIDATIONS = 10

Note = Callable[[dict[str, Any]], None]


def train_neuph(
    experiment: Experiment,
    out: Path | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    network: str | None = None,
    begin_from: Path | None = None,
    recordings: Sequence[Path] = (),
    specimens: str | None = None,
    fields: int | None = None,
    batch: int | None = None,
    settings: NeuPhTraining | None = None,
    device: str = "auto",
    report: Note = lambda _: None,
) -> dict[str, Any]:
    """Train a network for an experiment's LED patterns. Stopped or killed, the same call goes on where it was.

    Beside `out` lie a checkpoint until all is done, the fields (for the next training), and for good a log and
    a model card.

    Parameters
    ----------
    minutes, steps
        How long to train, without the making of fields: 50 minutes where neither is given.
    network
        compact, paper, or an ablation of compact: cnn_decoder (convolutions to one grid), no_darkfield (brightfield
        frames alone, of the same truth). That of the weights to begin from, or compact, where None.
    begin_from
        A weights file to fine-tune, at a lower learning rate; of another network than `network`, what both have.
    recordings
        Experiment files of single-LED recordings of one's own, to train on beside simulated fields: see
        `recorded_fields`.
    specimens
        living or stained.
    fields, batch
        Simulated specimens, and crops a step, in place of the settings'.
    report
        Called with each line of the log.

    Returns
    -------
    dict
        ``weights``, ``sha256``, ``training``.

    Raises
    ------
    ExperimentError
        If the experiment's light does not fit the method.
    MethodError
        If weights can't be read, the checkpoint is another training's, the disk is full, or the training diverges.
    """
    calibration = resolve_calibration(experiment)
    light = light_record(experiment, calibration)
    budget = given_budget(minutes, steps)
    settings = settings or (FINE_TUNING if begin_from else NeuPhTraining())
    settings = sized(settings, fields=fields, batch=batch)
    if specimens is not None:
        if specimens not in get_args(Specimens):
            raise ExperimentError(
                f"there are no specimens '{specimens}'", nearest(specimens, get_args(Specimens))
            )
        settings = settings.model_copy(update={"specimens": specimens})
    if network is not None and network not in NETWORKS:
        raise ExperimentError(f"there is no network '{network}'", nearest(network, NETWORKS))
    whole = light
    if blind_to_darkfield(begin_from, network):
        light = light.model_copy(
            update={"patterns": tuple(p for p in light.patterns if p.brightfield)}
        )
    begun, name, parent = begin(begin_from, network, settings.network, light, seed)
    settings = settings.model_copy(update={"network": begun.record})
    out = out or Path(_weights_name(name, whole))
    out.parent.mkdir(parents=True, exist_ok=True)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    def note(line: dict[str, Any]) -> None:
        with out.with_suffix(".log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        report(line)

    recorded = [recorded_fields(path, light, settings.upsampling) for path in recordings]
    trained_on, kept_back = (
        made.first(len(light.patterns))
        for made in cached_pattern_fields(out.parent, whole, settings, seed, note)
    )

    def inputs_for(shape: tuple[int, int]) -> NeuPhInputs:
        return inputs_of(experiment, calibration, light, shape)

    inputs = inputs_for((settings.field_px, settings.field_px))
    noise = PatternNoise(relative_light(experiment, calibration, light), settings)
    scale = scale_of(trained_on, inputs, noise)
    validation = NeuPhValidation(kept_back, inputs, scale, noise)

    def keep(network_now: NeuPh, event: Event) -> None:
        record = TrainingRecord(
            seed=seed,
            steps=event.step,
            fields=len(trained_on),
            upsampling=settings.upsampling,
            data=_words(settings, recordings),
            begun_from=parent,
            minutes=round(event.seconds / 60, 2),
            validation={k: round(v, 5) for k, v in (event.validation or {}).items()},
            livephase=version("livephase"),
            torch=torch.__version__,
        )
        save_weights(
            network_now,
            WeightsRecord(
                name=name,
                network=begun.record,
                light=light,
                truth_na=None if light is whole else round(whole.synthetic_na, 5),
                scale=scale,
                training=record,
            ),
            out,
        )

    simulated_share = 1 - settings.recorded_share if recorded else 1.0
    sets = [QuerySet(trained_on, inputs, simulated_share)] if simulated_share > 0 else []
    for each in recorded:
        shape = (int(each.frames.shape[-2]), int(each.frames.shape[-1]))
        sets.append(QuerySet(each, inputs_for(shape), settings.recorded_share / len(recorded)))
    batches = QueryBatches(sets, scale, noise, settings)
    trainer = Trainer(
        neuph_task(begun, batches, settings.upsampling),
        settings,
        seed,
        budget,
        f"{whole.model_dump_json()}|{parent}|{FIELDS_VERSION}|{[path.name for path in recordings]}",
        out.with_suffix(_CHECKPOINT),
        device,
        validations=_VALIDATIONS,
    )
    note({"begins_at_step": trainer.step, "device": device, "threads": torch.get_num_threads()})
    trainer.run(validation, keep, lambda event: note(_line(event)))
    record = load_network(out)[1]
    write_neuph_card(out, record, experiment.name)
    trainer.forget()
    return {
        "weights": str(out),
        "sha256": sha256(out),
        "training": record.training.model_dump(mode="json"),
    }


def _weights_name(name: str, light: LightRecord) -> str:
    return (
        f"neuph_{name}_na{light.numerical_aperture:g}_{1000 * light.wavelength_um:.0f}nm_"
        f"{light.pixel_um:.4g}um_to_na{light.synthetic_na:.2f}.safetensors"
    )


def _words(settings: NeuPhTraining, recordings: Sequence[Path]) -> str:
    simulated = (
        f"simulated: cells and other specimens, and natural_field in {settings.leaves_share:.0%}, charts of "
        f"fine periods in {settings.fine_share:.0%}"
        if settings.specimens == "living"
        else "simulated: stained smears, and cells and natural fields with a stain, grain and stray light"
    )
    if not recordings:
        return simulated
    names = ", ".join(path.stem for path in recordings)
    return (
        f"recorded ({names}) in {settings.recorded_share:.0%} of the crops; the others {simulated}"
    )


def _line(event: Event) -> dict[str, Any]:
    line: dict[str, Any] = {
        "step": event.step,
        "minutes": round(event.seconds / 60, 3),
        "progress": round(event.progress, 4),
        "learning_rate": event.learning_rate,
    }
    if not math.isnan(event.loss):
        line["loss"] = round(event.loss, 5)
    if event.validation is not None:
        line |= {"validation": event.validation, "kept": event.best}
    return line
