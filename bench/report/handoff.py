"""The page for the app team: what was handed over, what it scores, what to expect on each device. From contracts alone.

Like the report: no script, nothing from outside, every string through `words.markup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.bench.report.parts import page
from edge.bench.report.words import figure, markup, megabytes, percent
from edge.records import Json, write_text

_VERDICTS = {
    "proven": "Beside the checkpoint that it was made from, it loses no calls beyond chance.",
    "degraded": "It loses some of the calls that its checkpoint makes; somebody took it all the same and said why.",
    "unproven": "It was not held against the checkpoint that it was made from.",
}


def render(contracts: Sequence[Json]) -> str:
    """The page of one or more folders, made from the same project."""
    first = contracts[0]
    measured = _measured(contracts)
    names = dict.fromkeys(str(c["name"]) for c in contracts)
    return page(
        "handoff",
        command="handoff",
        title=", ".join(names),
        created=max(str(c["created_at"]) for c in contracts),
        headline=_headline(contracts, measured),
        tiles=_tiles(contracts, measured),
        devices=_devices(measured),
        folders="".join(_folder(c) for c in contracts),
        tools=_tools(first["tools"]),
        proof="".join(_proof(c) for c in _once(contracts)),
        terms=_terms(contracts),
        digests=markup("; ".join(f"{c['name']} sha256 {c['model']['sha256']}" for c in _once(contracts))),
    )


def save(contracts: Sequence[Json], path: Path) -> None:
    write_text(path, render(contracts))


def _once(contracts: Sequence[Json]) -> list[Json]:
    """One contract a model: several targets may have got the same file."""
    return list({c["model"]["sha256"]: c for c in reversed(contracts)}.values())[::-1]


def _measured(contracts: Sequence[Json]) -> list[Json]:
    """Every measurement of a handed over file once, with the file's name and bytes."""
    found = {
        (c["model"]["sha256"], m["record_sha256"]): {**m, "model": c["name"], "bytes": c["model"]["bytes"]}
        for c in contracts
        for m in c["measured"]
    }
    return list(found.values())


def _headline(contracts: Sequence[Json], measured: Sequence[Json]) -> str:
    targets = " and ".join(dict.fromkeys(str(c["target"]) for c in contracts))
    tools = len(contracts[0]["tools"])
    words = f"A model for {targets} that turns a sentence into calls of {tools} function{'s' if tools != 1 else ''}."
    scored = [m for m in measured if m["accuracy"]]
    if not measured:
        return f"{words} It was not measured on any device."
    if not scored:
        return f"{words} What share of its calls is right was not measured."
    low, high = (f(scored, key=lambda m: m["accuracy"]["value"])["accuracy"]["value"] for f in (min, max))
    share = f"{percent(low)}" if low == high else f"{percent(low)} to {percent(high)}"
    return f"{words} On the measured devices {share}\N{NO-BREAK SPACE}% of held-out requests come out right."


# ---- the top


def _tiles(contracts: Sequence[Json], measured: Sequence[Json]) -> str:
    model = contracts[0]["model"]
    tiles = [("verdict", str(model["verdict"]), f"{model['quantisation']}, {model['format']}")]
    scored = next((m for m in measured if m["accuracy"]), None)
    if scored:
        a = scored["accuracy"]
        note = f"of {scored['rows']}; {percent(a['low'])} to {percent(a['high'])} %"
        tiles.append(("right requests", f"{percent(a['value'])} %", note))
    sizes = sorted({c["model"]["bytes"] for c in contracts})
    tiles.append(("download", f"{' / '.join(megabytes(b) for b in sizes)} MB", "once"))
    timed = next((m for m in measured if m["call_ms"]), None)
    if timed:
        call = timed["call_ms"]
        note = f"median on {_device(timed)}; p95 {figure(call['p95'])} ms"
        tiles.append(("a request", f"{figure(call['value'])} ms", note))
    cells = (f"<div><dt>{markup(n)}</dt><dd>{markup(v)}<small>{markup(t)}</small></dd></div>" for n, v, t in tiles)
    return f'<dl class="tiles">{"".join(cells)}</dl>'


# ---- devices


def _device(m: Json) -> str:
    told = m["device"]
    return str(told.get("model") or told.get("cpu") or told["name"])


