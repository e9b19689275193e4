"""The tools of a project: read from a file, checked for what a model would miss, and calls checked against them.

Every tool here has one form, the OpenAI object `{"type": "function", "function": {"name", "description",
"parameters"}}` with JSON Schema in lower-case types; what may be null carries `"nullable": true`. Everything else in
this project sees only that form, so that a dialect need not know the dozen ways in which people write it down: those
are known in `edge/signatures.py` (Python) and `edge/schemas.py` (JSON), and callers need neither. What can't be read is
an EdgeError that names file, tool and property; what is read but loses something is a Finding.

Loading a `.py` file runs it: the caller says so. JSON is for tools that one doesn't trust.
Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Callable, Optional

from edge import signatures
from edge.calls import Call
from edge.dialects import Dialect, Finding, Tool
from edge.errors import EdgeError
from edge.records import Json, PathLike, read_json, read_lines
from edge.schemas import Read, is_of, normalise, shown
from edge.signatures import Function, from_function, read_module

__all__ = ["Read", "Toolbox", "check", "from_function", "load", "normalise", "running", "undescribed", "validate_call"]


@dataclass(frozen=True)
class Toolbox:
    """The tools of one file, in its order, and what was noticed while reading them."""

    tools: list[Tool]
    findings: list[Finding]
    path: str


def load(path: PathLike, say: Optional[Callable[[str], Any]] = None) -> Toolbox:
    """The tools of a `.py` file (which is run), a `.json` or a `.jsonl` file. Raises EdgeError.

    say: told before a file is run.
    """
    file = Path(path)
    readers: dict[str, Callable[[Path], list[Read]]] = {".py": read_module, ".json": _read_json, ".jsonl": _read_lines}
    if file.suffix.lower() not in readers:
        raise EdgeError(f"{file}: tools are read from {', '.join(readers)} files")
    if not file.is_file():
        raise EdgeError(f"{file}: no such file", "write the tools there, or correct the path")
    if say and file.suffix.lower() == ".py":
        say(f"importing {file} (it runs; use JSON for tools that you don't trust)")
    return _toolbox(file, readers[file.suffix.lower()](file))


@contextmanager
def running(path: PathLike) -> Iterator[tuple[Toolbox, dict[str, Function]]]:
    """The tools of a `.py` file, run once, and the functions behind them, to be called until the `with` ends.

    A tool that the file declares as JSON has none. Raises EdgeError.
    """
    file = Path(path)
    if file.suffix.lower() != ".py":
        raise EdgeError(f"{file}: declares tools and holds no functions to run", "give the .py file that does")
    if not file.is_file():
        raise EdgeError(f"{file}: no such file", "write the tools there, or correct the path")
    with signatures.running(file) as declared:
        box = _toolbox(file, [read for read, _ in declared])
        yield box, {read[0]["function"]["name"]: function for read, function in declared if function}


def _toolbox(file: Path, read: list[Read]) -> Toolbox:
    if not read:
        raise EdgeError(f"{file}: declares no tools", "a tool is a public function, or one object of a JSON list")
    names = Counter(tool["function"]["name"] for tool, _ in read)
    for name, count in names.items():
        if count > 1:
            raise EdgeError(f"{file}: {count} tools are called {name!r}", "a model can't tell them apart: rename one")
    return Toolbox([tool for tool, _ in read], [f for _, findings in read for f in findings], str(file))


def check(toolbox: Toolbox, dialect: Dialect) -> list[Finding]:
    """Everything to know before these tools are used: from reading, for any model, and for this dialect."""
    ours = [*toolbox.findings, *(f for tool in toolbox.tools for f in undescribed(tool))]
    told = {_said(f) for f in ours}
    return [*ours, *(f for f in dialect.check(toolbox.tools) if _said(f) not in told)]


def declared(path: PathLike, dialect: Dialect, say: Callable[[str], Any]) -> Toolbox:
    """`load`, with everything said that `check` finds. Raises EdgeError for what this dialect can't declare."""
    toolbox = load(path, say)
    for finding in check(toolbox, dialect):
        say(f"{finding.level}: {finding}")
        if finding.level == "error":
            raise EdgeError(f"{path}: {finding}", "change the declaration: this model can't be told about it")
    return toolbox


