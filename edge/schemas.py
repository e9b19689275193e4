"""Tool declarations in JSON, whichever way they are written, brought into the one form.

JSON Schema comes in dialects: upper-case types, `null` in a list of types, `$ref`, `anyOf` around one type, Python's
names for types. `normalise` knows them, so that nothing else has to. What loses something is a Finding; what no model
can be told is an EdgeError that names file, tool and property. Values only: files are read in `edge/tools.py`.
Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

from edge.dialects import Finding, Tool, function_of
from edge.errors import EdgeError
from edge.records import Json

Read = tuple[Tool, list[Finding]]  # one tool and what was noticed while reading it


@dataclass
class Reading:
    """Where we are, for messages, and what was noticed so far."""

    tool: str
    where: str  # "tools.py, line 3, function f" or "tools.json, tool 'f'"
    findings: list[Finding] = field(default_factory=list)

    def warn(self, path: str, message: str) -> None:
        self.findings.append(Finding("warning", self.tool, path, message))

    def error(self, path: str, message: str, hint: Optional[str] = None) -> EdgeError:
        return EdgeError(f"{self.where}{f', parameter {path}' if path else ''}: {message}", hint)


def normalise(declaration: Any, where: str = "tools") -> Read:
    """One declaration in the one form, and what was noticed. Raises EdgeError naming `where`, tool and property.

    Takes an OpenAI object with or without its wrapper, and a bare JSON Schema with a title. Rendering the result gives
    what rendering the original gives, unless a finding says otherwise. The original is left as it is.
    """
    function = _function(declaration, where)
    at = Reading(function["name"], f"{where}, tool {function['name']!r}")
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


def _schema(at: Reading, given: Any, path: str, root: Json, inside: tuple[str, ...] = ()) -> Json:
    """A JSON Schema with one type per value. `root` holds the definitions; `inside`: references being inlined."""
    if not isinstance(given, dict):
        why = "a schema is null where `datasets` unified rows: read the JSONL line by line" if given is None else None
        raise at.error(path, f"its schema is {shown(given)}, not an object", why)
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


def _inlined(at: Reading, given: Json, path: str, root: Json, inside: tuple[str, ...]) -> tuple[Json, tuple[str, ...]]:
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


def _target(at: Reading, reference: Any, path: str, root: Json) -> Json:
    target: Any = root if isinstance(reference, str) and reference.startswith("#") else None
    for part in str(reference).lstrip("#").strip("/").split("/"):
        target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) and part else target
    if not isinstance(target, dict):
        raise at.error(path, f"the reference {reference!r} leads nowhere", "only references inside the tool are read")
    return target


def _only(at: Reading, options: Any, path: str, key: str) -> Json:
    if not isinstance(options, list) or len(options) != 1 or not isinstance(options[0], dict):
        raise at.error(path, f"{key} of several types can't be declared to a model", "choose one type, or string")
    return options[0]


def _type(at: Reading, schema: Json, path: str) -> str:
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


def _check_enum(at: Reading, schema: Json, path: str) -> None:
    if "enum" not in schema:
        return
    values = schema["enum"]
    if not isinstance(values, list) or not values:
        raise at.error(path, "its enum is not a list of values")
    if None in values:
        schema["nullable"] = True
        values = schema["enum"] = [v for v in values if v is not None]
    for value in values:
        if not is_of(value, schema["type"]):
            raise at.error(path, f"its enum holds {shown(value)}, but its type is {schema['type']}")


def _properties_of(at: Reading, schema: Json, path: str, root: Json, inside: tuple[str, ...]) -> Json:
    if not isinstance(schema["properties"], dict):
        raise at.error(path, f"its properties are {shown(schema['properties'])}, not an object")
    return {
        name: _schema(at, inner, f"{path}.{name}" if path else name, root, inside)
        for name, inner in schema["properties"].items()
    }


def _check_required(at: Reading, schema: Json, path: str) -> None:
    if schema.get("required") is None:
        schema.pop("required", None)
        return
    required = schema["required"]
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise at.error(
            path, f"its `required` is {shown(required)}, not a list of names", "list the names beside `properties`"
        )
    for name in required:
        if name not in schema.get("properties", {}):
            raise at.error(path, f"`required` names {name!r}, which is not among its properties")


def is_of(value: Any, type_name: str) -> bool:
    """Whether a JSON value is of this JSON Schema type."""
    if isinstance(value, bool):
        return type_name == "boolean"
    return isinstance(value, _TYPES[type_name])  # type: ignore[arg-type]


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}…"
