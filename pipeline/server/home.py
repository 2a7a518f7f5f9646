"""Where the service keeps things: run folders, experiments that came in, and the token.

HOME/
  token           who knows it may do everything; readable by this user only
  runs/NAME       run folders
  address         of the service that runs, without the token
  experiments/    the experiments that runs were started with, as they came
  console.log     what the present run's process prints
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.durable import replace_file
from pipeline.errors import LivephaseError, RunFolderError
from pipeline.store.locking import lock_within
from pipeline.store.run_folder import RunFolder

# What every file system takes, and no path escapes with.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,98}[A-Za-z0-9_]|[A-Za-z0-9]")
_TOKEN_BYTES = 32
_LOCK_PATIENCE_S = 1.0
# Names that Windows keeps for devices.
_RESERVED = {"con", "prn", "aux", "nul"}


def default_home() -> Path:
    """``LIVEPHASE_HOME``, or ``livephase`` in the user's own folder."""
    given = os.environ.get("LIVEPHASE_HOME")
    return Path(given) if given else Path.home() / "livephase"


class UnknownRunError(RunFolderError):
    """There is no run of that name."""


class Home:
    """The folder; made where it is missing by `make`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.runs = self.path / "runs"
        self.experiments = self.path / "experiments"
        self.token_file = self.path / "token"
        self.console = self.path / "console.log"
        self._address_file = self.path / "address"

    def make(self) -> None:
        """Make what is missing. Raises `LivephaseError` if it can't be."""
        try:
            for folder in (self.path, self.runs, self.experiments):
                folder.mkdir(parents=True, exist_ok=True)
            # Written first: a home that can't be written is better known now than at the first run.
            if not self.token_file.exists():
                self._write_token(secrets.token_urlsafe(_TOKEN_BYTES))
        except OSError as error:
            raise LivephaseError(
                f"the folder {self.path} can't be used ({error.strerror or error})",
                "give one that this user may write as --home",
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for one service alone. Raises `LivephaseError` where another one holds it."""
        fd = os.open(self.path / "service.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not lock_within(fd, _LOCK_PATIENCE_S):
                raise LivephaseError(
                    f"another service uses {self.path}", "end it first, or give another --home"
                )
            yield
        finally:
            os.close(fd)

    def token(self) -> str:
        """The token. Raises `LivephaseError` if it can't be read, or others can read it, too."""
        try:
            shared = os.name == "posix" and self.token_file.stat().st_mode & 0o077
            token = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LivephaseError(
                f"can't read the token in {self.token_file} ({error})",
                "is the service's --home another one, or are you another user than the service's?",
            ) from error
        if shared:
            raise LivephaseError(
                f"others than its owner can read {self.token_file}",
                f"chmod 600 {self.token_file}, or delete it: the service then makes a new one",
            )
        if len(token) < 16:
            raise LivephaseError(
                f"the token in {self.token_file} is too short to be safe",
                "delete the file: the service makes a new one when it starts",
            )
        return token

    def address(self) -> str | None:
        """Of the service that runs here; None where none does."""
        try:
            return self._address_file.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    @contextmanager
    def announced(self, address: str) -> Iterator[None]:
        """Say where the service is, while it is there."""
        replace_file(self._address_file, f"{address}\n".encode())
        try:
            yield
        finally:
            self._address_file.unlink(missing_ok=True)

    def run(self, name: str) -> RunFolder:
        """The run of a name. Raises `UnknownRunError` if there is none, or none could be called so."""
        folder = RunFolder(self.runs / name)
        if not is_name(name) or folder.path.is_symlink() or not folder.is_run():
            raise UnknownRunError(f"there is no run '{name}'", "GET /api/runs lists them")
        return folder

    def run_names(self) -> list[str]:
        """Of all runs, the newest first."""
        found = [p for p in self.runs.iterdir() if is_name(p.name) and RunFolder(p).is_run()]
        begun = {p.name: (p / "experiment.yaml").stat().st_mtime for p in found}
        return sorted(begun, key=lambda name: (-begun[name], name))

    def new_name(self, wanted: str | None, experiment: str) -> str:
        """For a new run: the one that is wanted, or of date and experiment.

        Raises
        ------
        RunFolderError
            If no folder can be called so, or one is.
        """
        if wanted is not None:
            if not is_name(wanted):
                raise RunFolderError(
                    f"a run can't be called '{wanted}'",
                    "use letters, digits, spaces, '-', '_' and '.', 100 at most, a letter or digit first",
                )
            if (self.runs / wanted).exists():
                raise RunFolderError(f"there is a run '{wanted}' already", "choose another name")
            return wanted
        slug = re.sub(r"[^A-Za-z0-9]+", "-", experiment).strip("-").lower()[:60] or "run"
        name = base = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{slug}"
        number = 2
        while (self.runs / name).exists():
            name, number = f"{base}-{number}", number + 1
        return name

    def _write_token(self, token: str) -> None:
        fd = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(token + "\n")

    def keep_experiment(self, name: str, text: str) -> Path:
        """Write a run's experiment down as it came; its path."""
        path = self.experiments / f"{name}.yaml"
        replace_file(path, text.encode())
        return path


def is_name(name: str) -> bool:
    """Whether a run may be called so."""
    return (
        bool(_NAME.fullmatch(name))
        and ".." not in name
        and name.split(".", maxsplit=1)[0].lower() not in _RESERVED
    )
