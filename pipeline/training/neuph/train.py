"""`livephase train neuph`: weights for one's own LED array."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, nearest
from pipeline.experiment.illumination import LedIllumination
from pipeline.instrument import resolve_calibration
from pipeline.methods.neuph.fit import light_record, matching_frames, read_record
from pipeline.methods.neuph.inputs import NeuPhInputs, measured_scale
from pipeline.methods.neuph.networks import NeuPh
from pipeline.methods.neuph.record import (
    NETWORKS,
    InputScale,
    LightRecord,
    NeuPhNetwork,
    TrainingRecord,
    WeightsRecord,
)
from pipeline.methods.neuph.weights import load_network, save_weights
from pipeline.methods.weights_file import sha256
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.field_making import processors
from pipeline.training.neuph.batches import PatternNoise, QueryBatches, QuerySet
from pipeline.training.neuph.card import write_neuph_card
from pipeline.training.neuph.fields import (
    NeuPhFields,
    PatternImaging,
    StainedImaging,
    make_pattern_fields,
)
from pipeline.training.neuph.recorded import recorded_fields
from pipeline.training.neuph.settings import NeuPhTraining, Specimens
from pipeline.training.neuph.task import neuph_task
from pipeline.training.neuph.validation import NeuPhValidation
from pipeline.training.settings import sized
from pipeline.training.trainer import Event, Trainer, given_budget

_CHECKPOINT = ".checkpoint"
_VALIDATIONS = 10
_SEEDS_EACH = 100_000
_VALIDATION_SEEDS = 1_000_000_000
# Raised where specimens or imaging change: fields of another making must not be taken for these.
_VERSION = 1
# Of the learning rate, where the weights are not random. At the whole of it the first tenth undid what compact's knew:
# 0.207 rad where they had 0.165; at this share, 0.162 after as long.
_BEGUN_RATE = 0.4

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
        A weights file to fine-tune, at a lower learning rate.
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
    settings = sized(settings or NeuPhTraining(), fields=fields, batch=batch)
    if specimens is not None:
        if specimens not in get_args(Specimens):
            raise ExperimentError(
                f"there are no specimens '{specimens}'", nearest(specimens, get_args(Specimens))
            )
        settings = settings.model_copy(update={"specimens": specimens})
    if network is not None and network not in NETWORKS:
        raise ExperimentError(f"there is no network '{network}'", nearest(network, NETWORKS))
    whole = light
    if _blind_to_darkfield(begin_from, network):
        light = light.model_copy(
            update={"patterns": tuple(p for p in light.patterns if p.brightfield)}
        )
    begun, name, parent = _begin(begin_from, network, settings.network, light, seed)
    rate = settings.learning_rate * (_BEGUN_RATE if begin_from else 1)
    settings = settings.model_copy(update={"network": begun.record, "learning_rate": rate})
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
        made.first(len(light.patterns)) for made in _fields(out.parent, whole, settings, seed, note)
    )

    def inputs_for(shape: tuple[int, int]) -> NeuPhInputs:
        return _inputs(experiment, calibration, light, shape)

    inputs = inputs_for((settings.field_px, settings.field_px))
    noise = PatternNoise(_relative_light(experiment, calibration, light), settings)
    scale = _scale(trained_on, inputs, noise)
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
        f"{whole.model_dump_json()}|{parent}|{_VERSION}|{[path.name for path in recordings]}",
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


def _blind_to_darkfield(begin_from: Path | None, network: str | None) -> bool:
    """Whether the network is not to see the darkfield frames that the experiment has."""
    if network is not None:
        return not NETWORKS[network].darkfield
    return begin_from is not None and read_record(begin_from).truth_na is not None


def _begin(
    begin_from: Path | None,
    network: str | None,
    usual: NeuPhNetwork,
    light: LightRecord,
    seed: int,
) -> tuple[NeuPh, str, str]:
    """The network to train, its name, and the sha256 of the weights that it has."""
    bright = sum(p.brightfield for p in light.patterns)
    counts = {"brightfield": bright, "darkfield": len(light.patterns) - bright}
    if begin_from is None:
        torch.manual_seed(seed)
        wanted = NETWORKS[network] if network else usual
        name = network or next((n for n, known in NETWORKS.items() if known == usual), "own")
        return NeuPh(wanted.model_copy(update=counts)), name, ""
    begun, record = load_network(begin_from)
    there = {"brightfield": record.network.brightfield, "darkfield": record.network.darkfield}
    if there != counts:
        raise ExperimentError(
            f"the weights {begin_from} take {there['brightfield']} brightfield and {there['darkfield']} darkfield "
            f"frames, the experiment has {counts['brightfield']} and {counts['darkfield']}",
            "begin from weights of as many patterns, or from none",
        )
    if network is not None and NETWORKS[network].model_copy(update=counts) != record.network:
        raise ExperimentError(
            f"the weights {begin_from} are of the network '{record.name}', not of '{network}'",
            f"begin from weights of '{network}', or leave the network's name out",
        )
    return begun.train(), record.name, sha256(begin_from)


def _weights_name(name: str, light: LightRecord) -> str:
    return (
        f"neuph_{name}_na{light.numerical_aperture:g}_{1000 * light.wavelength_um:.0f}nm_"
        f"{light.pixel_um:.4g}um_to_na{light.synthetic_na:.2f}.safetensors"
    )


def _fields(
    folder: Path, light: LightRecord, settings: NeuPhTraining, seed: int, note: Note
) -> tuple[NeuPhFields, NeuPhFields]:
    """Those to train on and those kept back, made once for all trainings of the same light and seed."""
    s = settings
    stained = s.specimens == "stained"
    kind = StainedImaging if stained else PatternImaging
    imaging = kind(light, s.upsampling, s.field_px, s.leaves_share, s.fine_share)
    drawn = "stained" if stained else "neuph"
    begun = time.monotonic()

    def progress(made: int) -> None:
        note({"fields_made": made, "minutes": round((time.monotonic() - begun) / 60, 2)})

    def made(first: int, count: int) -> NeuPhFields:
        identity = f"neuph fields {_VERSION}|{imaging!r}|{first}|{count}"
        name = f"fields-{drawn}-{light.synthetic_na:.3f}-{first}-{count}.pt"
        there = load_checkpoint(folder / name, identity)
        if there is None:
            done = make_pattern_fields(imaging, range(first, first + count), processors(), progress)
            there = {"identity": identity, "phases": done.phases, "frames": done.frames}
            save_checkpoint(there, folder / name)
        return NeuPhFields(there["phases"], there["frames"])

    return made(seed * _SEEDS_EACH, s.fields), made(_VALIDATION_SEEDS, s.validation_fields)


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


def _inputs(
    experiment: Experiment, calibration: Calibration, light: LightRecord, shape: tuple[int, int]
) -> NeuPhInputs:
    """For frames of a field's size, in the light's order."""
    microscope = experiment.microscope
    camera = microscope.camera.model_copy(update={"shape_px": shape})
    small = experiment.model_copy(
        update={"microscope": microscope.model_copy(update={"camera": camera})}
    )
    frames = matching_frames(experiment, calibration, light)
    return NeuPhInputs(
        small, calibration, frames, sum(p.brightfield for p in light.patterns), "cpu"
    )


def _relative_light(
    experiment: Experiment, calibration: Calibration, light: LightRecord
) -> np.ndarray:
    """``[K]`` electrons that stand for 1 in each frame, relative to a brightfield frame's."""
    illumination = experiment.illumination
    assert isinstance(illumination, LedIllumination), "refused by light_record"
    plan, foci = experiment.plan(), len(experiment.sequence.foci_um)
    channels = [plan.channels[k // foci] for k in matching_frames(experiment, calibration, light)]
    given = [
        c.exposure_ms * c.brightness * len(p.sines)
        for c, p in zip(channels, light.patterns, strict=True)
    ]
    return np.asarray(given) / given[0]


def _scale(fields: NeuPhFields, inputs: NeuPhInputs, noise: PatternNoise) -> InputScale:
    rng = np.random.default_rng(0)
    frames = torch.stack([noise(f, rng) for f in fields.frames[:64]])
    return measured_scale([inputs(frames, torch.ones_like(frames, dtype=torch.bool))])


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
