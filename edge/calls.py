"""A function call, what a model's output holds, and when a prediction is right: shapes that every part passes around.

Standard library only: this file runs in every isolated environment and, zipped, on a Raspberry Pi.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Optional

from edge.errors import EdgeError

RULES = ("exact", "unordered", "bfcl")  # bfcl needs the function declarations: edge/bfcl.py


@dataclass(frozen=True)
class Call:
    """One function call: a name and a mapping of JSON values."""

    name: str
    arguments: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "arguments": self.arguments}


@dataclass(frozen=True)
class Parsed:
    """What a dialect's parser found in one model output.

    calls: in the order of the text. text: everything outside calls, verbatim, without trailing stop tokens.
    errors: one sentence for each thing that looked like a call and was none (never costs the calls around it).
    notes: what was read in spite of being off-format (a bare word kept as a string).
    """

    calls: list[Call]
    text: str
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        found = {"calls": [c.to_json() for c in self.calls], "text": self.text, "errors": self.errors}
        return {**found, "notes": self.notes} if self.notes else found


def read_calls(value: Any) -> list[Call]:
    """A list of `{"name", "arguments"}` or of BFCL's `{name: {argument: value}}`. Raises EdgeError otherwise."""
    if not isinstance(value, list):
        raise EdgeError(f"calls are a list, not {_kind(value)}")
    return [_read_call(item, i) for i, item in enumerate(value, 1)]


def _read_call(item: Any, number: int) -> Call:
    if isinstance(item, dict) and item.keys() == {"name", "arguments"}:
        name, arguments = item["name"], item["arguments"]
    elif isinstance(item, dict) and len(item) == 1:
        ((name, arguments),) = item.items()
    else:
        raise EdgeError(f'call {number} is neither {{"name", "arguments"}} nor {{name: {{argument: value}}}}')
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise EdgeError(f"call {number}: the name is {_kind(name)} and the arguments are {_kind(arguments)}")
    return Call(name, arguments)


def exact(predicted: list[Call], expected: list[Call]) -> Optional[str]:
    """None if right, else why not: calls in order, each with the same name and arguments, values and types.

    The order of keys is ignored, nothing else: 1, 1.0, true and "1" are four different values, at any depth.
    """
    if len(predicted) != len(expected):
        return f"{len(predicted)} calls, expected {len(expected)}"
    pairs = enumerate(zip(predicted, expected), 1)
    return next((f"call {i}: {why}" for i, (got, want) in pairs if (why := _difference(got, want))), None)


def unordered(predicted: list[Call], expected: list[Call]) -> Optional[str]:
    """None if right, else why not: the calls of `exact`, in any order."""
    missing = Counter(_frozen(c.to_json()) for c in expected)
    for i, call in enumerate(predicted, 1):
        key = _frozen(call.to_json())
        if not missing[key]:
            return f"call {i} ({call.name}) is not expected"
        missing[key] -= 1
    left = sum(missing.values())
    return f"{left} of {len(expected)} expected calls missing" if left else None


def _difference(got: Call, want: Call) -> Optional[str]:
    if got.name != want.name:
        return f"name {got.name!r}, expected {want.name!r}"
    for key in [*want.arguments, *got.arguments]:
        if key not in got.arguments:
            return f"argument {key!r} is missing"
        if key not in want.arguments:
            return f"argument {key!r} is not expected"
        if _frozen(got.arguments[key]) != _frozen(want.arguments[key]):
            return f"argument {key!r} is {got.arguments[key]!r}, expected {want.arguments[key]!r}"
    return None


def _frozen(value: Any) -> Hashable:
    """A JSON value as something hashable that is equal exactly when value and type are."""
    if isinstance(value, dict):
        return ("object", frozenset((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(_frozen(item) for item in value))
    return (type(value).__name__, value)


def nested_deeper(value: Any, limit: int) -> bool:
    """Whether lists and mappings are nested more than `limit` levels deep, without recursion."""
    level = [value]
    for _ in range(limit + 1):
        level = [x for v in level for x in (v.values() if isinstance(v, dict) else v if isinstance(v, list) else ())]
    return bool(level)


def read_json(text: str) -> Any:
    """A JSON value. Raises ValueError for anything else, for NaN and Infinity, which Python takes, and for bombs."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:40]} is too large")
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
