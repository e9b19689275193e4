"""The report of `edge bench` as one page, device by device. No script: what can be chosen is chosen by the style sheet.

Emulated devices stand apart, with what their answers were and nothing of how long they took.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from edge.bench.report import charts, device_charts, matrix
from edge.bench.report.parts import (
    before_after,
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

MOST_ROWS = 1000  # wrong rows that are drawn; a page with more is too heavy for a phone
_SAID, _WHY = 300, 320
_FACTS = ("kind", "model", "cpu", "machine", "cores", "memory_bytes", "os", "features")


def render(report: Report) -> str:
    """The whole page. Any report that `matrix.build` makes can be drawn."""
    colours = charts.colours_of(report.cells)
    devices = report.data["devices"]
    real = [d for d in devices if not devices[d].get("emulated")]
    return page(
        "matrix",
        command="report",
        title=report.project,
        created=report.created_at,
        headline=" ".join(matrix.headline(report)),
        tiles=_tiles(report, real),
        notes=_notes(report),
        filters=_filters(report),
        rows=report.rows,
        devices="".join(_device(report, d, n, colours) for n, d in enumerate(real)),
        emulated=_emulated(report, [d for d in devices if d not in real], colours),
        agreement=_agreement(report),
        wrong=_wrong(report),
        circumstances=_circumstances(report),
        workload=markup(report.workload),
        baseline=markup(report.baseline or "nothing: no float checkpoint was measured"),
    )


# ---- the top


def _tiles(report: Report, real: Sequence[str]) -> str:
    tiles = []
    reference = next((c for c in report.cells if c["name"] == report.baseline and c["kind"] != "quantisation"), None)
    if reference and reference["accuracy"]["value"] is not None:
        a = reference["accuracy"]
        note = f"{percent(a['low'])} to {percent(a['high'])} %, {reference['label']}"
        tiles.append(tile("float checkpoint, right calls", f"{percent(a['value'])} %", note))
    for device in real[:6]:
        best = matrix.best_on(report, device)
        if best and best["call_ms"]["value"] is not None:
            note = f"median call of {best['label']}, {megabytes(best['bytes'])} MB; p95 {figure(best['call_ms']['p95'])} ms"
            tiles.append(tile(f"{device}, no loss seen", f"{figure(best['call_ms']['value'])} ms", note))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def _notes(report: Report) -> str:
    notes = list(report.data["notes"])
    if report.cells and not report.baseline:
        notes.append("No float checkpoint was measured on these rows, so what quantising cost is not known.")
    return f'<ul class="note">{"".join(f"<li>{markup(n, 500)}</li>" for n in notes)}</ul>' if notes else ""


# ---- a device


def _device(report: Report, device: str, number: int, colours: dict[str, int]) -> str:
    cells = [c for c in report.cells if c["on"] == device]
    rates = [r for r in report.data["rates"] if r["on"] == device]
    told = {key: _short(report.data["devices"][device].get(key)) for key in _FACTS}
    parts = [facts(told)]
    if cells:
        parts += [_results(cells, colours, device), _scatters(cells, colours, device, number)]
        parts += [_under("Latency of whole calls", _strips(cells, colours, device)),
                  _under("Memory", _memory(cells, colours, device)),
                  _under("Over the run", _timeline(cells, colours, device))]  # fmt: skip
    parts.append(_rates(cells, rates, device))
    name = f"s-device-{number}"
    return f'<section class="device" aria-labelledby="{name}"><h2 id="{name}">{markup(device)}</h2>{"".join(parts)}</section>'


def _short(value: object) -> object:
    """A processor's features are many; those that small models ask for are enough."""
    if not isinstance(value, list):
        return value
    telling = [
        str(v)
        for v in value
        if v in {"asimddp", "fphp", "asimdhp", "atomics", "i8mm", "sve", "avx2", "avx512f", "amx_int8"}
    ]
    return ", ".join(telling) or None


def _under(title: str, body: str) -> str:
    return f"<h3>{title}</h3>{body}"


_HEADS = (
    ("Size", "MB"), ("Right calls", "%"), ("Difference", "points"), ("Whole call", "ms, p95 and p99 below"),
    ("First token", "ms, p95 below"), ("Peak memory", "MB, cache below"), ("Prefill", "tokens/s"), ("Decode", "tokens/s"),
    ("Load, cold", "s, warm below"), ("CPU", "s a call"), ("Energy", "J a call"),
)  # fmt: skip


