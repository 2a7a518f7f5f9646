"""Objective and wavelength."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from pipeline.experiment.strict import Strict


class Optics(Strict):
    """The imaging path from the specimen to the camera."""

    wavelength_um: float = Field(gt=0.1, lt=3.0)
    """Centre wavelength in vacuum, in micrometers (green light is 0.53)."""
    numerical_aperture: float = Field(gt=0, lt=1.7)
    """NA of the objective."""
    magnification: float = Field(gt=0, le=200)
    """From the specimen to the camera, tube lens and camera adapters included."""
    refractive_index: float = Field(default=1.0, ge=1.0, le=1.7)
    """Of the medium between specimen and objective: air 1.0, water 1.33, oil 1.52."""

    @model_validator(mode="after")
    def _na_fits_the_medium(self) -> Self:
        if self.numerical_aperture > self.refractive_index:
            raise ValueError(
                f"numerical_aperture {self.numerical_aperture} is greater than refractive_index "
                f"{self.refractive_index}: no objective can do that; name the immersion medium's index"
            )
        return self

    @property
    def cutoff_per_um(self) -> float:
        """Radius of the pupil, NA/λ, in cycles/µm: what a coherent field keeps."""
        return self.numerical_aperture / self.wavelength_um
