"""Tool declarations as the types that an app's language will have: one model, which Dart and Kotlin both write from.

A reader in the generated code takes exactly what `edge.tools.validate_call` takes; tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from edge.calls import Call, read_calls
from edge.dialects import function_of
from edge.errors import EdgeError
from edge.export.handoff.names import Scope, pascal
from edge.records import Json
from edge.tools import validate_call

_EXACT = 2**53  # integers up to here are themselves in every number type of an app, JavaScript's included
# Property names that the templates of FunctionGemma and flutter_gemma drop: the model never sees them.
DROPPED = ("description", "type", "properties", "required", "nullable")


@dataclass(frozen=True)
class Shape:
    """The type of one value. kind: string, integer, number, boolean, any, list, map, enum or class."""

    kind: str
    nullable: bool = False
    name: str = ""  # of the enum or class
    inner: Optional[Shape] = None  # a list's items, a map's values
    values: tuple[Any, ...] = ()  # the only ones allowed, of a number or a boolean

    @property
    def converted(self) -> bool:
        """Whether its JSON is another value than itself."""
        return self.kind in ("enum", "class") or bool(self.inner and self.inner.converted)


@dataclass(frozen=True)
class Field:
    """One property. `name` is the identifier, `wire` the declared name."""

    wire: str
    name: str
    shape: Shape
    required: bool
    description: str

    @property
    def nullable(self) -> bool:
        """Whether the field may hold null: because the property may, or because it may be left out."""
        return self.shape.nullable or not self.required


@dataclass(frozen=True)
class Class:
    """An object. others: what undeclared properties hold, None where there may be none; kept in the field `rest`."""

    name: str
    description: str
    fields: tuple[Field, ...]
    others: Optional[Shape] = None
    rest: str = "others"

    @property
    def required(self) -> list[str]:
        return [f.wire for f in self.fields if f.required]

    @property
    def optional(self) -> list[str]:
        return [f.wire for f in self.fields if not f.required]

    @property
    def declared(self) -> list[str]:
        return [f.wire for f in self.fields]


@dataclass(frozen=True)
class Enum:
    """A string of a closed set. constants: identifier and wire value."""

    name: str
    description: str
    constants: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tool:
    """A declaration: its wire name, the class of its calls, the handler's method, and the declaration itself."""

    wire: str
    method: str
    call: Class
    declaration: Json


@dataclass(frozen=True)
class Language:
    """How a language names things, and the names that the generated code around the types needs for itself. Both languages
    put types together in the same way."""

    member: Callable[[list[str]], str]  # fields and methods
    constant: Callable[[list[str]], str]  # of an enum
    reserved: frozenset[str]  # the language's words
    types: tuple[str, ...]
    members: tuple[str, ...]
    constants: tuple[str, ...]
    plain: dict[str, str]  # a kind of JSON value -> its type

    def type_of(self, shape: Shape) -> str:
        inner = self.type_of(shape.inner) if shape.inner else ""
        made = {"list": f"List<{inner}>", "map": f"Map<String, {inner}>"}.get(shape.kind)
        name = made or shape.name or self.plain[shape.kind]
        return f"{name}?" if shape.nullable else name

    def field_type(self, field: Field) -> str:
        return self.type_of(replace(field.shape, nullable=field.nullable))


@dataclass
class Shapes:
    """All types of a set of tools. Raises EdgeError naming tool and property for what no type can hold."""

    language: Language
    tools: list[Tool] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)  # those inside calls
    enums: list[Enum] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._types = Scope(pascal, self.language.types, "Type")
        self._methods = self._members("tool")

    def add(self, tool: Json) -> None:
        function = function_of(tool)
        wire = str(function["name"])
        parameters = {"additionalProperties": False, **(function.get("parameters") or {})}
        name = self._types.claim(wire, "Call")
        call = self._class(name, str(function.get("description") or ""), parameters, wire, [wire])
        self.tools.append(Tool(wire, self._methods.claim(wire), call, function))

    def _members(self, suffix: str) -> Scope:
        language = self.language
        return Scope(language.member, (*language.reserved, *language.members), suffix)

    def _class(self, name: str, description: str, schema: Json, tool: str, path: list[str]) -> Class:
        members, required = self._members("value"), schema.get("required") or []
        fields = tuple(
            Field(wire, members.claim(wire), self._shape(inner, tool, [*path, wire]), wire in required, _said(inner))
            for wire, inner in (schema.get("properties") or {}).items()
        )
        others = self._others(schema, tool, path)
        return Class(name, description, fields, others, members.claim("others") if others else "others")

    def _others(self, schema: Json, tool: str, path: list[str]) -> Optional[Shape]:
        allowed = schema.get("additionalProperties", not schema.get("properties"))
        if isinstance(allowed, dict) and allowed:
            return self._shape(allowed, tool, [*path, "others"])
        return None if allowed is False else Shape("any", nullable=True)

    def _shape(self, schema: Json, tool: str, path: list[str]) -> Shape:
        kind, nullable = str(schema["type"]), bool(schema.get("nullable"))
        if "enum" in schema:
            return self._enum(schema, kind, nullable, tool, path)
        if kind == "array":
            items = schema.get("items")
            inner = self._shape(items, tool, [*path, "item"]) if items else Shape("any", nullable=True)
            return Shape("list", nullable, inner=inner)
        if kind != "object":
            return Shape(kind, nullable)
        others = self._others(schema, tool, path)
        if others and not schema.get("properties"):
            return Shape("map", nullable, inner=others)
        name = self._types.claim("_".join(path))
        self.classes.append(self._class(name, _said(schema), schema, tool, path))
        return Shape("class", nullable, name)

    def _enum(self, schema: Json, kind: str, nullable: bool, tool: str, path: list[str]) -> Shape:
        values = list(dict.fromkeys(schema["enum"])) if kind not in ("array", "object") else []
        if not values or (kind in ("integer", "number") and not all(map(_exact, values))):
            raise EdgeError(
                f"tool {tool}, parameter {'.'.join(path[1:])}: its enum can't be a type of the app's language",
                "use strings, booleans or numbers below 2^53 as values, at least one besides null",
            )
        if kind != "string":
            return Shape(kind, nullable, values=tuple(values))
        name = self._types.claim("_".join(path))
        constants = Scope(self.language.constant, (*self.language.reserved, *self.language.constants), "value")
        self.enums.append(Enum(name, _said(schema), tuple((constants.claim(v), v) for v in values)))
        return Shape("enum", nullable, name)