def _results(cells: Sequence[Json], colours: Mapping[str, int], device: str) -> str:
    heads = _HEADS if any(c["energy_j_per_call"] is not None for c in cells) else _HEADS[:-1]
    reach = _reach(cells)
    body = "".join(_row(c, len(heads), reach, colours[c["name"]]) for c in cells)
    told = "Difference: to the float checkpoint over the same rows. Small figures are 95 % intervals where nothing else is said."
    return _table(f"Results on {device}", told, heads, body)


def _reach(cells: Sequence[Json]) -> float:
    found = [c["difference"] for c in cells if c["difference"] and c["kind"] == "quantisation"]
    return max((abs(d[end]) for d in found for end in ("low", "high")), default=0.0) or 1.0


def _table(name: str, told: str, heads: Iterable[tuple[str, str]], body: str, kind: str = "") -> str:
    columns = "".join(f'<th scope="col">{markup(h)}<small>{markup(u)}</small></th>' for h, u in heads)
    head = f"{caption(told)}<thead><tr><td></td>{columns}</tr></thead>"
    return scrolling(name, f"<table{kind}>{head}<tbody>{body}</tbody></table>")


def _head(cell: Json, colour: int) -> str:
    swatch = f'<i class="swatch k{colour}"></i>' if cell["kind"] == "quantisation" else '<i class="swatch none"></i>'
    names = [f"failed: {cell['error'].get('kind')}"] if cell["error"] else []
    names += dict.fromkeys(m.partition(":")[0] for m in cell["marks"])
    marks = "".join(f'<small class="mark">{markup(m, 40)}</small>' for m in names if m != "emulated")
    return f'<th scope="row">{swatch}{markup(cell["label"])}{marks}</th>'


def _row(cell: Json, columns: int, reach: float, colour: int) -> str:
    failed = failure(cell) if cell["error"] else ""
    if cell["error"] and not cell["accuracy"]["n"]:
        rest = f'<td colspan="{columns - 1}" class="told">{failed}</td>'
        return f"<tr>{_head(cell, colour)}<td>{megabytes(cell['bytes'])}</td>{rest}</tr>"
    after = f'<tr class="after"><td></td><td colspan="{columns}" class="told">{failed}</td></tr>' if failed else ""
    values = [*_scored(cell, reach, colour), *_timed(cell)][:columns]
    return f"<tr>{_head(cell, colour)}{''.join(f'<td>{v}</td>' for v in values)}</tr>{after}"


def _scored(cell: Json, reach: float, colour: int) -> list[str]:
    d = cell["difference"]
    change = UNKNOWN
    if d is not None:
        bar = charts.whisker(d, reach, colour) if cell["kind"] == "quantisation" else ""
        word = f'<small class="verdict {d["verdict"].split()[0]}">{markup(d["words"])}</small>'
        change = f"{points(d['value'])}<small>{points(d['low'])} to {points(d['high'])}</small>{bar}{word}"
    return [megabytes(cell["bytes"]), with_note(percent(cell["accuracy"]["value"]), interval(cell["accuracy"])), change]


def _timed(cell: Json) -> list[str]:
    cold, warm = cell["loads"]["cold"]["value"], cell["loads"]["warm"]["value"]
    ms, first = cell["call_ms"], cell["first_token_ms"]
    tail = f"{figure(ms['p95'])}, {figure(ms['p99'])}" if ms["value"] is not None else ""
    cache = f"+ {megabytes(cell['cache_bytes'])}" if cell["cache_bytes"] else ""
    return [
        with_note(figure(ms["value"]), tail),
        with_note(figure(first["value"]), figure(first["p95"])),
        with_note(megabytes(cell["peak_rss_bytes"]), cache),
        _rate(cell, "prefill_tokens_per_s"),
        _rate(cell, "decode_tokens_per_s"),
        with_note(figure(cold), figure(warm)),
        figure(cell["cpu_s_per_call"]),
        figure(cell["energy_j_per_call"]),
    ]


