"""Weights for one's own optics: data and trainer.

The verb finds the method's own module; torch is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pipeline.errors import ExperimentError
from pipeline.experiment import Experiment, nearest

TRAINABLE = ("dl_srqpi", "neuph")
# How far around the experiment's own conditions: see `training.optics.training_optics`.
Scope = Literal["own", "all"]


def train(
    method: str,
    experiment: Experiment,
    out: Path | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    network: str | None = None,
    scope: str = "own",
    upsampling: int = 4,
    begin_from: Path | None = None,
    recordings: Sequence[Path] = (),
    specimens: str | None = None,
    fields: int | None = None,
    batch: int | None = None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a method's network for an experiment's optics; see the method's own module.

    Stopped or killed, the same call goes on where it was.

    Parameters
    ----------
    out
        The weights file; named after the optics, in the current folder, where None.
    minutes, steps
        How long to train, without the making of the data: 50 minutes where neither is given. In steps, the same
        seed gives the same weights.
    seed
        0 to 9999: of data, initial weights and order.
    network, scope, upsampling, begin_from, recordings
        Which network, over which conditions, how much finer than the camera, weights to fine-tune, and
        through-focus recordings to learn from.
    specimens
        Of neuph: living, or stained ones.
    fields, batch
        Simulated specimens, and patches a step, in place of the usual numbers.
    report
        Called with each line of the training's log.

    Returns
    -------
    dict
        ``weights`` (the file's path), its ``sha256``, and the training record.

    Raises
    ------
    ExperimentError
        If the method has nothing to train, or not with these arguments.
    MethodError
        If weights or a checkpoint can't be read, the disk is full, or the training diverges.
    """
    _check(method)
    if scope not in get_args(Scope):
        raise ExperimentError(f"there are no conditions '{scope}'", nearest(scope, get_args(Scope)))
    if method == "neuph":
        if scope != "own" or upsampling != 4:
            raise ExperimentError(
                "conditions and upsampling are dl_srqpi's",
                "leave them out: neuph is trained for the experiment's own light, six times finer than the camera",
            )
        from pipeline.training.neuph.train import train_neuph  # noqa: PLC0415 - torch

        return train_neuph(
            experiment,
            out,
            minutes=minutes,
            steps=steps,
            seed=seed,
            network=network,
            begin_from=begin_from,
            recordings=recordings,
            specimens=specimens,
            fields=fields,
            batch=batch,
            report=report,
        )
    if specimens is not None:
        raise ExperimentError("the choice of specimens is neuph's", "leave it out")
    from pipeline.training.train_dl_srqpi import train_dl_srqpi  # noqa: PLC0415 - torch

    return train_dl_srqpi(
        experiment,
        out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        network=network,
        scope=cast(Scope, scope),
        upsampling=upsampling,
        begin_from=begin_from,
        recordings=recordings,
        fields=fields,
        batch=batch,
        report=report,
    )


def _check(method: str) -> None:
    if method not in TRAINABLE:
        raise ExperimentError(
            f"there is no network to train in '{method}'", nearest(method, TRAINABLE)
        )