def _said(finding: Finding) -> tuple[str, str, str]:
    """What a finding says of what, without the remedy or consequence behind its colon."""
    return finding.tool, finding.property, finding.message.partition(":")[0]


def undescribed(tool: Tool) -> list[Finding]:
    """A warning for the tool and for each property that has no description: all that a model knows of it is a name."""
    function = tool["function"]
    found = [] if function.get("description") else [""]
    found += [path for path, schema in _properties(function.get("parameters") or {}) if not schema.get("description")]
    return [Finding("warning", function["name"], path, "no description") for path in found]


def _properties(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    for name, inner in (schema.get("properties") or {}).items():
        here = f"{path}.{name}" if path else name
        yield here, inner
        yield from _properties(inner, here)
    if isinstance(schema.get("items"), dict):
        yield from _properties(schema["items"], f"{path}[]")


# ---- JSON files


def _read_json(file: Path) -> list[Read]:
    try:
        json.loads(file.read_bytes())
    except ValueError as error:
        if getattr(error, "msg", "") == "Extra data":  # JSON lines are often called .json
            return _read_lines(file)
    except (OSError, RecursionError):
        pass  # read_json says what is wrong
    return [normalise(item, str(file)) for item in _declarations(read_json(file))]


def _read_lines(file: Path) -> list[Read]:
    read = []
    for number, line in read_lines(file):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise EdgeError(f"{file}, line {number}: not JSON: {error}") from None
            read += [normalise(item, f"{file}, line {number}") for item in _declarations(value)]
    return read


_LISTS = ("tools", "functions", "function_declarations", "functionDeclarations")


def _declarations(value: Any) -> Iterator[Any]:
    """The single declarations in whatever they are wrapped in."""
    inner = value if isinstance(value, list) else None
    if isinstance(value, dict) and "name" not in value and "properties" not in value:
        inner = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
    if inner is None:
        yield value
    else:
        for item in inner:
            yield from _declarations(item)


# ---- calls


def validate_call(call: Call, tools: list[Tool]) -> list[str]:
    """What is wrong with a call to these tools, each as `kind: details`; empty if nothing is.

    Null stands only where the tool says `nullable`; an integer is no float, a boolean no integer.
    """
    declared = {tool["function"]["name"]: tool["function"] for tool in tools}
    if call.name not in declared:
        near = get_close_matches(call.name, declared, 1)
        return [f"undeclared tool: {call.name}{f' (did you mean {near[0]}?)' if near else ''}"]
    parameters = declared[call.name].get("parameters") or {}
    return list(_object_problems(call.arguments, {"additionalProperties": False, **parameters}, call.name))


def _problems(value: Any, schema: Json, path: str) -> Iterator[str]:
    if value is None:
        if not schema.get("nullable"):
            yield f"null argument: {path} is null, and the tool does not allow null"
    elif not is_of(value, schema["type"]):
        yield f"wrong type: {path} is {shown(value)}, declared {schema['type']}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"outside enum: {path} is {shown(value)}, declared one of {shown(schema['enum'])}"
    elif isinstance(value, list) and schema.get("items"):
        for n, item in enumerate(value):
            yield from _problems(item, schema["items"], f"{path}[{n}]")
    elif isinstance(value, dict):
        yield from _object_problems(value, schema, path)


def _object_problems(value: Json, schema: Json, path: str) -> Iterator[str]:
    properties = schema.get("properties") or {}
    others = schema.get("additionalProperties", not properties)  # nothing declared inside: anything goes
    for name in schema.get("required") or []:
        if name not in value:
            yield f"missing argument: {path}.{name} is required"
    for name, inner in value.items():
        if name in properties:
            yield from _problems(inner, properties[name], f"{path}.{name}")
        elif isinstance(others, dict) and others:
            yield from _problems(inner, others, f"{path}.{name}")
        elif others is False:
            yield f"undeclared argument: {path}.{name}"
