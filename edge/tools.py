"""Tool declarations: read from Python functions or JSON, brought into one form, and calls checked against them.

The one form is the OpenAI object `{"type": "function", "function": {"name", "description", "parameters"}}` with JSON
Schema in lower-case types; what may be null carries `"nullable": true`. Everything else in this project sees only that
form, so that a dialect need not know the dozen ways in which people write it down. What can't be read is an EdgeError
that names file, tool and property; what is read but loses something is a Finding.

Reading a `.py` file runs it: the caller says so. JSON is for tools that one doesn't trust.
Standard library only, Python 3.9.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import enum
import importlib.util
import inspect
import json
import re
import sys
import traceback
import types
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Callable, Literal, Optional, Union, get_args, get_origin

from edge.calls import Call
from edge.dialects import Dialect, Finding, Tool, function_of
from edge.errors import EdgeError
from edge.records import Json, PathLike, read_json, read_lines

Read = tuple[Tool, list[Finding]]  # one tool and what was noticed while reading it


@dataclass(frozen=True)
class Toolbox:
    """The tools of one file, in its order, and what was noticed while reading them."""

    tools: list[Tool]
    findings: list[Finding]
    path: str


def load(path: PathLike) -> Toolbox:
    """The tools of a `.py` file (which is run), a `.json` or a `.jsonl` file. Raises EdgeError."""
    file = Path(path)
    readers: dict[str, Callable[[Path], list[Read]]] = {".py": _read_python, ".json": _read_json, ".jsonl": _read_lines}
    if file.suffix.lower() not in readers:
        raise EdgeError(f"{file}: tools are read from {', '.join(readers)} files")
    if not file.is_file():
        raise EdgeError(f"{file}: no such file", "write the tools there, or correct the path")
    read = readers[file.suffix.lower()](file)
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
    told = {(f.tool, f.property) for f in ours}
    theirs = (
        f
        for f in dialect.check(toolbox.tools)
        if not (f.message.startswith("no description") and (f.tool, f.property) in told)
    )
    return [*ours, *theirs]


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


@dataclass
class _Reading:
    """Where we are, for messages, and what was noticed so far."""

    tool: str
    where: str  # "tools.py, line 3, function f" or "tools.json, tool 'f'"
    findings: list[Finding] = field(default_factory=list)

    def warn(self, path: str, message: str) -> None:
        self.findings.append(Finding("warning", self.tool, path, message))

    def error(self, path: str, message: str, hint: Optional[str] = None) -> EdgeError:
        return EdgeError(f"{self.where}{f', parameter {path}' if path else ''}: {message}", hint)


# ---- Python functions


def from_function(function: Callable[..., Any]) -> Read:
    """The tool that a Python function's signature and Google-style docstring declare. Raises EdgeError."""
    function = inspect.unwrap(function)
    code = function.__code__
    at = _Reading(function.__name__, f"{code.co_filename}, line {code.co_firstlineno}, function {function.__name__}")
    summary, described = _docstring(function)
    parameters = inspect.signature(function).parameters
    hints = _hints(at, function)
    schema: Json = {"type": "object", "properties": {}, "required": []}
    for name, parameter in parameters.items():
        _refuse_kind(at, parameter)
        if name not in hints:
            raise at.error(name, "has no type", f"annotate it, as in `{name}: str`")
        inner = _describe(_annotated(at, hints[name], name), described.pop(name, None))
        if parameter.default is None:
            inner.pop("nullable", None)  # None is how Python says "left out"; a model leaves it out
        schema["properties"][name] = inner
        if parameter.default is parameter.empty:
            schema["required"].append(name)
    for name in described:
        at.warn(name, "the docstring describes it, but there is no such parameter")
    return _tool(function.__name__, summary, schema), at.findings