def _rate(cell: Json, key: str) -> str:
    estimate = cell[key]
    bounds = "" if estimate["low"] is None else f"{figure(estimate['low'])}–{figure(estimate['high'])}"
    return with_note(figure(estimate["value"]), bounds)


def _scatters(cells: Sequence[Json], colours: dict[str, int], device: str, number: int) -> str:
    """Against the median and against p95: one of both is shown."""
    parts = []
    for tail, name in ((False, "median"), (True, "p95")):
        wide = charts.scatter(cells, colours, 1000, 470, tail, device)
        narrow = charts.scatter(cells, colours, 350, 400, tail, device)
        if not wide:
            return _under(
                "Accuracy against latency", '<p class="empty">No artifact has both an accuracy and a latency.</p>'
            )
        of = "p95 of its calls" if tail else "median call"
        note = (
            f"Higher is more often right, left is faster ({of}), and a dot's area is the file's size. The line is the Pareto front. "
            "Bars are 95 % intervals. Checkpoints were scored in batches, which says nothing of a call's latency: they are lines."
        )
        parts.append(f'<div class="of-{name}">{drawing(wide, narrow, note)}</div>')
    choices = "".join(
        f'<label><input type="radio" class="{name}" name="ms-{number}"{" checked" if name == "median" else ""}>{told}</label>'
        for name, told in (("median", "median call"), ("p95", "p95"))
    )
    chooser = f'<fieldset class="pick"><legend>Latency</legend>{choices}</fieldset>'
    return _under("Accuracy against latency", f'<div class="byms">{chooser}{"".join(parts)}</div>')


def _both(draw: Callable[[int], str], note: str, empty: str) -> str:
    wide = draw(1000)
    return drawing(wide, draw(350), note) if wide else f'<p class="empty">{empty}</p>'


def _strips(cells: Sequence[Json], colours: dict[str, int], device: str) -> str:
    note = "A tick every 2.5 % of the calls; the bar holds the middle half, the tall line is the median, the dot p95."
    return _both(lambda width: charts.strips(cells, colours, width, device), note, "No call was timed.")


def _memory(cells: Sequence[Json], colours: dict[str, int], device: str) -> str:
    note = (
        "Peak resident set of the process; the line in it is the file's size; "
        "the dashed part is what the runtime's own cache adds on disk."
    )
    return _both(lambda width: device_charts.memory(cells, colours, width, device), note, "No memory was measured.")


def _timeline(cells: Sequence[Json], colours: dict[str, int], device: str) -> str:
    known = device_charts.known(cells)
    lacks = [name for name in ("temperature", "clock") if name not in known]
    note = "Below: what was measured when, in the colours of the table. A ring: the device said that it throttles."
    note += f" This device does not tell its {' and '.join(lacks)}." if lacks else ""
    empty = "Temperature and clock were not recorded, or this device does not tell them."
    return _both(lambda width: device_charts.timeline(cells, colours, width, device), note, empty)


def _rates(cells: Sequence[Json], alone: Sequence[Json], device: str) -> str:
    """Rates of given shapes: of measurements that have nothing else, and those taken beside the answers."""
    sources = [(c["label"], c["profile"], c["error"], c["shapes"]) for c in cells if c["shapes"]]
    sources += [
        (f"{r['name']} {r['runtime']} t{r['threads'] or UNKNOWN}", r["profile"], r["error"], r["shapes"]) for r in alone
    ]
    body = ""
    for label, profile, error, shapes in sources:
        head = f'<th scope="row">{markup(label)}</th><td>{markup(profile or UNKNOWN)}</td>'
        if error:
            told = markup(error.get("message", ""), 300)
            body += f'<tr>{head}<td colspan="4" class="told">failed: {told}</td></tr>'
        for shape in shapes:
            values = [shape["prefill_tokens"], shape["decode_tokens"], _rate(shape, "prefill_tokens_per_s"),
                      _rate(shape, "decode_tokens_per_s")]  # fmt: skip
            body += f"<tr>{head}{''.join(f'<td>{v}</td>' for v in values)}</tr>"
    if not body:
        return ""
    heads = (("Profile", ""), ("Fed", "tokens"), ("Made", "tokens"), ("Prefill", "tokens/s"), ("Decode", "tokens/s"))
    told = "So many tokens fed at once, then so many made; medians over repetitions, 95 % intervals below where there are six."
    return _under("Rates by shape", _table(f"Rates on {device}", told, heads, body))


