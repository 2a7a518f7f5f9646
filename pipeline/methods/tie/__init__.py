"""TIE: phase from two or more foci, by the transport of intensity."""

from pipeline.methods.tie.method import Tie

__all__ = ["Tie"]
