"""Pauses of the run's own: from an alarm that is to suspend it until all is well again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from pipeline.control import Command
from pipeline.experiment import AlarmName, Care
from pipeline.lifecycle.orders import Orders


class Raised(NamedTuple):
    """An active alarm, as far as a suspension is concerned."""

    text: str
    shown_by_frames: bool


class Suspender:
    """Decides; what the user orders stands above it.

    A run that the user lets go on in spite of an alarm is not suspended for it again until it has gone.
    """

    def __init__(self, care: Care, orders: Orders) -> None:
        self._care, self._orders = care, orders
        self._by: frozenset[AlarmName] = frozenset()
        self._since = 0.0
        # Alarms that may not suspend: until they are gone, or until a time (infinite where the user said so).
        self._excused: dict[AlarmName, float] = {}

    @property
    def by(self) -> frozenset[AlarmName]:
        """The alarms that the run is suspended for; empty: it is not."""
        return self._by

    def look(
        self, raised: Mapping[AlarmName, Raised], now: float, interval_s: float, *, acquiring: bool
    ) -> None:
        """Suspend, or go on, if it is time. `acquiring`: frames are still to come, so there is something to pause."""
        reasons = {name: raised[name] for name in self._care.suspend if name in raised}
        if self._by and not self._orders.suspended:
            self._taken_over(reasons)
        self._excused = {n: until for n, until in self._excused.items() if n in reasons}
        wanted = frozenset(n for n in reasons if self._excused.get(n, 0.0) <= now)
        if not self._by:
            if wanted and acquiring and self._orders.suspend():
                self._by, self._since = wanted, now
        elif not wanted:
            self._go_on()
        elif now - self._since >= self._care.try_again_s and all(
            reasons[n].shown_by_frames for n in wanted
        ):
            # Nothing but new frames can show whether it is well: as long as an alarm takes to be over.
            until = now + 1.5 * self._care.well_for_s + 2 * interval_s
            self._excused |= dict.fromkeys(wanted, until)
            self._go_on()
        else:
            self._by = wanted

    def _taken_over(self, reasons: Collection[AlarmName]) -> None:
        """The user has ordered something else meanwhile."""
        if self._orders.command == Command.RUN:
            self._excused |= dict.fromkeys(reasons, float("inf"))
        self._by = frozenset()

    def _go_on(self) -> None:
        self._by = frozenset()
        self._orders.go_on()
