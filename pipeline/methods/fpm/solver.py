"""Fourier ptychography: the object, pupil and light that explain a set of frames.

Two ways one after the other. *Alternating projection*, frame by frame from the brightest: each image's
amplitude is replaced by the measured one and the object's spectrum corrected under the pupil (Zheng et al.,
Nat. Photonics 7, 739, 2013; pupil recovery after Ou et al., Opt. Express 22, 4960, 2014). It is near within two
rounds and then circles, each frame undoing a part of the last one's. So a *gradient* over all frames at once
takes over: Σ (|ψ| - √I)² in steps scaled by the light that each frequency has had, with Nesterov's momentum, which
is given up whenever the error rises. For one LED a frame such a step is the projection of all frames averaged.

Decision. The camera's pixels integrate what falls on them (`Waves.samples`), where the usual model reads off a
value. It is four times as much computing, and after as many steps 0.0057 of the light of a real smear under blue
light is unexplained instead of 0.0087, and of LEDs that were never fitted, each as bright as it suits best, 0.0100
instead of 0.0160.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pipeline.methods.fpm.imaging import Imaging, power
from pipeline.methods.fpm.waves import Waves

# Fields of a chunk of frames are held three times over. A CPU's caches hold small chunks: with 96 MiB it takes half as
# long again.
_CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 2 << 30}
_BYTES_PER_SAMPLE = 24
# Of the most light that any frequency has had: where hardly a wave comes by, steps must not be long.
_DAMPING = 0.02
# Object and pupil move together: a full step of both overshoots.
_PUPIL_STEP = 0.5
# The light is fitted when the object explains most of a frame, and then now and again.
_LIGHT_FROM, _LIGHT_EVERY = 5, 5


@dataclass(frozen=True)
class Solution:
    """What explains the frames.

    Parameters
    ----------
    spectrum
        ``[H, W]`` complex64: the object's centred coefficients.
    pupil
        ``[h, w]`` complex64: what the known pupil has to be multiplied with.
    light
        ``[K]`` intensity of each frame's light, relative to what it was taken for.
    errors
        Σ (|ψ| - √I)² / Σ I before each gradient step.
    """

    spectrum: torch.Tensor
    pupil: torch.Tensor
    light: torch.Tensor
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Effort:
    """How a solution is sought.

    Parameters
    ----------
    rounds
        Of alternating projection.
    iterations
        Of the gradient. More fit the noise: they stop early.
    recover_pupil, recover_light
        Or take them as known.
    """

    rounds: int = 2
    iterations: int = 20
    recover_pupil: bool = True
    recover_light: bool = True


def solve(
    waves: Waves,
    frames: torch.Tensor,
    valid: torch.Tensor,
    effort: Effort,
    start: Solution | None = None,
) -> Solution:
    """Object, pupil and light from frames.

    Parameters
    ----------
    frames, valid
        ``[K, Y, X]`` float32, 1 the background of a brightfield frame; and bool. On the waves' device.
    start
        Goes on from there, without alternating projection; from an empty specimen where None.
    """
    return _Solver(waves, frames, valid, effort).run(start)


@dataclass
class _State:
    spectrum: torch.Tensor
    pupil: torch.Tensor

    def ahead(self, before: _State, momentum: float) -> _State:
        """Beyond itself, the way it came."""
        return _State(
            self.spectrum + momentum * (self.spectrum - before.spectrum),
            self.pupil + momentum * (self.pupil - before.pupil),
        )


class _Solver:
    def __init__(
        self, waves: Waves, frames: torch.Tensor, valid: torch.Tensor, effort: Effort
    ) -> None:
        self.waves, self.imaging, self.effort = waves, Imaging(waves), effort
        self.amplitudes = frames.clamp_min(0).sqrt()
        self.valid = valid.to(frames.dtype)
        self.light = frames.new_ones(len(frames))
        self.total = float((self.amplitudes.square() * self.valid).sum())
        samples = self.imaging.fine[0] * self.imaging.fine[1] * _BYTES_PER_SAMPLE
        self.most_waves = max(
            1, _CHUNK_BYTES.get(frames.device.type, _CHUNK_BYTES["cpu"]) // samples
        )

    def run(self, start: Solution | None) -> Solution:
        if start is None:
            state = self._empty()
            for number in range(self.effort.rounds):
                self._project(state, with_pupil=self.effort.recover_pupil and number > 0)
        else:
            state = _State(start.spectrum, start.pupil)
            self.light = start.light
        errors: list[float] = []
        now, ahead, t = state, state, 1.0
        for number in range(self.effort.iterations):
            fits_light = self.effort.recover_light and number >= _LIGHT_FROM
            stepped, error = self._step(
                ahead, (number - _LIGHT_FROM) % _LIGHT_EVERY == 0 and fits_light
            )
            if errors and error > errors[-1]:
                t = 1.0
            errors.append(error)
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            now, ahead, t = stepped, stepped.ahead(now, (t - 1) / t_next), t_next
        return Solution(now.spectrum, now.pupil, self.light, tuple(errors))

    def _empty(self) -> _State:
        """No specimen, no aberration."""
        h, w = self.waves.grid
        spectrum = self.waves.pupils.new_zeros(h, w)
        spectrum[h // 2, w // 2] = 1
        return _State(spectrum, self.waves.pupils.new_ones(self.waves.window))

    def _project(self, state: _State, *, with_pupil: bool) -> None:
        """One round of alternating projection, in place."""
        imaging = self.imaging
        for k in self._from_the_brightest():
            frames = slice(k, k + 1)
            waves = imaging.lit(frames)
            under, known = imaging.windows(state.spectrum, waves), self.waves.pupils[waves]
            pupils = known * state.pupil
            fields = imaging.fields(under * pupils)
            correction = self._correction(imaging.amplitude(fields, frames), frames)
            change = imaging.back(fields, correction, frames)
            light = self.waves.weights[waves].sum()
            most = power(pupils).amax() * light
            imaging.add_windows(state.spectrum, pupils.conj() * change / most, waves)
            if with_pupil:
                under = under * known
                most = power(under).amax() * light
                state.pupil += _PUPIL_STEP * (under.conj() * change).sum(0) / most

    def _step(self, state: _State, fit_light: bool) -> tuple[_State, float]:
        """One scaled gradient step, and the error before it."""
        imaging, waves = self.imaging, self.waves
        up, light = torch.zeros_like(state.spectrum), torch.zeros_like(state.spectrum.real)
        pupil_up, pupil_light = torch.zeros_like(state.pupil), torch.zeros_like(state.pupil.real)
        error = torch.zeros((), device=up.device)
        scale = self.light.clone()
        for frames in self._chunks():
            some = imaging.lit(frames)
            under, known = imaging.windows(state.spectrum, some), waves.pupils[some]
            pupils = known * state.pupil
            fields = imaging.fields(under * pupils)
            amplitude, measured = imaging.amplitude(fields, frames), self.amplitudes[frames]
            valid, shining = self.valid[frames], self.light[frames].sqrt()[:, None, None]
            error += (valid * (shining * amplitude - measured).square()).sum()
            if fit_light:
                fit = (valid * measured * amplitude).sum((-2, -1))
                square = (valid * amplitude.square()).sum((-2, -1))
                # A frame without a valid pixel says nothing of its light.
                scale[frames] = torch.where(square > 0, (fit / square).square(), self.light[frames])
            change = imaging.back(fields, self._correction(amplitude, frames), frames)
            share = waves.weights[some] * self._of_waves(self.light, frames)
            share = share[:, None, None]
            imaging.add_windows(up, pupils.conj() * change, some)
            imaging.add_windows(light, power(pupils) * share, some)
            if self.effort.recover_pupil:
                under = under * known
                pupil_up += (under.conj() * change).sum(0)
                pupil_light += (power(under) * share).sum(0)
        spectrum = state.spectrum + up / (light + _DAMPING * light.amax())
        pupil = state.pupil
        if self.effort.recover_pupil:
            pupil = pupil + _PUPIL_STEP * pupil_up / (pupil_light + _DAMPING * pupil_light.amax())
        self.light = scale
        return _State(spectrum, pupil), float(error) / self.total

    def _correction(self, amplitude: torch.Tensor, frames: slice) -> torch.Tensor:
        """``[k, Y, X]``: a field times this is what it lacks; nothing where a pixel isn't valid."""
        light = self.light[frames, None, None]
        lacking = light.sqrt() * self.amplitudes[frames] / amplitude - light
        return lacking * self.valid[frames]

    def _of_waves(self, values: torch.Tensor, frames: slice) -> torch.Tensor:
        """``[n]`` of the frames' values, each repeated for its waves."""
        first = torch.tensor(self.waves.first[frames.start : frames.stop + 1])
        return values[frames].repeat_interleave((first[1:] - first[:-1]).to(values.device))

    def _from_the_brightest(self) -> list[int]:
        mean = (self.amplitudes.square() * self.valid).mean((-2, -1))
        return [int(k) for k in mean.argsort(descending=True)]

    def _chunks(self) -> list[slice]:
        """Ranges of frames whose waves fit into memory."""
        first, chunks, start = self.waves.first, [], 0
        for k in range(1, len(first)):
            last = k == len(first) - 1
            if last or first[k + 1] - first[start] > self.most_waves:
                chunks.append(slice(start, k))
                start = k
        return chunks
