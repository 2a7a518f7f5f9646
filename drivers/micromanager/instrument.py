"""All devices of one microscope, brought together for a plan."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.driver import CameraInfo
from drivers.micromanager.asking import Asker
from drivers.micromanager.firmware import firmware_reach
from drivers.micromanager.lens import Lens
from drivers.micromanager.light import Light, PropertyLight, ShutterLight, dim_of, value_of
from drivers.micromanager.popping import BurstCamera
from drivers.micromanager.programme import FrameState, Part, Place, Programme, Reaches, Segment
from drivers.micromanager.reach import Reach, is_constant
from drivers.micromanager.sequenced import CameraExposure, hardware_reach
from drivers.micromanager.stage import Stage
from drivers.micromanager.stepping import Stepper
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import LensDevice, LightDevice, MicroManagerMicroscope
from pipeline.frames import FrameKey, Plan, SlotKey

# For questions that don't depend on the devices: one that does whatever it is asked.
_BOUNDLESS = Reach(1_000_000_000)
# From this version of MMCore on, ImageNumber counts the frames that its buffer lost, too.
_COUNTS_LOSSES = (12, 5)


@dataclass(frozen=True)
class Offset:
    """What every focus and every place of a plan is moved by."""

    focus_um: float = 0.0
    stage_um: Place = (0.0, 0.0)

    def place(self, place: Place) -> Place:
        """A place of the plan, moved."""
        return place[0] + self.stage_um[0], place[1] + self.stage_um[1]


class Instrument:
    """Camera, light, lens and stage, and the programme that they run.

    Parameters
    ----------
    found
        Properties as they were found when the devices were opened: see `PropertyLight`.
    offset
        What the plan's foci and places are moved by.
    stands
        Where the stage is known to be: moved there again it would shake the specimen.

    Raises
    ------
    DriverError
        If the devices can't do what the plan asks for.
    """

    def __init__(
        self,
        asker: Asker,
        microscope: MicroManagerMicroscope,
        plan: Plan,
        found: dict[str, str],
        offset: Offset = Offset(),
        stands: Place | None = None,
    ) -> None:
        core = asker.core
        self._asker = asker
        self._microscope = microscope
        self._plan = plan
        label = str(core.get_camera_device())
        self.camera = BurstCamera(asker, label)
        self.light = self.light_of(asker, microscope, found)
        self.lens = self.lens_of(asker, microscope)
        self._exposure = Stepper(asker, CameraExposure(core, label))
        self._stage = Stage(asker, microscope.stage, stands)
        places: list[Place] = [
            (p.x_um, p.y_um) for p in plan.positions if p.x_um is not None and p.y_um is not None
        ]
        self._stage.check(places)
        self._reaches = Reaches(
            light=self.light.reach(),
            lens=_BOUNDLESS if self.lens is None else self.lens.reach(),
            exposure=hardware_reach(CameraExposure(core, label)),
            burst_frames=microscope.burst_frames,
        )
        self._refuse_what_must_be_hardware()
        self._refuse_exposures_beyond_the_cameras()
        self._offset = Offset()
        self.programme = Programme(plan, _states(microscope, plan), self._reaches)
        self.steer(offset)
        _check_built_in(microscope.light, plan, self.programme)
        # The core takes its buffer's memory when it is first used: a gigabyte later, the light would be on.
        asker.ask(label, "get a buffer for its frames", core.initialize_circular_buffer)
        self._bytes = int(core.get_bytes_per_pixel())
        self.info = CameraInfo(
            (int(core.get_image_height()), int(core.get_image_width())),
            int(core.get_image_bit_depth()),
            f"{label} ({core.get_device_library(label)} {core.get_device_name(label)})",
        )
        self._led_is_known = True
        self._said_led = False

    @property
    def stands(self) -> Place | None:
        """Where the stage was sent and arrived; None: not known."""
        return self._stage.stands

    def steer(self, offset: Offset) -> None:
        """Take every focus and place moved from the next burst on. Nothing moves.

        Raises
        ------
        DriverError
            If there is no lens or stage to move, or the lens would leave its limits: all stays as it was.
        """
        if offset == self._offset:
            return
        lens, plan = self._microscope.lens, self._plan
        if offset.focus_um and lens is None:
            raise DriverError(
                "nothing moves the focus of this microscope",
                "name what does as microscope.lens, or leave out refocusing",
            )
        if lens is not None and lens.limits is not None:
            for focus_um in plan.foci_um:
                at = lens.position(focus_um + offset.focus_um)
                if not lens.limits[0] <= at <= lens.limits[1]:
                    raise DriverError(
                        f"focus {focus_um:g} µm, refocused by {offset.focus_um:+g} µm, is position {at:g} of the "
                        f"lens, beyond its limits {lens.limits[0]:g} to {lens.limits[1]:g}",
                        "refocus less, or bring the microscope's own focus back to the specimen",
                    )
        if any(offset.stage_um) and any(p.x_um is None for p in plan.positions):
            raise DriverError(
                "a position has no x_um and y_um: it is taken where the stage stands, and can't be moved",
                "give every position of sequence.positions its x_um and y_um",
            )
        stage = self._microscope.stage
        for position in plan.positions:
            if position.x_um is None or position.y_um is None:
                continue
            moved = offset.place((position.x_um, position.y_um))
            for axis, at, limits in zip(
                "xy", moved, (stage.x_limits_um, stage.y_limits_um), strict=True
            ):
                if limits is not None and not limits[0] <= at <= limits[1]:
                    raise DriverError(
                        f"'{position.name}' would lie at {axis} = {at:g} µm, beyond the stage's limits {limits[0]:g} "
                        f"to {limits[1]:g}",
                        "move less far",
                    )
        self._offset = offset
        self.programme = Programme(
            plan, _states(self._microscope, plan, offset.focus_um), self._reaches
        )

    @staticmethod
    def light_of(asker: Asker, microscope: MicroManagerMicroscope, found: dict[str, str]) -> Light:
        """The microscope's light; `found` as of `PropertyLight`."""
        if microscope.light is None:
            return ShutterLight(asker)
        return PropertyLight(asker, microscope.light, found)

    @staticmethod
    def lens_of(asker: Asker, microscope: MicroManagerMicroscope) -> Lens | None:
        """The microscope's lens."""
        return None if microscope.lens is None else Lens(asker, microscope.lens)

    @staticmethod
    def preflight(microscope: MicroManagerMicroscope, plan: Plan) -> None:
        """Refuse what no device could do."""
        light = microscope.light
        if light is None or light.firmware is None:
            return
        reaches = Reaches(firmware_reach(light), _BOUNDLESS, _BOUNDLESS, microscope.burst_frames)
        _check_built_in(light, plan, Programme(plan, _states(microscope, plan), reaches))

    def remarks(self) -> list[str]:
        """What the user should know of these devices and this plan."""
        remarks = []
        states = _states(self._microscope, self._plan)
        for name, reach, values in (
            ("the light", self._reaches.light, [state.light for state in states]),
            ("the lens", self._reaches.lens, [state.lens for state in states]),
        ):
            if reach.name == "software" and not is_constant(values):
                remarks.append(
                    f"{name} is stepped by software, which starts the camera anew for each change: {reach.why}"
                )
        if isinstance(self.light, ShutterLight):
            shutter = self.light.label
            remarks.append(
                f"no microscope.light is named: the shutter '{shutter}' is opened for bursts only"
                if shutter
                else "no microscope.light is named and there is no shutter: livephase can't put the light out"
            )
        places = [None if p.x_um is None else (p.x_um, p.y_um) for p in self._plan.positions]
        if None in places and len(set(places)) > 1:
            standing = self._plan.positions[places.index(None)].name
            remarks.append(
                f"'{standing}' has no x_um and y_um, but other positions have: it is taken wherever the stage then "
                "stands"
            )
        version = re.search(r"(\d+)\.(\d+)", str(self._asker.core.get_version_info()))
        if version and (int(version[1]), int(version[2])) < _COUNTS_LOSSES:
            remarks.append(
                f"MMCore {version[0]} does not count the frames that its buffer loses: the burst ends there, "
                "and none is mislabelled, but use 12.5 or later"
            )
        return remarks

    def check_frames(self) -> None:
        """Refuse a camera whose frames don't fit the plan's."""
        plan, info = self._plan, self.info
        is_ = info.frame_shape, info.bit_depth, self._bytes
        asked = plan.frame_shape, plan.bit_depth, plan.dtype.itemsize
        if is_ != asked:
            raise DriverError(
                "the camera {} gives {} pixels of {} bits in {} bytes, the experiment expects {} of {} bits in "
                "{} bytes".format(info.name, *is_, *asked),
                "set microscope.camera.shape_px and bit_depth to what the camera gives, or the camera in "
                "microscope.setup",
            )

    def forget(self) -> None:
        """Take nothing for granted but the stage: moved for nothing, it would shake the specimen."""
        self.light.forget()
        self._exposure.forget()
        if self.lens is not None:
            self.lens.forget()

    def begin(self, segment: Segment) -> None:
        """Everything where the segment's first frame wants it, then the camera. The light comes last."""
        part, passes = segment.part, len(segment.slots)
        self._asker.check()
        place = None if segment.place is None else self._offset.place(segment.place)
        if place is not None and not self._stage.is_at(place):
            self.light.off()
            self.light.forget()
            self._stage.go(place)
        self.camera.start(
            segment.frames, max(part.exposure_ms), lambda: self._make_ready(part, passes)
        )
        # Put out while the camera started: it would expose in the dark.
        self._asker.check()

    def _make_ready(self, part: Part, passes: int) -> None:
        """Everything that steps at its first frame; the slowest first, the light last."""
        self._halt_steps()
        self._exposure.prepare(part.exposure_ms, again=passes > 1)
        if self.lens is not None:
            self.lens.prepare(part, passes)
        self._asker.check()
        self.light.prepare(part, passes)
        self._exposure.start()
        if self.lens is not None:
            self.lens.start()
        self.light.start()
        self._asker.check()
        self._led_is_known = self._light_is_as_set()

    def halt(self, *, cut: bool) -> None:
        """After a segment: the camera stopped, nothing steps.

        Parameters
        ----------
        cut
            Not all of its frames were taken.
        """
        if cut:
            self.camera.stop()
        else:
            self.camera.finish()
        self._halt_steps()

    def _halt_steps(self) -> None:
        """Nothing steps, if anything did."""
        self.light.halt()
        if self.lens is not None:
            self.lens.halt()
        self._exposure.halt()

    def led(self, key: FrameKey) -> int:
        """The channel that is lit, as far as is known."""
        return key.channel if self._led_is_known else -1

    def _light_is_as_set(self) -> bool:
        """Ask the light, where it can be asked; say once that it differs."""
        if self.light.is_as_set() is not False:
            return True
        if not self._said_led:
            self._said_led = True
            assert self._microscope.light is not None
            light = self._microscope.light
            self._asker.tell(
                f"'{light.device}.{light.property}' does not read as it was set: its frames are recorded "
                "without the light that it says it has"
            )
        return False

    def _refuse_exposures_beyond_the_cameras(self) -> None:
        """Some cameras take any exposure, and make the nearest that they can."""
        core, label, name = self._asker.core, self.camera.label, "Exposure"
        if not (core.has_property(label, name) and core.has_property_limits(label, name)):
            return
        low = core.get_property_lower_limit(label, name)
        high = core.get_property_upper_limit(label, name)
        for channel in self._plan.channels:
            if not low <= channel.exposure_ms <= high:
                raise DriverError(
                    f"channel '{channel.name}' has an exposure_ms of {channel.exposure_ms:g}, '{label}' makes "
                    f"{low:g} to {high:g} ms",
                    "set an exposure within that, and brightness or gain to match",
                )

    def _refuse_what_must_be_hardware(self) -> None:
        light, lens = self._microscope.light, self._microscope.lens
        states = _states(self._microscope, self._plan)
        asked: list[tuple[str, LightDevice | LensDevice, Reach, list[object]]] = []
        if light is not None:
            asked.append(("light", light, self._reaches.light, [s.light for s in states]))
        if lens is not None:
            asked.append(("lens", lens, self._reaches.lens, [s.lens for s in states]))
        for name, device, reach, values in asked:
            if device.sequencing == "hardware" and reach.is_refused and not is_constant(values):
                raise DriverError(
                    f"microscope.{name}: sequencing: hardware, but {reach.why}",
                    "set up its triggers (microscope.setup), or use sequencing: auto or software; "
                    "`livephase devices` says what can be sequenced",
                )


