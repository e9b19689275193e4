"""What dialects share that write tools, calls and answers as JSON: what can be written, and how it is refused.

JSON carries any value, so what is refused are control tokens inside strings, which a tokenizer would take for real ones,
and values that JSON has not.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from edge.calls import Call
from edge.dialects import Finding, Message, Tool, function_of, read_call, twice
from edge.errors import EdgeError

MAX_DEPTH = 64  # of values in a call: no tool takes more, and whoever walks the result may recurse
_ROLES = ("developer", "system", "user", "assistant", "model", "tool")


class Writer:
    """tokens: those that no text may hold."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._control = re.compile("|".join(map(re.escape, tokens)))

    def json(self, value: Any, indent: Optional[int] = None) -> str:
        """JSON as Python writes it, not ASCII only. Raises EdgeError for what has no JSON or holds a control token."""
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        except (TypeError, ValueError, RecursionError) as why:
            raise EdgeError(f"not JSON: {why}") from why
        return self.plain(text, "a string")

    def plain(self, text: str, what: str) -> str:
        """The text itself. Raises EdgeError if it holds a control token; `what` is the beginning of its message."""
        if found := self._control.search(text):
            raise EdgeError(f"{what} holds the control token {found.group()}")
        return text

    def text(self, message: Message, number: int) -> str:
        """What a message says. Raises EdgeError naming the message for content that is no text."""
        content = message.get("content")
        if not isinstance(content, str):
            raise EdgeError(f"message {number}: the content is not text: {content!r:.60}", "give it as one string")
        return self.plain(content, f"message {number}: the text")

    def check(self, tools: list[Tool]) -> list[Finding]:
        """What can't be written in these declarations."""
        functions = [function_of(tool) for tool in tools]
        findings = twice(functions)
        for number, (function, tool) in enumerate(zip(functions, tools), 1):
            if isinstance(tool, dict):
                findings += self._check_tool(function, tool)
            else:
                findings.append(Finding("error", "tools", "", f"tool {number} is not an object"))
        return findings

    def _check_tool(self, function: dict[str, Any], tool: Tool) -> Iterator[Finding]:
        name = function.get("name")
        if not isinstance(name, str) or not name:
            yield Finding("error", str(name), "", "the name is missing or not text")
            return
        try:
            self.json(tool)
        except EdgeError as why:
            yield Finding("error", name, self._property_of(function), why.message)
        if not function.get("description"):
            yield Finding("warning", name, "", "no description: the model has only the name")

    def _property_of(self, function: dict[str, Any]) -> str:
        """The parameter that can't be written, "" if it is something else."""
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        for name, prop in properties.items() if isinstance(properties, dict) else ():
            try:
                self.json({name: prop})
            except EdgeError:
                return str(name)
        return ""


def declaration(tool: Tool) -> Tool:
    """As it was given if it is whole; a bare declaration is wrapped."""
    whole = isinstance(tool.get("function"), dict) and tool.get("type")
    return tool if whole else {"type": "function", "function": function_of(tool)}


def role(message: Message, number: int) -> str:
    """system, user, assistant or tool. Raises EdgeError for another, naming the message."""
    said = message.get("role") if isinstance(message, dict) else None
    if said not in _ROLES:
        raise EdgeError(f"message {number}: role {said!r}", "use system, user, assistant or tool")
    return {"developer": "system", "model": "assistant"}.get(str(said), str(said))


def calls_of(message: Message, number: int) -> list[Call]:
    """The calls in a message. Raises EdgeError naming the message for what is no call."""
    items = message.get("tool_calls") or []
    if not isinstance(items, list):
        raise EdgeError(f"message {number}: tool_calls is not a list")
    try:
        return [read_call(item) for item in items]
    except EdgeError as why:
        raise EdgeError(f"message {number}: {why.message}", why.hint) from None