def shapes(tools: list[Json], language: Language) -> Shapes:
    found = Shapes(language)
    for tool in tools:
        found.add(tool)
    return found


def _said(schema: Json) -> str:
    return str(schema.get("description") or "")


def _exact(value: float) -> bool:
    return abs(value) <= _EXACT if isinstance(value, int) else math.isfinite(value)


def learned(tools: list[Json], dialect: str, renderer: str) -> list[Json]:
    """The tools with their properties in the order that the model was shown, for a runtime that keeps the given one.

    FunctionGemma's template, which `training` and the targets that run it follow, sorts them ignoring case.
    """
    if dialect != "functiongemma" or renderer in ("flutter_gemma", "litert_lm_builtin"):
        return tools
    return [{"type": "function", "function": _learned_function(function_of(tool))} for tool in tools]


def _learned_function(function: Json) -> Json:
    schema = function.get("parameters")
    return {**function, "parameters": _learned(schema)} if schema else function


def _learned(schema: Json) -> Json:
    ordered = dict(schema)
    if isinstance(schema.get("properties"), dict):
        ordered["properties"] = {name: _learned(inner) for name, inner in _sorted(schema["properties"]).items()}
    if isinstance(schema.get("items"), dict):
        ordered["items"] = _sorted(_learned(schema["items"]))
    return ordered


def _sorted(mapping: Json) -> Json:
    return dict(sorted(mapping.items(), key=lambda pair: pair[0].lower()))


def refuse_dropped(tools: list[Json], target: str) -> None:
    """Raise EdgeError naming each property whose name is lost on the way into the prompt, at any depth."""
    lost = [
        f"{function_of(tool)['name']}.{path}"
        for tool in tools
        for path in _dropped(function_of(tool).get("parameters") or {}, [])
    ]
    if lost:
        raise EdgeError(
            f"{target} drops properties of these names, so that the model never sees them: {', '.join(lost)}",
            f"rename them, and tune again: {', '.join(DROPPED)} are words of the format",
        )


def _dropped(schema: Json, path: list[str]) -> list[str]:
    found = []
    for name, inner in (schema.get("properties") or {}).items():
        found += [".".join([*path, name])] if name in DROPPED else _dropped(inner, [*path, name])
    return found + (_dropped(schema["items"], [*path, "items"]) if isinstance(schema.get("items"), dict) else [])


def examples(options: Json) -> list[Json]:
    """Requests with right calls, `{"user", "calls"}`: the job's own, or its cases (rows that were measured on)."""
    if options.get("examples") is not None:
        return list(options["examples"])
    return [
        {
            "user": next((m["content"] for m in reversed(case["messages"]) if m["role"] == "user"), ""),
            "calls": case["expected"],
        }
        for case in options.get("cases") or []
    ]


def recorded(tools: list[Json], examples: list[Json]) -> list[Json]:
    """Requests with the calls that answer them, `{"user", "calls"}`, for the tests that an app team gets.

    The examples whose calls are valid, at most eight; where there are none, one made-up call a tool. A call has `kept` beside
    its name and arguments: what the typed one gives back.
    """
    declared = {f["name"]: f.get("parameters") or {} for f in map(function_of, tools)}
    kept = [e for e in examples if all(not validate_call(c, tools) and _plain(c.arguments) for c in _calls(e))][:8]
    if any(_calls(e) for e in kept):
        found = [(str(e.get("user") or ""), _calls(e)) for e in kept]
    else:
        found = [(f"use {name}", [Call(name, sample(schema))]) for name, schema in declared.items()]
    return [
        {"user": user, "calls": [{**c.to_json(), "kept": _kept(c.arguments, declared[c.name])} for c in calls]}
        for user, calls in found
    ]


def _kept(value: Any, schema: Json) -> Any:
    """Without the nulls of properties that may be left out: a typed call has null for both."""
    if isinstance(value, list):
        return [_kept(item, schema.get("items") or {}) for item in value]
    if not isinstance(value, dict):
        return value
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    beyond = others if isinstance(others, dict) else {}
    optional = properties.keys() - set(schema.get("required") or [])
    return {k: _kept(v, properties.get(k, beyond)) for k, v in value.items() if v is not None or k not in optional}


def _calls(example: Json) -> list[Call]:
    try:
        return read_calls(example.get("calls") or [])
    except EdgeError:
        return []


def _plain(value: Any) -> bool:
    """Whether all numbers in it are the same in every language."""
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, list):
        return all(map(_plain, value))
    return not isinstance(value, (int, float)) or _exact(value)


def sample(schema: Json) -> Any:
    """A value that the schema takes."""
    kind = schema.get("type", "object")
    if schema.get("enum"):
        return schema["enum"][0]
    if kind == "object":
        return {name: sample(inner) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [sample(schema["items"])] if schema.get("items") else []
    return {"string": "text", "integer": 3, "number": 1.5, "boolean": True}[kind]
