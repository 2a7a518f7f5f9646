"""`livephase bench neuph` on tiny networks: what it measures, never how fast it was."""

import json

import torch

from pipeline.bench.neuph import NeuPhBench, bench_neuph
from pipeline.methods.neuph.record import NeuPhNetwork


def test_the_forms_beside_each_other():
    small = NeuPhNetwork(blocks=1, features=6, hidden=12, layers=2)
    size = NeuPhBench(
        field_px=16, plain_px=8, density=2, repeats=2, threads=1, paper=small, compact=small
    )
    threads = torch.get_num_threads()
    result = bench_neuph(size)
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(result)) == result
    assert result["max_abs_diff_rad"] < 1e-5
    assert 0 < result["precision_error"]["rms"] < 0.2 * result["precision_error"]["of"]
    parts = result["parts"]
    assert parts["plain"]["times_larger"] == 4
    assert min(result["seconds_paper"], result["seconds_compact"], result["decoder_speedup"]) > 0
    assert result["conditions"]["phase_shape"] == [32, 32]
