"""Tiles that overlap and the field that they make."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.methods.mosaic import Mosaic, plan_spans
from pipeline.optics.unwrap import unwrap

torch.set_num_threads(1)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(20, 150), st.integers(20, 150)),
    tile=st.integers(16, 64),
    share=st.floats(0.05, 0.5),
)
def test_tiles_cover_the_field_and_overlap(shape, tile, share):
    overlap = int(share * tile)
    spans = plan_spans(shape, tile, overlap)
    covered = torch.zeros(shape, dtype=torch.int64)
    for span in spans:
        span.cut(covered).add_(1)
        assert span.shape == tuple(min(n, tile) for n in shape)
    assert int(covered.min()) >= 1
    columns = sorted({s.x for s in spans})
    for left, right in pairwise(columns):
        assert left[1] - right[0] >= overlap


def test_an_overlap_as_large_as_the_tile_is_refused():
    with pytest.raises(ValueError, match="overlap"):
        plan_spans((100, 100), 32, 32)


@pytest.mark.parametrize("shape", [(70, 90), (30, 90), (30, 30)])
def test_cut_lifted_and_put_together_again_is_the_field(shape):
    """Every tile with a piston of its own; the field's background is zero."""
    generator = torch.Generator().manual_seed(3)
    field = torch.zeros(2 * shape[0], 2 * shape[1])
    field[10:30, 10:40] = torch.rand(20, 30, generator=generator)
    spans = plan_spans(shape, 32, 8)
    mosaic = Mosaic(shape, spans, 2)
    lifts = torch.randn(len(spans), generator=generator)
    tiles = {i: s.cut(field, 2) + lifts[i] for i, s in enumerate(spans)}
    together = mosaic.together(tiles)
    assert float((together - field).abs().max()) < 1e-5


def test_a_seam_between_tiles_that_disagree_is_faded():
    mosaic = Mosaic((32, 56), plan_spans((32, 56), 32, 8), 1)
    assert len(mosaic.spans) == 2
    tiles = {0: torch.zeros(32, 32), 1: torch.ones(32, 32)}
    row = mosaic.together(tiles, align=False)[16]
    assert row[0] == 0
    assert row[-1] == 1
    assert float(row.diff().max()) < 0.15
    assert float(row.diff().min()) >= 0


def test_the_order_in_which_tiles_are_made_does_not_matter():
    """To the last bit: a run that was killed makes them in another one."""
    spans = plan_spans((70, 90), 32, 8)
    mosaic = Mosaic((70, 90), spans, 1)
    made = torch.rand(len(spans), 32, 32, generator=torch.Generator().manual_seed(5))
    orders = (range(len(spans)), reversed(range(len(spans))))
    one, other = (mosaic.together({i: made[i] for i in order}) for order in orders)
    assert torch.equal(one, other)


def test_tiles_that_are_not_there_yet_are_zero():
    mosaic = Mosaic((32, 56), plan_spans((32, 56), 32, 8), 1)
    some = mosaic.together({1: torch.ones(32, 32)}, align=False)
    assert float(some[:, :24].abs().max()) == 0
    assert float(some[:, 24:].min()) == pytest.approx(1)


def hill(height):
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")
    return height * torch.exp(-((y - 40) ** 2 + (x - 36) ** 2) / (2 * 14**2))


def wrapped(phase):
    return torch.remainder(phase + math.pi, 2 * math.pi) - math.pi


@pytest.mark.parametrize("height", [2.0, 9.0, 20.0])
def test_a_wrapped_hill_is_a_hill_again(height):
    noise = 0.1 * torch.randn(96, 80, generator=torch.Generator().manual_seed(1))
    phase = hill(height) + noise
    assert float((unwrap(wrapped(phase)) - phase).abs().max()) < 1e-4


def test_where_there_is_no_light_phase_is_not_to_be_followed():
    """A black spot of random phase beside the hill: distrusted, it leaves all else as it is."""
    phase = hill(9.0)
    generator = torch.Generator().manual_seed(2)
    noisy = wrapped(phase)
    noisy[20:60, 44:52] = (torch.rand(40, 8, generator=generator) - 0.5) * 2 * math.pi
    light = torch.ones_like(phase)
    light[20:60, 44:52] = 0.01
    error = (unwrap(noisy, light) - phase)[light == 1]
    assert float(error.abs().max()) < 1e-4
    assert float((unwrap(noisy) - phase)[light == 1].abs().max()) > 1
