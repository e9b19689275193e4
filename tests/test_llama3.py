"""The Llama 3.2 dialect: the prompt, what is refused, and reading JSON calls that stand between no tags."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.calls import Call
from edge.dialects import llama3
from edge.errors import EdgeError

TOOL = {"type": "function", "function": {"name": "f", "description": "É.", "parameters": {"type": "object"}}}
TAG = "<|python_tag|>"
SYSTEM = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
ASSISTANT = "<|start_header_id|>assistant<|end_header_id|>\n\n"


def template():
    sandbox = pytest.importorskip("jinja2.sandbox")
    env = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    # as transformers replaces it
    env.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return env.from_string(llama3.CHAT_TEMPLATE)


def by_template(messages, tools, add_generation_prompt):
    return template().render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)


def call(name="f", **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def written(name="f", **arguments):
    return json.dumps({"name": name, "parameters": arguments})


def user(text="hi"):
    return {"role": "user", "content": text}


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_prompt_with_a_tool():
    """As the published template writes it, to the letter, its missing space included."""
    listed = (
        '{\n    "type": "function",\n    "function": {\n        "name": "f",\n        "description": "É.",\n'
        '        "parameters": {\n            "type": "object"\n        }\n    }\n}\n\n'
    )
    assert llama3.render([{"role": "system", "content": " Be.\n"}, user(" hi ")], [TOOL]) == (
        f"{SYSTEM}Environment: ipython\n{DATES}Be.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "Given the following functions, please respond with a JSON for a function call with its proper arguments that "
        'best answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of '
        f"argument name and its value}}.Do not use variables.\n\n{listed}hi<|eot_id|>{ASSISTANT}"
    )
    assert llama3.render([user()], [TOOL["function"]]) == llama3.render([user()], [TOOL])


def test_prompt_without_tools():
    prompt = f"{SYSTEM}{DATES}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
    assert llama3.render([user()], [], False) == prompt and llama3.render([user()], []) == prompt + ASSISTANT


def test_calls_and_responses():
    messages = [
        user(),
        {"role": "assistant", "content": "", "tool_calls": [call(a=1), call("g")]},
        {"role": "tool", "content": "x"},
        {"role": "tool", "content": {"y": 1.0}},
        {"role": "assistant", "content": "d "},
        user("more"),
    ]
    prompt = llama3.render(messages, [], False).partition("hi<|eot_id|>")[2]
    ipython = "<|start_header_id|>ipython<|end_header_id|>\n\n"
    assert prompt == (
        f'{ASSISTANT}{{"name": "f", "parameters": {{"a": 1}}}}; {{"name": "g", "parameters": {{}}}}<|eot_id|>'
        f'{ipython}"x"<|eot_id|>{ipython}{{"y": 1.0}}<|eot_id|>{ASSISTANT}d<|eot_id|>'
        "<|start_header_id|>user<|end_header_id|>\n\nmore<|eot_id|>"
    )
    for last in range(1, len(messages) + 1):
        for add in (True, False):
            assert by_template(messages[:last], [TOOL], add) == llama3.render(messages[:last], [TOOL], add)
    assert llama3.render(messages[:1], []) + llama3.completion(messages[1]) == llama3.render(messages[:2], [], False)


@pytest.mark.parametrize(
    ("tools", "where"),
    [
        ([TOOL, TOOL], "f: declared"),
        ([{}], "None"),
        ([{"name": "f", "parameters": {"properties": {"p": {"description": "<|eot_id|>"}}}}], r"f\.p: .*eot_id"),
        ([{"name": "f", "parameters": math.nan}], "f: not JSON"),
    ],
)
def test_tools_that_could_not_be_written_are_refused(tools, where):
    with pytest.raises(EdgeError, match=where):
        llama3.render([user()], tools)


@pytest.mark.parametrize("value", [math.nan, {1: 2}, (1,), b"x", "<|eot_id|>", TAG, [[]] * 2 + [(1,)]], ids=str)
def test_calls_that_could_not_be_read_back_are_refused(value):
    with pytest.raises(EdgeError, match="call f"):
        llama3.render_calls([Call("f", {"a": value})])


def test_values_nested_too_deeply_are_refused():
    value: list = []
    for _ in range(70):
        value = [value]
    with pytest.raises(EdgeError, match=r"call f: .*nested deeper"):
        llama3.render_calls([Call("f", {"a": value})])


@pytest.mark.parametrize(
    "message",
    [
        "x",
        {"role": "ghost"},
        {"role": "user", "content": 5},
        user("<|eot_id|>"),
        {"role": "assistant", "tool_calls": [{}]},
        {"role": "assistant", "tool_calls": 5},
        {"role": "assistant", "content": "Sure.", "tool_calls": [call()]},
        {"role": "tool", "content": TAG},
    ],
)
def test_messages_that_could_not_be_written_are_refused(message):
    with pytest.raises(EdgeError, match="message 2"):
        llama3.render([user(), message], [])


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "hi"}, user()]])
def test_tools_need_a_first_user_turn(messages):
    assert llama3.render(messages, [])
    with pytest.raises(EdgeError, match="message 1: the tools stand in the first user turn"):
        llama3.render(messages, [TOOL])


text = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda t: "<" not in t)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(Call, text.filter(bool), st.dictionaries(text, values, max_size=3))
message = st.one_of(
    st.builds(lambda r, t: {"role": r, "content": t}, st.sampled_from(["user", "system", "model", "developer"]), text),
    st.builds(
        lambda c, t: {"role": "assistant", "content": t, "tool_calls": [x.to_json() for x in c]},
        st.lists(calls, min_size=1, max_size=2),
        st.none() | st.just(""),
    ),
    st.builds(lambda c: {"role": "tool", "content": c}, text | st.dictionaries(text, values, max_size=2)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(message, max_size=5), st.booleans(), st.booleans())
def test_template_equals_render(messages, add, system):
    messages = [*([{"role": "developer", "content": "s"}] if system else []), user("u"), *messages]
    tools = [TOOL["function"], {"function": {"name": "g"}}]
    assert by_template(messages, tools, add) == llama3.render(messages, tools, add)
    assert by_template(messages[1:], [], add) == llama3.render(messages[1:], [], add)


@settings(max_examples=100, deadline=None)
@given(st.lists(calls, max_size=3))
def test_what_is_rendered_is_read_back(calls):
    parsed = llama3.parse(
        llama3.completion({"role": "assistant", "tool_calls": [c.to_json() for c in calls]}) if calls else ""
    )
    assert parsed.calls == calls and not parsed.text and not parsed.errors and not parsed.notes


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found", "rest", "notes"),
    [
        (f"{TAG}{written(a=1)}<|eom_id|>", [Call("f", {"a": 1})], "", 0),
        (f"{TAG} {written()}; {TAG}{written('g')}", [Call("f", {}), Call("g", {})], "", 0),
        (f"{written()}\n{written('g')}", [Call("f", {}), Call("g", {})], "", 0),
        (f"Sure: {written()} Done.<|eot_id|>\n", [Call("f", {})], "Sure:  Done.", 0),
        (f"[{written()}, {written('g')}]", [Call("f", {}), Call("g", {})], "[]", 0),
        ('{"type": "function", "name": "f", "parameters": {}}', [Call("f", {})], "", 0),
        ('{"name": "f", "arguments": {"a": null}}', [Call("f", {"a": None})], "", 1),
        ('{ "name" : "f" }', [Call("f", {})], "", 1),
        (written(a={"name": "x", "parameters": {}}), [Call("f", {"a": {"name": "x", "parameters": {}}})], "", 0),
        ('It is {"name": "Bob", "age": 5}.', [], 'It is {"name": "Bob", "age": 5}.', 0),
        ('{"city": "Bonn", "at": ' + written() + "}", [Call("f", {})], '{"city": "Bonn", "at": }', 0),
        ("{} {x} { {", [], "{} {x} { {", 0),
        ('{"na', [], '{"na', 0),
        ("<|eot_id|> <|eot_id|>", [], "", 0),
        (" hi <|eot_id|>", [], " hi", 0),
    ],
)
def test_what_is_a_call_and_what_is_text(answer, found, rest, notes):
    parsed = llama3.parse(answer)
    assert (parsed.calls, parsed.text, parsed.errors) == (found, rest, []) and len(parsed.notes) == notes


@pytest.mark.parametrize(
    "value", ['"', "\\", '\\"', '{"name": "x", "parameters": {}}', "}}", "; ", TAG[:5], "\u2028", "\x01"]
)
def test_braces_and_quotes_inside_a_string_are_text(value):
    parsed = llama3.parse(written(a=value, b=[value, {value: value}]))
    assert parsed.calls == [Call("f", {"a": value, "b": [value, {value: value}]})] and not parsed.errors


@pytest.mark.parametrize(
    "bad",
    [
        '{"name": 1, "parameters": {}}',
        '{"name": "", "parameters": {}}',
        '{"parameters": {}}',
        '{"name": "f", "parameters": []}',
        '{"name": "f", "parameters": "{}"}',
        '{"name": "f", "parameters": {"a": NaN}}',
        '{"name": "f", "parameters": {"a": 1e999}}',
        '{"name": "f", "parameters": {"a": 01}}',
        '{"name": "f", "parameters": {a: 1}}',
        '{"name": f, "parameters": {}}',
        '{"name": "f", "parameters": {"a": [1}}',
        '{"name": "f", "parameters": {"a": "x\ny',
        '{"name": "f; ',  # a forgotten quote: the next call's brace is taken for the string's
        '{"name": "f", "parameters": {"b',
        '{"name": "f", "parameters": {"a": {"name": "x", "parameters": {}} ',  # an argument is no call
        '{"name":"f","parameters":{"a":' + "[" * 70,
    ],
)
def test_an_error_costs_no_other_call(bad):
    good = written("g")
    parsed = llama3.parse(f"{good}{bad}{good}")
    assert parsed.calls == [Call("g", {})] * 2 and len(parsed.errors) == 1, parsed
    assert not any(c in parsed.text for c in '"gxf'), parsed.text


def test_end_of_text():
    for end in ("", "<|eot_id|>", "\n<|end_of_text|>\n", ";"):
        assert llama3.parse(written() + end).calls == [Call("f", {})]
    for cut in ('{"name": "f", "param', '{"name"', written()[:-1], f"{written()[:-1]}<|eot_id|>"):
        parsed = llama3.parse(cut)
        assert not parsed.calls and len(parsed.errors) == 1, parsed
    assert "cut off" in llama3.parse(written()[:-1]).errors[0]


def test_code_behind_the_tag_is_an_error():
    parsed = llama3.parse(f'{TAG}brave_search.call(query="x")<|eom_id|>')
    assert not parsed.calls and parsed.errors == [f"what follows {TAG} is no JSON call"]


scraps = st.sampled_from(
    ['"', "\\", "{", "}", "[", "]", ",", ":", " ", "\n", "1", "tru", "name", '"name"', '{"name": "f", "parameters": {',
     written(a="{"), "<|eot_id|>", TAG, "<", "\ud800", ";"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(scraps, max_size=20).map("".join))
def test_any_text_in_any_chunks_gives_the_same(text):
    whole, stream, early = llama3.parse(text), llama3.stream(), []
    for character in text:
        early += stream.feed(character)
    assert stream.close() == whole and early == whole.calls[: len(early)]


def test_a_call_is_told_when_its_last_brace_comes():
    stream, text = llama3.stream(), written(a=-12.5, b=True, c=[None, "{}"])
    assert not any(stream.feed(character) for character in text[:-1])
    assert stream.feed(text[-1]) == [Call("f", {"a": -12.5, "b": True, "c": [None, "{}"]})]


def test_where_a_forgotten_quote_is_made_up_for():
    """At a brace that ends a string, or a line of it; not where anything stands behind the quote."""
    parsed = llama3.parse('{"name": "f; {\n "name": "g", "parameters": {}}')
    assert parsed.calls == [Call("g", {})] and len(parsed.errors) == 1 and not parsed.text
    parsed = llama3.parse('{"name": "x{" y')
    assert (parsed.calls, parsed.text, len(parsed.errors)) == ([], "y", 1)


OPENING = '{"name":'


@pytest.mark.parametrize(
    "text",
    [
        OPENING * 5000, (OPENING + '"') * 5000, (OPENING + "[" + (OPENING + '""') * 50) * 40, OPENING + "[" * 50_000,
        "{" * 50_000, "\\" * 50_000, "<|eot_id|>" * 5000, ('{"name": "' + "{ " * 20) * 500, '{ "' * 20_000,
        (OPENING + '{"a":' * 60) * 500, OPENING + '"' + '{  "' * 10_000, TAG * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [None, 7])
def test_work_is_linear(text, size):
    stream = llama3.stream()
    for at in range(0, len(text), size or len(text)):
        stream.feed(text[at : at + (size or len(text))])
    stream.close()
    assert stream.work <= 3 * len(text)
