"""What the agent knows of an artifact's files besides running them: the kernel's cache of them, and what a runtime leaves there.

Standard library only, Python 3.9: it runs on devices.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_COLD = 0.02  # share of a file's pages that may stay: the kernel keeps some that it reads ahead


def drop_pages(path: str) -> bool:
    """Let the kernel forget a file, or all files of a folder, so that the next reader waits for the disk.

    Returns whether it did: pages that another process has mapped stay, and so do those of a file system in memory. Any
    user may ask this for a file that he can read.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    top = Path(path)
    files = [top] if top.is_file() else [f for f in top.rglob("*") if f.is_file()]
    for file in files:
        with file.open("rb") as f:
            os.fsync(f.fileno())  # what is not on the disk yet can't be dropped
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return all(_resident(file) <= _COLD for file in files if file.stat().st_size)


def _resident(file: Path) -> float:
    """The share of a file's pages that are in memory; 1 where the system doesn't say."""
    size = file.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    found = (ctypes.c_ubyte * pages)()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        map_, unmap = libc.mmap, libc.munmap
        map_.restype, map_.argtypes = ctypes.c_void_p, [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]  # fmt: skip
        unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        with file.open("rb") as f:
            at = map_(None, size, mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), 0)
        if at in (None, ctypes.c_void_p(-1).value):
            return 1.0
        failed = libc.mincore(at, size, found)
        unmap(at, size)
    except (OSError, AttributeError):
        return 1.0
    return 1.0 if failed else sum(page & 1 for page in found) / pages


def beside(path: str) -> dict[str, tuple[int, int]]:
    """Files that are called as an artifact is and something behind it, its manifest left out: {name: (bytes, mtime)}."""
    top = Path(path)
    found = {}
    for file in top.parent.glob(f"{_escaped(top.name.partition('.')[0])}*"):
        if file.is_file() and file != top and file.name != f"{top.name}.json":
            told = file.stat()
            found[file.name] = (told.st_size, told.st_mtime_ns)
    return found


def written(path: str, before: dict[str, tuple[int, int]]) -> int:
    """Bytes of such files that are new or other ones than `before`."""
    return sum(told[0] for name, told in beside(path).items() if before.get(name) != told)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
