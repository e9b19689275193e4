"""What the pages are made of: the style sheet, tables, figures, and calls side by side.

What a model wrote is hostile text: every string goes through `words.markup`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from edge.bench.report.words import UNKNOWN, figure, markup, megabytes, percent
from edge.records import Json

_VALUE, _RAW = 160, 320  # characters that are shown


def style() -> str:
    """The style sheet of all pages."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def page(
    name: str, *, command: str, title: str, created: str, headline: str, tiles: str, notes: str = "", **more: object
) -> str:
    """A whole page: base.html around what NAME.html has, which are rules of its own and all that comes below the head.

    title, created and headline are text, created as ISO 8601; the others are HTML.
    """
    base, own = (Path(__file__).with_name(f"{n}.html").read_text(encoding="utf-8") for n in ("base", name))
    rules, _, body = own.removeprefix("<style>\n").partition("</style>\n")
    return Template(base.replace("$rules", rules).replace("$body", body)).substitute(
        style=style(),
        command=command,
        title=markup(title),
        created=markup(created.replace("T", " ").replace("+00:00", " UTC")),
        headline=markup(headline.replace(" %", "\N{NO-BREAK SPACE}%")),
        tiles=tiles,
        notes=notes,
        **more,
    )


def tile(name: str, value: str, note: str) -> str:
    return f"<div><dt>{markup(name)}</dt><dd>{markup(value)}<small>{markup(note)}</small></dd></div>"


def bounds(estimate: Json, write: Callable[[float | None], str]) -> str:
    return f"{write(estimate['low'])} to {write(estimate['high'])}"


def scrolling(name: str, table: str) -> str:
    """A table that may be wider than a phone: the region scrolls, also with the keyboard."""
    return f'<div class="scroll" role="region" aria-label="{markup(name)}" tabindex="0">{table}</div>'


def caption(text: str) -> str:
    """As wide as the screen and not as the table, which may be much wider."""
    return f"<caption><span>{markup(text)}</span></caption>"


def drawing(wide: str, narrow: str, note: str) -> str:
    """Drawn twice: a phone shows the narrow one, whose letters are as large as the wide one's."""
    drawn = f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
    return f"<figure>{drawn}<figcaption>{note}</figcaption></figure>"


def with_note(value: str, note: str) -> str:
    return f"{value}<small>{note}</small>" if note not in ("", UNKNOWN) else value


def interval(estimate: Json) -> str:
    return "" if estimate["low"] is None else f"{percent(estimate['low'])}–{percent(estimate['high'])}"


def failure(cell: Json) -> str:
    hint = markup(cell["error"].get("hint") or "", 300)
    return f"failed: {markup(cell['error'].get('message', 'no reason given'), 300)}<small>{hint}</small>"


def before_after(before: float | None, after: float | None, unit: str) -> str:
    return UNKNOWN if before is None and after is None else f"{figure(before)} → {figure(after)}{unit}"


def facts(facts: Mapping[str, Any]) -> str:
    """A flat or nested mapping as a list of terms; what is unknown is left out."""
    pairs = [(k, v) for k, v in _flat(facts) if v is not None][:60]
    items = "".join(f"<div><dt>{markup(k, 60)}</dt><dd>{markup(v, 200)}</dd></div>" for k, v in pairs)
    return f'<dl class="facts">{items}</dl>' if items else ""


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str | None]]:
    for key, value in facts.items():
        name = f"{above}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}: ")
        else:
            yield _fact(name, value)


def _fact(name: str, value: Any) -> tuple[str, str | None]:
    if name.endswith(" bytes") and isinstance(value, (int, float)):
        return name.removesuffix(" bytes"), f"{megabytes(value)} MB"
    words = {True: "yes", False: "no"}
    return name, None if value is None else words[value] if isinstance(value, bool) else str(value)


def raw(text: str | None) -> str:
    shown = f"<pre>{markup(text, _RAW)}</pre>" if text else ""
    return f"<details><summary>raw output</summary>{shown}</details>" if text else ""


def side_by_side(expected: Sequence[Json], got: Sequence[Json]) -> tuple[str, str]:
    """Both lists of calls, what differs marked; calls are compared in order, as the score does."""
    return _calls(expected, got), _calls(got, expected)


def _calls(calls: Sequence[Json], others: Sequence[Json]) -> str:
    if not calls:
        return '<p class="none">no call</p>'
    padded: Iterable[Json | None] = [*others, *([None] * len(calls))]
    shown = "".join(_call(call, other) for call, other in zip(calls[:12], padded))
    return shown + (f'<p class="none">and {len(calls) - 12} more calls</p>' if len(calls) > 12 else "")


def _call(call: Json, other: Json | None) -> str:
    name = _marked(markup(call["name"], 80), other is None or other["name"] != call["name"])
    theirs = other["arguments"] if other else {}
    items = ""
    arguments = call["arguments"]
    common = [key for key in sorted(arguments) if key in theirs]  # first and in one order, so that both sides line up
    for key in [*common, *(key for key in arguments if key not in theirs)][:24]:
        value = arguments[key]
        # As JSON text, since 1, 1.0 and true are equal to Python and not to a tool.
        differs = key not in theirs or as_json(theirs[key]) != as_json(value)
        items += f"<li>{markup(key, 60)} {_marked(f'<code>{markup(as_json(value), _VALUE)}</code>', differs)}</li>"
    return f'<div class="call"><b>{name}</b><ul>{items}</ul></div>'


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _marked(text: str, differs: bool) -> str:
    return f"<mark>{text}</mark>" if differs else text