# ---- emulated


def _emulated(report: Report, devices: Sequence[str], colours: Mapping[str, int]) -> str:
    if not devices:
        return ""
    parts = []
    for device in devices:
        cells = [c for c in report.cells if c["on"] == device]
        if not cells:
            continue
        body = "".join(_row(c, 3, _reach(cells), colours[c["name"]]) for c in cells)
        parts.append(
            _under(markup(device), _table(f"Answers on {device}, emulated", "The answers alone.", _HEADS[:3], body))
        )
    told = (
        "<p class='apart'>These ran on an emulator that stands in for a device. What they answered is compared; how long that took and "
        "how much memory it needed says nothing of a real device and is left out.</p>"
    ).replace("'", '"')
    head = '<h2 id="s-emulated">Emulated: no device’s figures</h2>'
    return f'<section class="device" aria-labelledby="s-emulated">{head}{told}{"".join(parts)}</section>'


def _agreement(report: Report) -> str:
    found = report.data["agreement"]
    if not found:
        return ""
    body = ""
    for a in found:
        share = percent(a["same"] / a["n"]) if a["n"] else UNKNOWN
        head = f'<th scope="row">{markup(a["name"])}<span class="on">{markup(a["runtime"])}</span></th>'
        values = [markup(" and ".join(a["devices"])), a["n"], a["n"] - a["same"], share]
        body += f"<tr>{head}{''.join(f'<td>{v}</td>' for v in values)}</tr>"
    heads = (("Devices", ""), ("Rows", "both answered"), ("Other calls", "rows"), ("Same calls", "%"))
    told = (
        "The same file in the same runtime, of rows that both answered: did both make the same calls, right or wrong?"
    )
    title = '<h2 id="s-agreement">Do devices agree?</h2>'
    return (
        f'<section aria-labelledby="s-agreement">{title}{_table("Agreement of devices", told, heads, body)}</section>'
    )


# ---- wrong calls


def _wrong_names(report: Report) -> list[str]:
    """Artifacts first, as in the tables."""
    names = {c["key"]: c["name"] for c in report.cells}
    wrong = {names[w["subject"]] for w in report.wrong}
    ordered = [c["name"] for kind in (True, False) for c in report.cells if (c["kind"] == "quantisation") is kind]
    return [name for name in dict.fromkeys(ordered) if name in wrong]


def _filters(report: Report) -> str:
    """Rows that are not of the chosen artifact vanish, and so do its neighbours' answers."""
    lines = []
    for i in range(len(_wrong_names(report))):
        lines.append(
            f".wrongs:has(.w{i}:checked) .wrong:not(.q{i}), .wrongs:has(.w{i}:checked) .answer:not(.q{i}) {{ display: none; }}"
        )
    return "\n".join(lines)


def _wrong(report: Report) -> str:
    names = _wrong_names(report)
    if not names:
        return '<p class="empty">No wrong call.</p>' if report.cells else '<p class="empty">No row was answered.</p>'
    cells = {c["key"]: c for c in report.cells}
    rows: dict[str, list[Json]] = {}
    for entry in report.wrong:
        rows.setdefault(entry["row"], []).append(entry)
    # First the rows that a quantisation broke, then those that most have wrong.
    order = sorted(rows.values(), key=lambda entries: (-any(e["new"] for e in entries), -len(entries)))
    of = {name: len({e["row"] for e in report.wrong if cells[e["subject"]]["name"] == name}) for name in names}
    choices = '<label><input type="radio" name="wrong" checked>all</label>' + "".join(
        f'<label><input type="radio" class="w{i}" name="wrong">{markup(name)} ({of[name]})</label>'
        for i, name in enumerate(names)
    )
    only = (
        '<label><input type="checkbox" class="lost">only rows that the float checkpoint has right</label>'
        if report.baseline
        else ""
    )
    chooser = f'<fieldset class="pick"><legend>Wrong in</legend>{choices}</fieldset>'
    chooser += f'<fieldset class="pick">{only}</fieldset>' if only else ""
    shown = "".join(_wrong_row(entries, cells, names) for entries in order[:MOST_ROWS])
    left = len(order) - MOST_ROWS
    more = f'<p class="note">{left} more rows are in the JSON form of this report.</p>' if left > 0 else ""
    told = f'<p class="note">{len(order)} of {report.rows} rows are wrong somewhere; what differs is marked.</p>'
    return f'<div class="wrongs">{told}{chooser}{shown}{more}</div>'


