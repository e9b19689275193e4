"""What the tests of generated Dart and Kotlin share: jobs, declarations to write types for, calls to read, and what is right."""

from __future__ import annotations

import json
import random
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge.calls import Call
from edge.dialects import function_of
from edge.export.handoff import Job
from edge.export.handoff.names import DART_RESERVED, KOTLIN_RESERVED, listed
from edge.export.handoff.shapes import DROPPED, sample
from edge.records import Artifact
from edge.tools import normalise, validate_call

CASES = json.loads(Path(__file__).with_name("handoff_cases.json").read_text(encoding="utf-8"))


def job(tools, format="litertlm", **more):
    given = {
        "name": "lights-q8_0",
        "dialect": "functiongemma",
        "renderer": "training",
        "context_tokens": 1024,
        "system": "",
    }
    given |= {k: more.pop(k) for k in list(more) if k in given}
    record = Artifact(
        digest=more.pop("digest", "0" * 64), path=f"lights.{format}", format=format, quantisation="int8",
        bytes=more.pop("bytes", 3), checkpoint="c" * 64, dialect=given["dialect"], exporter="test",
        notices=["Gemma is provided under its terms."],
    )  # fmt: skip
    return Job(
        artifact=Path(f"lights.{format}"), record=record, tools=tools, max_tokens=64,
        stop_tokens=["<end_of_turn>"], contract={}, options=more, **given,
    )  # fmt: skip


def tool(name, properties=None, required=(), description="", **schema):
    parameters = {"type": "object", "properties": properties or {}, "required": list(required), **schema}
    return normalise({"name": name, "description": description, "parameters": parameters})[0]


def write(files, folder):
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return folder


# Sets of declarations that each hold something that code generators trip over.
ODD = [
    '"',
    "'",
    "$x",
    "${y}",
    "\\",
    "\n",
    "*/",
    "/*",
    "/**/",
    "\u2028",
    "😀",
    "\u202e",
    "불",
    "é",
    "<b>",
    "`",
    "{{",
    "{#",
    "%}",
]
WORDS = sorted(DART_RESERVED | KOTLIN_RESERVED)
# Names that the generated code uses itself, or inherits.
HELPERS = sorted(
    listed(
        "tool send toArguments read found value path written given mapOf listOf setOf to it item name wire others handler entries"
        " values index hashCode toString runtimeType copy component1 equals int double bool num String list map done handled"
    )
)
NAMED = {
    "cases": [normalise(t)[0] for t in CASES["tools"]],
    "nothing": [],
    "many": [tool(f"tool_{n}", {f"a_{n}": {"type": "integer"}} if n % 4 == 0 else {}, description=f"number {n}") for n in range(40)],
    "keywords": [tool(w) for w in WORDS[::4]]
    + [tool("all", {w: {"type": "string"} for w in WORDS if w not in DROPPED} | {"words": {"type": "string", "enum": WORDS}})],
    "helpers": [
        tool("call", {w: {"type": "array", "items": {"type": "string", **({"enum": ["x"]} if len(w) == 2 else {})}} for w in HELPERS}),
        tool("choice", {"of": {"type": "string", "enum": HELPERS}}),
        *(tool(w) for w in sorted(listed("String Int any list map tool read fields reader object engine text widget to_string"))),
    ],
    "collisions": [
        tool("set_light", {"a_b": {"type": "string"}, "aB": {"type": "string"}, "a-b": {"type": "string"}, "A.B": {"type": "string"},
                           "a_b_2": {"type": "string"}}),
        tool("setLight", {"room": {"type": "string", "enum": ["on", "ON", "On", "o n", "on!"]}}),
        tool("set-light", {"room": {"type": "object", "properties": {"x": {"type": "integer"}}}}),
        tool("set_light_room", {}), tool("set", {"light_room": {"type": "string", "enum": ["a"]}}),
        tool("tools", {"kt": {"type": "string", "enum": ["a"]}}),  # what Kotlin's compiler calls the file
        tool("x1", {"1": {"type": "string"}, "2a": {"type": "string"}}), tool("x", {"n1": {"type": "string"}}), tool("x2"), tool("X"),
    ],
    "odd": [
        tool("odd", {"e": {"type": "string", "enum": [*ODD, "", " ", "  ", "2nd", "-1", "+", "-", "½", "a" * 300]},
                     "불": {"type": "string", "description": "".join(ODD)}}, description="\n".join(ODD)),
        *(tool(f"t{n}", description=text) for n, text in enumerate(ODD)),
        tool("ends", description="a *"), tool("ends2", description="/"), tool("surrogate", description="half \ud800"),
        tool("불을_켜다", {"방 이름": {"type": "string", "enum": ["거실", "방"]}}, ["방 이름"]), tool("❤"), tool("2fa"),
    ],
    "deep": [
        tool("deep", {"a": {"type": "object", "required": ["b"], "properties": {"b": {"type": "array", "items": {
            "type": "object", "nullable": True, "properties": {"c": {"type": "array", "items": {"type": "array", "items": {
                "type": "string", "enum": ["x"], "nullable": True}}}}}}}},
            "free": {"type": "object"}, "open": {"type": "object", "properties": {"others": {"type": "string"}},
                                                 "additionalProperties": {"type": "integer"}},
            "table": {"type": "object", "additionalProperties": {"type": "string", "enum": ["u", "v"]}},
            "none": {"type": "object", "additionalProperties": False}, "any": {"type": "array"}}, ["a"]),
    ],
}  # fmt: skip


