"""The report's table for a terminal, and the same in Markdown for a README: one set of columns, two printers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from edge.bench.report import headline
from edge.bench.report.words import UNKNOWN, figure, megabytes, number, percent, points
from edge.records import Json, Report

COLUMNS = (
    "", "MB", "right\n%", "change\npoints", "load\ns", "first\nms", "prefill\ntok/s", "decode\ntok/s", "call\nms/p95",
    "RSS\nMB",
)  # fmt: skip
LEGEND = (
    "[95 % intervals]; change: tuned against base, the others against tuned, over the same rows; "
    "* its interval excludes 0; first token and call: medians; ~ noisy"
)
_NAME = 18  # characters of a name that a column gives way to, as many as litertlm-int8-chat has
_CHANGE = 3
_EXPENDABLE = (4, 6, 5, 7, 1, 9, 8, _CHANGE)  # what is left out first: load, prefill, first token, decode, …
_STYLES = {"lost": "red", "gained": "green"}


@dataclass(frozen=True)
class Fitted:
    """The table as wide as the console that prints it: no figure is ever cut, whole columns are left out instead."""

    report: Report
    legend: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = self.report.cells
        rows = [_values(cell) for cell in cells]
        widths = [max(map(len, [*name.split("\n"), *(r[i] for r in rows)])) for i, name in enumerate(COLUMNS)]
        kept = _that_fit(widths, options.max_width)
        caption = Text(self.legend, style="dim")
        if left_out := [name.replace("\n", " ") for i, name in enumerate(COLUMNS) if i not in kept]:
            told = f"left out: {', '.join(left_out)}; the whole table takes {_width(widths)} columns, here are {options.max_width}"
            caption.append(f"\n{told}", style="not dim")
        for cell in cells:
            if cell["error"]:
                caption.append(f"\n{cell['name']} failed: {cell['error'].get('message')}", style="not dim red")
        names = max(4, min(widths[0], options.max_width - _width([0, *(widths[i] for i in kept[1:])])))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for i in kept:
            table.add_column(
                COLUMNS[i], justify="right" if i else "left", no_wrap=True, width=widths[i] if i else names
            )
        for cell, values in zip(cells, rows):
            # Text, never markup: a project may name an artifact [bold].
            texts = [Text(value) for value in values]
            texts[_CHANGE].stylize(_STYLES.get((cell["difference"] or {}).get("verdict", ""), ""))
            table.add_row(*(texts[i] for i in kept))
        yield table
        yield caption


def render(report: Report, legend: str = LEGEND) -> Fitted:
    """For rich.Console.print. Where there is less room than it takes, names are cut first, then columns are left out."""
    return Fitted(report, legend)


def _that_fit(widths: Sequence[int], room: int) -> list[int]:
    """Which columns, in order; the name and what is right always."""
    widths = [min(widths[0], _NAME), *widths[1:]]
    kept = list(range(len(widths)))
    for i in _EXPENDABLE:
        if _width([widths[k] for k in kept]) <= room:
            break
        kept.remove(i)
    return kept


def _width(widths: Sequence[int]) -> int:
    """With a blank between columns."""
    return sum(widths) + len(widths) - 1


def markdown(report: Report) -> str:
    """Headline, table, legend and failures as Markdown."""
    heads = [name.replace("\n", " ") for name in COLUMNS]
    lines = [*headline(report), "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    lines += [_line(_values(cell)) for cell in report.cells]
    failed = [f"{c['name']} failed: {c['error'].get('message')}" for c in report.cells if c["error"]]
    return "\n".join([*lines, "", LEGEND, *(f"\n{line}" for line in failed)]) + "\n"


def _line(values: Iterable[str]) -> str:
    cells = [v.strip().replace("|", "\\|").replace("\n", " ").replace("*", "\\*") for v in values]
    return f"| {' | '.join(cells)} |"


def _values(cell: Json) -> list[str]:
    noisy = " ~" if any(m.startswith("noisy") for m in cell["marks"]) else ""
    return [
        cell["name"] + noisy,
        megabytes(cell["bytes"]),
        _accuracy(cell["accuracy"]),
        _change(cell["difference"]),
        figure(cell["load_s"]),
        figure(cell["first_token_ms"]["value"]),
        figure(cell["prefill_tokens_per_s"]["value"]),
        figure(cell["decode_tokens_per_s"]["value"]),
        _pair(cell["call_ms"]),
        number(cell["peak_rss_bytes"] / 1e6) if cell["peak_rss_bytes"] else UNKNOWN,
    ]


def _accuracy(a: Json) -> str:
    if a["value"] is None:
        return UNKNOWN
    return f"{percent(a['value'])} [{number(100 * a['low'])}–{number(100 * a['high'])}]"


def _change(d: Json | None) -> str:
    if d is None:
        return UNKNOWN
    sign = "*" if d["verdict"] in _STYLES else "\N{NO-BREAK SPACE}"
    return f"{points(d['value'])} [{points(d['low'])}, {points(d['high'])}]{sign}"


def _pair(ms: Json) -> str:
    return UNKNOWN if ms["value"] is None else f"{figure(ms['value'])}/{figure(ms['p95'])}"
