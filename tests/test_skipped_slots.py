"""Slots of which nothing can be made: said, recorded and passed over, never the end of the stage."""

from __future__ import annotations

import json
import logging
import secrets
from types import SimpleNamespace

import numpy as np
import pytest
from store_runs import all_keys, begin, make_experiment, record_slots

from pipeline.control import RECONSTRUCT, Command, Control, StageState
from pipeline.errors import SlotError
from pipeline.mailbox import Mailbox
from pipeline.reprocess import units
from pipeline.ring import Ring
from pipeline.stages.backlog import Backlog
from pipeline.stages.reconstruct import Reconstructing
from pipeline.stages.reconstruction import SlotResult
from pipeline.store.layout import create_phase
from pipeline.store.phase_writer import PhaseWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify
from pipeline.telemetry import Telemetry

QUALITY = {"residual": 1.0, "valid_share": 1.0, "uncalibrated": 0.0, "seconds": 0.0}
BLACK = 2  # the timepoint of which nothing can be made


class Core:
    """A reconstructor that can make nothing of one slot; it counts how often it is asked."""

    def __init__(self, experiment):
        self.asked = 0
        plan = experiment.plan()
        self.shape = (1, *(2 * n for n in plan.frame_shape))
        self.measurement = SimpleNamespace(frames=(0,), accepts_gaps=False)

    def reconstruct(self, frames, records):
        self.asked += 1
        timepoint = int(records["image_number"][0]) // 1000
        if timepoint == BLACK:
            raise SlotError("a frame has no light", "look at the lamp")
        return SlotResult(np.full(self.shape, timepoint, np.float32), QUALITY)

    def begin(self, frames, records):
        return self.reconstruct(frames, records)
        yield  # in one part


@pytest.fixture
def experiment():
    return make_experiment(timepoints=4)


@pytest.fixture
def folder(tmp_path, experiment):
    folder = begin(tmp_path / "run", experiment)
    record_slots(folder, experiment, all_keys(experiment))
    create_phase(folder.phase_store, experiment, ("phase",), 2, experiment.pixel_um)
    return folder


def drain(folder, experiment, core):
    """What the reconstruct stage does after acquisition has ended; the counters."""
    plan = experiment.plan()
    token = secrets.token_hex(4)
    with (
        Ring.create(f"livephase-{token}-ring", plan, 2) as ring,
        Telemetry.create(f"livephase-{token}-tel") as telemetry,
        Control.create(f"livephase-{token}-ctl") as control,
        Mailbox.create(f"livephase-{token}-box", core.shape[1:], 1) as box,
        Mailbox.attach(f"livephase-{token}-box", lane=0) as mailbox,
        PhaseWriter(folder, 0, experiment) as writer,
    ):
        for block in (ring, telemetry, control, box):
            block.unlink()
        control.order(Command.STOP)
        for stage in range(RECONSTRUCT):
            control.stage(stage).say(StageState.FINISHED)
        reader = RunReader(folder.path)
        Reconstructing(
            plan,
            ring,
            reader,
            writer,
            core,
            control.stage(RECONSTRUCT),
            telemetry.writer("reconstruct-0"),
            mailbox,
            Backlog(folder, experiment, 0, reader.is_settled),
        ).run()
        return {n: telemetry.total(n) for n in ("slots_skipped", "slots_reconstructed")}


def test_the_live_stage_skips_one_slot_and_goes_on(folder, experiment, caplog):
    caplog.set_level(logging.WARNING, "livephase")
    logging.getLogger("livephase").propagate = True
    core = Core(experiment)
    assert drain(folder, experiment, core) == {"slots_skipped": 1, "slots_reconstructed": 3}
    # Once, however many handlers other tests left behind.
    (warning,) = set(caplog.messages)
    assert warning == (
        "timepoint 2, position 0 is not reconstructed, a frame has no light: look at the lamp"
    )
    folder.update(RunState.DONE)
    report = verify(folder.path)
    assert (report.ok, report.reconstructed) == (True, 3)
    # A resumed run has nothing left to do.
    assert drain(folder, experiment, core) == {"slots_skipped": 0, "slots_reconstructed": 0}
    assert core.asked == 4


def test_a_recording_is_reconstructed_but_for_that_slot(folder, experiment, monkeypatch):
    core = Core(experiment)
    monkeypatch.setattr(units, "_reconstructor", lambda *_: core)
    unit = units.Unit(0, 0, 0, 4)
    assert units.reconstruct_unit(folder.path, unit) == 3
    reader = RunReader(folder.path)
    assert np.flatnonzero(~reader.reconstructed()).tolist() == [BLACK]
    assert reader.phase(all_keys(experiment)[3]).mean() == 3
    assert units.slots_to_do(reader, core.measurement, unit) == []
    assert units.reconstruct_unit(folder.path, unit) == 0
    assert core.asked == 4
    said = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [line["message"].split(",")[0] for line in said] == ["timepoint 2"]
    folder.update(RunState.DONE)
    assert verify(folder.path).ok
