"""One file per model family. The file's name is the dialect's name on the command line; adding a file adds a dialect.

A dialect is a module with the members of `Dialect` below. Standard library only, Python 3.9.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol, cast

from edge.calls import Call, Parsed, read_json
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

    def completion(self, message: Message) -> str:
        """What the model writes in this turn, its stop token included: what a training example teaches."""
        ...

    def check(self, tools: list[Tool]) -> list[Finding]:
        """What the format can't express in these declarations. `render` refuses for errors; it never prints warnings:
        whoever shows a prompt or trains on one shows these."""
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


# What dialects share: the forms in which tools and calls come in, and how a finding becomes an error.


def function_of(tool: Any) -> dict[str, Any]:
    """The declaration in `{"type": "function", "function": {…}}`, `{"function": {…}}` or itself; {} if it is none."""
    inner = tool.get("function", tool) if isinstance(tool, dict) else None
    return inner if isinstance(inner, dict) else {}


def read_call(item: Any) -> Call:
    """A call in a message: `{"function": {"name", "arguments"}}` or bare, arguments a mapping or JSON in a string."""
    call = function_of(item)
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(name, str):
        raise EdgeError(f"a call without a name: {item!r:.60}")
    if isinstance(arguments, str):
        try:
            arguments = read_json(arguments)
        except ValueError as why:
            raise EdgeError(f"call {name}: the arguments are not JSON: {why}") from why
    if not isinstance(arguments, dict) and arguments is not None:
        raise EdgeError(f"call {name}: the arguments are not a mapping")
    return Call(name, arguments or {})


def twice(functions: list[dict[str, Any]]) -> list[Finding]:
    """An error for each name that is declared more than once: a call could mean either."""
    counts = Counter(name for f in functions if isinstance(name := f.get("name"), str))
    return [Finding("error", name, "", f"declared {n} times") for name, n in counts.items() if n > 1]


def refuse(findings: list[Finding]) -> None:
    """Raise EdgeError for the errors among the findings, naming each."""
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        raise EdgeError("; ".join(errors), "correct the tool declarations")
