"""The command line: one verb, one function of the package.

Only what a verb needs is imported when it is used: `livephase verify` does not wait for torch.
"""

from __future__ import annotations

import io
import sys
from typing import NoReturn

from pipeline.cli.app import app

# Their order is that of `livephase --help`.
from pipeline.cli import runs  # isort: skip
from pipeline.cli import results  # isort: skip
from pipeline.cli import microscope  # isort: skip
from pipeline.cli import networks  # isort: skip
from pipeline.cli import service  # isort: skip
from pipeline.cli import steering  # isort: skip
from pipeline.errors import LivephaseError

__all__ = ["app", "main", "microscope", "networks", "results", "runs", "service", "steering"]


def _end(error: LivephaseError) -> NoReturn:
    """Say a failure in a sentence, and exit with its status."""
    # No capital first: it may be a path, a key or a file name.
    text = str(error)
    print(f"livephase: {text}{'' if text.endswith(('.', '?', '!')) else '.'}", file=sys.stderr)
    sys.exit(error.exit_code)


def main() -> None:
    """Entry point of the command `livephase`."""
    for stream in (sys.stdout, sys.stderr):
        # Windows redirects in a code page that has neither λ nor ≥.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    try:
        app()
    except LivephaseError as error:
        _end(error)
    except OSError as error:
        where = error.filename or "a file"
        _end(
            LivephaseError(
                f"{where} can't be used ({error.strerror or error})",
                "check the path, its permissions and the disk",
            )
        )
    except KeyboardInterrupt:
        sys.exit(130)
