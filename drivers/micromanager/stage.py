"""The specimen's place: the XY stage."""

from __future__ import annotations

from drivers.micromanager.asking import Asker
from drivers.micromanager.programme import Place
from pipeline.errors import DriverError
from pipeline.experiment.micromanager import XYStage


class Stage:
    """Moves the specimen, when its place changes and not otherwise.

    `stands`: where it is known to be.
    """

    def __init__(self, asker: Asker, stage: XYStage, stands: Place | None = None) -> None:
        self._asker = asker
        self._settle_ms = stage.settle_ms
        self._label = stage.device or str(asker.core.get_xy_stage_device() or "")
        self._place = stands

    @property
    def stands(self) -> Place | None:
        """Where it was sent and arrived; None: not known."""
        return self._place

    def check(self, places: list[Place]) -> None:
        """Refuse places that nothing can go to."""
        if places and not self._label:
            raise DriverError(
                f"sequence.positions has places such as {places[0]}, but there is no XY stage",
                "name it in microscope.stage.device, or leave out x_um and y_um",
            )

    def is_at(self, place: Place | None) -> bool:
        """Whether nothing has to move."""
        return place is None or place == self._place

    def go(self, place: Place) -> None:
        """Move there, wait, and settle."""
        self._place = None
        label, core = self._label, self._asker.core
        self._asker.ask(label, f"go to {place} µm", core.set_xy_position, label, *place)
        self._asker.wait(label, self._settle_ms)
        self._place = place
