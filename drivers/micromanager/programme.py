"""The plan as segments that the devices run through by themselves.

Every slot has the same frames in the same order, so they are cut into *parts* once. A part is a stretch of a slot
that camera, light and lens do in one go: same brightness, and for light, lens and exposure a sequence that
the device holds. A *segment* is one burst of the camera: one part, or, where a slot is one part, as
many slots as lie at one place. The plan's order is law: nothing is reordered to save a cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drivers.micromanager.reach import Reach, is_constant
from pipeline.frames import FrameKey, Plan, Position, SlotKey

Place = tuple[float, float]


class LightValue(NamedTuple):
    """What lights a frame: the property's own value, and its text in a firmware's sequence."""

    value: str
    firmware: str = ""


@dataclass(frozen=True)
class FrameState:
    """What the devices have to be at one frame of a slot.

    Parameters
    ----------
    light
        Value of the light's property; None where the light is not switched.
    dim
        What can't change within a burst: brightness and further properties; None for a dark frame, which takes any.
    lens
        Position in the lens's own unit; None where there is no lens.
    """

    channel: int
    focus: int
    light: LightValue | None
    dim: tuple[tuple[str, str], ...] | None
    lens: float | None
    exposure_ms: float


@dataclass(frozen=True)
class Reaches:
    """How far each device gets by itself, and the most frames that the camera is armed for."""

    light: Reach
    lens: Reach
    exposure: Reach
    burst_frames: int


@dataclass(frozen=True)
class Part:
    """A stretch of a slot's frames that is run through in one go.

    Parameters
    ----------
    start
        Where in the slot, in the order of exposure, it begins.
    most_passes
        How often it may be run through in one burst.
    ends_because
        What cuts the slot behind it; empty at the slot's end.
    most_passes_because
        What keeps it from being run through more often; empty for a part of a slot.
    """

    start: int
    states: tuple[FrameState, ...]
    most_passes: int
    ends_because: str = ""
    most_passes_because: str = ""

    @property
    def light(self) -> tuple[LightValue | None, ...]:
        """The light of each frame."""
        return tuple(state.light for state in self.states)

    @property
    def lens(self) -> tuple[float | None, ...]:
        """The lens of each frame."""
        return tuple(state.lens for state in self.states)

    @property
    def exposure_ms(self) -> tuple[float, ...]:
        """The exposure of each frame."""
        return tuple(state.exposure_ms for state in self.states)

    @property
    def dim(self) -> tuple[tuple[str, str], ...] | None:
        """Brightness and further properties; None where all its frames are dark."""
        return next((state.dim for state in self.states if state.dim is not None), None)


@dataclass(frozen=True)
class Segment:
    """One burst of the camera: a part of one slot, or whole slots at one place.

    Parameters
    ----------
    place
        Where the stage has to be; None: where it stands.
    """

    part: Part
    slots: tuple[SlotKey, ...]
    place: Place | None

    @property
    def frames(self) -> int:
        """How many frames the camera takes."""
        return len(self.part.states) * len(self.slots)

    def key(self, number: int) -> FrameKey:
        """The key of the camera's image `number`, counted from 0."""
        slot, frame = divmod(number, len(self.part.states))
        state = self.part.states[frame]
        return FrameKey(*self.slots[slot], state.channel, state.focus)


