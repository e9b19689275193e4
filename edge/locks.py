"""One process at a time on what a lock file stands for. The lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from edge.errors import EdgeError


@contextlib.contextmanager
def only_one(file: Path, refusal: EdgeError) -> Iterator[None]:
    """Raises `refusal` at once if another process holds it. The folder is made; the file stays."""

    def refuse() -> None:
        raise refusal

    with in_turn(file, refuse):
        yield


@contextlib.contextmanager
def in_turn(file: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process holds it. busy: called while one does, each half second; what it raises ends the waiting."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=0)
    while not lock.is_locked:
        busy()
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=0.5, poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()
