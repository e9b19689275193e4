"""The report as one page: no script, nothing from outside, so that it opens offline, prints, and can't be taken over.

What a model wrote is hostile text: every string goes through `words.markup`, and the page's own policy forbids scripts
and outside resources should one slip by. The template beside this file holds the style; here are the words and tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.bench import report as reports
from edge.bench.report import BASE, TUNED, charts
from edge.bench.report.parts import (
    as_json,
    before_after,
    bounds,
    caption,
    drawing,
    facts,
    failure,
    interval,
    page,
    raw,
    scrolling,
    side_by_side,
    tile,
    with_note,
)  # fmt: skip
from edge.bench.report.words import UNKNOWN, figure, markup, megabytes, percent, points
from edge.records import Json, Report

MOST_WRONG = 30  # of each artifact are shown; of the base, which fails nearly everything, fewer
MOST_WRONG_BASE = 8
MOST_TOOLS = 30
_SAID, _RAW = 300, 320  # characters that are shown


def render(report: Report) -> str:
    """The whole page. Any report that `build` makes can be drawn, an empty one too."""
    colours = charts.colours_of(report.cells)
    return page(
        "page",
        command="report",
        title=report.project,
        created=report.created_at,
        headline=" ".join(reports.headline(report)),
        tiles=_tiles(report),
        rows=report.rows,
        table=_table(report, colours),
        scatter=_scatter(report, colours),
        strips=_strips(report, colours),
        groups=_groups(report),
        wrong=_wrong(report, colours),
        circumstances=_circumstances(report),
        data=_data(report),
        missing=_missing(report),
        workload=markup(report.workload),
        baseline=markup(report.baseline),
    )


# ---- the top


def _tiles(report: Report) -> str:
    tuned = next((c for c in report.cells if c["name"] == report.baseline), None)
    best = reports.best(report)
    tiles = []
    if tuned and tuned["accuracy"]["value"] is not None:
        a = tuned["accuracy"]
        tiles.append(tile(f"{report.baseline}, right calls", f"{percent(a['value'])} %", f"{bounds(a, percent)} %"))
    if tuned and (d := tuned["difference"]):
        tiles.append(tile(f"against {d['to']}", points(d["value"]), f"points, {bounds(d, points)}"))
    if best:
        largest = max(c["bytes"] or 0 for c in report.cells if c["kind"] == "quantisation")
        share = f"{100 * best['bytes'] / largest:.0f} % of the largest" if largest > best["bytes"] else best["name"]
        tiles.append(tile("smallest, no loss seen", f"{megabytes(best['bytes'])} MB", f"{best['name']}, {share}"))
        if best["call_ms"]["value"] is not None:
            tail = f"median; p95 {figure(best['call_ms']['p95'])} ms"
            tiles.append(tile("its call here", f"{figure(best['call_ms']['value'])} ms", tail))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


# ---- the table

_HEADS = (
    ("", ""), ("Size", "MB"), ("Right calls", "%"), ("Difference", "points"), ("Load", "s"),
    ("First token", "ms, p95 below"), ("Prefill", "tokens/s"), ("Decode", "tokens/s"), ("Whole call", "ms, p95 below"),
    ("Peak memory", "MB"),
)  # fmt: skip


def _table(report: Report, colours: Mapping[str, int]) -> str:
    if not report.cells:
        return '<p class="empty">Nothing was measured.</p>'
    # Tuning's gain is many times a quantisation's cost: the bars share the scale of the latter.
    small = [c["difference"] for c in report.cells if c["difference"] and c["kind"] == "quantisation"]
    reach = max((abs(d[end]) for d in small for end in ("low", "high")), default=0.0) or 1.0
    heads = "".join(f'<th scope="col">{markup(h)}<small>{markup(u)}</small></th>' for h, u in _HEADS[1:])
    body = "".join(_row(c, reach, colours[c["name"]]) for c in report.cells)
    told = (
        f"The same {report.rows} held-out rows for each. Difference: {TUNED} against {BASE}, "
        f"the others against {report.baseline}. Small figures are 95 % intervals where nothing else is said."
    )
    head = f"{caption(told)}<thead><tr><td></td>{heads}</tr></thead>"
    return scrolling("Results", f"<table>{head}<tbody>{body}</tbody></table>")


def _row(cell: Json, reach: float, colour: int) -> str:
    swatch = f'<i class="swatch k{colour}"></i>' if cell["kind"] == "quantisation" else '<i class="swatch none"></i>'
    marks = "".join(f'<small class="mark">{markup(m.partition(":")[0])}</small>' for m in cell["marks"])
    head = f'<th scope="row">{swatch}{markup(cell["name"])}{marks}</th>'
    failed = failure(cell) if cell["error"] else ""
    if cell["error"] and not cell["accuracy"]["n"]:
        return f'<tr>{head}<td>{megabytes(cell["bytes"])}</td><td colspan="8" class="told">{failed}</td></tr>'
    after = f'<tr class="after"><td></td><td colspan="9" class="told">{failed}</td></tr>' if failed else ""
    return f"<tr>{head}{_figures(cell, reach, colour)}</tr>{after}"


def _figures(cell: Json, reach: float, colour: int) -> str:
    values = [
        megabytes(cell["bytes"]),
        with_note(percent(cell["accuracy"]["value"]), interval(cell["accuracy"])),
        _change(cell, reach, colour),
        figure(cell["load_s"]),
        with_note(figure(cell["first_token_ms"]["value"]), figure(cell["first_token_ms"]["p95"])),
        figure(cell["prefill_tokens_per_s"]["value"]),
        figure(cell["decode_tokens_per_s"]["value"]),
        with_note(figure(cell["call_ms"]["value"]), figure(cell["call_ms"]["p95"])),
        megabytes(cell["peak_rss_bytes"]),
    ]
    return "".join(f"<td>{value}</td>" for value in values)


def _change(cell: Json, reach: float, colour: int) -> str:
    d = cell["difference"]
    if d is None:
        return UNKNOWN
    bar = charts.whisker(d, reach, colour) if cell["kind"] == "quantisation" else ""
    word = f'<small class="verdict {d["verdict"].split()[0]}">{markup(d["words"])}</small>'
    return f"{points(d['value'])}<small>{points(d['low'])} to {points(d['high'])}</small>{bar}{word}"


# ---- the charts


def _scatter(report: Report, colours: dict[str, int]) -> str:
    wide = charts.scatter(report.cells, colours, 1000, 470)
    if not wide:
        return '<p class="empty">No artifact has both an accuracy and a latency.</p>'
    note = (
        "Higher is more often right, left is faster, and a dot's area is the file's size. Bars are 95 % intervals. "
        "Checkpoints were scored in batches, which says nothing of a call's latency: they are lines."
    )
    return drawing(wide, charts.scatter(report.cells, colours, 350, 400), note)


def _strips(report: Report, colours: dict[str, int]) -> str:
    wide = charts.strips(report.cells, colours, 1000)
    if not wide:
        return '<p class="empty">No call was timed.</p>'
    note = "A tick every 2.5 % of the rows; the bar holds the middle half, the tall line is the median, the dot p95."
    return drawing(wide, charts.strips(report.cells, colours, 350), note)


# ---- break-downs


def _groups(report: Report) -> str:
    reading = [("calls named right", "name_accuracy"), ("outputs that could be read", "parse_rate")]
    rows = [(label, {c["name"]: c[key] for c in report.cells}) for label, key in reading]
    body = [_group_table("Parts of being right", "", rows, report)]
    for title, key in (("By kind of row", "kinds"), ("By expected tool", "tools")):
        names = sorted({name for c in report.cells for name in c[key]})
        rows = [(name, {c["name"]: c[key].get(name) for c in report.cells}) for name in names[:MOST_TOOLS]]
        left = f"{len(names) - MOST_TOOLS} more are in report.json" if len(names) > MOST_TOOLS else ""
        body.append(_group_table(title, left, rows, report) if rows else "")
    return "".join(body) if report.cells else ""


def _group_table(title: str, left: str, rows: Sequence[tuple[str, dict[str, Any]]], report: Report) -> str:
    heads = "".join(f'<th scope="col">{markup(c["name"])}</th>' for c in report.cells)
    body = ""
    for name, values in rows:
        n = max((e["n"] for e in values.values() if e), default=0)
        cells = "".join(f"<td>{_share(values.get(c['name']))}</td>" for c in report.cells)
        body += f'<tr><th scope="row">{markup(name, 60)}</th><td>{n}</td>{cells}</tr>'
    note = f'<p class="note">{left}</p>' if left else ""
    head = f'<thead><tr><td></td><th scope="col">rows</th>{heads}</tr></thead>'
    return scrolling(title, f"<table>{caption(f'{title}, %')}{head}<tbody>{body}</tbody></table>") + note


def _share(estimate: Json | None) -> str:
    return with_note(percent(estimate["value"]), interval(estimate)) if estimate else UNKNOWN


# ---- wrong calls


def _wrong(report: Report, colours: Mapping[str, int]) -> str:
    found: dict[str, list[Json]] = {}
    for entry in report.wrong:
        found.setdefault(entry["subject"], []).append(entry)
    # Artifacts first: what a quantisation broke is what one comes here for.
    order = sorted((c for c in report.cells if c["name"] in found), key=lambda c: c["kind"] != "quantisation")
    if not order:
        return '<p class="empty">No wrong call.</p>'
    return "".join(_wrong_of(c, found[c["name"]], colours[c["name"]], report.rows) for c in order)


def _wrong_of(cell: Json, entries: list[Json], colour: int, rows: int) -> str:
    most = MOST_WRONG_BASE if cell["kind"] == "base" else MOST_WRONG
    shown = sorted(entries, key=lambda e: not e["new"])[:most]
    new = sum(e["new"] for e in entries)
    to = cell["difference"]["to"] if cell["difference"] else ""
    broke = f", {new} of them right in {to}" if to else ""
    head = f'<i class="swatch k{colour if cell["kind"] == "quantisation" else " none"}"></i>{markup(cell["name"])}'
    count = f"<small>{len(entries)} of {rows} wrong{markup(broke)}</small>"
    left = len(entries) - len(shown)
    more = f'<p class="note">{left} more are in report.json.</p>' if left else ""
    return f"<details><summary>{head} {count}</summary>{''.join(_entry(e, to) for e in shown)}{more}</details>"


def _entry(entry: Json, to: str) -> str:
    tag = f'<span class="tag">right in {markup(to)}</span>' if entry["new"] else ""
    head = f"<h4>{markup(entry['row'], 80)}{tag}</h4><blockquote>{markup(entry['said'], _SAID)}</blockquote>"
    if entry["state"] == "failed":
        got = f'<p class="none">failed: {markup(entry["why"], _RAW)}</p>'
        expected, _ = side_by_side(entry["expected"], [])
    else:
        expected, got = side_by_side(entry["expected"], entry["got"])
    errors = "".join(f'<p class="why">{markup(e, _RAW)}</p>' for e in entry["errors"][:3])
    sides = f'<div class="sides"><div><h5>expected</h5>{expected}</div><div><h5>got</h5>{got}{errors}</div></div>'
    return f'<article class="wrong">{head}{sides}{raw(entry["raw"])}</article>'


# ---- circumstances and data


def _circumstances(report: Report) -> str:
    if not report.cells:
        return '<p class="empty">Nothing was measured.</p>'
    devices = {as_json(c["device"]): c["device"] for c in report.cells}
    lists = "".join(facts(d) for d in devices.values())
    heads = ("Runtime", "Threads", "Load average", "Temperature", "File cache", "Started", "Marks")
    columns = "".join(f'<th scope="col">{h}</th>' for h in heads)
    body = "".join(_circumstance(c) for c in report.cells)
    head = f"<thead><tr><td></td>{columns}</tr></thead>"
    told = caption("How each was measured; before → after")
    return lists + scrolling("Circumstances", f'<table class="text">{told}{head}<tbody>{body}</tbody></table>')


def _circumstance(cell: Json) -> str:
    values = [
        cell["runtime_version"] or cell["runtime"],
        cell["threads"],
        before_after(cell["load_average_before"], cell["load_average_after"], ""),
        before_after(cell["temperature_before_c"], cell["temperature_after_c"], " °C"),
        cell["file_cache"],
        str(cell["started_at"] or UNKNOWN).replace("T", " "),
        "; ".join(cell["marks"]) or "none",
    ]
    shown = "".join(f"<td>{markup(UNKNOWN if v is None else v, 200)}</td>" for v in values)
    return f'<tr><th scope="row">{markup(cell["name"])}</th>{shown}</tr>'


def _data(report: Report) -> str:
    return facts(report.data) or '<p class="empty">No counts were recorded.</p>'


def _missing(report: Report) -> str:
    if not report.missing:
        return "<p>Nothing that was asked for was missing on this machine.</p>"
    items = ""
    for entry in report.missing:
        what = entry.get("what") or entry.get("name") or "something"
        rest = [str(v) for k, v in entry.items() if k not in ("what", "name") and v]
        items += f"<li><b>{markup(what, 120)}</b> {markup('. '.join(rest), 400)}</li>"
    return f"<ul>{items}</ul>"
