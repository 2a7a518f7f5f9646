"""Micro-Manager's core, the same wherever it lives.

`Core` is the part of its API that livephase uses, under pycromanager's names. pycromanager's own `Core`
(a running Micro-Manager in Java, or its Python backend) is one already; `InProcessCore` makes one of
pymmcore.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# What pymmcore raises for a call that MMCore or a device refused (and `JavaCore` for a Java one).
CORE_ERRORS = (RuntimeError, ValueError, OSError, MemoryError)

# MMCore's numbers of the types of devices that have a part in a microscope.
CAMERA, SHUTTER, STATE, STAGE, XY_STAGE, SERIAL = 2, 3, 4, 5, 6, 7


class TaggedImage(Protocol):
    """A popped frame: pixels, flat or ``[Y, X]``, and what the core says of it."""

    pix: NDArray[np.unsignedinteger]
    tags: Mapping[str, Any]


class Core(Protocol):
    """What livephase asks of Micro-Manager's core (MMCore's documentation says what each call does)."""

    def get_version_info(self) -> str: ...  # noqa: D102
    def get_api_version_info(self) -> str: ...  # noqa: D102
    def set_device_adapter_search_paths(self, folders: Sequence[str]) -> None: ...  # noqa: D102
    def load_system_configuration(self, file: str) -> None: ...  # noqa: D102
    def load_device(self, label: str, library: str, name: str) -> None: ...  # noqa: D102
    def set_parent_label(self, label: str, parent: str) -> None: ...  # noqa: D102
    def initialize_device(self, label: str) -> None: ...  # noqa: D102
    def unload_all_devices(self) -> None: ...  # noqa: D102
    def get_loaded_devices(self) -> Sequence[str]: ...  # noqa: D102
    def get_device_library(self, label: str) -> str: ...  # noqa: D102
    def get_device_name(self, label: str) -> str: ...  # noqa: D102
    def get_device_type(self, label: str) -> int: ...  # noqa: D102
    def get_state_labels(self, label: str) -> Sequence[str]: ...  # noqa: D102
    def get_parent_label(self, label: str) -> str: ...  # noqa: D102
    def get_device_adapter_names(self) -> Sequence[str]: ...  # noqa: D102
    def get_available_devices(self, library: str) -> Sequence[str]: ...  # noqa: D102
    def get_available_device_types(self, library: str) -> Sequence[int]: ...  # noqa: D102
    def get_available_device_descriptions(self, library: str) -> Sequence[str]: ...  # noqa: D102
    def get_device_property_names(self, label: str) -> Sequence[str]: ...  # noqa: D102
    def device_busy(self, label: str) -> bool: ...  # noqa: D102
    def wait_for_device(self, label: str) -> None: ...  # noqa: D102
    def set_timeout_ms(self, timeout_ms: int) -> None: ...  # noqa: D102
    def get_property(self, label: str, name: str) -> str: ...  # noqa: D102
    def set_property(self, label: str, name: str, value: str) -> None: ...  # noqa: D102
    def has_property(self, label: str, name: str) -> bool: ...  # noqa: D102
    def is_property_pre_init(self, label: str, name: str) -> bool: ...  # noqa: D102
    def is_property_read_only(self, label: str, name: str) -> bool: ...  # noqa: D102
    def get_allowed_property_values(self, label: str, name: str) -> Sequence[str]: ...  # noqa: D102
    def has_property_limits(self, label: str, name: str) -> bool: ...  # noqa: D102
    def get_property_lower_limit(self, label: str, name: str) -> float: ...  # noqa: D102
    def get_property_upper_limit(self, label: str, name: str) -> float: ...  # noqa: D102
    def is_property_sequenceable(self, label: str, name: str) -> bool: ...  # noqa: D102
    def get_property_sequence_max_length(self, label: str, name: str) -> int: ...  # noqa: D102
    def load_property_sequence(self, label: str, name: str, values: Any) -> None: ...  # noqa: D102
    def start_property_sequence(self, label: str, name: str) -> None: ...  # noqa: D102
    def stop_property_sequence(self, label: str, name: str) -> None: ...  # noqa: D102
    def get_position(self, label: str) -> float: ...  # noqa: D102
    def set_position(self, label: str, position: float) -> None: ...  # noqa: D102
    def is_stage_sequenceable(self, label: str) -> bool: ...  # noqa: D102
    def get_stage_sequence_max_length(self, label: str) -> int: ...  # noqa: D102
    def load_stage_sequence(self, label: str, positions: Any) -> None: ...  # noqa: D102
    def start_stage_sequence(self, label: str) -> None: ...  # noqa: D102
    def stop_stage_sequence(self, label: str) -> None: ...  # noqa: D102
    def get_xy_stage_device(self) -> str: ...  # noqa: D102
    def set_xy_position(self, label: str, x: float, y: float) -> None: ...  # noqa: D102
    def get_x_position(self, label: str) -> float: ...  # noqa: D102
    def get_y_position(self, label: str) -> float: ...  # noqa: D102
    def get_camera_device(self) -> str: ...  # noqa: D102
    def set_camera_device(self, label: str) -> None: ...  # noqa: D102
    def get_auto_shutter(self) -> bool: ...  # noqa: D102
    def set_auto_shutter(self, on: bool) -> None: ...  # noqa: D102
    def get_shutter_device(self) -> str: ...  # noqa: D102
    def set_shutter_open(self, is_open: bool) -> None: ...  # noqa: D102
    def get_image_width(self) -> int: ...  # noqa: D102
    def get_image_height(self) -> int: ...  # noqa: D102
    def get_image_bit_depth(self) -> int: ...  # noqa: D102
    def get_bytes_per_pixel(self) -> int: ...  # noqa: D102
    def get_number_of_components(self) -> int: ...  # noqa: D102
    def set_exposure(self, exposure_ms: float) -> None: ...  # noqa: D102
    def is_exposure_sequenceable(self, label: str) -> bool: ...  # noqa: D102
    def get_exposure_sequence_max_length(self, label: str) -> int: ...  # noqa: D102
    def load_exposure_sequence(self, label: str, exposures_ms: Any) -> None: ...  # noqa: D102
    def start_exposure_sequence(self, label: str) -> None: ...  # noqa: D102
    def stop_exposure_sequence(self, label: str) -> None: ...  # noqa: D102
    def set_circular_buffer_memory_footprint(self, mb: int) -> None: ...  # noqa: D102
    def initialize_circular_buffer(self) -> None: ...  # noqa: D102
    def clear_circular_buffer(self) -> None: ...  # noqa: D102
    def get_buffer_total_capacity(self) -> int: ...  # noqa: D102
    def is_buffer_overflowed(self) -> bool: ...  # noqa: D102
    def get_remaining_image_count(self) -> int: ...  # noqa: D102
    def start_sequence_acquisition(  # noqa: D102
        self, frames: int, interval_ms: float, stop_on_overflow: bool
    ) -> None: ...
    def stop_sequence_acquisition(self) -> None: ...  # noqa: D102
    def is_sequence_running(self) -> bool: ...  # noqa: D102
    def pop_next_tagged_image(self) -> TaggedImage: ...  # noqa: D102


def camel_case(name: str) -> str:
    """``set_xy_position`` → ``setXYPosition``: MMCore's own name of a call."""
    first, *rest = name.split("_")
    camel = first + "".join(part.capitalize() for part in rest)
    return re.sub(r"Xy", "XY", camel).replace("Api", "API")


class InProcessImage:
    """A frame that pymmcore popped, with the tags that livephase reads."""

    # Reading every tag of every frame would cost more than the frame itself.
    _TAGS = ("ImageNumber", "ElapsedTime-ms")

    def __init__(self, pix: NDArray[np.unsignedinteger], metadata: Any) -> None:
        self.pix = pix
        self.tags = {
            tag: metadata.GetSingleTag(tag).GetValue() for tag in self._TAGS if metadata.HasTag(tag)
        }


class InProcessCore:
    """pymmcore's ``CMMCore`` under the names of `Core`."""

    def __init__(self) -> None:
        import pymmcore  # noqa: PLC0415 - a shared library that only this driver needs

        self._core = pymmcore.CMMCore()
        self._metadata = pymmcore.Metadata

    def pop_next_tagged_image(self) -> InProcessImage:
        """The oldest frame in the buffer."""
        metadata = self._metadata()
        return InProcessImage(self._core.popNextImageMD(metadata), metadata)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._core, camel_case(name))
        # Found once, it is an attribute like any other: the hot loop asks for some thousands of times a second.
        setattr(self, name, call)
        return call