def fit(
    pixels: NDArray[np.unsignedinteger], into: NDArray[np.unsignedinteger]
) -> NDArray[np.unsignedinteger]:
    """A popped frame as its destination wants it: Java hands out flat arrays of signed numbers. No copy."""
    if pixels.dtype != into.dtype:
        pixels = pixels.view(into.dtype)
    if pixels.shape != into.shape:
        if pixels.size != into.size:
            raise DriverError(
                f"the camera gave a frame of {pixels.size} pixels, where {into.shape} was expected",
                "leave the camera's region of interest and binning alone during a run",
            )
        pixels = pixels.reshape(into.shape)
    return pixels


def _states(
    microscope: MicroManagerMicroscope, plan: Plan, refocus_um: float = 0.0
) -> list[FrameState]:
    """What the devices have to be at each frame of a slot, in the order of exposure."""
    light, lens = microscope.light, microscope.lens
    states = []
    for _, _, c, z in plan.frame_keys(SlotKey(0, 0)):
        channel = plan.channels[c]
        states.append(
            FrameState(
                channel=c,
                focus=z,
                light=None if light is None else value_of(light, channel),
                dim=() if light is None else dim_of(light, channel),
                lens=None if lens is None else lens.position(plan.foci_um[z] + refocus_um),
                exposure_ms=channel.exposure_ms,
            )
        )
    return states


def _check_built_in(light: LightDevice | None, plan: Plan, programme: Programme) -> None:
    """Refuse a plan that a sequence built into the light's firmware does not show."""
    if light is None or light.firmware is None or not light.firmware.order:
        return
    order = light.firmware.order
    for part in programme.parts:
        if is_constant(part.light):
            continue
        names = tuple(plan.channels[state.channel].name for state in part.states)
        if light.phase or names != order * max(len(names) // len(order), 1):
            raise DriverError(
                f"the light's own sequence is {', '.join(order)}; the camera would take {', '.join(names)}"
                + (f" with phase {light.phase}" if light.phase else ""),
                "give sequence.channels in that order (several foci: frame_order: zc), with one exposure and "
                "brightness and phase 0; or use another sequencing",
            )
