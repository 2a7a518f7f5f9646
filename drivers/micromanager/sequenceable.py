"""What a device can step through at the camera's triggers, and why not where it can't.

What is said of adapters here was read in their sources: what an adapter asks for before it lets its device be
sequenced, and which ones never do.
"""

from __future__ import annotations

from typing import NamedTuple

from drivers.micromanager.core import CORE_ERRORS, Core

# Switches by which adapters let their devices be sequenced: property → the value that does.
_SWITCHES = {"Sequence": "On", "UseSequences": "Yes", "UseSequence": "Yes"}

# Adapters and devices that never are, with what else there is.
_NEVER = {
    (
        "ETL",
        "",
    ): "the ETL adapter takes one current after another: step it in software, or drive the lens by the "
    "0 to 5 V input of its driver through Utilities' DA Z Stage over a DAC",
    ("IlluminateLedArray", ""): "its firmware has the sequences: use sequencing: firmware "
    "(deploy/experiments/led_array_illuminate.yaml)",
    (
        "Arduino",
        "Arduino-DAC",
    ): "the Arduino adapter does not sequence its analogue outputs: use a TriggerScope's "
    "or a NIDAQ card's",
}


class Sequencing(NamedTuple):
    """How many values a device holds (0: it can't be sequenced), and what to do where it is none."""

    max_length: int
    fix: str = ""


def property_sequencing(core: Core, label: str, name: str) -> Sequencing:
    """Of one property of one device."""
    if core.is_property_sequenceable(label, name):
        return Sequencing(core.get_property_sequence_max_length(label, name))
    if core.is_property_read_only(label, name):
        return Sequencing(0, "it can only be read")
    if name == "Label" and core.has_property(label, "State"):
        state = property_sequencing(core, label, "State")
        if state.max_length or "setup" in state.fix:
            also = f", and {state.fix}" if state.fix else ""
            return Sequencing(0, f"use the property State and the states' numbers{also}")
    return Sequencing(0, _fix(core, label))


def stage_sequencing(core: Core, label: str) -> Sequencing:
    """Of a stage (a lens that is one)."""
    if core.is_stage_sequenceable(label):
        return Sequencing(core.get_stage_sequence_max_length(label))
    if core.has_property(label, "DA Device"):
        output = core.get_property(label, "DA Device")
        if output in core.get_loaded_devices():
            return Sequencing(0, f"it follows the analogue output '{output}': {_fix(core, output)}")
    return Sequencing(0, _fix(core, label))


def sequencing_of(core: Core, label: str, name: str | None) -> Sequencing:
    """Of a property, or of a stage where `name` is None."""
    return stage_sequencing(core, label) if name is None else property_sequencing(core, label, name)


def _fix(core: Core, label: str) -> str:
    library, device = core.get_device_library(label), core.get_device_name(label)
    for (adapter, begins), text in _NEVER.items():
        if library == adapter and device.startswith(begins):
            return text
    # The hub first: an output that follows its hub has no switch of its own.
    for owner in (_hub(core, label), label):
        for name, on in _SWITCHES.items():
            if (
                owner
                and core.has_property(owner, name)
                and on in core.get_allowed_property_values(owner, name)
                and core.get_property(owner, name) != on
            ):
                return f"set '{owner}.{name}': '{on}' in microscope.setup"
    if core.has_property(label, "TriggerSequenceMaxLength"):
        return (
            f"set '{label}.TriggerSourceDevice', '{label}.TriggerSourcePort' and "
            f"'{label}.TriggerSequenceMaxLength' in microscope.setup"
        )
    if library == "NIDAQ" and device.startswith("NIDAQDO-"):
        if (
            core.has_property(label, "Sequencing")
            and core.get_property(label, "Sequencing") == "Never"
        ):
            return "give the device `before: {Sequencing: Use hub setting}`"
        if not core.has_property(label, "Blanking"):
            return (
                "the card can't watch its 'Input Line' for changes: wire the camera's exposure signal to that line "
                "of the same port, or use a card with change detection"
            )
    return "only stepped in software"


def _hub(core: Core, label: str) -> str:
    try:
        return core.get_parent_label(label)
    except CORE_ERRORS:
        # Devices of some types have none and say so with an error.
        return ""
