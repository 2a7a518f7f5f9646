"""Named shared memory: the one place that knows how each platform does it.

The supervisor creates and unlinks; stages attach. A block lives until it is
unlinked, whoever exits or is killed in between (on Windows: until its last
process lets go). A view outlives `Block.close`: the memory is unmapped when
the last view of it is gone.

On Linux a block is a file in ``/dev/shm``, which is what ``shm_open`` makes too.
Opened as a file it can be preallocated, so that a small shared-memory disk is an
error now instead of a SIGBUS an hour later, and Python's resource tracker, which
deletes the block of an innocent when any process exits (cpython #82300), never
hears of it. Elsewhere: `multiprocessing.shared_memory` with the tracker kept out.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import re
import sys
import threading
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import StoreError

PAGE: Final = 4096
# Of the layouts of ring, control, mailbox and telemetry: changed with any of them.
_VERSION: Final = 2
_LINUX_FOLDER: Final = Path("/dev/shm")
_AS_FILES = sys.platform == "linux"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_patching = threading.Lock()


class Block:
    """A piece of memory that several processes see. Made by `create` and `attach`."""

    def __init__(self, name: str, memory: mmap.mmap | SharedMemory) -> None:
        self.name = name
        self._memory: mmap.mmap | SharedMemory | None = memory

    @property
    def size(self) -> int:
        """Bytes; some platforms round up to whole pages."""
        return len(self._buffer())

    def view(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Writable array over the bytes from `offset`, C-contiguous, no copy."""
        # frombuffer, not ndarray(buffer=…): only the first keeps `close` from unmapping the
        # pages under a living array.
        dtype = np.dtype(dtype)
        flat = np.frombuffer(self._buffer(), np.uint8, math.prod(shape) * dtype.itemsize, offset)
        return flat.view(dtype).reshape(shape)

    def sign(self, kind: str) -> None:
        """Say what the block is, in its first eight bytes, once everything else of it is there."""
        self.view(0, (1,), np.int64)[0] = _signature(kind)

    def close(self) -> None:
        """Let the memory go. Safe to call again, and while views of it are alive."""
        memory, self._memory = self._memory, None
        if memory is not None:
            # A view still holds the memory; it is unmapped with the last of them.
            with contextlib.suppress(BufferError):
                memory.close()

    def _buffer(self) -> mmap.mmap | memoryview:
        if self._memory is None:
            raise ValueError(f"shared memory '{self.name}' is closed")
        memory = self._memory
        if isinstance(memory, mmap.mmap):
            return memory
        assert memory.buf is not None, "only a closed segment has none"
        return memory.buf


def create(name: str, size: int) -> Block:
    """A new block of zeros, its memory really there.

    Raises
    ------
    StoreError
        If the name is in use, or there is too little shared memory.
    """
    size = max(size, PAGE)
    # Where shared memory is not a disk of limited size, nothing else stops it from eating it all.
    available = psutil.virtual_memory().available
    if size > available:
        raise StoreError(
            f"{size / 1e9:.2f} GB of shared memory are wanted, this machine has "
            f"{available / 1e9:.2f} GB of memory left",
            "lower `output.ring_gb`",
        )
    try:
        memory = _create_file(_path(name), size) if _AS_FILES else _create_segment(name, size)
    except FileExistsError as error:
        raise StoreError(
            f"the shared memory '{name}' exists already",
            "another run uses this folder, or was killed: end it, then start again",
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise StoreError(
                f"{size / 1e9:.2f} GB of shared memory are wanted, {_free()} is free",
                "lower `output.ring_gb` or enlarge the shared memory "
                "(mount -o remount,size=8G /dev/shm; in a container --shm-size=8g)",
            ) from error
        raise StoreError(
            f"can't create the shared memory '{name}' ({error})",
            "see that shared memory can be written by this user",
        ) from error
    return Block(name, memory)


def attach(name: str, kind: str) -> Block:
    """The block that another process created and signed; it stays when this process exits.

    Raises
    ------
    StoreError
        If there is none of this name, or it is of another kind or version.
    """
    try:
        memory = _attach_file(_path(name)) if _AS_FILES else _segment(name)
    except OSError as error:
        raise StoreError(
            f"there is no shared memory '{name}' ({error})",
            "the run that made it is over: start it again",
        ) from error
    block = Block(name, memory)
    if block.size < PAGE or int(block.view(0, (1,), np.int64)[0]) != _signature(kind):
        block.close()
        raise StoreError(
            f"the shared memory '{name}' is not a {kind} of this version",
            "run every process of a run with the same livephase",
        )
    return block


def unlink(name: str) -> bool:
    """Remove a block by name; processes that have it attached keep their view.

    Returns
    -------
    bool
        Whether there was one: a killed supervisor may have left it, or not.
    """
    if _AS_FILES:
        try:
            _path(name).unlink()
        except FileNotFoundError:
            return False
        return True
    try:
        # Tracked here, because SharedMemory.unlink tells the tracker to forget the name.
        segment = _Segment(name)
    except FileNotFoundError:
        return False
    segment.unlink()
    segment.close()
    return True


def _signature(kind: str) -> int:
    return int.from_bytes(kind.encode("ascii").ljust(7, b"\0")[:7] + bytes([_VERSION]), "little")


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' can't name shared memory: letters, digits, _ . - only")
    return _LINUX_FOLDER / name


def _create_file(path: Path, size: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def _attach_file(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise OSError(errno.EAGAIN, "its creator has not given it a size yet")
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


class _Segment(SharedMemory):
    """SharedMemory that keeps quiet when views of it outlive it."""

    def __del__(self) -> None:
        with contextlib.suppress(OSError, BufferError):
            self.close()


def _segment(name: str, size: int = 0) -> SharedMemory:
    """Create (size > 0) or attach without telling the resource tracker."""
    _path(name)
    if sys.version_info >= (3, 13):
        return _Segment(name, create=size > 0, size=size, track=False)
    # Registering and then unregistering is no way out: the tracker keeps a set, and the pairs
    # of processes that share one tracker interleave.
    with _patching:
        register = resource_tracker.register
        resource_tracker.register = lambda *_: None
        try:
            return _Segment(name, create=size > 0, size=size)
        finally:
            resource_tracker.register = register


def _create_segment(name: str, size: int) -> SharedMemory:
    segment = _segment(name, size)
    assert segment.buf is not None, "only a closed segment has none"
    # One byte a page: what can't be had is asked for now.
    np.frombuffer(segment.buf, np.uint8)[::PAGE] = 0
    return segment


def _free() -> str:
    if not _AS_FILES:
        return "less"
    space = os.statvfs(_LINUX_FOLDER)
    return f"{space.f_bavail * space.f_frsize / 1e9:.2f} GB"
