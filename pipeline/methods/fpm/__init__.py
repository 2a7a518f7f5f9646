"""Model-based Fourier ptychography: phase and amplitude beyond the objective's NA from single LEDs."""

from pipeline.methods.fpm.method import Fpm

__all__ = ["Fpm"]
