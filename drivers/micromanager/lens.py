"""The lens: what moves the plane in focus."""

from __future__ import annotations

from drivers.micromanager.asking import Asker
from drivers.micromanager.programme import Part
from drivers.micromanager.reach import Reach
from drivers.micromanager.sequenced import (
    PropertyValue,
    Sequenced,
    StagePosition,
    hardware_reach,
)
from drivers.micromanager.stepping import Stepper
from pipeline.experiment.micromanager import LensDevice


class Lens:
    """A stage, or a property that acts as one; positions are in its own unit."""

    def __init__(self, asker: Asker, lens: LensDevice) -> None:
        self._lens = lens
        self._device: Sequenced = (
            StagePosition(asker.core, lens.device)
            if lens.property is None
            else PropertyValue(asker.core, lens.device, lens.property)
        )
        # A lens takes longer to a burst's first focus than from one focus to the next.
        self._steps = Stepper(
            asker,
            self._device,
            phase=lens.phase,
            settle_ms=lens.settle_ms,
            starts_settled=True,
        )
        self.forget = self._steps.forget
        self.start = self._steps.start
        self.halt = self._steps.halt

    def reach(self) -> Reach:
        """How far it gets by itself, as the experiment wants it. Asks only."""
        if self._lens.sequencing == "software":
            return Reach(1, "sequencing: software")
        return hardware_reach(self._device)

    def prepare(self, part: Part, passes: int) -> None:
        """At the first focus, settled, and loaded with the others."""
        self._steps.prepare(part.lens, again=passes > 1)

    def leave(self) -> None:
        """To its safe place, if it has one; from any thread."""
        self._steps.leave(self._lens.safe)
