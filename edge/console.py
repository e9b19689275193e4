"""What a person sees while something takes its time: on standard error, a live display on a terminal, plain lines elsewhere.

Results go to standard output and are never printed from here.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional

_EVERY_S = 5.0  # in plain lines: how often a running task reports


class Console:
    """Tasks with progress, from any thread. `with Console() as console: with console.task("x") as progress: …`"""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._lock = threading.Lock()
        self._live: Any = None

    def __enter__(self) -> Console:
        if not self.quiet and sys.stderr.isatty():
            self._live = _live_display()
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """One line that stays."""
        if self.quiet:
            return
        if self._live:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            with self._lock:
                print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def task(self, what: str) -> Iterator[Task]:
        """Something that takes over a second. Leaves one line with the time that it took."""
        task = Task(self, what, self._live)
        try:
            yield task
        except BaseException:
            task.end("failed")
            raise
        task.end("done")


class Task:
    """Call it with (done, total, what); all three may be missing."""

    def __init__(self, console: Console, what: str, live: Any) -> None:
        self._console, self._what, self._live = console, what, live
        self._started = self._told = time.monotonic()
        self._id = live.add_task(what, total=None) if live else None
        if not live:
            console.say(f"… {what}")

    def __call__(self, done: Optional[float] = None, total: Optional[float] = None, what: str = "") -> None:
        label = f"{self._what}: {what}" if what else self._what
        if self._live:
            self._live.update(self._id, completed=done or 0, total=total, description=label)
        elif time.monotonic() - self._told >= _EVERY_S:
            self._told = time.monotonic()
            of = f" {done:.0f}/{total:.0f}" if done is not None and total else ""
            self._console.say(f"  {label}{of} ({self._told - self._started:.0f} s)")

    def end(self, how: str) -> None:
        took = time.monotonic() - self._started
        if self._live:
            self._live.remove_task(self._id)
        self._console.say(f"{'✓' if how == 'done' else '✗'} {self._what} ({took:.1f} s)")


def _live_display() -> Any:
    from rich.console import Console as Rich
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        console=Rich(stderr=True),
        transient=True,
    )