def _tool(name: str, description: str, parameters: Json) -> Tool:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _refuse_kind(at: _Reading, parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise at.error(str(parameter), "a model can't be told of open-ended parameters", "name each parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise at.error(parameter.name, "is positional-only, and calls name their arguments", "remove the `/`")


def _hints(at: _Reading, owner: Any, path: str = "") -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except Exception as error:  # an annotation is code: it may raise anything
        raise at.error(
            path,
            f"its annotations can't be evaluated: {type(error).__name__}: {error}",
            "import what they name; for Python 3.9 write Optional[X] instead of X | None",
        ) from None
    hints.pop("return", None)
    return hints


_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ARRAYS = (list, tuple, set, frozenset, collections.abc.Sequence)
_OBJECTS = (dict, collections.abc.Mapping)
_UNIONS = (Union, getattr(types, "UnionType", Union))
_REMEDY = "use str, int, float, bool, Literal, an Enum, Optional, list[…], dict, a dataclass or a TypedDict"


def _annotated(at: _Reading, hint: Any, path: str, inside: tuple[Any, ...] = ()) -> Json:
    """The JSON Schema of a type hint. `inside`: the classes that we are in the fields of."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        text = next((m for m in args[1:] if isinstance(m, str)), None)
        return _describe(_annotated(at, args[0], path, inside), text)
    if origin in _UNIONS:
        return _optional(at, hint, args, path, inside)
    if origin is Literal:
        return _choice(at, list(args), path)
    kind = origin or hint
    if not isinstance(kind, type):
        raise at.error(path, f"the type {_named(hint)} has no JSON Schema", _REMEDY)
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if issubclass(kind, enum.Enum):
        return _choice(at, [member.value for member in kind], path)
    if kind in _ARRAYS:
        return _array(at, kind, args, path, inside)
    if kind in _OBJECTS:
        return _mapping(at, args, path, inside)
    if dataclasses.is_dataclass(kind) or _is_typed_dict(kind):
        return _record(at, kind, path, inside)
    raise at.error(path, f"the type {_named(hint)} has no JSON Schema", _REMEDY)


def _named(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _describe(schema: Json, text: Optional[str]) -> Json:
    """The schema with this description, unless it says more precisely what it is (Annotated beats the docstring)."""
    if not text or schema.get("description"):
        return schema
    return {"type": schema["type"], "description": text, **{k: v for k, v in schema.items() if k != "type"}}


def _optional(at: _Reading, hint: Any, args: tuple[Any, ...], path: str, inside: tuple[Any, ...]) -> Json:
    kept = [a for a in args if a is not type(None)]
    if len(kept) != 1:
        raise at.error(path, f"the union {_named(hint)} can't be declared to a model", "choose one type, or str")
    return {**_annotated(at, kept[0], path, inside), "nullable": True}


def _choice(at: _Reading, values: list[Any], path: str) -> Json:
    kept = [v for v in values if v is not None]
    kinds = {_SCALARS.get(type(v)) for v in kept}
    if len(kinds) != 1 or None in kinds:
        raise at.error(path, f"the choices {values!r} are not of one plain type", "use strings only, or numbers only")
    return {"type": kinds.pop(), "enum": kept, **({"nullable": True} if len(kept) < len(values) else {})}


def _array(at: _Reading, kind: type, args: tuple[Any, ...], path: str, inside: tuple[Any, ...]) -> Json:
    args = tuple(a for a in args if a is not Ellipsis)
    if not args:
        at.warn(path, f"the type of its items is not given: write {kind.__name__}[…]")
        return {"type": "array"}
    if len(set(args)) > 1:
        raise at.error(path, "a tuple of different types can't be declared to a model", "use a dataclass")
    if len(args) > 1:
        at.warn(path, f"that it has {len(args)} items is not declared: say so in its description")
    return {"type": "array", "items": _annotated(at, args[0], f"{path}[]", inside)}


def _mapping(at: _Reading, args: tuple[Any, ...], path: str, inside: tuple[Any, ...]) -> Json:
    if not args:
        return {"type": "object"}
    if args[0] is not str:
        raise at.error(path, "the keys of a JSON object are strings", "use dict[str, …]")
    if args[1] is Any:
        return {"type": "object"}
    return {"type": "object", "additionalProperties": _annotated(at, args[1], f"{path}.*", inside)}


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def _record(at: _Reading, kind: Any, path: str, inside: tuple[Any, ...]) -> Json:
    """A dataclass or TypedDict as an object; its docstring's `Attributes:` or `Args:` describe the fields."""
    if kind in inside:
        raise at.error(path, f"{kind.__name__} contains itself", "a model can only be told of a finite structure")
    hints = _hints(at, kind, path)
    summary, described = _docstring(kind)
    fields = _dataclass_fields(kind) if dataclasses.is_dataclass(kind) else _typed_dict_fields(kind, hints)
    absent = {f.name for f in dataclasses.fields(kind) if f.default is None} if dataclasses.is_dataclass(kind) else ()
    schema: Json = {"type": "object", "properties": {}, "required": [n for n, required in fields.items() if required]}
    for name in fields:
        here = f"{path}.{name}"
        inner = _annotated(at, _bare(hints[name]), here, (*inside, kind))
        if name in absent:
            inner.pop("nullable", None)  # as for parameters
        schema["properties"][name] = _describe(inner, described.pop(name, None))
    for name in described:
        at.warn(f"{path}.{name}", f"the docstring of {kind.__name__} describes it, but there is no such field")
    return _describe(schema, summary)


def _dataclass_fields(kind: Any) -> dict[str, bool]:
    """Field names, and whether a value must be given."""
    missing = dataclasses.MISSING
    return {f.name: f.default is missing and f.default_factory is missing for f in dataclasses.fields(kind) if f.init}


def _typed_dict_fields(kind: Any, hints: dict[str, Any]) -> dict[str, bool]:
    # Under `from __future__ import annotations` __required_keys__ knows `total` only: the evaluated hint knows better.
    marks = {name: _mark(hint) for name, hint in hints.items()}
    return {name: mark == "Required" if mark else name in kind.__required_keys__ for name, mark in marks.items()}


def _mark(hint: Any) -> Optional[str]:
    """ "Required" or "NotRequired" if the hint is wrapped so; by name, since typing_extensions has its own on 3.9."""
    name = getattr(get_origin(hint), "_name", None)
    return name if name in ("Required", "NotRequired") else None


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if _mark(hint) else hint


# ---- docstrings

_HEADER = re.compile(
    r"(args|arguments|parameters|attributes|returns?|raises|yields?|examples?|notes?|warnings?|todo):\s*$", re.I
)
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:(?:\s+(.*))?$")


def _docstring(owner: Any) -> tuple[str, dict[str, str]]:
    """A Google-style docstring: the text before its sections, and the description of each parameter or attribute."""
    text = owner.__doc__ or ""
    if isinstance(owner, type) and (text.startswith(f"{owner.__name__}(") or text == dict.__doc__):
        text = ""  # made up by dataclass, or inherited
    lines = inspect.cleandoc(text).splitlines()
    headers = [n for n, line in enumerate(lines) if _HEADER.match(line)]
    described: dict[str, str] = {}
    for start, end in zip(headers, [*headers[1:], len(lines)]):
        if lines[start].lower().startswith(("arg", "param", "attr")):
            described.update(_entries(lines[start + 1 : end], outside=0 if start else -1))
    return _flow(lines[: headers[0]] if headers else lines), described


def _entries(lines: list[str], outside: int) -> dict[str, str]:
    """`name (type): text` entries, with lines that go on below; text that is no longer indented ends the section.

    outside: the indentation that ends it. After a header on a docstring's first line cleandoc leaves none to go by: -1.
    """
    found: dict[str, list[str]] = {}
    indent, name = outside, ""
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if not line.strip():
            depth = indent
        elif depth == outside:
            break
        elif indent == outside:
            indent = depth
        entry = _ENTRY.match(line.strip()) if depth == indent else None
        if entry:
            name = entry[1]
            found[name] = [entry[2] or ""]
        elif name:
            found[name].append(line)
    return {name: _flow(text) for name, text in found.items()}


def _flow(lines: list[str]) -> str:
    """Wrapped lines joined with a space, paragraphs with a newline."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip())
    return "\n".join(" ".join(p.split()) for p in paragraphs)


# ---- Python files


def _read_python(file: Path) -> list[Read]:
    """Run the file and read `TOOLS`, or else its public functions, in their order."""
    with _module(file) as module:
        listed = getattr(module, "TOOLS", None)
        if listed is None:
            return _public(module)
        if not isinstance(listed, (list, tuple)):
            raise EdgeError(f"{file}: TOOLS is no list", "write TOOLS = [function, …]")
        return [_listed(item, f"{file}, TOOLS[{n}]") for n, item in enumerate(listed)]


def _listed(item: Any, where: str) -> Read:
    if isinstance(item, dict):
        return normalise(item, where)
    if not inspect.isfunction(item):
        raise EdgeError(f"{where}: {item!r} is no function", "list plain functions, or OpenAI function objects")
    return from_function(item)


def _public(module: types.ModuleType) -> list[Read]:
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    }
    read = []
    for name, function in own.items():
        if function.__name__ == name:
            read.append(from_function(function))
        elif own.get(function.__name__) is not function:  # else a second name for the same function
            # A decorator without functools.wraps hides a function's name and types: guessing them would be wrong.
            raise EdgeError(
                f"{module.__file__}, function {name}: is really a function called {function.__name__!r}",
                "use functools.wraps in its decorator, a leading underscore, or a list TOOLS = […]",
            )
    return read


@contextlib.contextmanager
def _module(file: Path) -> Iterator[types.ModuleType]:
    """The file, run as a module of a name of its own; registered meanwhile, since evaluating annotations looks there.

    Compiled here and not by the import system, which would leave a cache beside the user's file and might trust it.
    What the file prints goes to standard error: standard output belongs to results.
    """
    module = types.ModuleType(f"edge_tools_{file.stem}")
    module.__file__ = str(file)
    folder = str(file.resolve().parent)
    sys.modules[module.__name__] = module
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            _run(file, module)
        if folder in sys.path:
            sys.path.remove(folder)
        yield module
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        sys.modules.pop(module.__name__, None)


def _run(file: Path, module: types.ModuleType) -> None:
    try:
        exec(
            compile(importlib.util.decode_source(file.read_bytes()), str(file), "exec", dont_inherit=True), vars(module)
        )
    except (Exception, SystemExit) as error:
        raise _import_error(file, error) from None


def _import_error(file: Path, error: BaseException) -> EdgeError:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else (lines or [None])[-1]
    return EdgeError(
        f"{file}{f', line {line}' if line else ''}: importing it raised {type(error).__name__}: {error}",
        "a tools file is run to be read: keep it importable, or declare the tools in JSON",
    )


# ---- JSON


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


def normalise(declaration: Any, where: str = "tools") -> Read:
    """One declaration in the one form, and what was noticed. Raises EdgeError naming `where`, tool and property.

    Takes an OpenAI object with or without its wrapper, and a bare JSON Schema with a title. Rendering the result gives
    what rendering the original gives, unless a finding says otherwise. The original is left as it is.
    """
    function = _function(declaration, where)
    at = _Reading(function["name"], f"{where}, tool {function['name']!r}")
    description = function.get("description")
    if not isinstance(description, (str, type(None))):
        raise at.error("", "its description is not text")
    parameters = function.get("parameters")
    kept = {k: v for k, v in function.items() if k != "parameters"}
    if parameters:
        try:
            schema = _schema(at, parameters, "", parameters)
        except RecursionError:
            raise at.error("", "its parameters are nested too deeply") from None
        if schema["type"] != "object":
            raise at.error("", f"its parameters are of type {schema['type']}, not object")
        kept["parameters"] = schema
    elif not isinstance(parameters, (dict, type(None))):
        raise at.error("", "its parameters are not a JSON Schema object")
    return {"type": "function", "function": kept}, at.findings


def _function(declaration: Any, where: str) -> Json:
    """The inner object of a declaration, with a name."""
    value = function_of(declaration)
    if "name" not in value and isinstance(value.get("title"), str):
        schema = {k: v for k, v in value.items() if k not in ("title", "description")}
        value = {"name": value["title"], "description": value.get("description"), "parameters": schema}
    if not isinstance(value.get("name"), str) or not value["name"]:
        raise EdgeError(
            f"{where}: not a tool: {json.dumps(declaration, ensure_ascii=False, default=repr)[:120]}",
            'write {"type": "function", "function": {"name", "description", "parameters"}}',
        )
    return {k: v for k, v in value.items() if not (k == "type" and v == "function")}


_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
_ALIASES = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "tuple": "array",
    "list": "array",
    "str": "string",
    "int": "integer",
    "bool": "boolean",
}
_DROPPED = ("$defs", "definitions", "$schema", "$id")  # inlined, or about the document


def _schema(at: _Reading, given: Any, path: str, root: Json, inside: tuple[str, ...] = ()) -> Json:
    """A JSON Schema with one type per value. `root` holds the definitions; `inside`: references being inlined."""
    if not isinstance(given, dict):
        why = "a schema is null where `datasets` unified rows: read the JSONL line by line" if given is None else None
        raise at.error(path, f"its schema is {_shown(given)}, not an object", why)
    schema, inside = _inlined(at, given, path, root, inside)
    schema["type"] = _type(at, schema, path)
    _check_enum(at, schema, path)
    if "properties" in schema:
        schema["properties"] = _properties_of(at, schema, path, root, inside)
    _check_required(at, schema, path)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema and not isinstance(schema[key], bool) and schema[key] != {}:
            schema[key] = _schema(at, schema[key], f"{path}{suffix}", root, inside)
    return schema


def _inlined(at: _Reading, given: Json, path: str, root: Json, inside: tuple[str, ...]) -> tuple[Json, tuple[str, ...]]:
    """The schema without `$ref`, `allOf`, `anyOf`, `oneOf` and `const`. What stands beside a reference wins over it."""
    schema = dict(given)
    while True:
        if "$ref" in schema:
            reference = schema.pop("$ref")
            if reference in inside:
                raise at.error(path, f"{reference} contains itself", "a model can only be told of a finite structure")
            inside = (*inside, reference)
            schema = {**_target(at, reference, path, root), **schema}
        elif "allOf" in schema:
            schema = {**_only(at, schema.pop("allOf"), path, "allOf"), **schema}
        elif "anyOf" in schema or "oneOf" in schema:
            key = "anyOf" if "anyOf" in schema else "oneOf"
            options = schema.pop(key)
            kept = [o for o in options if o != {"type": "null"}] if isinstance(options, list) else options
            schema = {**_only(at, kept, path, key), **schema, **({"nullable": True} if kept != options else {})}
        else:
            break
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    return {k: v for k, v in schema.items() if k not in _DROPPED}, inside


def _target(at: _Reading, reference: Any, path: str, root: Json) -> Json:
    target: Any = root if isinstance(reference, str) and reference.startswith("#") else None
    for part in str(reference).lstrip("#").strip("/").split("/"):
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) and part else target
    if not isinstance(target, dict):
        raise at.error(path, f"the reference {reference!r} leads nowhere", "only references inside the tool are read")
    return target


def _only(at: _Reading, options: Any, path: str, key: str) -> Json:
    if not isinstance(options, list) or len(options) != 1 or not isinstance(options[0], dict):
        raise at.error(path, f"{key} of several types can't be declared to a model", "choose one type, or string")
    return options[0]


def _type(at: _Reading, schema: Json, path: str) -> str:
    """The one type, in lower case; null in a list of types becomes `nullable`."""
    given = schema.get("type")
    if isinstance(given, list):
        kept = [t for t in given if t != "null"]
        if len(kept) != 1:
            raise at.error(path, f"the types {given} can't be declared together", "choose one type, or string")
        if len(kept) < len(given):
            schema["nullable"] = True
        given = kept[0]
    if given is None:
        given = _inferred(schema)
        if given is None:
            raise at.error(path, "has no type", f"add one of {', '.join(_TYPES)}")
        at.warn(path, f"has no type: {given} assumed")
    name = given.lower() if isinstance(given, str) else ""
    if name in _ALIASES:
        at.warn(path, f"the type {given!r} is not JSON Schema's: {_ALIASES[name]} assumed")
        name = _ALIASES[name]
    if name not in _TYPES:
        raise at.error(path, f"unknown type {given!r}", f"use one of {', '.join(_TYPES)}")
    return name


def _inferred(schema: Json) -> Optional[str]:
    for key, name in (("properties", "object"), ("items", "array")):
        if key in schema:
            return name
    values = schema.get("enum")
    return "string" if values and isinstance(values, list) and all(isinstance(v, str) for v in values) else None


def _check_enum(at: _Reading, schema: Json, path: str) -> None:
    if "enum" not in schema:
        return
    values = schema["enum"]
    if not isinstance(values, list) or not values:
        raise at.error(path, "its enum is not a list of values")
    if None in values:
        schema["nullable"] = True
        values = schema["enum"] = [v for v in values if v is not None]
    for value in values:
        if not _is(value, schema["type"]):
            raise at.error(path, f"its enum holds {_shown(value)}, but its type is {schema['type']}")


def _properties_of(at: _Reading, schema: Json, path: str, root: Json, inside: tuple[str, ...]) -> Json:
    if not isinstance(schema["properties"], dict):
        raise at.error(path, f"its properties are {_shown(schema['properties'])}, not an object")
    return {
        name: _schema(at, inner, f"{path}.{name}" if path else name, root, inside)
        for name, inner in schema["properties"].items()
    }


def _check_required(at: _Reading, schema: Json, path: str) -> None:
    if schema.get("required") is None:
        schema.pop("required", None)
        return
    required = schema["required"]
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise at.error(
            path, f"its `required` is {_shown(required)}, not a list of names", "list the names beside `properties`"
        )
    for name in required:
        if name not in schema.get("properties", {}):
            raise at.error(path, f"`required` names {name!r}, which is not among its properties")


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
    elif not _is(value, schema["type"]):
        yield f"wrong type: {path} is {_shown(value)}, declared {schema['type']}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"outside enum: {path} is {_shown(value)}, declared one of {_shown(schema['enum'])}"
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


def _is(value: Any, type_name: str) -> bool:
    """Whether a JSON value is of this JSON Schema type."""
    if isinstance(value, bool):
        return type_name == "boolean"
    return isinstance(value, _TYPES[type_name])  # type: ignore[arg-type]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}…"