def _devices(measured: Sequence[Json]) -> str:
    if not measured:
        return '<p class="empty">Nothing was measured: measure on the devices that count before anybody waits for an answer.</p>'
    heads = (("Right", "%"), ("A request", "ms, p95 below"), ("First token", "ms"), ("Load", "s"), ("Peak memory", "MB"),
             ("Measured", ""))  # fmt: skip
    head = "".join(f'<th scope="col">{h}<small>{u}</small></th>' for h, u in heads)
    body = "".join(_line(m) for m in measured)
    wide, narrow = _picture(measured, 860), _picture(measured, 360)
    picture = f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>' if wide else ""
    caption = (
        "Left: share of requests that come out right, with its 95 % interval. Right: from the median request to p95."
    )
    return (
        (f"{picture}<figcaption>{markup(caption)}</figcaption></figure>" if picture else "")
        + '<div class="scroll" role="region" aria-label="Devices" tabindex="0" style="margin-top:16px"><table class="expect">'
        + f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _line(m: Json) -> str:
    a, call, first = m["accuracy"], m["call_ms"], m["first_token_ms"]
    marks = "".join(f'<small class="mark">{markup(mark)}</small>' for mark in m["marks"])
    how = f"{m['model']}; {m['runtime_version'] or m['runtime']}" + (
        f", {m['threads']} threads" if m["threads"] else ""
    )
    cells = [
        f"{percent(a['value'])}<small>{percent(a['low'])} to {percent(a['high'])}</small>" if a else "–",
        f"{figure(call['value'])}<small>{figure(call.get('p95'))}</small>" if call else "–",
        figure(first["value"]) if first else "–",
        figure(m["load_s"]),
        megabytes(m["peak_rss_bytes"]),
        markup(str(m["measured_at"] or "–")[:10]),
    ]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{markup(_device(m))}<small>{markup(how)}</small>{marks}</th>{body}</tr>'


def _picture(measured: Sequence[Json], width: int) -> str:
    """A line a device: accuracy on a scale of 0 to 100 %, and the span of latencies from 0 to the longest p95."""
    drawn = [m for m in measured if m["accuracy"] or m["call_ms"]]
    if not drawn:
        return ""
    small = width < 500
    top, step = 34, 58 if small else 44
    names = 0 if small else 250
    left = (names + 8, names + 8 + (width - names) * (0.28 if small else 0.32))
    right = (left[1] + (46 if small else 66), width - (84 if small else 104))
    longest = max((m["call_ms"].get("p95") or m["call_ms"]["value"] for m in drawn if m["call_ms"]), default=1.0) or 1.0
    height = top + step * len(drawn) + 6
    parts = [f'<text class="axis" x="{left[0]:.0f}" y="16">right requests, %</text>',
             f'<text class="axis" x="{right[0]:.0f}" y="16">a request, ms</text>']  # fmt: skip
    for n, m in enumerate(drawn):
        y = top + step * n + (30 if small else 18)
        name, sub = _device(m), f"{m['model']} · {m['runtime']}"
        label = f"{name} · {sub}" if small else name
        parts.append(
            f'<g class="row k{n % 8}"><text x="0" y="{y - 16 if small else y - 2:.0f}">{markup(label, 44 if small else 32)}</text>'
        )
        if not small:
            parts.append(f'<text class="sub" x="0" y="{y + 14:.0f}">{markup(sub, 36)}</text>')
        if m["accuracy"]:
            a = m["accuracy"]
            parts.append(_span(left, y, a["low"], a["value"], a["high"], percent(a["value"])))
        if m["call_ms"]:
            c = m["call_ms"]
            parts.append(_span(right, y, c["value"] / longest, c["value"] / longest, (c.get("p95") or c["value"]) / longest,
                               f"{figure(c['value'])}–{figure(c.get('p95'))}"))  # fmt: skip
        parts.append("</g>")
    told = "; ".join(
        f"{_device(m)}: {percent(m['accuracy']['value']) if m['accuracy'] else '–'} % right" for m in drawn
    )
    return f'<svg class="chart devices" viewBox="0 0 {width} {height}" role="img" aria-label="{markup(told)}">{"".join(parts)}</svg>'


def _span(scale: tuple[float, float], y: float, low: float, value: float, high: float, label: str) -> str:
    start, end = scale
    a, b, c = (start + (end - start) * min(max(v, 0.0), 1.0) for v in (low, value, high))
    return (
        f'<line class="track" x1="{start:.1f}" y1="{y}" x2="{end:.1f}" y2="{y}"/>'
        f'<line class="span" x1="{a:.1f}" y1="{y}" x2="{c:.1f}" y2="{y}"/><circle class="point" cx="{b:.1f}" cy="{y}" r="5"/>'
        f'<text class="sub" x="{end + 10:.1f}" y="{y + 4}">{markup(label)}</text>'
    )


# ---- folders


def _folder(c: Json) -> str:
    model, runtime, stop = c["model"], c["runtime"], c["stop"]
    least = f"{runtime['name']} {runtime['minimum'] or ''}".strip() + (
        f" ({runtime['note']})" if runtime["note"] else ""
    )
    facts = {
        "file": model["file"], "size": f"{megabytes(model['bytes'])} MB", "verdict": model["verdict"], "runs in, at least": least,
        "context": f"{model['context_tokens']:,} tokens, question and answer together",
        "longest answer": f"{c['sampling']['max_tokens']} tokens, greedy", "stops on": " ".join(stop["tokens"]),
        "sha256": model["sha256"],
    }  # fmt: skip
    shown = "".join(f"<div><dt>{markup(k)}</dt><dd>{markup(v)}</dd></div>" for k, v in facts.items())
    told = [
        _prompt(c),
        *(f"Taken although: {a['what']}. Reason: {a['reason']}" for a in c["accepted"]),
        *(f"Mind: {w}" for w in c["warnings"]),
    ]
    lines = "".join(f"<li>{markup(t)}</li>" for t in told)
    head = f"<h3>{markup(c['target'])}: {markup(c['name'])}</h3>"
    return f'<article class="folder">{head}<dl class="facts">{shown}</dl><ul class="told">{lines}</ul></article>'


def _prompt(c: Json) -> str:
    served = c["prompt"]["served"]
    if not served:
        return "Who writes the prompts is up to the app; how this model expects them stands in contract.json."
    parts = []
    for s in served:
        same = (
            "as training did"
            if not s["differ"]
            else f"otherwise than training did in {s['differ']} of {s['rows']} cases ({', '.join(s['classes'])})"
        )
        parts.append(f"{s['renderer']} writes prompts {same}")
    return "Prompts: " + "; ".join(parts) + "."


def _tools(tools: Sequence[Json]) -> str:
    if not tools:
        return '<p class="empty">None.</p>'
    rows = []
    for tool in tools:
        function = tool["function"]
        schema = function.get("parameters") or {}
        needed = schema.get("required") or []
        properties = (schema.get("properties") or {}).items()
        lines = "".join(_argument(name, inner, name in needed) for name, inner in properties)
        rows.append(f'<tr><th scope="row">{markup(function["name"])}</th><td>{markup(function.get("description") or "", 300)}</td>'
                    f"<td><ul>{lines or '<li>nothing</li>'}</ul></td></tr>")  # fmt: skip
    head = '<thead><tr><td></td><th scope="col">What it does</th><th scope="col">What it is given</th></tr></thead>'
    table = f'<table class="text tools">{head}<tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll" role="region" aria-label="Functions" tabindex="0">{table}</div>'


def _argument(name: str, schema: Json, needed: bool) -> str:
    told = schema.get("description")
    notes = ["" if needed else "may be left out", markup(told, 160) if told else ""]
    small = "".join(f" <small>{note}</small>" for note in notes if note)
    return f"<li><b>{markup(name)}</b> {markup(_kind(schema))}{small}</li>"


def _kind(schema: Json) -> str:
    kind = str(schema.get("type", "")).lower()
    if kind == "array":
        return f"list of {_kind(schema.get('items') or {}) or 'anything'}"
    values = schema.get("enum")
    return f"one of {', '.join(str(v) for v in values)}" if values else kind


def _proof(c: Json) -> str:
    proof, verdict = c["proof"], c["model"]["verdict"]
    words = (
        f'<p><span class="verdict {verdict}">{markup(c["name"])}: {verdict}.</span> {markup(_VERDICTS[verdict])}</p>'
    )
    if not proof:
        return words
    calls, tokens = proof.get("calls") or {}, proof.get("tokens") or {}
    facts: dict[str, Any] = {}
    if "rows" in calls:
        facts["right calls, checkpoint and this file"] = (
            f"{calls['right_before']} and {calls['right']} of {calls['rows']}"
        )
        facts["lost, gained"] = f"{calls['lost']}, {calls['gained']}"
    if tokens.get("positions"):
        facts["same next token"] = f"{tokens['same']} of {tokens['positions']} places"
        facts["divergence"] = f"{tokens['kl_mean']:.1g} nats a token"
    if proof.get("why"):
        facts["what speaks against it"] = "; ".join(proof["why"])
    shown = "".join(f"<div><dt>{markup(k)}</dt><dd>{markup(v)}</dd></div>" for k, v in facts.items())
    return f'{words}<dl class="facts">{shown}</dl>'


def _terms(contracts: Sequence[Json]) -> str:
    notices = dict.fromkeys(n for c in contracts for n in c["notices"])
    if not notices:
        return '<p class="empty">No terms of others are known for this model.</p>'
    return (
        "".join(f"<blockquote>{markup(n)}</blockquote>" for n in notices)
        + "<p>They go wherever the file goes, an app's licence page too.</p>"
    )
