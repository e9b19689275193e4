"""The user's own functions, run with what a model asked for: JSON becomes what their type hints say, their result JSON again.

What a function prints goes to standard error: standard output belongs to results. Standard library only, Python 3.9.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import json
import sys
import traceback
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional, Union, get_args, get_origin

from edge.records import Json
from edge.signatures import Function

_UNIONS = (Union, getattr(types, "UnionType", Union))
_COLLECTIONS = (list, tuple, set, frozenset)


@dataclass(frozen=True)
class Result:
    """What came of a call. value: JSON; error: the last line of the traceback, value then None; where: its file and line."""

    value: Any
    error: Optional[str] = None
    where: str = ""

    @property
    def content(self) -> Json:
        """What a tool's answer says to the model: one form for every dialect, which all write an object."""
        if self.error:
            return {"error": self.error}
        # FunctionGemma reads an object of these two keys as a named answer, so that one is wrapped as plain values are.
        plain = isinstance(self.value, dict) and not self.value.keys() >= {"name", "response"}
        return dict(self.value) if plain else {"value": self.value}


def run(function: Function, arguments: Json) -> Result:
    """Call it. What it raises is a Result that says so; only an interrupt passes through."""
    try:
        with _at_home(function), contextlib.redirect_stdout(sys.stderr):
            value = function(**_typed(function, arguments))
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
        return Result(_plain(value, function))
    except (Exception, SystemExit) as error:
        return Result(None, traceback.format_exception_only(type(error), error)[-1].strip(), _where(error, function))


def _plain(value: Any, function: Function) -> Any:
    """As JSON has it. Raises TypeError for what JSON has not."""
    try:
        return json.loads(json.dumps(value, default=_simpler, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{function.__name__} returned what is no JSON: {error}") from None


def _simpler(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    raise TypeError(f"a {type(value).__name__}")


@contextlib.contextmanager
def _at_home(function: Function) -> Iterator[None]:
    """The file's folder on the import path, as it was when the file was read: a function may import only when it runs."""
    folder = str(Path(function.__code__.co_filename).resolve().parent) if hasattr(function, "__code__") else ""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _where(error: BaseException, function: Function) -> str:
    """The last line of the function's own file that the error passed through."""
    file = inspect.unwrap(function).__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {lines[-1]}" if lines else file


# --- JSON to what the hints say ---------------------------------------------------------------------------------------


def _typed(function: Function, arguments: Json) -> Json:
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    return {name: _value(value, hints.get(name, Any)) for name, value in arguments.items()}


def _value(value: Any, hint: Any) -> Any:
    """A JSON value as a type hint that has a JSON Schema (edge/signatures.py) wants it; others get it as it is."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _value(value, args[0])
    if value is None:
        return None
    if origin in _UNIONS:
        return _value(value, next(a for a in args if a is not type(None)))
    kind = origin or hint
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(kind, type):
        return value
    if issubclass(kind, enum.Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{name: _value(inner, hints.get(name, Any)) for name, inner in value.items()})
    return _collection(value, kind, args)


def _collection(value: Any, kind: type, args: tuple[Any, ...]) -> Any:
    if isinstance(value, list) and issubclass(kind, (*_COLLECTIONS, collections.abc.Sequence)):
        items = [_value(item, args[0] if args else Any) for item in value]
        return kind(items) if issubclass(kind, _COLLECTIONS) else items
    if isinstance(value, dict) and args and issubclass(kind, collections.abc.Mapping):
        return {name: _value(inner, args[1]) for name, inner in value.items()}
    return value
