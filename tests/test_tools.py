"""Tools: what Python functions and JSON declare, what is refused, and calls checked against the result."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import dialects, tools
from edge.calls import Call
from edge.dialects import Finding
from edge.errors import EdgeError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def write(folder: Path, text: str, name: str = "tools.py") -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def parameters(folder: Path, text: str) -> dict[str, Any]:
    (tool,) = tools.load(write(folder, text)).tools
    return tool["function"]["parameters"]


# ---- Python functions


def test_a_function_with_everything(tmp_path: Path) -> None:
    toolbox = tools.load(
        write(
            tmp_path,
            '''
        from __future__ import annotations
        import enum
        from dataclasses import dataclass, field
        from typing import Annotated, Any, List, Literal, Optional, Sequence, TypedDict

        class Room(enum.Enum):
            KITCHEN = "kitchen"
            BATH = "bath"

        @dataclass
        class Place:
            """Where something is.

            Attributes:
                city: The city,
                    or the nearest one.
            """
            city: str
            lines: list[str] = field(default_factory=list)
            zip: Optional[str] = None

        class Person(TypedDict, total=False):
            """Args:
                name: The name."""
            name: str

        def plan(title: str, count: int, ratio: float, sure: bool, unit: Literal["c", "f"], room: Room,
                 note: Optional[str] = None, tags: List[str] = (), pair: tuple[int, ...] = (), sizes: set[float] = (),
                 place: Optional[Place] = None, people: Sequence[Person] = (), extra: dict = None,
                 prices: dict[str, float] = None, level: Annotated[int, "from 1 to 9"] = 1,
                 loose: dict[str, Any] = None):
            """Plans a thing
            over two lines.

            With a second paragraph.

            Args:
                title (str): What it is called:
                    in full,

                    with a gap.
                count (int, optional): How many.
                ratio: A share.
                sure: Yes or no.
                unit: Of temperature.
                room: Which one.
                note: Free text.
                tags: Words.
                pair: Numbers.
                sizes: Sizes.
                place: The place.
                people: Who comes.
                extra: Anything.
                prices: By name.
                level: Of noise.
                loose: Things.

            Returns:
                title: not an argument
            """
        ''',
        )
    )
    assert toolbox.findings == []
    function = toolbox.tools[0]["function"]
    assert toolbox.tools[0]["type"] == "function" and function["name"] == "plan"
    assert function["description"] == "Plans a thing over two lines.\nWith a second paragraph."
    schema = function["parameters"]
    assert schema["required"] == ["title", "count", "ratio", "sure", "unit", "room"]
    assert schema["properties"] == {
        "title": {"type": "string", "description": "What it is called: in full,\nwith a gap."},
        "count": {"type": "integer", "description": "How many."},
        "ratio": {"type": "number", "description": "A share."},
        "sure": {"type": "boolean", "description": "Yes or no."},
        "unit": {"type": "string", "description": "Of temperature.", "enum": ["c", "f"]},
        "room": {"type": "string", "description": "Which one.", "enum": ["kitchen", "bath"]},
        "note": {"type": "string", "description": "Free text."},
        "tags": {"type": "array", "description": "Words.", "items": {"type": "string"}},
        "pair": {"type": "array", "description": "Numbers.", "items": {"type": "integer"}},
        "sizes": {"type": "array", "description": "Sizes.", "items": {"type": "number"}},
        "place": {
            "type": "object",
            "description": "Where something is.",
            "required": ["city"],
            "properties": {
                "city": {"type": "string", "description": "The city, or the nearest one."},
                "lines": {"type": "array", "items": {"type": "string"}},
                "zip": {"type": "string"},
            },
        },
        "people": {
            "type": "array",
            "description": "Who comes.",
            "items": {
                "type": "object",
                "required": [],
                "properties": {"name": {"type": "string", "description": "The name."}},
            },
        },
        "extra": {"type": "object", "description": "Anything."},
        "prices": {"type": "object", "description": "By name.", "additionalProperties": {"type": "number"}},
        "level": {"type": "integer", "description": "from 1 to 9"},
        "loose": {"type": "object", "description": "Things."},
    }


def test_null_is_a_value_of_its_own_unless_it_is_the_default(tmp_path: Path) -> None:
    # `= None` is how Python says "may be left out"; else null-filled rows would pass for calls
    schema = parameters(
        tmp_path,
        """
        from typing import Literal, Optional
        def f(must: Optional[str], other: Optional[int] = 3, mode: Literal["a", None] = "a", out: Optional[str] = None):
            'F.'
        """,
    )
    assert schema["required"] == ["must"]
    assert schema["properties"] == {
        "must": {"type": "string", "nullable": True},
        "other": {"type": "integer", "nullable": True},
        "mode": {"type": "string", "enum": ["a"], "nullable": True},
        "out": {"type": "string"},
    }


@pytest.mark.skipif(sys.version_info < (3, 11), reason="NotRequired came with Python 3.11")
def test_required_and_not_required_hold_where_annotations_are_strings(tmp_path: Path) -> None:
    schema = parameters(
        tmp_path,
        '''
        from __future__ import annotations
        from typing import NotRequired, Required, TypedDict

        class A(TypedDict):
            always: str
            maybe: NotRequired[int]

        class B(A, total=False):
            often: str
            must: Required[str | None]

        def f(b: B):
            """F."""
        ''',
    )
    inner = schema["properties"]["b"]
    assert inner["required"] == ["always", "must"]
    assert inner["properties"]["maybe"] == {"type": "integer"}
    assert inner["properties"]["must"] == {"type": "string", "nullable": True}


def test_types_from_imported_siblings_and_classes_are_evaluated_in_their_own_module(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        from __future__ import annotations
        from dataclasses import dataclass
        @dataclass
        class Size:
            width: int
        def helper(x): ...
        """,
        "sibling_of_tools.py",
    )
    schema = parameters(
        tmp_path,
        '''
        from sibling_of_tools import Size, helper
        def f(size: Size):
            """F."""
        ''',
    )
    assert schema["properties"]["size"]["properties"] == {"width": {"type": "integer"}}
    assert str(tmp_path) not in sys.path and "edge_tools_tools" not in sys.modules