def _wrong_row(entries: Sequence[Json], cells: Mapping[str, Json], names: Sequence[str]) -> str:
    """One row: what was expected, and each wrong answer with those that gave it."""
    answers: dict[str, list[Json]] = {}
    for e in entries:
        said = [
            e["state"],
            e["got"],
            e["errors"],
            e["why"] if e["state"] == "failed" else e["raw"] if not e["got"] else None,
        ]
        answers.setdefault(json.dumps(said, sort_keys=True), []).append(e)
    expected = side_by_side(entries[0]["expected"], entries[0]["got"] if len(answers) == 1 else entries[0]["expected"])[
        0
    ]
    given = "".join(_answer(of, cells, names) for of in answers.values())
    new = any(e["new"] for e in entries)
    tag = '<span class="tag">right in the float checkpoint</span>' if new else ""
    head = f"<h4>{markup(entries[0]['row'], 80)}{tag}</h4><blockquote>{markup(entries[0]['said'], _SAID)}</blockquote>"
    sides = f'<div class="sides"><div><h5>expected</h5>{expected}</div><div>{given}</div></div>'
    return f'<article class="wrong {_classes(entries, cells, names)}{" new" if new else ""}">{head}{sides}</article>'


def _answer(entries: Sequence[Json], cells: Mapping[str, Json], names: Sequence[str]) -> str:
    where: dict[str, list[str]] = {}
    for e in entries:
        where.setdefault(cells[e["subject"]]["label"], []).append(cells[e["subject"]]["on"])
    who = "; ".join(f"<b>{markup(label)}</b> on {markup(', '.join(dict.fromkeys(on)))}" for label, on in where.items())
    first = entries[0]
    if first["state"] == "failed":
        got = f'<p class="none">failed: {markup(first["why"], _WHY)}</p>'
    else:
        got = side_by_side(first["expected"], first["got"])[1] + "".join(
            f'<p class="why">{markup(e, _WHY)}</p>' for e in first["errors"][:3]
        )
    return f'<div class="answer {_classes(entries, cells, names)}"><h5>{who}</h5>{got}{raw(first["raw"])}</div>'


def _classes(entries: Iterable[Json], cells: Mapping[str, Json], names: Sequence[str]) -> str:
    return " ".join(f"q{i}" for i in sorted({names.index(cells[e["subject"]]["name"]) for e in entries}))


# ---- circumstances


def _circumstances(report: Report) -> str:
    if not report.cells:
        return '<p class="empty">Nothing was measured.</p>'
    heads = ("Device", "Runtime", "Threads", "Profile", "Load average", "Temperature", "Clock", "Started", "Marks")
    body = "".join(_circumstance(c) for c in report.cells)
    return _table(
        "Circumstances", "How each was measured; before → after", ((h, "") for h in heads), body, ' class="text"'
    )


def _circumstance(cell: Json) -> str:
    before, after = (
        None if cell[f"clock_{when}_hz"] is None else cell[f"clock_{when}_hz"] / 1e9 for when in ("before", "after")
    )
    marks = [*(["failed"] if cell["error"] else []), *cell["marks"]]
    values = [
        cell["on"],
        cell["runtime_version"] or cell["runtime"],
        cell["threads"],
        cell["profile"],
        before_after(cell["load_average_before"], cell["load_average_after"], ""),
        before_after(cell["temperature_before_c"], cell["temperature_after_c"], " °C"),
        before_after(before, after, " GHz"),
        str(cell["started_at"] or UNKNOWN).replace("T", " ").replace("+00:00", " UTC"),
        "; ".join(marks) or "none",
    ]
    shown = "".join(f"<td>{markup(UNKNOWN if v is None else v, 200)}</td>" for v in values)
    return f'<tr><th scope="row">{markup(cell["label"])}</th>{shown}</tr>'
