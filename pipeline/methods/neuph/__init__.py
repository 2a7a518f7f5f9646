"""NeuPh: multiplexed LED frames to phase on any grid, by a local conditional neural field."""

from pipeline.methods.neuph.method import NeuPhMethod

__all__ = ["NeuPhMethod"]
