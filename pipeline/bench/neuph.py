"""`livephase bench neuph`: the decoder folded and in bf16, beside the plain one that the paper writes.

The plain decoder gathers thousands of numbers for every point: it is timed on a smaller field, and the time for all
of it is that times the number of points. Times don't depend on the weights, so the networks have random ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch

from pipeline.bench.machine import load_average, processor
from pipeline.methods.neuph.inputs import images_of
from pipeline.methods.neuph.networks import Decoder, FoldedDecoder, Grid, NeuPh, ReadyConvolutions
from pipeline.methods.neuph.record import NETWORKS, NeuPhNetwork
from pipeline.methods.precision import body_dtype, channels_last

Result = TypeVar("Result")


@dataclass(frozen=True)
class NeuPhBench:
    """The measurement's size.

    Parameters
    ----------
    field_px
        Edge of a frame in camera pixels.
    plain_px
        Edge of the field that the plain decoder is timed on.
    density
        Phase points per camera pixel along each axis.
    repeats
        Turns; the median counts.
    threads
        Of torch.
    """

    field_px: int = 250
    plain_px: int = 24
    density: int = 6
    repeats: int = 3
    threads: int = 2
    paper: NeuPhNetwork = NETWORKS["paper"]
    compact: NeuPhNetwork = NETWORKS["compact"]

    def measure(self) -> dict[str, Any]:
        """Seconds, ratios, and how far the forms are from each other."""
        before, load = torch.get_num_threads(), load_average()
        torch.set_num_threads(min(self.threads, os.cpu_count() or 1))
        try:
            with torch.inference_mode():
                return self._measure(load)
        finally:
            torch.set_num_threads(before)

    def _measure(self, load: float | None) -> dict[str, Any]:
        dtype = body_dtype(torch.device("cpu"), "auto")
        paper, compact = self._network(self.paper), self._network(self.compact)
        field = paper.decoder
        assert isinstance(field, Decoder), "convolutions have no plain form"
        small = paper.encoders(self._images(self.paper, self.plain_px))
        grid = Grid.whole((self.plain_px, self.plain_px), self.density)
        plain, plain_s = _timed(lambda: field.plain(small, grid))
        times_larger = (self.field_px / self.plain_px) ** 2
        exact = paper.ready_decoder("cpu", torch.float32)
        folded = exact(exact.prepared(small), grid)
        quick = paper.ready_decoder("cpu", dtype)
        rough = quick(quick.prepared(small), grid)
        _, plain_encoder_s = _timed(lambda: paper.encoders(self._images(self.paper, self.field_px)))
        encoder_s, decoder_s = self._live(paper, dtype)
        compact_encoder_s, compact_decoder_s = self._live(compact, dtype)
        plain_decoder_s = plain_s * times_larger
        return {
            "seconds_paper": round(encoder_s + decoder_s, 3),
            "seconds_compact": round(compact_encoder_s + compact_decoder_s, 3),
            "decoder_speedup": round(plain_decoder_s / decoder_s, 1),
            "whole_speedup": round(
                (plain_encoder_s + plain_decoder_s) / (encoder_s + decoder_s), 1
            ),
            "max_abs_diff_rad": float((plain - folded).abs().max()),
            "parts": {
                "paper": {"encoder_s": round(encoder_s, 3), "decoder_s": round(decoder_s, 3)},
                "compact": {
                    "encoder_s": round(compact_encoder_s, 3),
                    "decoder_s": round(compact_decoder_s, 3),
                },
                "plain": {
                    "encoder_s": round(plain_encoder_s, 2),
                    "decoder_s": round(plain_decoder_s, 1),
                    "decoder_measured_s": round(plain_s, 3),
                    "times_larger": round(times_larger, 2),
                },
            },
            "precision_error": {
                "rms": float((rough - folded).square().mean().sqrt()),
                "of": float(folded.std()),
            },
            "conditions": {
                "frame_shape": [self.field_px, self.field_px],
                "phase_shape": [self.density * self.field_px] * 2,
                "plain_frame_shape": [self.plain_px, self.plain_px],
                "networks": {"paper": self.paper.sizes, "compact": self.compact.sizes},
                "precision": str(dtype).removeprefix("torch."),
                "repeats": self.repeats,
                "threads": torch.get_num_threads(),
                "processor": processor(),
                "cores": os.cpu_count(),
                "load_average_before": load,
                "torch": torch.__version__,
            },
        }

    def _live(self, network: NeuPh, dtype: torch.dtype) -> tuple[float, float]:
        """Seconds of encoder and decoder as the method runs them; the first turn warms up."""
        images = self._images(network.record, self.field_px).to(dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        decoder = network.ready_decoder("cpu", dtype)
        encoders = channels_last(self._network(network.record).encoders.to(dtype))
        grid = Grid.whole((self.field_px, self.field_px), self.density)
        encoder_s, decoder_s = [], []
        for _ in range(self.repeats + 1):
            latent, seconds = _timed(lambda: encoders(images).float())
            encoder_s.append(seconds)
            _, seconds = _timed(partial(_decoded, decoder, latent, grid))
            decoder_s.append(seconds)
        return median(encoder_s[1:]), median(decoder_s[1:])

    @staticmethod
    def _network(record: NeuPhNetwork) -> NeuPh:
        torch.manual_seed(0)
        return NeuPh(record).eval()

    @staticmethod
    def _images(record: NeuPhNetwork, side: int) -> torch.Tensor:
        return torch.randn(
            1, images_of(record), side, side, generator=torch.Generator().manual_seed(1)
        )


def _decoded(
    decoder: FoldedDecoder | ReadyConvolutions, latent: torch.Tensor, grid: Grid
) -> torch.Tensor:
    return decoder(decoder.prepared(latent), grid)


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def bench_neuph(size: NeuPhBench | None = None) -> dict[str, Any]:
    """See `NeuPhBench.measure`; a few minutes on two cores."""
    return (size or NeuPhBench()).measure()
