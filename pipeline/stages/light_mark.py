"""What the run folder says of the light, so that the next start knows though every process died."""

from __future__ import annotations

from pathlib import Path

from pipeline.durable import sync_directory
from pipeline.store.failures import write_failure


class LightMark:
    """The file `light.on` of a run folder: while it is there, the light may be on.

    The acquire process makes it before the first burst of a session and takes it away once the light is
    known to be off for good. While that process lives (it holds its stage lock) the mark is its business;
    a mark without it means that it died, and that somebody has to turn the light off.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "light.on"

    def is_set(self) -> bool:
        """Whether the light may be on."""
        return self.path.exists()

    def set(self) -> None:
        """Write down, durably, that the light may be on from here on.

        Raises
        ------
        StoreError
            If it can't be written: then the light must stay off.
        """
        try:
            # Empty: its name in the folder is all that has to survive a power cut.
            self.path.touch()
            sync_directory(self.path.parent)
        except OSError as error:
            raise write_failure(self.path, error) from error

    def clear(self) -> None:
        """The light is off."""
        try:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        except OSError as error:
            raise write_failure(self.path, error) from error
