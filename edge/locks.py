"""One process at a time on what a lock file stands for. The lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from edge.errors import EdgeError


@contextlib.contextmanager
def only_one(file: Path, refusal: EdgeError) -> Iterator[None]:
    """Raises `refusal` at once if another process holds it. The folder is made; the file stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise refusal from None
    try:
        yield
    finally:
        lock.release()