class Programme:
    """How the slots of a plan are taken.

    Parameters
    ----------
    states
        Of one slot's frames, in the order of exposure.
    """

    def __init__(self, plan: Plan, states: Sequence[FrameState], reaches: Reaches) -> None:
        self._plan = plan
        self._states = tuple(states)
        self._reaches = reaches
        self.parts = tuple(_parts(self._states, reaches))

    def rest_of_slot(self, key: FrameKey) -> tuple[FrameKey, ...]:
        """A frame and all that follow it in its slot."""
        keys = list(self._plan.frame_keys(key.slot))
        return tuple(keys[keys.index(key) :])

    def segments(self, slots: Iterable[SlotKey]) -> Iterator[Segment]:
        """The bursts over these slots, in their order."""
        one_part = self.parts[0] if len(self.parts) == 1 else None
        run: list[SlotKey] = []
        place: Place | None = None
        for slot in slots:
            there = _place(self._plan.positions[slot.position])
            moves = there is not None and there != place
            if one_part is not None:
                if run and (moves or len(run) == one_part.most_passes):
                    yield Segment(one_part, tuple(run), place)
                    run = []
                run.append(slot)
            place = there if moves else place
            if one_part is None:
                for part in self.parts:
                    yield Segment(part, (slot,), place)
        if one_part is not None and run:
            yield Segment(one_part, tuple(run), place)

    def describe(self, slots: Iterable[SlotKey]) -> list[str]:
        """The bursts over these slots for people: a line for each kind of burst, and why it ends."""
        kinds: Counter[tuple[int, int]] = Counter()
        moves, place = 0, None
        for segment in self.segments(slots):
            kinds[segment.part.start, len(segment.slots)] += 1
            moves += segment.place != place and place is not None
            place = segment.place
        alike: Counter[str] = Counter()
        for part in self.parts:
            for (start, passes), bursts in kinds.items():
                if start == part.start:
                    alike[self._line(part, passes)] += bursts
        lines = [f"{bursts} x {line}" for line, bursts in alike.items()]
        cuts = Counter(part.ends_because for part in self.parts if part.ends_because)
        lines += [f"cut {times} times a slot: {because}" for because, times in cuts.items()]
        whole = self.parts[0]
        if (0, whole.most_passes) in kinds and whole.most_passes_because and len(kinds) > 1:
            lines.append(f"cut after {whole.most_passes} slots: {whole.most_passes_because}")
        if moves:
            lines.append(f"the stage moves {moves} times between bursts, in the dark")
        return lines

    def _line(self, part: Part, passes: int) -> str:
        size = len(part.states)
        what = f"{passes * size} frame{'s' * (passes * size > 1)}" + (
            f", {passes} slots of {size}" if passes > 1 else ""
        )
        again = passes > 1
        reaches = self._reaches
        devices = [
            f"{name}: {reach.describe(values, again=again)}"
            for name, reach, values in (
                ("light", reaches.light, part.light),
                ("lens", reaches.lens, part.lens),
            )
            if values[0] is not None
        ]
        exposures = part.exposure_ms
        devices.append(
            f"exposure: {exposures[0]:g} ms"
            if is_constant(exposures)
            else f"exposure: {reaches.exposure.describe(exposures, again=again)}"
        )
        return f"burst of {what}; " + "; ".join(devices)


def _place(position: Position) -> Place | None:
    if position.x_um is None or position.y_um is None:
        return None
    return position.x_um, position.y_um


def _parts(states: tuple[FrameState, ...], reaches: Reaches) -> Iterator[Part]:
    """Cut a slot into as few parts as can be: what fits in one part fits in a shorter one, too."""
    start = 0
    while start < len(states):
        rest = states[start:]
        limits = {
            "light": reaches.light.longest([state.light for state in rest]),
            "lens": reaches.lens.longest([state.lens for state in rest]),
            "exposure": reaches.exposure.longest([state.exposure_ms for state in rest]),
            "brightness or further properties of the light": _same_dim(rest),
            "burst_frames": reaches.burst_frames,
        }
        length = min(len(rest), *limits.values())
        part = rest[:length]
        because = ""
        if length < len(rest):
            because = "; ".join(
                _reason(name, reaches) for name, limit in limits.items() if limit == length
            )
        passes, passes_because = 1, ""
        if length == len(states):
            passes, passes_because = _passes(part, reaches)
        yield Part(start, part, passes, because, passes_because)
        start += length


def _same_dim(states: Sequence[FrameState]) -> int:
    """How many of the first frames have one brightness."""
    dims = [(i, state.dim) for i, state in enumerate(states) if state.dim is not None]
    return next((i for i, dim in dims if dim != dims[0][1]), len(states))


def _reason(name: str, reaches: Reaches) -> str:
    reach = {"light": reaches.light, "lens": reaches.lens, "exposure": reaches.exposure}.get(name)
    if reach is None:
        return f"at most {reaches.burst_frames} burst_frames" if name == "burst_frames" else name
    if reach.holds <= 1:
        return f"{name} changes, in software" + (f" ({reach.why})" if reach.why else "")
    return f"{name} holds no more than {reach.holds}"


def _passes(states: Sequence[FrameState], reaches: Reaches) -> tuple[int, str]:
    """How often a whole slot can be run through in one burst, and why not more often."""
    limits = {
        f"at most {reaches.burst_frames} burst_frames": reaches.burst_frames // len(states),
        "light": reaches.light.passes([state.light for state in states]),
        "lens": reaches.lens.passes([state.lens for state in states]),
        "exposure": reaches.exposure.passes([state.exposure_ms for state in states]),
    }
    least = min(limit for limit in limits.values() if limit is not None)
    names = [name for name, limit in limits.items() if limit == least]
    return least, " and ".join(
        name if name.startswith("at most") else f"{name} can't repeat it in one go"
        for name in names
    )
