"""The method `tie`: which frames it takes, and when it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.calibration import Calibration
from pipeline.errors import ExperimentError
from pipeline.experiment import Condenser, Experiment, nearest
from pipeline.frames import FrameKey, Measurement
from pipeline.methods.contract import Reconstructor
from pipeline.methods.settings import read_settings
from pipeline.methods.tie.settings import TieSettings

# The transport of intensity holds for frequencies below (1 - S)·NA/λ. At 0.8 that is detail of
# five times λ/NA; beyond, defocus hardly changes the image and mostly noise would be integrated.
_GREATEST_COHERENCE = 0.8
# Oblique light moves a defocused image sideways: this much of the NA moves it by a tenth of what
# defocus blurs it.
_GREATEST_TILT = 0.1


class Tie:
    """Phase from one channel at two or more foci: the transport-of-intensity equation, solved by FFT.

    Output: ``phase`` (radians), at the plane of focus 0.
    """

    name = "tie"

    def measurement(self, experiment: Experiment) -> Measurement:
        """All foci of one channel.

        Raises
        ------
        ExperimentError
            If there is one focus only, or no channel's light is coherent and straight enough.
        """
        settings = read_settings(TieSettings, experiment)
        foci = experiment.sequence.foci_um
        if len(foci) < 2:
            raise ExperimentError(
                f"method tie needs two or more foci, but sequence.foci_um is {list(foci)}",
                "give foci on both sides of the specimen, such as foci_um: [-2, 0, 2]",
            )
        if settings.order >= len(foci):
            raise ExperimentError(
                f"reconstruction.settings.order is {settings.order}, but {len(foci)} foci determine "
                f"a polynomial of order {len(foci) - 1} at most",
                "lower the order or add foci",
            )
        channel = _channel(experiment, settings)
        plan = experiment.plan()
        index = experiment.channel_names.index(channel)
        return Measurement(tuple(plan.index(FrameKey(0, 0, index, z)) for z in range(len(foci))))

    def load(
        self,
        experiment: Experiment,
        calibration: Calibration,
        device: str,
        weights: Path | None,  # noqa: ARG002 - the contract's; a physical model has none
    ) -> Reconstructor:
        """Fit through the foci and inverse Laplacian; `weights` are not used.

        Raises
        ------
        ExperimentError
            As `measurement` does.
        """
        from pipeline.methods.tie.reconstructor import load_tie  # noqa: PLC0415 - torch

        self.measurement(experiment)
        return load_tie(experiment, calibration, read_settings(TieSettings, experiment), device)


def _channel(experiment: Experiment, settings: TieSettings) -> str:
    names = experiment.channel_names
    if settings.channel is not None:
        if settings.channel not in names:
            raise ExperimentError(
                f"reconstruction.settings.channel names '{settings.channel}', which the sequence does not take",
                nearest(settings.channel, names),
            )
        names = (settings.channel,)
    reasons = {name: _unsuitable(experiment, name) for name in names}
    for name, reason in reasons.items():
        if reason is None:
            return name
    raise ExperimentError(
        "method tie can't use "
        + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        "light with a nearly closed condenser (illumination.coherence 0.1) or the LED on the axis",
    )


def _unsuitable(experiment: Experiment, channel: str) -> str | None:
    """Why a channel's light breaks the transport of intensity; None if it does not."""
    light = experiment.illumination
    na = experiment.optics.numerical_aperture
    if isinstance(light, Condenser):
        coherence, tilt = light.coherence, 0.0
    else:
        pattern = light.channels[channel].pattern
        assert pattern is not None, "refused by the experiment's validator"
        sines = light.array.sines()[light.leds(pattern, na)] / na
        coherence = float(np.hypot(*sines.T).max())
        tilt = float(np.hypot(*sines.mean(0)))
    if tilt > _GREATEST_TILT:
        return f"its light is oblique (by {tilt:.2f} of the NA)"
    if coherence > _GREATEST_COHERENCE:
        return f"its light is too incoherent (S = {coherence:.2f}, at most {_GREATEST_COHERENCE})"
    return None
