"""LiteRT-LM without a template in the `.litertlm`: what the runtime's own FunctionGemma code writes.

Schemas, arguments: every key in the order that the app gives, so `type` may stand before `description`; the keys of
responses sorted; null prints `null`. What is said by a `developer` stands in a turn of its own, after that of the
declarations; what is said by a `system` stands before the declarations in their turn, an empty line between. A response's
name is read from {"name", "response"} only: a name on the message is lost. The runtime puts the start token in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge.dialects import Message, Tool, function_of

from . import writing

FOLLOWS = "litert-lm-api 0.18.1, from what it rendered for a bundle without a template"
VERIFIED = "byte for byte against render_message_to_string of litert-lm-api 0.18.1"
UNKNOWN = ("other versions; a bundle without a template that names other markers", "null descriptions, null in schemas")
_WAY = writing.Way(order=writing.as_given, values=writing.as_given, null="null")
_SORTED = writing.Way(order=writing.as_given, values=writing.by_bytes, null="null")


def render(messages: list[Message], tools: list[Tool], template: str = "") -> str:
    text, rest = writing.split(messages, tools)
    rest = [{**m, "content": m["content"].strip()} if _text(m) else m for m in rest]
    text, declarations = text.strip(), "".join(_declaration(function_of(tool)) for tool in tools)
    if len(rest) == len(messages):
        parts = [declarations] if tools else []
    elif messages[0]["role"] == "system":
        parts = [f"{text}\n\n{declarations}" if tools else text]
    else:
        parts = [declarations, text] if tools else [text]
    developer = "".join(f"<start_of_turn>developer\n{part}<end_of_turn>\n" for part in parts)
    return f"<bos>{developer}{_WAY.turns(rest, _response, _answers)}"


def _text(message: Message) -> bool:
    return message["role"] != "tool" and isinstance(message.get("content"), str)


def _declaration(function: dict[str, Any]) -> str:
    body = ",".join(_pairs({k: v for k, v in function.items() if k != "name"}, keywords=True))
    return f"<start_function_declaration>declaration:{function['name']}{{{body}}}<end_function_declaration>"


def _pairs(mapping: dict[str, Any], keywords: bool) -> Iterator[str]:
    """A schema's keywords, or the properties of one: there `type` is a name like any other."""
    for key, value in mapping.items():
        if keywords and key == "type" and isinstance(value, str):
            yield f"type:{writing.escape(value.upper())}"
        elif isinstance(value, dict):
            yield f"{key}:{{{','.join(_pairs(value, not (keywords and key == 'properties')))}}}"
        else:
            yield f"{key}:{_WAY.value(value)}"


def _answers(message: Message) -> Iterator[tuple[str, Any]]:
    content = message.get("content")
    for item in content if isinstance(content, list) else [content]:
        if isinstance(item, dict) and "name" in item and "response" in item:
            yield item["name"], item["response"]
        else:
            yield "", item


def _response(name: str, value: Any) -> str:
    return writing.wrap(name, value if isinstance(value, str) else _SORTED.value(value))
