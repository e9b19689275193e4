"""One file per model family. The file's name is the dialect's name on the command line; adding a file adds a dialect.

A dialect is a module with the members of `Dialect` below. Standard library only, Python 3.9.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any, Protocol, cast

from edge.calls import Call, Parsed
from edge.errors import EdgeError

Message = dict[str, Any]  # {"role", "content", "tool_calls", "name"} as the OpenAI and Hugging Face APIs write it
Tool = dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters"}}, JSON Schema inside


@dataclass(frozen=True)
class Finding:
    """Something in a tool declaration that the dialect can't express, or expresses differently from what was written.

    level: "error" (rendering refuses) or "warning" (rendering goes on). property: dotted path, "" for the tool itself.
    """

    level: str
    tool: str
    property: str
    message: str

    def __str__(self) -> str:
        where = f"{self.tool}.{self.property}" if self.property else self.tool
        return f"{where}: {self.message}"


class StreamParser(Protocol):
    def feed(self, chunk: str) -> list[Call]:
        """Take more text; returns the calls that it completed."""
        ...

    def close(self) -> Parsed:
        """The end of the text: everything found, the same for any chunking."""
        ...


class Dialect(Protocol):
    STOP: tuple[str, ...]  # a generation ends on any of these tokens
    FUNCTION_TOKENS: tuple[str, ...]  # tokens that the tokenizer must hold as single pieces, stop tokens included
    CHAT_TEMPLATE: str  # Jinja: what an artifact of this family carries when its checkpoint has none

    def render(self, messages: list[Message], tools: list[Tool], add_generation_prompt: bool = True) -> str:
        """The exact prompt. Raises EdgeError naming tool and property for what the format can't express."""
        ...

    def check(self, tools: list[Tool]) -> list[Finding]:
        """What the format can't express in these declarations; `render` refuses exactly those with an error."""
        ...

    def parse(self, text: str) -> Parsed:
        """A model's output to calls. Never raises, whatever the text; linear time."""
        ...

    def stream(self) -> StreamParser: ...


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get(name: str) -> Dialect:
    """The dialect of this name. Raises EdgeError naming those that exist."""
    if name not in names():
        raise EdgeError(f"no dialect {name!r}", f"use one of: {', '.join(names())}")
    return cast(Dialect, importlib.import_module(f"{__name__}.{name}"))
