"""`edge eval` as one page, in the look of the report: no script, nothing from outside, every string of a model escaped.

The style is the report's own; what differs is in `evaluation.html`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge.bench import mistakes, stats
from edge.bench.evaluation import Evaluation, chance, headline, shown
from edge.bench.metrics import METRICS
from edge.bench.report.parts import page, tile
from edge.bench.report.words import UNKNOWN, markup, percent, points
from edge.calls import read_calls
from edge.records import Json

MOST_ROWS = 2000  # wrong rows of a subject that are drawn; a page with more is too heavy for a browser
_SAID, _VALUE, _RAW = 600, 400, 600  # characters that are shown
_DIFFED = 200  # characters of two texts that are compared letter by letter


def render(found: Evaluation) -> str:
    """The whole page."""
    return page(
        "evaluation",
        command="eval",
        title=found.name,
        created=found.created_at,
        headline=" ".join(headline(found)),
        tiles=_tiles(found),
        metrics=_metrics(found),
        kinds=_kinds(found),
        groups=_groups(found),
        arguments=_arguments(found),
        wrong=_wrong(found),
        data=_data(found),
        meanings=_meanings(),
        resamples=f"{stats.RESAMPLES:,}",
        rows=found.rows,
        workload=markup(found.workload),
    )


def _tiles(found: Evaluation) -> str:
    tiles = []
    for subject in found.subjects:
        exact = subject["metrics"]["exact"]
        note = f"{percent(exact['low'])} to {percent(exact['high'])} %"
        tiles.append(tile(f"{subject['name']}, exact", f"{percent(exact['value'])} %", note))
    last = found.subjects[-1]["difference"] if found.subjects else None
    if last and last["exact"]["value"] is not None:
        d = last["exact"]
        note = f"points, {points(d['low'])} to {points(d['high'])}; {_rows(d['gained'])} gained, {d['lost']} lost"
        tiles.append(tile("difference", points(d["value"]), note))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


# ---- tables


def _table(caption: str, heads: Sequence[str], body: str) -> str:
    columns = "".join(f'<th scope="col">{markup(head)}</th>' for head in heads)
    head = f"<caption><span>{markup(caption)}</span></caption><thead><tr><td></td>{columns}</tr></thead>"
    return (
        f'<div class="scroll" role="region" aria-label="{markup(caption)}" tabindex="0">'
        f"<table>{head}<tbody>{body}</tbody></table></div>"
    )


def _line(name: str, cells: Sequence[str], note: str = "") -> str:
    small = f"<small>{markup(note)}</small>" if note else ""
    return f'<tr><th scope="row">{markup(name, 80)}{small}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _metrics(found: Evaluation) -> str:
    names = [s["name"] for s in found.subjects]
    compared = [s for s in found.subjects if s["difference"]]
    heads = ["rows", *names, *(f"{s['name']} − base, points" for s in compared)]
    body = ""
    for key, metric in METRICS.items():
        values = [s["metrics"][key] for s in found.subjects]
        if not any(v["n"] for v in values):
            continue
        cells = [str(max(v["rows"] for v in values)), *map(_estimate, values)]
        body += _line(metric.title, [*cells, *(_change(s["difference"][key]) for s in compared)])
    return _table("Scores in %; small figures are 95 % intervals", heads, body)


def _estimate(estimate: Json | None) -> str:
    if not estimate or estimate["value"] is None:
        return UNKNOWN
    low, high = estimate["low"], estimate["high"]
    small = f"<small>{percent(low)}–{percent(high)}</small>" if low is not None else ""
    return f"{percent(estimate['value'])}{small}"


def _change(difference: Json) -> str:
    if difference["value"] is None:
        return UNKNOWN
    bounds = f"{points(difference['low'])} to {points(difference['high'])}" if difference["low"] is not None else ""
    p = f", p {chance(difference['p'])}" if difference["p"] is not None else ""
    told = {"gained": "gained", "lost": "lost"}.get(shown(difference), "none seen")
    return f'{points(difference["value"])}<small>{bounds}{p}</small><small class="verdict {told.split()[0]}">{told}</small>'


def _kinds(found: Evaluation) -> str:
    body = ""
    for kind, meaning in mistakes.KINDS.items():
        counts = [s["mistakes"].get(kind, 0) for s in found.subjects]
        if any(counts):
            body += _line(kind, [f"{count:,}" if count else UNKNOWN for count in counts], meaning)
    if not body:
        return '<p class="empty">No wrong row.</p>'
    return _table(
        "Wrong rows by their first mistake, the gravest first", [s["name"] for s in found.subjects], body
    ).replace("<table>", '<table class="kinds">')


def _groups(found: Evaluation) -> str:
    parts = []
    for title, key in (
        ("By kind of row", "kinds"),
        ("By expected tool", "tools"),
        ("By script of the user's text", "scripts"),
    ):
        names = sorted({name for s in found.subjects for name in s[key]})
        body = ""
        for name in names:
            values = [s[key].get(name) for s in found.subjects]
            body += _line(name, [str(max((v["n"] for v in values if v), default=0)), *map(_estimate, values)])
        parts.append(_table(f"{title}, exact, %", ["rows", *(s["name"] for s in found.subjects)], body) if body else "")
    return "".join(parts)


def _arguments(found: Evaluation) -> str:
    heads = ["expected"]
    for s in found.subjects:
        heads += [f"{s['name']}, right", "same meaning", "unasked"]
    body = ""
    for tool, key in sorted({(t, k) for s in found.subjects for t, keys in s["arguments"].items() for k in keys}):
        entries = [s["arguments"].get(tool, {}).get(key) for s in found.subjects]
        cells = [str(max((e["n"] for e in entries if e), default=0))]
        for entry in entries:
            cells += _argument(entry)
        body += _line(f"{tool}.{key}", cells)
    return (
        _table("Values in the expected calls, %", heads, body)
        if body
        else '<p class="empty">No argument is expected.</p>'
    )


def _argument(entry: Json | None) -> list[str]:
    if not entry:
        return [UNKNOWN] * 3
    n = entry["n"]
    shares = [percent(entry[key] / n) if n else UNKNOWN for key in ("right", "same")]
    return [*shares, str(entry["extra"]) if entry["extra"] else UNKNOWN]


# ---- wrong rows


def _wrong(found: Evaluation) -> str:
    parts = []
    for subject in reversed(found.subjects):  # the base last: it is what the others are held against
        of = [m for m in found.mistakes if m["subject"] == subject["name"]]
        parts.append(f"<h3>{markup(subject['name'])}: {len(of)} of {_rows(subject['rows']['expected'])}</h3>")
        parts.append(_of_subject(of, found) if of else '<p class="empty">No wrong row.</p>')
    return "".join(parts)


def _of_subject(of: Sequence[Json], found: Evaluation) -> str:
    drawn, parts = of[:MOST_ROWS], []
    others = {(m["row"], m["subject"]): m for m in found.mistakes}
    for kind in mistakes.KINDS:
        rows = [m for m in drawn if m["kind"] == kind]
        if rows:
            new = sum(m["new"] for m in rows)
            note = _rows(len(rows)) + (f", {new} of them right in the base" if new else "")
            entries = "".join(_entry(m, others) for m in rows)
            parts.append(
                f'<details class="kind"><summary>{markup(kind)} <small>{note}: {markup(mistakes.KINDS[kind])}</small></summary>'
                f"{entries}</details>"
            )
    left = len(of) - len(drawn)
    return "".join(parts) + (f'<p class="note">{_rows(left)} more in evaluation.json.</p>' if left else "")


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def _entry(m: Json, others: Mapping[tuple[str, str], Json]) -> str:
    tag = '<span class="tag">right in base</span>' if m["new"] else ""
    head = f"<h4>{markup(m['row'], 80)}{tag}</h4><blockquote>{markup(m['said'], _SAID)}</blockquote>"
    if m["state"] == "failed":
        expected, got = _sides(m["expected"], [])[0], f'<p class="none">failed: {markup(m["why"], _RAW)}</p>'
    else:
        expected, got = _sides(m["expected"], m["got"])
    errors = "".join(f'<p class="why">{markup(e, _RAW)}</p>' for e in m["errors"][:3])
    base = others.get((m["row"], "base")) if m["subject"] != "base" else None
    third = f"<div><h5>base</h5>{_sides(base['expected'], base['got'])[1]}</div>" if base else ""
    sides = (
        f'<div class="sides{" three" if base else ""}"><div><h5>expected</h5>{expected}</div>'
        f"<div><h5>{markup(m['subject'])}</h5>{got}{errors}</div>{third}</div>"
    )
    told = "; ".join(dict.fromkeys(_told(d) for d in m["differences"]))
    raw = f"<details><summary>raw output</summary><pre>{markup(m['raw'], _RAW)}</pre></details>" if m["raw"] else ""
    return f'<article class="wrong">{head}<p class="other">{markup(told, _SAID)}</p>{sides}{raw}</article>'


def _told(difference: Json) -> str:
    return f"{difference['kind']}: {difference['argument']}" if difference.get("argument") else str(difference["kind"])


def _sides(expected: Sequence[Json], got: Sequence[Json]) -> tuple[str, str]:
    """Both lists of calls, each call beside the one that was made for it, what differs marked."""
    left, right = "", ""
    for e, g in mistakes.pair(read_calls(list(expected)), read_calls(list(got))):
        want, made = (None if e is None else expected[e]), (None if g is None else got[g])
        left += _call(want, made)
        right += _call(made, want)
    nothing = '<p class="none">no call</p>'
    return left if expected else nothing, right if got else nothing


def _call(call: Json | None, other: Json | None) -> str:
    if call is None:
        return '<div class="call none">–</div>'
    name = markup(call["name"], 80)
    name = f"<mark>{name}</mark>" if other is None or other["name"] != call["name"] else name
    theirs = other["arguments"] if other else {}
    arguments = call["arguments"]
    common = [key for key in sorted(arguments) if key in theirs]  # first and in one order, so that both sides line up
    items = ""
    for key in [*common, *(key for key in arguments if key not in theirs)]:
        items += f"<li>{markup(key, 60)} <code>{_value(arguments[key], theirs, key)}</code></li>"
    return f'<div class="call"><b>{name}</b><ul>{items}</ul></div>'


def _value(value: Any, theirs: Mapping[str, Any], key: str) -> str:
    """A value as JSON text; of two texts that differ, the letters that do are marked, else the whole."""
    shown = _text(value)
    if key not in theirs:
        return f"<mark>{markup(shown, _VALUE)}</mark>"
    if mistakes.same_value(value, theirs[key]):
        return markup(shown, _VALUE)
    other = _text(theirs[key])
    alike = difflib.SequenceMatcher(None, shown[:_DIFFED], other[:_DIFFED], autojunk=False)
    if max(len(shown), len(other)) > _DIFFED or alike.ratio() < 0.5:
        return f"<mark>{markup(shown, _VALUE)}</mark>"
    marked = ""
    for what, start, end, _, _ in alike.get_opcodes():
        part = markup(shown[start:end])
        marked += part if what == "equal" or not part else f"<mark>{part}</mark>"
    return marked if "<mark>" in marked else f"<mark>{marked}</mark>"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


# ---- data


def _data(found: Evaluation) -> str:
    warnings = "".join(f"<li>{markup(warning, 400)}</li>" for warning in found.warnings)
    told: dict[str, Any] = {**found.data, "dialect": found.dialect, "prompts written by": found.renderer}
    for s in found.subjects:
        where = s["adapter"] or s["path"]
        told[s["name"]] = f"{where} ({'adapter, unmerged' if s['adapter'] else 'checkpoint'}), {s['digest'][:12]}"
        told[f"{s['name']}, runtime"] = f"{s['runtime_version']}, {s['settings'].get('threads')} threads"
    facts = "".join(
        f"<div><dt>{markup(str(k).replace('_', ' '), 60)}</dt><dd>{markup(_fact(v), 300)}</dd></div>"
        for k, v in told.items()
        if v is not None
    )
    return (f"<ul>{warnings}</ul>" if warnings else "") + f'<dl class="facts">{facts}</dl>'


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _meanings() -> str:
    items = "".join(f"<li><b>{markup(m.title)}</b>: {markup(m.meaning)}</li>" for m in METRICS.values())
    return f"<ul>{items}</ul>"