# Declarations at random

_NAMES = st.one_of(
    st.sampled_from(WORDS),
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,12}", fullmatch=True),
    st.text(min_size=1, max_size=8),
)
_DESCRIPTIONS = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=8)), max_size=5).map("".join)
_SCALARS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "number", "boolean"])}),
    st.fixed_dictionaries({"type": st.just("string"), "enum": st.lists(st.text(max_size=8), min_size=1, max_size=5)}),
    st.fixed_dictionaries(
        {"type": st.just("integer"), "enum": st.lists(st.integers(-9, 2**53), min_size=1, max_size=3)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("number"),
            "enum": st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3),
        }
    ),
)


def _with_more(schemas):
    more = st.fixed_dictionaries({}, optional={"description": _DESCRIPTIONS, "nullable": st.booleans()})
    return st.builds(lambda schema, extra: {**schema, **extra}, schemas, more)


@st.composite
def _objects(draw, inner):
    properties = draw(st.dictionaries(_NAMES.filter(lambda name: name not in DROPPED), inner, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    others = draw(st.sampled_from([{}, {}, {"additionalProperties": True}, {"additionalProperties": False}]))
    return {"type": "object", "properties": properties, "required": required, **others}


def _nested(inner):
    lists = st.fixed_dictionaries({"type": st.just("array"), "items": inner})
    maps = st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner})
    return _with_more(st.one_of(lists, maps, _objects(inner)))


_SCHEMAS = st.recursive(_with_more(_SCALARS), _nested, max_leaves=6)
_TOOLS = st.builds(
    lambda name, description, parameters: normalise({"name": name, "description": description, "parameters": parameters})[0],
    _NAMES, _DESCRIPTIONS, _objects(_SCHEMAS),
)  # fmt: skip
TOOLS = st.lists(_TOOLS, max_size=5, unique_by=lambda tool: tool["function"]["name"])


def drawn(sets, each=6):
    """So many sets of declarations, each of several examples together, the same ones on every run: they are compiled at once."""
    found = []

    @settings(max_examples=sets * each, derandomize=True, phases=[Phase.generate], database=None, deadline=None)
    @given(TOOLS)
    def collect(tools):
        found.append(tools)

    collect()
    merged = [{t["function"]["name"]: t for tools in found[n::sets] for t in tools} for n in range(sets)]
    return [list(tools.values()) for tools in merged]


# Calls at random, and what is right

_STRANGE = ["text", "", "3", 3, -1, 2.5, 3.0, True, False, None, [], ["x"], [None], {}, {"x": 1}, [[1]], {"type": None}]


def calls(tools, chance, count=6):
    """Calls to these tools: right ones, and ones with something changed."""
    found = []
    for declared in map(function_of, tools):
        schema = declared.get("parameters") or {}
        whole = {**sample(schema)}
        found.append(Call(declared["name"], whole))
        found.append(Call(declared["name"], {k: v for k, v in whole.items() if k in schema.get("required", [])}))
        found += [Call(declared["name"], changed(whole, chance)) for _ in range(count)]
    return [*found, Call("no such tool", {})]


def changed(value, chance):
    """The value with one thing in it dropped, added or exchanged."""
    where = chance.randrange(4)
    if isinstance(value, dict) and value and where < 3:
        key = chance.choice(list(value))
        if where == 0:
            return {k: v for k, v in value.items() if k != key}
        if where == 1:
            return {**value, "more": chance.choice(_STRANGE)}
        return {**value, key: changed(value[key], chance)}
    if isinstance(value, list) and value and where < 2:
        return [*value[:-1], changed(value[-1], chance)]
    return chance.choice(_STRANGE) if not isinstance(value, dict) else {**value, "more": chance.choice(_STRANGE)}


def told(call, tools):
    """What validate_call finds, and the arguments that a typed call gives back when it finds nothing."""
    problems = validate_call(call, tools)
    if problems:
        return {"problems": problems}
    declared = next(f for f in map(function_of, tools) if f["name"] == call.name)
    return {"arguments": _kept(call.arguments, declared.get("parameters") or {})}


def _kept(value, schema):
    """Without the nulls of properties that may be left out: in a typed call both are null."""
    if isinstance(value, list):
        return [_kept(item, schema.get("items") or {}) for item in value]
    if not isinstance(value, dict):
        return value
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    inner = {k: properties.get(k) or (others if isinstance(others, dict) else {}) for k in value}
    optional = {k for k in properties if k not in schema.get("required", [])}
    return {k: _kept(v, inner[k]) for k, v in value.items() if v is not None or k not in optional}


def agrees(answer, right):
    """Whether a dispatcher's answer, {"arguments"} or {"kind", "path"}, is what is right."""
    if "arguments" in right or "arguments" in answer:
        return answer.get("arguments") == right.get("arguments")
    start = f"{answer['kind']}: {answer['path']}"
    return any(problem == start or problem.startswith(f"{start} ") for problem in right["problems"])


def chance(seed):
    return random.Random(seed)