def test_which_functions_are_tools(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        from os.path import join
        def first(): "One."
        def _helper(x): ...
        class Other:
            def method(self): ...
        def second(): "Two."
        again = second
        """,
    )
    assert [t["function"]["name"] for t in tools.load(file).tools] == ["first", "second"]
    listed = write(
        tmp_path,
        """
        def unused(x): ...
        async def _hidden(): "H."
        TOOLS = [_hidden, {"name": "json_one", "description": "J."}]
        """,
        "listed.py",
    )
    assert [t["function"]["name"] for t in tools.load(listed).tools] == ["_hidden", "json_one"]


def test_what_a_docstring_lacks_is_a_warning(tmp_path: Path) -> None:
    toolbox = tools.load(
        write(
            tmp_path,
            '''
        from dataclasses import dataclass
        @dataclass
        class P:
            x: int
        def bare(a: str): ...
        def typo(city: P, two: tuple[int, int], any_list: list):
            """Looks it up.

            Args:
                ctiy: The city.
                two: Two.
                any_list: Any.
            """
        ''',
        )
    )
    echo = SimpleNamespace(check=lambda given: [Finding("warning", "bare", "a", "no description: empty is seen")])
    assert [str(f) for f in tools.check(toolbox, echo)] == [
        "typo.two: that it has 2 items is not declared: say so in its description",
        "typo.any_list: the type of its items is not given: write list[…]",
        "typo.ctiy: the docstring describes it, but there is no such parameter",
        "bare: no description",
        "bare.a: no description",
        "typo.city: no description",
        "typo.city.x: no description",
    ]


def test_what_a_dialect_repeats_is_said_once(tmp_path: Path) -> None:
    """And ordinary defaults are no news."""
    source = """
    from typing import Literal, Optional
    def f(a: list, unit: Literal["C", "F"] = "C", n: int = 3, note: Optional[str] = None, tags: list[str] = []):
        '''F.

        Args:
            a: A.
            unit: U.
            n: N.
            note: Note.
            tags: T.
        '''
    """
    found = tools.check(tools.load(write(tmp_path, source)), dialects.get("functiongemma"))
    assert [str(f) for f in found] == ["f.a: the type of its items is not given: write list[…]"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def f(): ...\n\nasync def f(): ...", "two functions are called 'f', in line 2 and in line 4"),
        ("print(1 / 0)\ndef f(): ...\ndef f(): ...", "two functions are called 'f', in line 3 and in line 4"),
        ("def f(*args): ...", r"function f, parameter \*args: .*open-ended"),
        ("def f(**kwargs: int): ...", r"parameter \*\*kwargs: int: .*open-ended"),
        ("def f(a: int, /): ...", "parameter a: is positional-only"),
        ("def f(a): ...", "line 2, function f, parameter a: has no type"),
        ("def f(a: 'Missing'): ...", "function f: its annotations can't be evaluated: NameError"),
        ("from typing import Union\ndef f(a: Union[int, str]): ...", "line 3, function f, parameter a: the union"),
        ("from typing import Literal\ndef f(a: Literal['x', 1]): ...", "not of one plain type"),
        ("from datetime import date\ndef f(a: date): ...", "parameter a: the type date has no JSON Schema"),
        ("from typing import Any\ndef f(a: Any): ...", "has no JSON Schema"),
        ("def f(a: list[dict[int, str]]): ...", r"parameter a\[\]: the keys of a JSON object are strings"),
        ("def f(a: tuple[int, str]): ...", "a tuple of different types"),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass N:\n    next: N\n"
            "def f(a: N): ...",
            r"parameter a\.next: N contains itself",
        ),
        ("def _d(g):\n    def inner(x: int): ...\n    return inner\nf = _d(1)", "function called 'inner'"),
        ("x = 1", "declares no tools"),
        ("TOOLS = 3", "TOOLS is no list"),
        ("TOOLS = [len]", r"TOOLS\[0\]: .* is no function"),
        ("def f(: ...", "tools.py, line 2: importing it raised SyntaxError"),
        ("import math\n\nmath.sqrt(-1)", "tools.py, line 4: importing it raised ValueError"),
        ("import edge_has_no_such_module", "line 2: importing it raised ModuleNotFoundError"),
        ("raise SystemExit(3)", "line 2: importing it raised SystemExit: 3"),
    ],
)
def test_python_that_is_refused_says_where_and_why(tmp_path: Path, source: str, says: str) -> None:
    with pytest.raises(EdgeError, match=says) as caught:
        tools.load(write(tmp_path, f"\n{source}\n"))
    assert "tools.py" in caught.value.message


def test_a_tools_file_prints_to_stderr_and_leaves_no_cache(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tools.load(write(tmp_path, 'print("hello")\ndef f(): "F."\n'))
    assert capfd.readouterr() == ("", "hello\n")
    assert [p.name for p in tmp_path.iterdir()] == ["tools.py"]


@pytest.mark.parametrize("name", ["missing.py", "missing.json", "tools.yaml"])
def test_a_file_that_is_not_there_or_not_ours(tmp_path: Path, name: str) -> None:
    said: list[str] = []
    with pytest.raises(EdgeError, match=name):
        tools.load(tmp_path / name, said.append)
    assert not said  # nothing was imported


def test_a_file_that_runs_is_announced_and_json_is_not(tmp_path: Path) -> None:
    said: list[str] = []
    file = write(tmp_path, 'def f(): "F."\n')
    tools.load(file, said.append)
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    tools.load(tmp_path / "tools.json", said.append)
    assert said == [f"importing {file} (it runs; use JSON for tools that you don't trust)"]


# ---- JSON

SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": "A."}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": SCHEMA}}


@pytest.mark.parametrize(
    "value",
    [
        TOOL,
        [TOOL],
        {"tools": [TOOL]},
        {"functions": [TOOL["function"]]},
        TOOL["function"],
        {"function": TOOL["function"]},
        {"type": "function", **TOOL["function"]},
        {"title": "f", "description": "F.", **SCHEMA},
        [{"functionDeclarations": [TOOL["function"]]}],
        {
            "name": "f",
            "description": "F.",
            "parameters": {
                "type": "OBJECT",
                "properties": {"a": {"type": "STRING", "description": "A."}},
                "required": ["a"],
            },
        },
    ],
)
def test_the_shapes_of_a_declaration(tmp_path: Path, value: Any) -> None:
    for name, text in (
        ("t.json", json.dumps(value, indent=1)),
        ("t.jsonl", json.dumps(value) + "\n\n"),
        ("bom.json", "\ufeff" + json.dumps(value)),
    ):
        toolbox = tools.load(write(tmp_path, text, name))
        assert (toolbox.tools, toolbox.findings) == ([TOOL], [])


def test_json_lines_under_either_name(tmp_path: Path) -> None:
    text = "".join(json.dumps({"name": name}) + "\n" for name in "cab")
    for name in ("t.jsonl", "t.json"):
        assert [t["function"]["name"] for t in tools.load(write(tmp_path, text, name)).tools] == ["c", "a", "b"]


def normal(schema: Any) -> Any:
    """A property's schema in the one form; fails on a finding."""
    tool, findings = tools.normalise({"name": "f", "parameters": {"type": "object", "properties": {"p": schema}}})
    assert findings == []
    return tool["function"]["parameters"]["properties"]["p"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        (
            {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            {"type": "integer", "default": None, "nullable": True},
        ),
        (
            {"oneOf": [{"type": "integer", "description": "in"}], "description": "out"},
            {"type": "integer", "description": "out"},
        ),
        ({"allOf": [{"type": "boolean"}], "description": "D."}, {"type": "boolean", "description": "D."}),
        ({"type": "STRING", "enum": ["a", None]}, {"type": "string", "enum": ["a"], "nullable": True}),
        ({"type": "string", "const": "x"}, {"type": "string", "enum": ["x"]}),
        (
            {"type": "ARRAY", "items": {"type": "OBJECT", "properties": {"q": {"type": "NUMBER"}}, "required": None}},
            {"type": "array", "items": {"type": "object", "properties": {"q": {"type": "number"}}}},
        ),
        (
            {"type": "object", "additionalProperties": {"type": ["number"]}},
            {"type": "object", "additionalProperties": {"type": "number"}},
        ),
    ],
)
def test_a_schema_in_the_one_form(given: Any, expected: Any) -> None:
    before = json.dumps(given)
    assert normal(given) == expected
    assert json.dumps(given) == before


def test_references_are_inlined() -> None:
    tool, findings = tools.normalise(
        {
            "title": "f",
            "type": "object",
            "$schema": "s",
            "properties": {
                "x": {"$ref": "#/$defs/P", "description": "mine"},
                "y": {"anyOf": [{"$ref": "#/$defs/P"}, {"type": "null"}]},
            },
            "$defs": {
                "P": {"type": "object", "description": "theirs", "properties": {"c": {"$ref": "#/$defs/C"}}},
                "C": {"type": "string", "enum": ["red"]},
            },
        }
    )
    inner = {"type": "object", "description": "theirs", "properties": {"c": {"type": "string", "enum": ["red"]}}}
    assert findings == []
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {"x": {**inner, "description": "mine"}, "y": {**inner, "nullable": True}},
    }


