"""The method `fpm`, loaded: tile by tile, each under the LED angles of its own place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from pipeline.calibration import Calibration
from pipeline.errors import SlotError
from pipeline.experiment import Experiment, LedIllumination
from pipeline.methods.fill import fill_invalid
from pipeline.methods.fpm.imaging import Imaging, object_field
from pipeline.methods.fpm.positions import array_step, position_wishes
from pipeline.methods.fpm.rim import Rim
from pipeline.methods.fpm.settings import FpmSettings
from pipeline.methods.fpm.solver import Effort, Solution, solve
from pipeline.methods.fpm.waves import Waves, make_waves
from pipeline.methods.mosaic import Mosaic, Span, plan_spans
from pipeline.methods.tiled import Tile, TiledReconstructor, region_of
from pipeline.optics.illumination import Source, place_source
from pipeline.optics.unwrap import unwrap

# Looks at the positions, and steps of the gradient between them. By the time of a look the object has
# followed wrong LEDs most of the way: a tenth of the error is left to be seen.
_LOOKS, _BETWEEN, _GAIN = 6, 3, 10.0
# Less light than this, of the background, is none.
_DARK = 1e-3


class _Prepared(NamedTuple):
    """Filled frames and which of their pixels count, ``[K, Y, X]``."""

    frames: torch.Tensor
    valid: torch.Tensor


class FpmReconstructor(TiledReconstructor[_Prepared]):
    """`fpm`, loaded for one camera, geometry and device; images are phase and amplitude."""

    def __init__(
        self,
        experiment: Experiment,
        calibration: Calibration,
        settings: FpmSettings,
        upsampling: int,
        device: str,
    ) -> None:
        self._experiment, self._calibration = experiment, calibration
        self._settings, self._upsampling = settings, upsampling
        self._device = torch.device(device)
        self._rim = Rim(settings.rim_px)
        plan = experiment.plan()
        self._pixel_um = calibration.pixel_um or experiment.pixel_um
        foci = len(plan.foci_um)
        self._channels = [plan.channels[k // foci].name for k in range(plan.frames_per_slot)]
        self._z_um = [
            calibration.true_focus_um(plan.foci_um[k % foci]) for k in range(plan.frames_per_slot)
        ]
        shape = plan.frame_shape
        spans = plan_spans(shape, settings.tile_px, settings.overlap_px)
        super().__init__(Mosaic(shape, spans, upsampling), region_of(settings.first_px))
        # Of a field of one tile they are the same at every call.
        self._only = self.waves(spans[0]) if len(spans) == 1 else None

    def prepared(self, frames: torch.Tensor, valid: torch.Tensor) -> _Prepared:
        """As `TiledReconstructor`."""
        frames, valid = frames.to(self._device), valid.to(self._device)
        filled = fill_invalid(frames[None], valid[None])[0]
        if float(filled.amax()) < _DARK:
            raise SlotError("the frames of fpm are black", "check the light, or the darks")
        return _Prepared(filled, valid)

    def tile(self, prepared: _Prepared, span: Span) -> Tile:
        """As `TiledReconstructor`."""
        waves, found = self.solve(span.cut(prepared.frames), span.cut(prepared.valid), span)
        field = object_field(found.spectrum)
        amplitude = field.abs()
        # Nothing holds the phase of the rim down, so it has no say in how the rest is unwrapped.
        field, amplitude = (self._rim.off(image, self._upsampling) for image in (field, amplitude))
        return Tile(
            torch.stack([unwrap(field.angle(), amplitude), amplitude]),
            self.predicted(waves, found, found.light),
        )

    def predicted(self, waves: Waves, found: Solution, light: torch.Tensor) -> torch.Tensor:
        """``[K, y, x]`` frames of a tile that an object makes under light ``[K]``."""
        return self._rim.off(Imaging(waves).frames(found.spectrum, found.pupil, light))

    def solve(
        self,
        frames: torch.Tensor,
        valid: torch.Tensor,
        span: Span,
        some: Sequence[int] | None = None,
    ) -> tuple[Waves, Solution]:
        """Object, pupil and light of one tile ``[K, y, x]``, and the waves that they are for.

        Parameters
        ----------
        some
            Numbers of the measurement's frames that are given; all of them where None. LEDs stay where they are.

        Returns
        -------
        Waves, Solution
            Of the tile and its rim.
        """
        if some is None and self._settings.refine_positions:
            waves = self._waves(
                self._found_sources(frames, valid, span), self._rim.shape(span.shape)
            )
        else:
            waves = self._only if self._only and some is None else self.waves(span, some)
        return waves, solve(
            waves, *self._rim.around(frames, valid), self._effort(self._settings.iterations)
        )

    def _effort(self, iterations: int) -> Effort:
        s = self._settings
        return Effort(s.rounds, iterations, s.recover_pupil, s.recover_light)

    def _found_sources(self, frames: torch.Tensor, valid: torch.Tensor, span: Span) -> list[Source]:
        """The light of every frame from where its LED is found to be.

        Without a rim: on a larger grid, whose frequencies are nearer to each other, the object follows wrong LEDs so
        far that the frames no longer tell.
        """
        sources = self.sources(span)
        found = None
        for _ in range(_LOOKS):
            waves = self._waves(sources, span.shape)
            found = solve(waves, frames, valid, self._effort(_BETWEEN), found)
            wish = position_wishes(waves, frames, valid, found, self._pixel_um)
            sources = _moved(sources, wish.steps.cpu(), wish.weights.cpu(), self._experiment)
        return sources

    def sources(self, span: Span) -> list[Source]:
        """The light of every frame as a tile's middle sees it."""
        light = self._experiment.illumination
        assert isinstance(light, LedIllumination), "refused by measurement"
        y, x = span.centre
        height, width = self.mosaic.shape
        place = np.array([x - width / 2, y - height / 2]) * self._pixel_um / 1e3
        return [
            place_source(self._experiment, channel, self._calibration, (place[0], place[1]))
            for channel in self._channels
        ]

    def waves(self, span: Span, some: Sequence[int] | None = None) -> Waves:
        """Windows and pupils of a tile and its rim, for all frames or some."""
        sources = self.sources(span)
        return self._waves(
            sources if some is None else [sources[k] for k in some],
            self._rim.shape(span.shape),
            some,
        )

    def _waves(
        self,
        sources: Sequence[Source],
        shape: tuple[int, int],
        some: Sequence[int] | None = None,
    ) -> Waves:
        return make_waves(
            sources,
            self._experiment.optics,
            self._pixel_um,
            shape,
            self._upsampling,
            self._z_um if some is None else [self._z_um[k] for k in some],
            {str(name): rad for name, rad in self._settings.aberration_rad.items()},
            self._device,
        )


def _moved(
    sources: Sequence[Source], steps: torch.Tensor, weights: torch.Tensor, experiment: Experiment
) -> list[Source]:
    """The same light from where the whole array is found to be."""
    wavelength_um = experiment.optics.wavelength_um
    sines = -torch.cat([s.frequencies for s in sources]) * wavelength_um
    change = _GAIN * array_step(sines, steps, weights, wavelength_um)
    return [
        Source(s.frequencies - c[None] / wavelength_um, s.weights, s.power)
        for s, c in zip(sources, change, strict=True)
    ]
