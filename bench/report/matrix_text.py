"""The report of `edge bench` as Markdown and as CSV, a line for each cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from edge.bench.report import matrix
from edge.bench.report.words import UNKNOWN, figure, megabytes, percent, points
from edge.records import Json, Report

LEGEND = (
    "[95 % intervals]; change: against the float checkpoint over the same rows; * its interval excludes 0; "
    "first token and call: medians; ~ noisy"
)
Column = tuple[str, Callable[[Json], str]]


def _estimate(estimate: Json, write: Callable[[float | None], str]) -> str:
    if estimate["value"] is None or estimate["low"] is None:
        return write(estimate["value"])
    return f"{write(estimate['value'])} [{write(estimate['low'])}, {write(estimate['high'])}]"


def _change(cell: Json) -> str:
    d = cell["difference"]
    return f"{points(d['value'])} [{points(d['low'])}, {points(d['high'])}] {d['words']}" if d else UNKNOWN


def _marks(cell: Json) -> str:
    if cell["error"]:
        return f"failed: {cell['error'].get('message')}"
    return ", ".join(dict.fromkeys(mark.partition(":")[0] for mark in cell["marks"]))


_ANSWERS: tuple[Column, ...] = (
    ("", lambda c: c["label"]),
    ("MB", lambda c: megabytes(c["bytes"])),
    ("right %", lambda c: _estimate(c["accuracy"], percent)),
    ("change, points", _change),
)
_REAL: tuple[Column, ...] = (
    *_ANSWERS,
    ("call ms", lambda c: _estimate(c["call_ms"], figure)),
    ("p95", lambda c: figure(c["call_ms"]["p95"])),
    ("p99", lambda c: figure(c["call_ms"]["p99"])),
    ("first ms", lambda c: figure(c["first_token_ms"]["value"])),
    ("prefill tok/s", lambda c: figure(c["prefill_tokens_per_s"]["value"])),
    ("decode tok/s", lambda c: figure(c["decode_tokens_per_s"]["value"])),
    ("load s cold/warm", lambda c: f"{figure(c['loads']['cold']['value'])}/{figure(c['loads']['warm']['value'])}"),
    ("RSS MB", lambda c: megabytes(c["peak_rss_bytes"])),
    ("CPU s/call", lambda c: figure(c["cpu_s_per_call"])),
    ("front", lambda c: "yes" if c["front"]["median"] else ""),
    ("", _marks),
)
_EMULATED: tuple[Column, ...] = (*_ANSWERS, ("", _marks))
_RATES: tuple[Column, ...] = (
    ("", lambda r: f"{r['name']} {r['runtime']} t{r['threads']}"),
    ("profile", lambda r: r["profile"] or UNKNOWN),
    ("fed", lambda r: str(r["prefill_tokens"])),
    ("made", lambda r: str(r["decode_tokens"])),
    ("prefill tok/s", lambda r: _estimate(r["prefill_tokens_per_s"], figure)),
    ("decode tok/s", lambda r: _estimate(r["decode_tokens_per_s"], figure)),
)


def markdown(report: Report) -> str:
    """Headline, then a table for each device, emulated ones apart and without timings."""
    lines = [f"# {_plain(report.project)}", "", *(f"{_plain(s)}  " for s in matrix.headline(report)), ""]
    lines += [f"- {_plain(note)}" for note in report.data["notes"]] + [""] * bool(report.data["notes"])
    devices = report.data["devices"]
    for device in (d for d in devices if not devices[d].get("emulated")):
        lines += [f"## {_plain(device)}", ""]
        lines += _table(_REAL, [c for c in report.cells if c["on"] == device])
        rates = [r for r in report.data["rates"] if r["on"] == device]
        lines += _table(_RATES, [{**r, **shape} for r in rates for shape in r["shapes"]])
        lines += [
            f"{_plain(r['key'])} ({r['profile']}) failed: {_plain(r['error'].get('message'))}\n"
            for r in rates
            if r["error"]
        ]
    emulated = [c for c in report.cells if c["emulated"]]
    if emulated:
        lines += ["## Emulated: no device's figures", ""]
        lines += ["What was answered on stand-ins; their timings and memory say nothing of a device.", ""]
    for device in dict.fromkeys(c["on"] for c in emulated):
        lines += [f"### {_plain(device)}", "", *_table(_EMULATED, [c for c in emulated if c["on"] == device])]
    to = _plain(report.baseline)
    compared = f" change: to {to} over the same rows, lost or gained only where the interval excludes 0." if to else ""
    lines.append(f"[95 % intervals];{compared} Workload {report.workload[:12]}, {report.rows} rows.")
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[Column], cells: Sequence[Json]) -> list[str]:
    if not cells:
        return []
    lines = [_line([head for head, _ in columns]), _line(["---", *["---:"] * (len(columns) - 1)])]
    return [*lines, *(_line([_plain(write(c)) for _, write in columns]) for c in cells), ""]


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _plain(value: object) -> str:
    """Text that is nothing else to Markdown: names come from files."""
    text = " ".join(str(value).split())
    for letter in "\\|*`<[":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("_", "\\_") if "__" in text else text


# ---- CSV

_FLAT: tuple[tuple[str, Callable[[Json], Any]], ...] = (
    *((name, lambda c, name=name: c[name]) for name in (
        "key", "on", "name", "kind", "format", "quantisation", "subject", "runtime", "runtime_version", "threads", "profile",
        "emulated", "bytes")),
    ("rows", lambda c: c["rows"]["expected"]),
    *((state, lambda c, state=state: c["rows"][state]) for state in ("right", "wrong", "failed", "missing")),
    *((f"accuracy{end}", lambda c, key=key: c["accuracy"][key]) for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))),
    *((f"difference{end}", lambda c, key=key: (c["difference"] or {}).get(key)) for end, key in (
        ("", "value"), ("_low", "low"), ("_high", "high"), ("_verdict", "verdict"), ("_p", "p"))),
    *((f"call_ms_{end}", lambda c, key=key: c["call_ms"][key]) for end, key in (
        ("median", "value"), ("low", "low"), ("high", "high"), ("p95", "p95"), ("p99", "p99"), ("max", "max"))),
    ("call_ms_p95_low", lambda c: c["call_p95_ms"]["low"]),
    ("call_ms_p95_high", lambda c: c["call_p95_ms"]["high"]),
    ("first_token_ms_median", lambda c: c["first_token_ms"]["value"]),
    ("first_token_ms_p95", lambda c: c["first_token_ms"]["p95"]),
    ("prefill_tokens_per_s", lambda c: c["prefill_tokens_per_s"]["value"]),
    ("decode_tokens_per_s", lambda c: c["decode_tokens_per_s"]["value"]),
    ("load_cold_s", lambda c: c["loads"]["cold"]["value"]),
    ("load_warm_s", lambda c: c["loads"]["warm"]["value"]),
    *((name, lambda c, name=name: c[name]) for name in (
        "peak_rss_bytes", "cache_bytes", "cpu_s_per_call", "energy_j_per_call", "temperature_before_c", "temperature_after_c",
        "clock_before_hz", "clock_after_hz", "throttled", "load_average_before", "load_average_after")),
    ("front_median", lambda c: c["front"]["median"]),
    ("front_p95", lambda c: c["front"]["p95"]),
    ("started_at", lambda c: c["started_at"]),
    ("marks", lambda c: "; ".join(c["marks"])),
    ("error", lambda c: c["error"].get("message") if c["error"] else None),
    ("measurement", lambda c: c["measurement"]["path"]),
)  # fmt: skip


def table(report: Report) -> str:
    """CSV as RFC 4180 has it: a header, a line for each cell, unknown values empty; units are in the names."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([name for name, _ in _FLAT])
    for cell in report.cells:
        writer.writerow([_harmless(value(cell)) for _, value in _FLAT])
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
