"""The FunctionGemma dialect: the exact prompt, what is refused, and a parser that nothing can upset.

Real prompts and outputs (../shared/data, not part of the project) are checked too where they are at hand.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.calls import Call
from edge.dialects import functiongemma as fg
from edge.errors import EdgeError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
B, E, X = "<start_function_call>", "<end_function_call>", "<escape>"
EXAMPLES = settings(max_examples=60, deadline=None)


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name}: no folder of real cases beside the checkout")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def template():
    sandbox = pytest.importorskip("jinja2.sandbox")
    env = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return env.from_string(fg.CHAT_TEMPLATE)


def by_template(compiled, messages, tools, add_generation_prompt=True):
    return compiled.render(
        messages=messages, tools=tools, add_generation_prompt=add_generation_prompt, bos_token="<bos>"
    )


def tool(properties=None, name="light", **parameters):
    schema = {"type": "object", "properties": properties or {}, **parameters}
    return {"type": "function", "function": {"name": name, "description": "A light.", "parameters": schema}}


def user(text="hi"):
    return {"role": "user", "content": text}


def declared(properties=None, **parameters):
    """The properties part of the declaration, as written."""
    prompt = fg.render([], [tool(properties, **parameters)], False)
    return prompt.partition("parameters:{")[2].partition("}}<end_function_declaration>")[0]


# Rendering


def test_prompt_of_a_tool():
    properties = {
        "room": {"type": "string", "description": "Which."},
        "Level": {"type": "integer", "description": "How."},
    }
    prompt = fg.render(
        [{"role": "developer", "content": " Call! \n"}, user(" on \n")], [tool(properties, required=["room"])]
    )
    assert prompt == (
        "<bos><start_of_turn>developer\nCall!<start_function_declaration>declaration:light{description:<escape>A light."
        "<escape>,parameters:{properties:{Level:{description:<escape>How.<escape>,type:<escape>INTEGER<escape>},"
        "room:{description:<escape>Which.<escape>,type:<escape>STRING<escape>}},required:[<escape>room<escape>],"
        "type:<escape>OBJECT<escape>}}<end_function_declaration><end_of_turn>\n"
        "<start_of_turn>user\non<end_of_turn>\n<start_of_turn>model\n"
    )


def test_forms_of_a_tool_render_alike():
    whole = tool({"a": {"type": "STRING", "description": "A."}})
    bare = whole["function"]
    assert fg.render([], [whole]) == fg.render([], [{"function": bare}]) == fg.render([], [bare])


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"type": "string", "enum": ["a", "b"]}, f",enum:[{X}a{X},{X}b{X}],type:{X}STRING{X}"),
        ({"type": "integer", "enum": [1, 2]}, f",type:{X}INTEGER{X}"),
        ({"type": "object"}, f",properties:{{}},type:{X}OBJECT{X}"),
        (
            {"type": "object", "properties": {"b": {"type": "number", "description": "B"}}, "required": ["b"]},
            f",properties:{{b:{{description:{X}B{X},type:{X}NUMBER{X}}}}},required:[{X}b{X}],type:{X}OBJECT{X}",
        ),
        ({"type": "array"}, f",type:{X}ARRAY{X}"),
        ({"type": "array", "items": {"type": "string"}}, f",items:{{type:{X}STRING{X}}},type:{X}ARRAY{X}"),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "maxItems": 2}},
            f",items:{{items:{{{X}type{X}:{X}string{X}}},maxItems:2,type:{X}ARRAY{X}}},type:{X}ARRAY{X}",
        ),
        (
            {"type": "array", "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "boolean"}}}},
            f",items:{{properties:{{k:{{description:{X}{X},type:{X}BOOLEAN{X}}}}},required:[{X}k{X}],"
            f"type:{X}OBJECT{X}}},type:{X}ARRAY{X}",
        ),
    ],
)
def test_property(schema, written):
    expected = f"properties:{{p:{{description:{X}D{X}{written}}}}},type:{X}OBJECT{X}"
    assert declared({"p": {"description": "D", **schema}}) == expected


def test_tool_without_parameters():
    prompt = fg.render([], [{"name": "f", "description": "F."}], False)
    assert f"declaration:f{{description:{X}F.{X}}}<end_function_declaration>" in prompt
    assert declared() == f"type:{X}OBJECT{X}"


def test_conversation_goes_on_in_the_same_turn_after_a_tool():
    called = {"role": "assistant", "content": " ok ", "tool_calls": [{"name": "f", "arguments": '{"b": [1, null]}'}]}
    answered = {"role": "tool", "name": "f", "content": {"b": 1, "A": "x y"}}
    body = fg.render([user(), called, answered], [])[len("<bos><start_of_turn>user\nhi<end_of_turn>\n") :]
    assert body == (
        "<start_of_turn>model\nok<start_function_call>call:f{b:[1,None]}<end_function_call>"
        "<start_function_response>response:f{A:<escape>x y<escape>,b:1}<end_function_response>"
    )
    said = fg.render([user(), called, answered, {"role": "model", "content": " done "}], [])
    assert said.endswith("<end_function_response>done<end_of_turn>\n<start_of_turn>model\n")


@pytest.mark.parametrize(
    "content", ["x", {"value": "x"}, {"name": "f", "response": "x"}, [{"name": "f", "response": {"value": "x"}}]]
)
def test_forms_of_a_response(content):
    prompt = fg.render([{"role": "tool", "name": "f", "content": content}], [])
    assert prompt == f"<bos><start_function_response>response:f{{value:{X}x{X}}}<end_function_response>"


def test_completion_is_what_rendering_adds():
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    text = {"role": "assistant", "content": " no "}
    assert fg.render([user()], []) + fg.completion(call) == fg.render([user(), call], [], False)
    assert fg.render([user()], []) + fg.completion(text) + "\n" == fg.render([user(), text], [], False)


# What is refused, and what only warned about


def findings(properties=None, level="error", **parameters):
    return [(f.property, f.message) for f in fg.check([tool(properties, **parameters)]) if f.level == level]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"description": "D"}, "no type"),
        ({"description": "D", "type": ["string", "null"]}, "union"),
        ({"description": "a <escape> b", "type": "string"}, "<escape>"),
        ({"description": "D", "type": "string", "enum": ["<end_of_turn>"]}, "<end_of_turn>"),
        ({"description": "D", "type": "string", "enum": "on"}, "not a list"),
        ({"description": 5, "type": "string"}, "not text"),
        ({"description": "D", "type": "array", "items": {"enum": [1]}}, "no type"),
        (True, "not a JSON Schema object"),
    ],
)
def test_refused_naming_tool_and_property(schema, message):
    outer = {"outer": {"type": "object", "description": "O", "properties": {"inner": schema}}}
    ((path, text),) = findings(outer)
    assert path.startswith("outer.inner") and message in text
    with pytest.raises(EdgeError, match=r"light\.outer\.inner"):
        fg.render([user()], [tool(outer)])


@pytest.mark.parametrize("name", ["", "a b", "1a", "a{", "온도"])
def test_names_outside_the_grammar_are_refused(name):
    assert findings(name=name)
    assert findings({name: {"type": "string", "description": "D"}})


@pytest.mark.parametrize(
    "tools", [[{}], [None], [{"function": 1}], [{"name": "f", "parameters": ["x"]}], [tool(), tool()]]
)
def test_unusable_tools_are_refused(tools):
    with pytest.raises(EdgeError):
        fg.render([user()], tools)


def test_dropped_things_are_warned_about():
    dropped = {
        "type": {"type": "string", "description": "D"},
        "n": {"type": "integer", "description": "N", "enum": [1]},
    }
    assert [path for path, text in findings(dropped, "warning") if "DROPPED" in text] == ["type", "n"]
    assert declared(dropped) == (f"properties:{{n:{{description:{X}N{X},type:{X}INTEGER{X}}}}},type:{X}OBJECT{X}")
    assert findings({"a": {"type": "string", "description": None}, "b": {"type": "object"}}, "warning") == [
        ("a", "no description: the model sees an empty one"),
        ("b", "no description: the model sees an empty one"),
        ("b", "an OBJECT without properties: the model can't know what goes in"),
    ]


NO_PLACE = "no place in the format"
BOUNDS = {"minimum": 0, "maximum": 9, "default": 5}


@pytest.mark.parametrize(
    ("schema", "dropped"),
    [
        ({"type": "integer", **BOUNDS}, [("p", f"DROPPED: minimum, maximum, default have {NO_PLACE}")]),
        ({"type": "string", "nullable": True, "anyOf": []}, [("p", f"DROPPED: nullable, anyOf have {NO_PLACE}")]),
        ({"type": "string", "format": "date"}, [("p", f"DROPPED: format has {NO_PLACE}")]),
        ({"type": "string", "required": True}, [("p", "DROPPED: required on a STRING; only OBJECT has it")]),
        ({"type": "array"}, [("p", "the type of its items is not given: the model can't know what goes in")]),
        (
            {"type": "array", "items": {"type": "array", "pattern": "x", "minItems": 1}},
            [("p[]", "the type of its items is not given: the model can't know what goes in")],
        ),
        (
            {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "properties": {"q": {"type": "number", "description": "Q", "multipleOf": 2}},
            },
            [("p", f"DROPPED: additionalProperties has {NO_PLACE}"), ("p.q", f"DROPPED: multipleOf has {NO_PLACE}")],
        ),
        (
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "minProperties": 1,
                    "properties": {"q": {"type": "string", "description": "Q", "maxLength": 2}},
                },
            },
            [("p[].q", f"DROPPED: maxLength has {NO_PLACE}")],
        ),
        ({"type": "string", "title": "P", "$comment": "c", "default": None, "enum": ["a"]}, []),
    ],
)
def test_keywords_that_are_dropped_are_named(schema, dropped):
    assert findings({"p": {"description": "D", **schema}}, "warning") == dropped


def test_keywords_of_the_parameters_that_are_dropped_are_named():
    silent = {"additionalProperties": False, "title": "T", "$schema": "s", "description": "A light."}
    assert findings(None, "warning", **silent) == []
    lost = {"description": "Another.", "minProperties": 1, "anyOf": []}
    assert findings(None, "warning", **lost) == [("", f"DROPPED: description, minProperties, anyOf have {NO_PLACE}")]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        10**700,
        {1: 2},
        {"a b": 1},
        {"": 1},
        (1,),
        b"x",
        "a<escape>",
        [["<start_of_turn>"]],
        {"a:": 0},
    ],
    ids=str,
)
def test_values_that_could_not_be_read_back_are_refused(value):
    with pytest.raises(EdgeError, match="call f, argument 'x'"):
        fg.render_calls([Call("f", {"x": value})])


def test_bottomless_values_are_refused():
    bottomless: list = []
    bottomless += [bottomless, bottomless]
    with pytest.raises(EdgeError, match="deeper"):
        fg.render_calls([Call("f", {"x": bottomless})])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": "a<end_of_turn>b"},
        {"role": "ghost", "content": "x"},
        "hello",
        {"role": "assistant", "content": f"{B}call:f{{}}{E}"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f g", "arguments": {}}}]},
        {"role": "assistant", "tool_calls": [{"function": {}}]},
        {"role": "tool", "content": "x"},
        {"role": "tool", "name": "f", "content": 5},
        {"role": "tool", "name": "f", "content": {"x": "<escape>"}},
    ],
)
def test_messages_that_could_not_be_written_are_refused(message):
    with pytest.raises(EdgeError, match="message 2"):
        fg.render([user(), message], [])


# The template


def test_template_equals_render_on_a_conversation():
    properties = {"a": {"type": "array", "description": None, "items": {"type": "string", "enum": ["x"], "k": None}}}
    messages = [
        {"role": "system", "content": "S"},
        user(),
        {"role": "assistant", "content": "t", "tool_calls": [{"name": "light", "arguments": {"a": [1.5, True, None]}}]},
        {"role": "tool", "content": [{"name": "light", "response": "on"}, {"name": "light", "response": {"n": {}}}]},
        {"role": "assistant", "content": "done"},
        user("more"),
    ]
    for last in range(1, len(messages) + 1):
        for prompt in (True, False):
            rendered = fg.render(messages[:last], [tool(properties)], prompt)
            assert by_template(template(), messages[:last], [tool(properties)], prompt) == rendered


def test_template_needs_no_whitespace_options_and_no_training_tags():
    environment = pytest.importorskip("jinja2").Environment()
    plain = environment.from_string(fg.CHAT_TEMPLATE)
    assert by_template(plain, [user()], [tool()]) == fg.render([user()], [tool()])
    assert "generation" not in fg.CHAT_TEMPLATE.replace("add_generation_prompt", "")


def test_template_is_found_inside_a_zip(tmp_path):
    root = Path(fg.__file__).parents[1]
    with zipfile.ZipFile(tmp_path / "edge.zip", "w") as packed:
        for path in [*root.glob("*.py"), *root.glob("dialects/*")]:
            if path.is_file():
                packed.write(path, path.relative_to(root.parent))
    code = "import sys; sys.path[:0] = sys.argv[1:]; from edge import dialects; d = dialects.get('functiongemma'); "
    code += "print(len(d.CHAT_TEMPLATE), d.__file__, dialects.names())"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "edge.zip")], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith(f"{len(fg.CHAT_TEMPLATE)} {tmp_path}") and "hermes" in run.stdout


# Generated tools, values and messages

text = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda t: "<" not in t)
name = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,5}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(name, inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(Call, name, st.dictionaries(name, values, max_size=3))
kinds = st.sampled_from(["string", "STRING", "number", "Integer", "boolean", "array", "object"])


def schemas(inner):
    return st.fixed_dictionaries(
        {"type": kinds},
        optional={
            "description": st.none() | text,
            "enum": st.lists(text | st.integers(), max_size=2),
            "properties": st.dictionaries(
                name | st.sampled_from(["type", "nullable", "items", "get"]), inner, max_size=2
            ),
            "required": st.lists(name, max_size=2),
            "items": st.fixed_dictionaries(
                {"type": kinds}, optional={"enum": st.lists(text), "minItems": st.none() | values}
            ),
        },
    )


schema = st.recursive(schemas(st.nothing()) | st.fixed_dictionaries({"type": kinds}), schemas, max_leaves=4)
tools = st.lists(
    st.builds(
        lambda n, d, p, r: {"name": n, "description": d, "parameters": {"type": "object", "properties": p, **r}},
        name,
        text,
        st.dictionaries(name, schema, max_size=3),
        st.fixed_dictionaries({}, optional={"required": st.lists(name, max_size=2)}),
    ),
    max_size=2,
    unique_by=lambda tool: tool["name"],
)
message = st.one_of(
    st.builds(lambda r, t: {"role": r, "content": t}, st.sampled_from(["user", "system", "assistant", "model"]), text),
    st.builds(
        lambda c, t: {"role": "assistant", "content": t, "tool_calls": [{"function": x.to_json()} for x in c]},
        st.lists(calls, min_size=1, max_size=2),
        st.none() | text,
    ),
    st.builds(
        lambda n, c: {"role": "tool", "name": n, "content": c}, name, text | st.dictionaries(text, values, max_size=2)
    ),
)


@EXAMPLES
@given(st.lists(message, max_size=4), tools, st.booleans())
def test_template_equals_render(messages, tools, add_generation_prompt):
    rendered = fg.render(messages, tools, add_generation_prompt)
    assert by_template(template(), messages, tools, add_generation_prompt) == rendered


@EXAMPLES
@given(st.lists(calls, max_size=3), text)
def test_what_is_rendered_is_read_back(calls, said):
    message = {"role": "assistant", "content": said, "tool_calls": [c.to_json() for c in calls]}
    parsed = fg.parse(fg.completion(message))
    assert (parsed.calls, parsed.text, parsed.errors, parsed.notes) == (calls, said.strip(), [], [])
    assert [[type(v) for v in c.arguments.values()] for c in parsed.calls] == [
        [type(v) for v in c.arguments.values()] for c in map(sort_arguments, calls)
    ]


def sort_arguments(call):
    return Call(call.name, dict(sorted(call.arguments.items(), key=lambda pair: pair[0].lower())))


# Parsing


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("", {}),
        (" a : 1 ,\n b:-0.5e3 ", {"a": 1, "b": -500.0}),
        ("a:true,b:false,c:null,d:None", {"a": True, "b": False, "c": None, "d": None}),
        (f"a:{X}42{X},b:{X}true{X},c:{X}{X}", {"a": "42", "b": "true", "c": ""}),
        (f"a:{X}}}]],\\n'\"{B}{E}{X}", {"a": f"}}]],\\n'\"{B}{E}"}),
        (f"a:[],b:{{}},c:[[1,{X}x{X}],{{k.k-1:1}}]", {"a": [], "b": {}, "c": [[1, "x"], {"k.k-1": 1}]}),
        (f"{X}a b{X}:1", {"a b": 1}),
        ("a:" + "9" * 30, {"a": int("9" * 30)}),
    ],
)
def test_arguments(body, arguments):
    parsed = fg.parse(f"{B}call:f{{{body}}}{E}")
    assert (parsed.calls, parsed.text, parsed.errors, parsed.notes) == ([Call("f", arguments)], "", [], [])
    assert list(map(type, parsed.calls[0].arguments.values())) == list(map(type, arguments.values()))


@pytest.mark.parametrize(
    "word",
    [
        "007",
        "+5",
        "0x1f",
        "NaN",
        "Infinity",
        "-",
        "1.",
        ".5",
        "1e",
        '"hello"',
        "yes",
        "a b",
        "True",
        "1e999",
        "9" * 5000,
        "٣",
        "12:30",
    ],
)
def test_another_bare_word_is_a_string_and_a_note(word):
    parsed = fg.parse(f"{B}call:f{{a:{word}}}{E}")
    assert parsed.calls == [Call("f", {"a": word})] and len(parsed.notes) == 1 and not parsed.errors


def test_the_first_of_two_values_counts():
    parsed = fg.parse(f"{B}call:f{{a:1,{X}a{X}:2}}{E}")
    assert parsed.calls == [Call("f", {"a": 1})] and "twice" in parsed.notes[0]


@pytest.mark.parametrize(
    "bad",
    [
        "call:f",
        "call:{a:1}",
        "f{a:1}",
        "call:f[1]",
        "call:1f{}",
        "call:f g{}",
        "call:f{a:1,}",
        "call:f{,a:1}",
        "call:f{a}",
        "call:f{a:}",
        "call:f{a:[1,]}",
        "call:f{1a:1}",
        "call:f{a:1}}",
        "call:f{a:1}x",
        "call:f{a:1",
        "call:f{a:[1}",
        f"call:f{{a:{X}x{X} b:1}}",
        f"call:f{{a:x{X}y{X}}}",
        f"call:f{{a:{X}x}}",
        "call:f{a:" + "[" * 99 + "]" * 99 + "}",
    ],
)
def test_an_error_costs_no_other_call(bad):
    good = f"{B}call:g{{a:{X}y{X}}}{E}"
    parsed = fg.parse(f"t1{good}t2{B}{bad}{E}t3{good}t4")
    assert parsed.calls == [Call("g", {"a": "y"})] * 2
    assert parsed.text == "t1t2t3t4" and len(parsed.errors) == 1


def test_end_of_text():
    call = [Call("f", {"a": 1})]
    for end in ("", "<end_of_turn>", "\n<start_function_response> <eos>\n", E, f"{E}\n<end_of_turn>\n"):
        parsed = fg.parse(f"{B}call:f{{a:1}}{end}")
        assert (parsed.calls, parsed.text, parsed.errors) == (call, "", [])
    for cut in ("", "call:f", "call:f{", "call:f{a:", "call:f{a:1", f"call:f{{a:{X}x", "call:f{a:1<end_of_turn>"):
        parsed = fg.parse(f"hm {B}{cut}")
        assert (parsed.calls, parsed.text, len(parsed.errors)) == ([], "hm ", 1)


def test_text_is_kept_verbatim_but_for_the_stop_tokens_at_the_end():
    assert fg.parse(" a\n").text == " a\n"
    assert fg.parse(" a<eos>b \n<end_of_turn>\n<eos>").text == " a<eos>b"
    assert fg.parse(f"{B}{E} {E}").text == f" {E}"


@pytest.mark.parametrize(
    ("before", "behind", "kept"),
    [
        ("Sure. ", "<end_of_turn>", ""),
        ("a<end_of_turn>", "", ""),
        ("a\n<eos> \n", " \n<eos>\n", ""),
        ("", " b \n<eos>", " b"),
        (f"a{B}call:f{{}}{E} <eos>\n", "<eos>", ""),
        (f"a {B}call:f{E}\n", " ", " "),
    ],
)
def test_only_stop_tokens_behind_the_last_call_are_not_text(before, behind, kept):
    good = f"{B}call:g{{}}{E}"
    assert fg.parse(before + good + behind).text == re.sub(f"{B}.*?{E}", "", before) + kept


def test_an_end_tag_lost_between_calls_is_noted():
    parsed = fg.parse(f"{B}call:f{{}}{B}call:g{{}}{E}")
    assert [c.name for c in parsed.calls] == ["f", "g"] and len(parsed.notes) == 1 and not parsed.errors


scraps = st.sampled_from(
    [
        B,
        E,
        X,
        "call:",
        "call:f{",
        "f",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "1",
        "a",
        " ",
        "\n",
        "\\",
        "<",
        "<esc",
        "ape>",
        "\ud800",
        "<end_of_turn>",
        "<eos>",
        f"{B}call:f{{a:{X}x{X}}}{E}",
    ]
)
garbage = st.lists(scraps | st.text(max_size=3), max_size=25).map("".join)


@settings(max_examples=200, deadline=None)
@given(garbage, st.data())
def test_any_text_in_any_chunks_gives_the_same(text, data):
    whole = fg.parse(text)
    json.dumps(whole.to_json(), allow_nan=False)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    for edges in ([0, *cuts, len(text)], range(len(text) + 1)):
        stream, early = fg.stream(), []
        for start, end in zip(edges, edges[1:]):
            early += stream.feed(text[start:end])
        closed = stream.close()
        assert closed == whole and early == whole.calls[: len(early)]


def test_a_call_is_there_as_soon_as_it_is_complete():
    stream, text = fg.stream(), f"x{B}call:f{{a:{X}{E}{X}}}{E}"
    assert [stream.feed(c) for c in text[:-1]] == [[]] * (len(text) - 1)
    assert stream.feed(text[-1]) == [Call("f", {"a": E})]


BOMBS = {
    "begin tags": B * 5000,
    "tag pairs": (B + E) * 3000,
    "unclosed strings": f"{B}call:f{{a:{X}" * 3000,
    "two strings each": f"{B}call:f{{a:{X},b:{X}" * 3000,
    "three strings each": f"{B}call:f{{a:{X},b:{X},c:{X}" * 2000,
    "one open string, then calls": f"{B}call:f{{a:{X}" + f"{B}call:f{{a:{X}x{X}}}{E}" * 2000,
    "mixed parity": (f"{B}call:f{{a:{X}" + f"{B}call:f{{a:{X}x{X}}}{E}" * 50) * 40,
    "end tags in an open string": f"{B}call:f{{a:{X}" + E * 5000,
    "lists": f"{B}call:f{{a:" + "[" * 100_000,
    "objects": f"{B}call:f" + "{a:" * 50_000,
    "braces in calls": f"{B}call:f{{a:{{" * 5000,
    "stop tokens": "<eos> " * 20_000,
    "less-than signs": "<" * 100_000,
    "spaces": f"{B}call:f{{" + " " * 100_000,
    "digits": f"{B}call:f{{a:" + "1" * 100_000 + "}" + E,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("size", [1, 10**9], ids=["a character at a time", "at once"])
def test_work_is_linear(text, size):
    stream = fg.stream()
    for start in range(0, len(text), size):
        stream.feed(text[start : start + size])
    stream.close()
    assert stream.work <= 6 * len(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([B, B + "call:f{a:", E, X, X, ",b:", "}"]), min_size=1, max_size=30))
def test_work_is_linear_whatever_the_order_of_tags(parts):
    text = "".join(parts) * 10
    stream = fg.stream()
    stream.feed(text)
    stream.close()
    assert stream.work <= 6 * len(text)


# Real cases


def test_real_prompts():
    compiled = template()
    for row in shared("render_cases.jsonl"):
        arguments = row["messages"], row["tools"] or [], row["add_generation_prompt"]
        assert fg.render(*arguments) == row["expected_text"], row["origin"]
        assert by_template(compiled, *arguments) == row["expected_text"], row["origin"]


def test_real_outputs():
    for row in shared("parser_cases.jsonl"):
        parsed = fg.parse(row["input"])
        found = [c.to_json() for c in parsed.calls]
        if row.get("types_not_authoritative"):
            assert [c["name"] for c in found] == [c["name"] for c in row["expected_calls"]]
        elif not row.get("disputed") and not row.get("optional"):
            assert found == row["expected_calls"], row["input"]
            assert parsed.text == row.get("expected_text", parsed.text)
            assert bool(parsed.errors) == bool(row.get("expected_error"))
            for key, kind in row.get("expected_types", {}).items():
                assert type(found[0]["arguments"][key]).__name__ == kind


def test_a_developer_may_explain_the_format_and_nobody_else():
    quoted = "Answer with <start_function_call>call:f{x:<escape>1<escape>}<end_function_call>"
    assert quoted in fg.render([{"role": "developer", "content": quoted}], [])
    for message in ({"role": "user", "content": quoted}, {"role": "developer", "content": "x<end_of_turn>"}):
        with pytest.raises(EdgeError, match="message 1: the text holds the control token"):
            fg.render([message], [])
