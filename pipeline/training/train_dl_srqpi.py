"""`livephase train dl_srqpi`: weights for one's own optics."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ExperimentError
from pipeline.experiment import Condenser, Experiment
from pipeline.methods.dl_srqpi.fit import true_optics
from pipeline.methods.dl_srqpi.header import read_record, sha256
from pipeline.methods.dl_srqpi.method import check_light
from pipeline.methods.dl_srqpi.networks import DlSrqpiNetwork
from pipeline.methods.dl_srqpi.record import OpticsRecord, TrainingRecord, WeightsRecord
from pipeline.methods.dl_srqpi.weights import save_weights
from pipeline.training.data import make_fields
from pipeline.training.settings import TrainingSettings
from pipeline.training.trainer import Budget, Event, Trainer
from pipeline.training.validation import Validation
from pipeline.training.variety import varied_field

# Seeds of validation specimens lie far from those of the training's, whatever the user's seed.
_VALIDATION_SEEDS = 1_000_000_000


def train_dl_srqpi(
    experiment: Experiment,
    out: Path | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a network for an experiment's optics.

    Beside `out` lie a checkpoint while it runs (a training that was stopped goes on from it) and, for
    good, a log with one JSON object a line.

    Parameters
    ----------
    out
        The weights file; named after the optics, in the current folder, where None.
    minutes, steps
        How long: 50 minutes where neither is given. In steps, the same seed gives the same weights.
    report
        Called with each line of the log.

    Returns
    -------
    dict
        ``weights`` (those that validated best: name them in `reconstruction.weights`), ``sha256``, ``training``.

    Raises
    ------
    ExperimentError
        If the method can't work with the experiment's light and foci.
    MethodError
        If a checkpoint of another training is in the way, or the training diverges.
    """
    if minutes is not None and steps is not None:
        raise ExperimentError("minutes and steps are both given", "give one of them")
    if (minutes is not None and not minutes > 0) or (steps is not None and steps < 1):
        raise ExperimentError(
            "a training needs time", "give more than 0 minutes, or a step or more"
        )
    budget = Budget(steps, 50.0 if minutes is None and steps is None else minutes)
    settings = settings or TrainingSettings()
    optics = training_optics(experiment)
    out = out or Path(weights_name(optics))
    out.parent.mkdir(parents=True, exist_ok=True)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"

    def note(line: dict[str, Any]) -> None:
        with out.with_suffix(".log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        report(line)

    seeds = [seed * 100_000 + i for i in range(settings.fields)]
    held = [_VALIDATION_SEEDS + i for i in range(settings.validation_fields)]
    common = (settings.field_px, experiment.optics, optics, settings.oversampling)
    begun = time.monotonic()
    fields = make_fields(varied_field, seeds, *common)
    kept_back = make_fields(varied_field, held, *common)
    note({"fields": len(seeds) + len(held), "minutes": round((time.monotonic() - begun) / 60, 2)})
    validation = Validation(kept_back, settings)

    def keep(network: DlSrqpiNetwork, event: Event) -> None:
        record = TrainingRecord(
            seed=seed,
            steps=event.step,
            samples=event.step * settings.batch,
            fields=settings.fields,
            noise=settings.noise,
            minutes=round(event.seconds / 60, 2),
            validation={k: round(v, 5) for k, v in (event.validation or {}).items()},
            livephase=version("livephase"),
            torch=torch.__version__,
        )
        save_weights(
            network,
            WeightsRecord(
                network=settings.network,
                optics=optics,
                contrast_gain=settings.contrast_gain,
                training=record,
            ),
            out,
        )

    trainer = Trainer(
        fields, optics, settings, seed, budget, out.with_suffix(".checkpoint"), device
    )
    note({"begins_at_step": trainer.step, "device": device, "threads": torch.get_num_threads()})
    trainer.run(validation, keep, lambda event: note(_line(event)))
    training = read_record(out).training.model_dump(mode="json")
    return {"weights": str(out), "sha256": sha256(out), "training": training}


def training_optics(experiment: Experiment) -> OpticsRecord:
    """What to train for: the experiment's optics at its one defocused focus.

    Raises
    ------
    ExperimentError
        If there is no such focus, or there are several.
    """
    check_light(experiment)
    foci = [i for i, z in enumerate(experiment.sequence.foci_um) if z != 0]
    if len(foci) != 1:
        raise ExperimentError(
            f"the experiment has the foci {list(experiment.sequence.foci_um)}, weights are for one",
            "leave one defocus in sequence.foci_um (0 may stay)",
        )
    optics = true_optics(experiment, None, foci[0])
    assert isinstance(experiment.illumination, Condenser)  # check_light
    return OpticsRecord(
        wavelength_um=optics.wavelength_um,
        numerical_aperture=optics.numerical_aperture,
        refractive_index=optics.refractive_index,
        pixel_um=optics.pixel_um,
        z_um=optics.z_um,
        coherence_min=optics.coherence,
        coherence_max=optics.coherence,
    )


def weights_name(optics: OpticsRecord) -> str:
    """``dl_srqpi_na0.4_550nm_2.6um_z4.safetensors``."""
    return (
        f"dl_srqpi_na{optics.numerical_aperture:g}_{1000 * optics.wavelength_um:.0f}nm"
        f"_{optics.pixel_um:.3g}um_z{optics.z_um:g}.safetensors"
    )


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
