"""Small runs for the store's tests: pixels and records are pure functions of the slot."""

from __future__ import annotations

import numpy as np

from pipeline.experiment import parse_experiment
from pipeline.frames import FrameStatus, MissingReason, SlotKey, empty_records
from pipeline.store.checksum import slot_crc
from pipeline.store.layout import create_phase
from pipeline.store.phase_writer import PhaseWriter
from pipeline.store.raw_writer import RawWriter
from pipeline.store.run_folder import RunFolder

QUALITY = {
    "residual": 1.1,
    "valid_share": 0.9,
    "uncalibrated": 1.0,
    "seconds": 0.2,
    "latency_s": 0.3,
}


def make_experiment(
    timepoints=10,
    shape=(24, 20),
    channels=("a",),
    foci=(0.0,),
    positions=1,
    bit_depth=12,
    rate=8.0,
    interval_s=0.0,
    compression="lz4",
    slot_order="tp",
):
    return parse_experiment(
        {
            "microscope": {
                "driver": "simulator",
                "camera": {
                    "shape_px": list(shape),
                    "pixel_um": 6.5,
                    "bit_depth": bit_depth,
                    "frame_rate_hz": rate,
                },
            },
            "optics": {"wavelength_um": 0.55, "numerical_aperture": 0.4, "magnification": 10},
            "illumination": {
                "source": "condenser",
                "channels": {name: {"exposure_ms": 1} for name in channels},
            },
            "sequence": {
                "timepoints": timepoints,
                "foci_um": list(foci),
                "interval_s": interval_s,
                "slot_order": slot_order,
                "positions": [
                    {"name": f"well {i}", "x_um": 10.0 * i, "y_um": -5.0 * i}
                    for i in range(positions)
                ],
            },
            "output": {"compression": compression},
        }
    )


def frames_of(plan, key):
    rng = np.random.default_rng([key.timepoint, key.position])
    return rng.integers(0, 2**plan.bit_depth, plan.slot_shape, dtype=plan.dtype)


def records_of(plan, key, missing=()):
    records = empty_records(plan.frames_per_slot)
    records["status"] = FrameStatus.WRITTEN
    records["image_number"] = np.arange(plan.frames_per_slot) + 1000 * key.timepoint
    records["time_utc"] = 1.7e9 + key.timepoint + np.arange(plan.frames_per_slot) / 100
    records["focus_um"] = 0.5
    for k in missing:
        records[k]["status"] = FrameStatus.MISSING
        records[k]["reason"] = MissingReason.DROPPED
    return records


def slot_of(plan, key, missing=()):
    return (key, frames_of(plan, key), records_of(plan, key, missing))


def stored_frames(plan, key, missing=()):
    frames = frames_of(plan, key).copy()
    frames[list(missing)] = 0
    return frames


def image_of(writer, key):
    rng = np.random.default_rng([7, key.timepoint, key.position])
    return rng.normal(size=writer.layout.level_shape(0)[1:]).astype(np.float32)


def begin(path, experiment):
    folder = RunFolder(path)
    with folder.lock():
        folder.create(experiment)
    return folder


def record_slots(folder, experiment, keys, missing=None):
    """Write raw slots, each shard's in one group, recorded in this order."""
    missing = missing or {}
    with RawWriter(folder, experiment) as writer:
        groups = {}
        for key in keys:
            slot = slot_of(writer.plan, key, missing.get(key, ()))
            groups.setdefault(writer.shard_of(key), []).append(slot)
        for group in groups.values():
            writer.submit(group)
            writer.flush()


def reconstruct_slots(folder, experiment, keys, worker=0, missing=None, outputs=("phase",)):
    plan = experiment.plan()
    create_phase(folder.phase_store, experiment, outputs, 2, experiment.pixel_um)
    with PhaseWriter(folder, worker, experiment) as writer:
        for key in keys:
            lost = (missing or {}).get(key, ())
            crc = slot_crc(frames_of(plan, key), records_of(plan, key, lost))
            writer.write(key, image_of(writer, key), crc, QUALITY)


def all_keys(experiment):
    return list(experiment.plan().slot_keys())


__all__ = [
    "QUALITY",
    "SlotKey",
    "all_keys",
    "begin",
    "frames_of",
    "image_of",
    "make_experiment",
    "reconstruct_slots",
    "record_slots",
    "records_of",
    "slot_of",
    "stored_frames",
]
