"""The matrix of `edge bench` as a person watches it fill in: a table that stays in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console as Rich
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edge.bench.matrix import State
from edge.bench.report.words import UNKNOWN, figure, percent
from edge.console import Console

_STYLES = {"done": "green", "measured already": "green", "failed": "red", "waiting": "dim"}
_HEAD = ("device", "artifact", "runtime", "threads", "rows", "right\n%", "call\nms", "")


class Board(Console):
    """A Console with a table above what runs now. `show` is called from any thread; drawing is rare, since it takes time from
    what is measured on this machine."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(quiet)
        self._shown: Live | None = None
        self._states: Sequence[State] = ()

    def __enter__(self) -> Board:
        if not self.quiet and sys.stderr.isatty():
            rich = Rich(stderr=True)
            # Drawn by the Live below, so never started itself.
            self._live = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                TimeElapsedColumn(), console=rich,
            )  # fmt: skip
            self._shown = Live(get_renderable=self._draw, console=rich, transient=True, refresh_per_second=2)
            self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._shown.stop()
            self._shown = self._live = None

    def show(self, states: Sequence[State]) -> None:
        self._states = states

    def _draw(self) -> Any:
        return Group(table(self._states), self._live) if self._live and self._states else self._live or Text("")


def table(states: Sequence[State]) -> Table:
    made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(_HEAD):
        made.add_column(name, justify="right" if 3 <= i <= 6 else "left", no_wrap=True)
    for state in states:
        cell = state.cell
        call = figure(1000 * state.call_s) if state.call_s is not None else UNKNOWN
        rows = f"{state.done}/{state.rows}" if state.rows else UNKNOWN
        made.add_row(
            *(Text(word) for word in (cell.device, cell.subject.name, cell.settings.runtime, str(cell.settings.threads or UNKNOWN))),
            rows, percent(state.right), call, Text(state.what, style=_STYLES.get(state.what, "")),
        )  # fmt: skip
    return made
