"""Tools declared by Python functions: type hints become JSON Schema, Google-style docstrings its descriptions.

So that what a tool's author already wrote, and what Python checks, need not be written a second time as JSON. A hint
that has no JSON Schema is refused with its place in the file, never guessed at.

Reading a module runs it: the caller says so. JSON is for tools that one doesn't trust.
Standard library only, Python 3.9.
"""

from __future__ import annotations

import ast
import collections.abc
import contextlib
import dataclasses
import enum
import importlib.util
import inspect
import re
import sys
import traceback
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Callable, Literal, Optional, Union, get_args, get_origin

from edge.dialects import Tool
from edge.errors import EdgeError
from edge.records import Json
from edge.schemas import Read, Reading, normalise

Function = Callable[..., Any]


def from_function(function: Callable[..., Any]) -> Read:
    """The tool that a Python function's signature and Google-style docstring declare. Raises EdgeError."""
    function = inspect.unwrap(function)
    code = function.__code__
    at = Reading(function.__name__, f"{code.co_filename}, line {code.co_firstlineno}, function {function.__name__}")
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


def _refuse_kind(at: Reading, parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise at.error(str(parameter), "a model can't be told of open-ended parameters", "name each parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise at.error(parameter.name, "is positional-only, and calls name their arguments", "remove the `/`")


def _hints(at: Reading, owner: Any, path: str = "") -> dict[str, Any]:
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


def _annotated(at: Reading, hint: Any, path: str, inside: tuple[Any, ...] = ()) -> Json:
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


def _optional(at: Reading, hint: Any, args: tuple[Any, ...], path: str, inside: tuple[Any, ...]) -> Json:
    kept = [a for a in args if a is not type(None)]
    if len(kept) != 1:
        raise at.error(path, f"the union {_named(hint)} can't be declared to a model", "choose one type, or str")
    return {**_annotated(at, kept[0], path, inside), "nullable": True}


def _choice(at: Reading, values: list[Any], path: str) -> Json:
    kept = [v for v in values if v is not None]
    kinds = {_SCALARS.get(type(v)) for v in kept}
    if len(kinds) != 1 or None in kinds:
        raise at.error(path, f"the choices {values!r} are not of one plain type", "use strings only, or numbers only")
    return {"type": kinds.pop(), "enum": kept, **({"nullable": True} if len(kept) < len(values) else {})}


def _array(at: Reading, kind: type, args: tuple[Any, ...], path: str, inside: tuple[Any, ...]) -> Json:
    args = tuple(a for a in args if a is not Ellipsis)
    if not args:
        at.warn(path, f"the type of its items is not given: write {kind.__name__}[…]")
        return {"type": "array"}
    if len(set(args)) > 1:
        raise at.error(path, "a tuple of different types can't be declared to a model", "use a dataclass")
    if len(args) > 1:
        at.warn(path, f"that it has {len(args)} items is not declared: say so in its description")
    return {"type": "array", "items": _annotated(at, args[0], f"{path}[]", inside)}


def _mapping(at: Reading, args: tuple[Any, ...], path: str, inside: tuple[Any, ...]) -> Json:
    if not args:
        return {"type": "object"}
    if args[0] is not str:
        raise at.error(path, "the keys of a JSON object are strings", "use dict[str, …]")
    if args[1] is Any:
        return {"type": "object"}
    return {"type": "object", "additionalProperties": _annotated(at, args[1], f"{path}.*", inside)}


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def _record(at: Reading, kind: Any, path: str, inside: tuple[Any, ...]) -> Json:
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


# ---- modules


def read_module(file: Path) -> list[Read]:
    """Run the file and read `TOOLS`, or else its public functions, in their order."""
    with running(file) as declared:
        return [read for read, _ in declared]


@contextlib.contextmanager
def running(file: Path) -> Iterator[list[tuple[Read, Optional[Function]]]]:
    """The same, each with its function, which may be called until the `with` ends; None for what is declared as JSON."""
    with _module(file) as module:
        listed = getattr(module, "TOOLS", None)
        if listed is None:
            yield [(from_function(function), function) for function in _public(module)]
            return
        if not isinstance(listed, (list, tuple)):
            raise EdgeError(f"{file}: TOOLS is no list", "write TOOLS = [function, …]")
        yield [_listed(item, f"{file}, TOOLS[{n}]") for n, item in enumerate(listed)]


def _listed(item: Any, where: str) -> tuple[Read, Optional[Function]]:
    if isinstance(item, dict):
        return normalise(item, where), None
    if not inspect.isfunction(item):
        raise EdgeError(f"{where}: {item!r} is no function", "list plain functions, or OpenAI function objects")
    return from_function(item), item


def _public(module: types.ModuleType) -> list[Function]:
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    }
    found: list[Function] = []
    for name, function in own.items():
        if function.__name__ == name:
            found.append(function)
        elif own.get(function.__name__) is not function:  # else a second name for the same function
            # A decorator without functools.wraps hides a function's name and types: guessing them would be wrong.
            raise EdgeError(
                f"{module.__file__}, function {name}: is really a function called {function.__name__!r}",
                "use functools.wraps in its decorator, a leading underscore, or a list TOOLS = […]",
            )
    return found


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
        tree = ast.parse(importlib.util.decode_source(file.read_bytes()), str(file))
    except Exception as error:
        raise _import_error(file, error) from None
    _refuse_twice(file, tree)
    try:
        exec(compile(tree, str(file), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise _import_error(file, error) from None


def _refuse_twice(file: Path, tree: ast.Module) -> None:
    """Of two functions with one name Python keeps the second, and a tool would be gone without a word."""
    lines: dict[str, int] = {}
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if node.name in lines:
            raise EdgeError(
                f"{file}: two functions are called {node.name!r}, in line {lines[node.name]} and in line {node.lineno}",
                "rename one, or remove the one that is not meant",
            )
        lines[node.name] = node.lineno


def _import_error(file: Path, error: BaseException) -> EdgeError:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else (lines or [None])[-1]
    return EdgeError(
        f"{file}{f', line {line}' if line else ''}: importing it raised {type(error).__name__}: {error}",
        "a tools file is run to be read: keep it importable, or declare the tools in JSON",
    )
