"""What a run needs, said before it starts."""

from __future__ import annotations

import pytest
from store_runs import make_experiment

from pipeline.errors import ExperimentError
from pipeline.lifecycle.preflight import estimate, ring_slots, shard_timepoints
from pipeline.store.layout import slot_period_s


def test_a_single_timepoint_of_a_huge_camera_fits_the_ring():
    huge = {"shape": (20_000, 20_000), "bit_depth": 16, "rate": 1.0}
    experiment = make_experiment(timepoints=1, **huge)
    slots = ring_slots(experiment, shard_timepoints(experiment))
    assert slots == 2
    assert slots * experiment.plan().slot_bytes < experiment.output.ring_gb * 1e9
    with pytest.raises(ExperimentError, match=r"output\.ring_gb.* 5 timepoints"):
        ring_slots(make_experiment(timepoints=100, **huge), 1)


def test_a_short_run_with_long_shards_takes_what_it_needs():
    experiment = make_experiment(timepoints=5, positions=2, rate=1000.0)
    assert ring_slots(experiment, 5) == 10


def test_one_answer_to_how_long_a_timepoint_takes(tmp_path):
    """Frames of 1 ms and 100 ms at 20 Hz: the camera waits for the first, the second's exposure for itself."""
    experiment = make_experiment(timepoints=3, channels=("a", "b"), rate=20.0)
    channels = experiment.illumination.channels
    slow = {**channels, "b": channels["b"].model_copy(update={"exposure_ms": 100.0})}
    light = experiment.illumination.model_copy(update={"channels": slow})
    experiment = experiment.model_copy(update={"illumination": light})
    assert experiment.slot_s() == pytest.approx(0.15)
    assert slot_period_s(experiment) == pytest.approx(0.15)
    need = estimate(experiment, tmp_path / "run")
    assert need.duration_s == pytest.approx(3 * 0.15)
    assert need.frame_rate_hz == pytest.approx(2 / 0.15)