def test_types_that_are_not_json_schema_are_mapped_with_a_warning() -> None:
    tool, findings = tools.normalise(
        {
            "name": "f",
            "parameters": {
                "type": "dict",
                "properties": {
                    "a": {"type": "float"},
                    "b": {"type": "tuple", "items": {"type": "str"}},
                    "c": {"enum": ["x"]},
                },
            },
        }
    )
    schema = tool["function"]["parameters"]
    assert schema == {
        "type": "object",
        "properties": {
            "a": {"type": "number"},
            "b": {"type": "array", "items": {"type": "string"}},
            "c": {"type": "string", "enum": ["x"]},
        },
    }
    assert [str(f) for f in findings] == [
        "f: the type 'dict' is not JSON Schema's: object assumed",
        "f.a: the type 'float' is not JSON Schema's: number assumed",
        "f.b: the type 'tuple' is not JSON Schema's: array assumed",
        "f.b[]: the type 'str' is not JSON Schema's: string assumed",
        "f.c: has no type: string assumed",
    ]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "any"}, "parameter p: unknown type 'any'"),
        ({"type": ["string", "integer"]}, "can't be declared together"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "anyOf of several types"),
        ({"allOf": [{}, {}]}, "allOf of several"),
        ({"allOf": "x"}, "allOf of several"),
        ({"description": "no type"}, "parameter p: has no type"),
        (None, "parameter p: its schema is null"),
        (True, "its schema is true"),
        ({"$ref": "#/$defs/R"}, r"parameter p\.r: #/\$defs/R contains itself"),
        ({"$ref": "#"}, "contains itself"),
        ({"$ref": "other.json"}, "leads nowhere"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"type": "integer", "enum": ["1"]}, 'its enum holds "1", but its type is integer'),
        ({"type": "string", "enum": "ab"}, "enum is not a list"),
        ({"type": "string", "required": True}, "its `required` is true"),
        (
            {
                "type": "object",
                "properties": [],
            },
            "its properties are",
        ),
        ({"type": "object", "properties": {"x": {"type": "string"}}, "required": ["y"]}, "`required` names 'y'"),
        ({"type": "array", "items": [{"type": "string"}]}, r"parameter p\[\]: its schema is"),
    ],
)
def test_json_that_is_refused_says_where_and_why(tmp_path: Path, schema: Any, says: str) -> None:
    value = {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {"p": schema},
            "$defs": {"R": {"type": "object", "properties": {"r": {"$ref": "#/$defs/R"}}}},
        },
    }
    with pytest.raises(EdgeError, match=says) as caught:
        tools.load(write(tmp_path, json.dumps(value), "t.json"))
    assert "t.json" in caught.value.message and "'f'" in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1: not JSON"),
        ('{"name": "f"}\n{', "line 2: not JSON"),
        ("[]", "declares no tools"),
        ('[{"type": "function"}]', "not a tool"),
        ('{"name": 3}', "not a tool"),
        ("[3]", "not a tool: 3"),
        ('[{"name": "f"}, {"name": "g"}, {"name": "f"}]', "2 tools are called 'f'"),
        ('{"name": "f", "description": 3}', "its description is not text"),
        ('{"name": "f", "parameters": {"type": "string"}}', "parameters are of type string"),
        ('{"name": "f", "parameters": []}', "not a JSON Schema object"),
        ("[" * 100000, "t.json"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(EdgeError, match=says):
        tools.load(write(tmp_path, text, "t.json"))


KEYS = [
    "name",
    "function",
    "parameters",
    "type",
    "properties",
    "items",
    "required",
    "enum",
    "$ref",
    "anyOf",
    "allOf",
    "title",
    "const",
    "additionalProperties",
    "description",
    "nullable",
    "a",
    "",
]
WORDS = st.sampled_from(["string", "OBJECT", "dict", "array", "null", "#", "#/properties/a", "a", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_whatever_json_comes_it_is_a_tool_or_an_edge_error(value: Any) -> None:
    for declaration in (value, {"name": "f", "parameters": value}):
        try:
            tool, _ = tools.normalise(declaration)
        except EdgeError:
            continue
        again, findings = tools.normalise(tool)
        assert again == tool and findings == []
        tools.validate_call(Call(tool["function"]["name"], {"a": 1}), [tool])


# ---- calls

CLIMATE = tools.normalise(
    {
        "name": "climate",
        "parameters": {
            "type": "object",
            "required": ["room"],
            "properties": {
                "room": {"type": "string", "enum": ["hall", "bath"]},
                "degrees": {"type": "number"},
                "level": {"type": "integer"},
                "on": {"type": "boolean"},
                "note": {"type": "string", "nullable": True},
                "free": {"type": "object"},
                "prices": {"type": "object", "additionalProperties": {"type": "number"}},
                "days": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
            },
        },
    }
)[0]


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (
            {
                "room": "hall",
                "degrees": 20,
                "level": 1,
                "on": True,
                "note": None,
                "free": {"x": 1},
                "prices": {"a": 1.5},
                "days": [{"n": 1}],
            },
            [],
        ),
        ({}, ["missing argument: climate.room is required"]),
        ({"room": "attic"}, ['outside enum: climate.room is "attic", declared one of ["hall", "bath"]']),
        ({"room": "hall", "level": 1.0}, ["wrong type: climate.level is 1.0, declared integer"]),
        ({"room": "hall", "level": True}, ["wrong type: climate.level is true, declared integer"]),
        ({"room": "hall", "degrees": "20"}, ['wrong type: climate.degrees is "20", declared number']),
        ({"room": None}, ["null argument: climate.room is null, and the tool does not allow null"]),
        ({"room": "hall", "colour": 1}, ["undeclared argument: climate.colour"]),
        ({"room": "hall", "prices": {"a": "b"}}, ['wrong type: climate.prices.a is "b", declared number']),
        (
            {"room": "hall", "days": [{"n": 1}, {"n": "x", "m": 2}]},
            ['wrong type: climate.days[1].n is "x", declared integer', "undeclared argument: climate.days[1].m"],
        ),
    ],
)
def test_a_call_is_checked_against_its_tool(arguments: dict[str, Any], problems: list[str]) -> None:
    assert tools.validate_call(Call("climate", arguments), [CLIMATE]) == problems


def test_a_call_to_another_tool() -> None:
    assert tools.validate_call(Call("climat", {}), [CLIMATE]) == ["undeclared tool: climat (did you mean climate?)"]
    assert tools.validate_call(Call("x", {}), []) == ["undeclared tool: x"]
    nothing = tools.normalise({"name": "now"})[0]
    assert tools.validate_call(Call("now", {}), [nothing]) == []
    assert tools.validate_call(Call("now", {"a": 1}), [nothing]) == ["undeclared argument: now.a"]


# ---- real declarations


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not beside the checkout")
def test_normalising_real_declarations_changes_no_prompt() -> None:
    dialect = dialects.get("functiongemma")
    compared = 0
    with (SHARED / "render_cases.jsonl").open(encoding="utf-8") as lines:
        for case in map(json.loads, lines):
            try:
                read = [tools.normalise(tool) for tool in case["tools"] or []]
            except EdgeError:
                continue  # a type that no schema knows: refused by name
            if not any(findings for _, findings in read):
                text = dialect.render(case["messages"], [tool for tool, _ in read], case["add_generation_prompt"])
                assert text == case["expected_text"]
                compared += 1
    assert compared >= 30
