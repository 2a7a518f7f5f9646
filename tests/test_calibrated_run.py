"""What calibration is for: the phase of a bad microscope becomes that of a good one."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

import pipeline
from drivers.simulator import SimulatedInstrument
from pipeline.calibrate.session import calibrate
from pipeline.experiment import Experiment, load_experiment, parse_experiment
from pipeline.lifecycle.truth import area_means
from pipeline.quality import align_piston, rmse_rad

pytestmark = pytest.mark.timeout(240)

HALVES = {"right": 0, "top": 90, "left": 180, "bottom": 270}
WRONG = {
    "vignetting": 0.4,
    "channel_intensity": {"right": 0.55, "top": 1.3, "bottom": 0.8},
    "led_flip_x": True,
    "gain_scale": 1.2,
    "offset_pattern_counts": 6.0,
    "dark_e_per_s": 200.0,
    "bad_pixel_share": 5e-4,
}


def experiment_data(imperfections, calibration):
    return {
        "name": "cells",
        "microscope": {
            "driver": "simulator",
            "seed": 2,
            "paced": False,
            "camera": {"shape_px": [128, 128], "pixel_um": 6.5, "frame_rate_hz": 100},
            "specimen": {"kind": "cells", "cells_per_mm2": 900, "peak_phase_rad": 1.0},
            "imperfections": imperfections,
        },
        "optics": {"wavelength_um": 0.53, "numerical_aperture": 0.25, "magnification": 10},
        "illumination": {
            "source": "led_array",
            "array": {"rows": 15, "columns": 15, "pitch_mm": 3.0, "distance_mm": 60.0},
            "patterns": {n: {"kind": "half_circle", "direction_deg": d} for n, d in HALVES.items()},
            "channels": {n: {"pattern": n, "exposure_ms": 10} for n in HALVES},
        },
        "sequence": {"timepoints": 1},
        "calibration": calibration,
        "reconstruction": {"method": "dpc"},
    }


def error_rad(experiment: Experiment) -> float:
    """RMSE of what one look reconstructs, against the simulator's truth."""
    look = pipeline.snap(experiment)
    truth = area_means(SimulatedInstrument(experiment).truth(0, 0)[0], look.phase.shape)
    return rmse_rad(align_piston(look.phase, truth), truth)


def test_a_calibrated_bad_microscope_measures_phase_as_well_as_a_perfect_one(tmp_path):
    perfect = error_rad(parse_experiment(experiment_data({}, {"source": "simulator"})))
    uncalibrated = error_rad(parse_experiment(experiment_data(WRONG, {"source": "none"})))
    # Visibly wrong.
    assert uncalibrated > 3 * perfect
    path = tmp_path / "e.yaml"
    asked = {"source": "folder", "folder": "calibration", "exposures": "calibrated"}
    path.write_text(yaml.safe_dump(experiment_data(WRONG, asked)), encoding="utf-8")
    steps = ["dark", "photon_transfer", "exposure", "flat", "orientation"]
    # The perfect one's background is half of the camera's range: as much light, as much noise.
    session = calibrate(path, steps=steps, options={"exposure": {"share": "0.5"}})
    assert session.error is None, session.error
    known = session.calibration
    assert known.led_orientation.flip_x
    assert known.gain_e_per_count == pytest.approx(1.2 * 30_000 / 4096, rel=0.02)
    assert error_rad(load_experiment(path)) < 1.1 * perfect
    # And so does the next run, which says what it knew.
    result = pipeline.run_experiment(path, tmp_path / "run")
    assert result.report["quality"]["rmse_rad"] < 1.1 * perfect
    section = result.report["calibration"]
    assert section["exposures"] == "calibrated"
    assert section["missing"] == ["pixel size"]
    assert {"dark", "flat", "gain", "LED orientation"} <= {a["name"] for a in section["aspects"]}
    assert np.isfinite(result.report["residual"])
