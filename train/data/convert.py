"""`edge data convert`: rows of any shape in the shape that is asked for, each read back before it is written.

What a shape has no place for is not dropped: the row is rejected with the reason. A row that has the shape already is
kept as it stands. Keys that belong to no shape (`source`, …), `tools` and `metadata` go along.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.calls import Call
from edge.dialects import Message
from edge.records import Json, digest_value, write_text
from edge.train import readers
from edge.train.readers import Reject, Row, calls_of

from .source import Item, Loaded, Source
from .stats import shape


class Inexpressible(Exception):
    """Why a shape has no place for a row. Never leaves this module."""


@dataclass
class Converted:
    lines: list[str]
    verbatim: int  # of them, those that had the shape already
    rejects: list[Reject]


def convert(loaded: Loaded, source: Source, to: str, with_tools: bool = False) -> Converted:
    """Every row in the shape `to`.

    Args:
        to: one of SHAPES.
        with_tools: also write the project's tools into rows that bring none of their own.
    """
    done, rejects, verbatim = list[tuple[Item, str]](), list(loaded.rejects), 0
    for item in loaded.items:
        adding = with_tools and item.row.tools is None and bool(source.tools)
        if shape(item) in _SAME[to] and not adding:
            done.append((item, item.text))
            verbatim += 1
            continue
        try:
            record = {**_shaped(item, source, to), **({"tools": source.tools} if adding else {})}
            done.append((item, json.dumps(record, ensure_ascii=False)))
        except Inexpressible as why:
            rejects.append(_reject(item, to, str(why)))
    lines = []
    for (item, line), why_not in zip(done, _differences(done, source)):
        if why_not:
            rejects.append(_reject(item, to, why_not))
        else:
            lines.append(line)
    return Converted(lines, verbatim, rejects)


def _reject(item: Item, to: str, why: str) -> Reject:
    return Reject(item.row.file, item.row.line, f"no place in {to}: {why}", item.text)


# ---- shapes

_OWN = ("messages", "user_content", "tool_name", "tool_arguments")


def _shaped(item: Item, source: Source, to: str) -> Json:
    record = item.record
    others = {key: value for key, value in record.items() if key not in _OWN}
    return {**SHAPES[to](item.row, source), **others}


def _mobile_actions(row: Row, source: Source) -> Json:
    _refuse_empty_answer(row)
    return {"messages": row.messages}


def _raw_call(row: Row, source: Source) -> Json:
    _refuse_empty_answer(row)
    return {"messages": [_raw(message, source) for message in row.messages]}


def _raw(message: Message, source: Source) -> Message:
    """A message with its calls written out in the dialect's syntax."""
    if not message.get("tool_calls"):
        return message
    calls = source.dialect.completion({"role": "assistant", "tool_calls": message["tool_calls"]})
    for stop in source.dialect.STOP:
        calls = calls.removesuffix(stop)
    return {"role": "assistant", "content": message.get("content", "") + calls}


def _refuse_empty_answer(row: Row) -> None:
    answer = row.messages[-1]
    if not answer.get("tool_calls") and not answer.get("content", "").strip():
        raise Inexpressible("its answer is empty; write what should be said")


def _flat(row: Row, source: Source) -> Json:
    first = [{"role": "developer", "content": source.developer}] if source.developer else []
    roles = [message["role"] for message in row.messages]
    if roles[-2:] != ["user", "assistant"] or roles.count("user") > 1 or "tool" in roles:
        raise Inexpressible("it has several turns")
    if row.messages[:-2] != first:
        raise Inexpressible(
            "its developer message is not the one that flat rows get (give it as --developer)"
            if len(roles) > 2
            else 'it has no developer message, and flat rows get one (--developer "" for none)'
        )
    call = _only_call(row)
    named: Json = {"tool_name": None, "tool_arguments": None}
    if call:
        named = {"tool_name": call.name, "tool_arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"user_content": row.messages[-2]["content"], **named}


def _only_call(row: Row) -> Call | None:
    calls = calls_of(row.messages[-1])
    if len(calls) > 1:
        raise Inexpressible(f"it has {len(calls)} calls")
    if row.messages[-1].get("content", "").strip():
        raise Inexpressible("its answer has text")
    return calls[0] if calls else None


SHAPES: dict[str, Callable[[Row, Source], Json]] = {
    "mobile-actions": _mobile_actions,
    "flat": _flat,
    "raw-call": _raw_call,
}


_SAME = {"mobile-actions": ("mobile-actions", "text"), "flat": ("flat",), "raw-call": ("raw-call", "text")}


# ---- reading back


def _differences(done: Sequence[tuple[Item, str]], source: Source) -> list[str | None]:
    """For each line why it is not read back as the row that it was made of; None where it is."""
    if not done:
        return []
    with tempfile.TemporaryDirectory(prefix="edge-data-") as desk:
        file = Path(desk) / "rows.jsonl"
        write_text(file, "".join(f"{line}\n" for _, line in done))
        back = list(readers.read([file], source.tools, source.dialect, source.developer))
    assert len(back) == len(done)
    return [_difference(item, found, source) for (item, _), found in zip(done, back)]


def _difference(item: Item, back: Row | Reject, source: Source) -> str | None:
    if isinstance(back, Reject):
        return f"it would be rejected: {back.reason}"
    tools = source.tools if back.tools is None else back.tools
    for what, ours, theirs in (
        ("messages", item.row.messages, back.messages),
        ("tools", item.tools, tools),
        ("metadata", item.row.split, back.split),
    ):
        if digest_value(ours) != digest_value(theirs):
            return f"its {what} would be read differently"
    return None
