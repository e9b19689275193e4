"""The report's table for a terminal, and the same in Markdown for a README: one set of columns, two printers."""

from __future__ import annotations

from collections.abc import Iterable

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
_STYLES = {"lost": "red", "gained": "green"}


def render(report: Report, legend: str = LEGEND) -> Table:
    """For rich.Console.print. Fits 100 columns; where there is less room, names are cut first."""
    failed = [f"\n{c['name']} failed: {c['error'].get('message')}" for c in report.cells if c["error"]]
    caption = Text(legend, style="dim").append("".join(failed), style="not dim red")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, caption=caption, caption_justify="left")
    rows = [_values(cell) for cell in report.cells]
    for i, name in enumerate(COLUMNS):
        width = max([len(r[i]) for r in rows] + [len(line) for line in name.split("\n")])
        table.add_column(name, justify="right" if i else "left", no_wrap=True, min_width=width if i else 4)
    for cell, values in zip(report.cells, rows):
        # Text, never markup: a project may name an artifact [bold].
        texts = [Text(value) for value in values]
        texts[3].stylize(_STYLES.get((cell["difference"] or {}).get("verdict", ""), ""))
        table.add_row(*texts)
    return table


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
