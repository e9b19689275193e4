"""Rows in the three shapes, written by hand, and what reads them: for the tests of `edge data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.train.data import source as sources
from edge.train.data.source import Loaded, Source

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LIGHT = {
    "name": "light",
    "description": "Sets a lamp.",
    "parameters": {
        "type": "object",
        "required": ["room"],
        "properties": {
            "room": {"type": "string", "description": "Where.", "enum": ["hall", "bath", "거실"]},
            "percent": {"type": "integer", "description": "How bright."},
            "note": {"type": "string", "description": "A label."},
        },
    },
}
NOW = {"name": "now", "description": "The time."}
DEVELOPER = {
    "role": "developer",
    "content": "You are a model that can do function calling with the following functions",
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(name: str = "light", **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(made)}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def flat(text: str, name: str | None = "light", **arguments: Any) -> dict[str, Any]:
    return {"user_content": text, "tool_name": name, "tool_arguments": json.dumps(arguments, ensure_ascii=False)}


def mobile(text: str, *made: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [DEVELOPER, user(text), calls(*made)], **more}


def raw(text: str, written: str) -> dict[str, Any]:
    return {"messages": [DEVELOPER, user(text), said(written)]}


RAW = "<start_function_call>call:light{percent:40,room:<escape>hall<escape>}<end_function_call>"
TURNS = {
    "messages": [
        user("what time is it"),
        calls(call("now")),
        {"role": "tool", "name": "now", "content": {"time": "9:00"}},
        said("Nine."),
        user("then light the bath"),
        {**calls(call(room="bath"), call("now")), "content": "Right away."},
    ],
    "source": "by hand",
}
MIXED = [
    flat("hall to 40", room="hall", percent=40),
    flat("hello there", None),
    mobile("bath and hall", call(room="bath"), call(room="hall"), metadata="train"),
    mobile("거실 불 켜 줘", call(room="거실"), tools=[LIGHT]),
    raw("hall to forty", RAW),
    raw("which rooms are there?", "The hall and the bath."),
    TURNS,
]


def write(folder: Path, *rows: Any, name: str = "rows.jsonl", end: bytes = b"\n") -> Path:
    """A file of these lines: bytes and text as they are, anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else dump(r)).encode() for r in rows]
    (folder / name).write_bytes(b"".join(line + end for line in lines))
    return folder / name


def dump(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)


def tools_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.json").write_text(json.dumps([LIGHT, NOW]))
    return folder / "tools.json"


def find(folder: Path, *files: Path, tools: bool = True, **options: Any) -> Source:
    return sources.find(map(str, files), tools_file=tools_file(folder) if tools else None, **options)


def load(folder: Path, *rows: Any, tools: bool = True, **options: Any) -> tuple[Loaded, Source]:
    source = find(folder, write(folder, *rows), tools=tools, **options)
    return sources.read(source), source
