"""How much memory a process and all that it starts hold together, from moment to moment."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import psutil

from edge.records import Json

EVERY_S = 0.2  # a look takes some 5 ms


@dataclass
class Seen:
    """One process. Times are seconds since the watch began; the last one is that of the last look."""

    name: str
    begin_s: float
    end_s: float
    peak_rss_bytes: int


@dataclass
class Watch:
    """`with Watch() as w: …`, then `w.peak_rss_bytes`: the largest sum of resident sizes at one moment, this process included.

    Resident sizes: a page that two processes map (a library, a file of weights) counts twice, so the sum is rather too
    large. What lasts less than EVERY_S can be missed; each worker's own high-water mark is in its answer.
    """

    peak_rss_bytes: int = 0
    at_peak: dict[str, int] = field(default_factory=dict)  # name -> bytes
    processes: dict[int, Seen] = field(default_factory=dict)
    seconds: float = 0.0

    def __enter__(self) -> Watch:
        self._begin, self._done = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._begin

    def to_json(self) -> Json:
        return {
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "at_peak": self.at_peak,
            "processes": [vars(seen) for seen in self.processes.values() if seen.peak_rss_bytes],
        }

    def _run(self) -> None:
        root = psutil.Process()
        while not self._done.wait(EVERY_S):
            self._look([root, *root.children(recursive=True)])

    def _look(self, processes: list[psutil.Process]) -> None:
        now, sizes = time.monotonic() - self._begin, dict[str, int]()
        for process in processes:
            with contextlib.suppress(psutil.Error):  # it ended between two lines
                size = int(process.memory_info().rss)
                seen = self.processes.setdefault(process.pid, Seen("", now, now, 0))
                seen.name = _name(process.cmdline()) or seen.name  # it has its parent's at first, and none in the end
                seen.end_s, seen.peak_rss_bytes = now, max(seen.peak_rss_bytes, size)
                sizes[f"{seen.name} {process.pid}"] = size
        if sum(sizes.values()) > self.peak_rss_bytes:
            self.peak_rss_bytes, self.at_peak = sum(sizes.values()), sizes


def _name(command: list[str]) -> str:
    """The script or module that it runs, or the program; "" of a process that has ended."""
    script: Optional[str] = next((word for word in command if word.endswith(".py")), None)
    module = command[command.index("-m") + 1].rpartition(".")[2] if "-m" in command[:-1] else ""
    return Path(script).stem if script else module or Path(command[0] if command else "").name
