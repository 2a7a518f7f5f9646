"""DPC: phase and absorption from images under LED patterns, by one linear inverse."""

from pipeline.methods.dpc.method import Dpc

__all__ = ["Dpc"]
