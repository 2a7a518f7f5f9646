"""Errors that carry their cause and their fix.

Everything a user can get wrong, and everything an instrument can do wrong,
is raised as a `LivephaseError`. The command line prints `cause` and `fix` as one
sentence each and exits with a non-zero status: a user never sees a traceback
for a mistake of theirs.
"""

from __future__ import annotations


class LivephaseError(Exception):
    """A failure with a known cause and a known remedy.

    Parameters
    ----------
    cause
        What is wrong, naming the value, file or device: no trailing full stop.
    fix
        What the user can do about it, in the imperative: no trailing full stop.
    """

    exit_code = 1

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause, fix)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}: {self.fix}" if self.fix else self.cause


class ExperimentError(LivephaseError):
    """The experiment file asks for something impossible or unknown."""

    exit_code = 2


class RunFolderError(LivephaseError):
    """The run folder can't be used: in use, foreign, read-only, full or aborted."""

    exit_code = 3


class StoreError(LivephaseError):
    """A store can't be written, or what is in it can't be read."""

    exit_code = 4


class DriverError(LivephaseError):
    """The microscope, real, simulated or replayed, did not do what was asked."""

    exit_code = 5


class MethodError(LivephaseError):
    """A reconstruction method can't work on what it was given."""

    exit_code = 6


class SlotError(MethodError):
    """Nothing can be made of the frames of this one timepoint and position: it is skipped."""
