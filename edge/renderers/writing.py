"""What hand-written renderers share: declarations, calls, responses and turns, in the ways in which runtimes differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Optional

from edge.dialects import Message, Tool, function_of, functiongemma, read_call, refuse
from edge.errors import EdgeError

RESERVED = ("description", "type", "properties", "required", "nullable")  # property names that may be dropped
Pairs = list[tuple[str, Any]]


def as_given(mapping: dict[str, Any]) -> Pairs:
    return list(mapping.items())


def ignoring_case(mapping: dict[str, Any]) -> Pairs:
    return sorted(mapping.items(), key=lambda pair: pair[0].lower())


def by_bytes(mapping: dict[str, Any]) -> Pairs:
    return sorted(mapping.items(), key=lambda pair: pair[0].encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Way:
    """How one runtime writes.

    order: of properties; values: of the keys of calls and responses; null: what None prints; shallow: enum, items and
    nested properties are dropped; dropped: names of properties that are lost.
    """

    order: Callable[[dict[str, Any]], Pairs]
    values: Callable[[dict[str, Any]], Pairs]
    null: str = "None"
    shallow: bool = False
    dropped: tuple[str, ...] = ()

    def declaration(self, tool: Tool) -> str:
        function = function_of(tool)
        schema = function.get("parameters")
        body = _description(function) + (f",parameters:{{{self._parameters(schema)}}}" if schema else "")
        return f"<start_function_declaration>declaration:{function['name']}{{{body}}}<end_function_declaration>"

    def _parameters(self, schema: dict[str, Any]) -> str:
        parts = [f"properties:{self._properties(schema['properties'])}"] if schema.get("properties") else []
        parts += [f"required:{self.value(schema['required'], True)}"] if schema.get("required") else []
        return ",".join([*parts, f"type:{_kind(schema)}"])

    def _properties(self, properties: dict[str, Any]) -> str:
        kept = (f"{k}:{self._property(v)}" for k, v in self.order(properties) if k not in self.dropped)
        return f"{{{','.join(kept)}}}"

    def _property(self, schema: dict[str, Any]) -> str:
        inner = [] if self.shallow else self._inner(schema)
        return f"{{{','.join([_description(schema), *inner, f'type:{_kind(schema)}'])}}}"

    def _inner(self, schema: dict[str, Any]) -> list[str]:
        kind, items = str(schema.get("type")).upper(), schema.get("items")
        if kind == "STRING" and schema.get("enum"):
            return [f"enum:{self.value(schema['enum'], True)}"]
        if kind == "ARRAY" and items and isinstance(items, dict):
            return [f"items:{{{','.join(self._items(items))}}}"]
        if kind != "OBJECT":
            return []
        required = [f"required:{self.value(schema['required'], True)}"] if schema.get("required") else []
        return [f"properties:{self._properties(schema.get('properties') or {})}", *required]

    def _items(self, items: dict[str, Any]) -> Iterator[str]:
        for key, value in self.order(items):
            if key == "properties":
                yield f"properties:{self._properties(value or {})}"
            elif key == "type":
                yield f"type:{_kind(items)}"
            elif value is not None and (value or key != "required"):
                yield f"{key}:{self.value(value, True)}"

    def value(self, value: Any, escape_keys: bool = False) -> str:
        if isinstance(value, dict):
            pairs = self.values(value)
            return (
                f"{{{','.join(f'{escape(k) if escape_keys else k}:{self.value(v, escape_keys)}' for k, v in pairs)}}}"
            )
        if isinstance(value, list):
            return f"[{','.join(self.value(item, escape_keys) for item in value)}]"
        if isinstance(value, str):
            return escape(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        return self.null if value is None else repr(value)

    def turns(
        self,
        messages: list[Message],
        response: Callable[[str, Any], str],
        answers: Optional[Callable[[Message], Iterator[tuple[str, Any]]]] = None,
    ) -> str:
        """Every turn after the developer's, and the model's that is to be written.

        response: writes a tool's name and answer; answers: finds them in a tool message.
        """
        answers = answers or named_answers
        parts, after_tool = [], False
        for message in messages:
            if message["role"] == "tool":
                parts += [response(name, value) for name, value in answers(message)]
            else:
                role = "model" if message["role"] == "assistant" else message["role"]
                calls = "".join(self.call(call) for call in message.get("tool_calls") or [])
                head = "" if after_tool else f"<start_of_turn>{role}\n"
                parts.append(head + (message.get("content") or "") + (calls or "<end_of_turn>\n"))
            after_tool = message["role"] == "tool"
        return "".join([*parts, "" if after_tool else "<start_of_turn>model\n"])

    def call(self, item: Any) -> str:
        call = read_call(item)
        return f"<start_function_call>call:{call.name}{self.value(call.arguments)}<end_function_call>"


def escape(text: str) -> str:
    return f"<escape>{text}<escape>"


def split(messages: list[Message], tools: list[Tool]) -> tuple[str, list[Message]]:
    """The developer's text, "" if there is none, and the other messages; refuses what the format can't express."""
    refuse(functiongemma.check(tools))
    functiongemma.render(messages, [])  # whose refusals name the message
    if messages and messages[0]["role"] in ("developer", "system"):
        return messages[0]["content"], messages[1:]
    return "", messages


def wrap(name: str, body: str) -> str:
    return f"<start_function_response>response:{name}{body}<end_function_response>"


def named_answers(message: Message) -> Iterator[tuple[str, Any]]:
    """Name and value of each response in a tool message."""
    content = message.get("content")
    for item in content if isinstance(content, list) else [content]:
        if isinstance(item, dict) and "name" in item and "response" in item:
            yield item["name"], item["response"]
        elif isinstance(message.get("name"), str):
            yield message["name"], item
        else:
            raise EdgeError("a tool's response without the tool's name", 'put "name" on the message')


def _description(schema: dict[str, Any]) -> str:
    return f"description:{escape(schema.get('description') or '')}"


def _kind(schema: dict[str, Any]) -> str:
    return escape(str(schema.get("type")).upper())
