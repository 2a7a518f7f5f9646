"""Wide fields live: what is looked at is there at every timepoint, the rest when there is time, nothing is lost."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from store_runs import begin, frames_of, make_experiment, record_slots, records_of

from pipeline.control import RECONSTRUCT, Command, Control, StageState
from pipeline.frames import Region, SlotKey
from pipeline.mailbox import Mailbox
from pipeline.methods.contract import PartByPart, Reconstructor
from pipeline.methods.mosaic import Mosaic, plan_spans
from pipeline.methods.tiled import Tile, TiledReconstructor
from pipeline.ring import Ring
from pipeline.stages.backlog import Backlog
from pipeline.stages.reconstruct import Reconstructing
from pipeline.stages.reconstruction import Progress, SlotResult
from pipeline.store.layout import create_phase
from pipeline.store.phase_writer import PhaseWriter
from pipeline.store.reader import RunReader
from pipeline.store.run_folder import RunState
from pipeline.store.verify import verify
from pipeline.telemetry import Telemetry

torch.set_num_threads(1)

QUALITY = {"residual": 1.0, "valid_share": 1.0, "uncalibrated": 0.0, "seconds": 0.0}
TILES = 6
TIMEPOINTS = 12


class SlowTiles:
    """A reconstructor of six tiles a slot, while every second one a new slot comes: three times too slow."""

    def __init__(self, experiment, every=2):
        plan = experiment.plan()
        self.shape = (1, *(2 * n for n in plan.frame_shape))
        self.measurement = SimpleNamespace(frames=(0,), accepts_gaps=False)
        self.every, self.acquire = every, lambda: None
        self.tiles: list[tuple[int, int]] = []

    def begin(self, frames, records):
        timepoint = int(records["image_number"][0]) // 1000
        image = np.zeros(self.shape, np.float32)
        for tile in range(1, TILES + 1):
            self.tiles.append((timepoint, tile))
            image[..., : self.shape[-1] * tile // TILES] = timepoint
            if len(self.tiles) % self.every == 0:
                self.acquire()
            if tile < TILES:
                yield Progress(tile, TILES, True, image.copy)
        return SlotResult(image, QUALITY)


class Live:
    """The reconstruct stage beside an acquisition that goes on by the number of tiles made."""

    def __init__(self, folder, experiment, core):
        plan = experiment.plan()
        token = secrets.token_hex(4)
        self.shown: list[tuple[SlotKey, dict]] = []
        with (
            Ring.create(f"livephase-{token}-ring", plan, TIMEPOINTS + 1) as ring,
            Telemetry.create(f"livephase-{token}-tel") as telemetry,
            Control.create(f"livephase-{token}-ctl") as control,
            Mailbox.create(f"livephase-{token}-box", core.shape[1:], 1) as box,
            Mailbox.attach(f"livephase-{token}-box", lane=0) as mailbox,
            PhaseWriter(folder, 0, experiment) as writer,
        ):
            for block in (ring, telemetry, control, box):
                block.unlink()
            control.order(Command.RUN)
            reader = RunReader(folder.path)
            waiting = list(range(TIMEPOINTS))

            def acquire():
                if not waiting:
                    for stage in range(RECONSTRUCT):
                        control.stage(stage).say(StageState.FINISHED)
                    return
                key = SlotKey(waiting.pop(0), 0)
                slot = ring.begin(key, 0.0)
                slot.frames[:] = frames_of(plan, key)
                slot.records[:] = records_of(plan, key)
                slot.publish()
                record_slots(folder, experiment, [key])

            core.acquire = acquire
            put = mailbox.put

            def watched(key, image, info):
                self.shown.append((key, {**info, "left": float(image[0, 0])}))
                put(key, image, info)

            mailbox.put = watched
            stage = Reconstructing(
                plan,
                ring,
                reader,
                writer,
                core,
                control.stage(RECONSTRUCT),
                telemetry.writer("reconstruct-0"),
                mailbox,
                Backlog(folder, experiment, 0, reader.is_settled),
            )
            acquire()
            stage.run()
            self.counts = {n: telemetry.total(n) for n in ("slots_skipped", "slots_reconstructed")}
            self.pending = telemetry.value("tiles_pending")


@pytest.fixture
def experiment():
    return make_experiment(timepoints=TIMEPOINTS)


@pytest.fixture
def folder(tmp_path, experiment):
    folder = begin(tmp_path / "run", experiment)
    create_phase(folder.phase_store, experiment, ("phase",), 2, experiment.pixel_um)
    return folder


def test_the_region_is_on_time_at_every_timepoint_and_the_rest_complete_in_the_end(
    folder, experiment
):
    core = SlowTiles(experiment)
    live = Live(folder, experiment, core)
    # Before the next slot comes, each slot's first tile has been shown.
    firsts = [key.timepoint for key, info in live.shown if info.get("pending")]
    assert firsts[:TIMEPOINTS] == list(range(TIMEPOINTS))
    assert all(info["left"] == key.timepoint for key, info in live.shown)
    assert live.counts == {"slots_skipped": 0, "slots_reconstructed": TIMEPOINTS}
    assert live.pending == 0
    folder.update(RunState.DONE)
    report = verify(folder.path)
    assert (report.ok, report.reconstructed) == (True, TIMEPOINTS)
    reader = RunReader(folder.path)
    for timepoint in range(TIMEPOINTS):
        assert (reader.phase(SlotKey(timepoint, 0)) == timepoint).all()


def test_with_time_enough_nothing_is_set_aside(folder, experiment):
    core = SlowTiles(experiment, every=TILES)
    live = Live(folder, experiment, core)
    assert core.tiles == [(t, n) for t in range(TIMEPOINTS) for n in range(1, TILES + 1)]
    assert live.counts["slots_reconstructed"] == TIMEPOINTS


class Squares(TiledReconstructor):
    """Tiles that are their own frame, a little lifted."""

    def __init__(self, shape, tile, overlap, first=None):
        super().__init__(Mosaic(shape, plan_spans(shape, tile, overlap), 1), first)
        self.made = []

    def prepared(self, frames, valid):
        return frames

    def tile(self, prepared, span):
        self.made.append(span)
        part = span.cut(prepared)[:1]
        return Tile(torch.cat([part + len(self.made), part]), span.cut(prepared).clone())


def field():
    frames = torch.zeros(2, 60, 70)
    frames[:, 20:30, 20:40] = torch.rand(2, 10, 20, generator=torch.Generator().manual_seed(0))
    return frames


def test_parts_begin_with_the_region_and_end_as_the_whole():
    method = Squares((60, 70), 24, 8)
    assert isinstance(method, PartByPart)
    assert isinstance(method, Reconstructor)
    frames = field()
    parts = method.parts(frames, torch.ones_like(frames, dtype=torch.bool), Region(40, 50, 15, 15))
    seen = []
    while True:
        try:
            seen.append(next(parts))
        except StopIteration as end:
            made = end.value
            break
    count = len(method.mosaic.spans)
    assert [p.done for p in seen] == list(range(1, count))
    first = next(p.done for p in seen if p.region_done)
    assert 1 <= first < count
    wanted = method.made[:first]
    assert all(s.y[1] >= 40 and s.x[1] >= 50 for s in wanted)
    assert not any(s.y[1] > 40 and s.x[1] > 50 for s in method.made[first:])
    assert torch.allclose(made.images[0, 1], frames[0], atol=1e-5)
    assert torch.allclose(made.images[0, 0], frames[0], atol=1e-4)
    assert torch.equal(made.predicted[0], frames)


def test_without_a_region_it_begins_in_the_middle_or_where_the_settings_say():
    method = Squares((60, 70), 24, 8)
    order, wanted = method.order(None)
    assert wanted == 1
    y, x = method.mosaic.spans[order[0]].centre
    assert abs(y - 30) <= 12
    assert abs(x - 35) <= 12
    corner = Squares((60, 70), 24, 8, first=Region(0, 0, 10, 10))
    y, x = corner.mosaic.spans[corner.order(None)[0][0]].centre
    assert (y, x) == (12, 12)
