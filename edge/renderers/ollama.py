"""Ollama with `RENDERER functiongemma`. It writes the start token itself.

Its own sentence follows the system text on a line of its own; of a system text that is that sentence only the line break
follows. Properties are sorted by bytes; enum, items and nested properties are dropped; a response is one text without a key.
"""

from __future__ import annotations

import json
from typing import Any

from edge.dialects import Message, Tool

from . import writing

FOLLOWS = "Ollama fb30760, its renderer functiongemma, from facts noted of it"
VERIFIED = "not verified, written from facts"
UNKNOWN = (
    "whether texts are stripped: they are kept as given here, and compared as given",
    "whether `required` is sorted: in the given order here",
    "reserved property names: kept here",
    "earlier calls: their arguments sorted by bytes here",
    "several responses, and what follows one: the same turn goes on here, as in the published template",
    "how the app turns a mapping into the text that Ollama takes: JSON here",
)
SENTENCE = "You can do function calling with the following functions:"
_WAY = writing.Way(order=writing.by_bytes, values=writing.by_bytes, shallow=True)


def render(messages: list[Message], tools: list[Tool], template: str = "") -> str:
    text, rest = writing.split(messages, tools)
    if tools:
        text = f"{text}\n{'' if text == SENTENCE else SENTENCE}" if text else SENTENCE
    declarations = "".join(_WAY.declaration(tool) for tool in tools)
    developer = f"<start_of_turn>developer\n{text}{declarations}<end_of_turn>\n" if text or tools else ""
    return f"<bos>{developer}{_WAY.turns(rest, _response)}"


def _response(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return writing.wrap(name, f"{{{writing.escape(text)}}}")
