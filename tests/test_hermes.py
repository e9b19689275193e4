"""The Hermes dialect (Qwen 2.5 and 3): the prompt, what is refused, and reading JSON calls out of anything."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.calls import Call
from edge.dialects import hermes
from edge.errors import EdgeError

B, E = "<tool_call>", "</tool_call>"
TOOL = {"type": "function", "function": {"name": "f", "description": "É.", "parameters": {"type": "object"}}}


def template():
    sandbox = pytest.importorskip("jinja2.sandbox")
    env = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)  # as transformers replaces it
    return env.from_string(hermes.CHAT_TEMPLATE)


def by_template(messages, tools, add_generation_prompt):
    return template().render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)


def call(name="f", **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def user(text="hi"):
    return {"role": "user", "content": text}


def test_prompt_with_a_tool():
    system, _, rest = hermes.render([{"role": "system", "content": "Be."}, user()], [TOOL]).partition("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\nBe.\n\n# Tools\n\nYou may call")
    listed = '{"type": "function", "function": {"name": "f", "description": "É.", "parameters": {"type": "object"}}}'
    assert f"<tools>\n{listed}\n</tools>" in system
    assert system.endswith('<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>')
    assert rest == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert hermes.render([], [TOOL["function"]]) == hermes.render([], [TOOL])


def test_prompt_without_tools_has_the_default_system_message():
    assert hermes.render([user()], [], False) == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n"
    )


def test_calls_and_responses():
    messages = [
        user(),
        {"role": "assistant", "content": "ok", "tool_calls": [call(a=1), call("g")]},
        {"role": "tool", "content": "x"},
        {"role": "tool", "content": {"y": 1.0}},
        {"role": "assistant", "content": "d"},
    ]
    prompt = hermes.render(messages, [], False).partition("hi<|im_end|>\n")[2]
    assert prompt == (
        '<|im_start|>assistant\nok\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nx\n</tool_response>\n<tool_response>\n"
        '{"y": 1.0}\n</tool_response><|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n'
    )
    for last in range(len(messages) + 1):
        for add in (True, False):
            rendered = hermes.render(messages[:last], [TOOL], add)
            assert by_template(messages[:last], [TOOL], add) == rendered
    assert hermes.render(messages[:1], []) + hermes.completion(messages[1]) + "\n" == hermes.render(
        messages[:2], [], False
    )


@pytest.mark.parametrize(
    ("tools", "where"),
    [
        ([TOOL, TOOL], "f: declared"),
        ([{}], "None"),
        ([{"name": "f", "parameters": {"properties": {"p": {"description": "<|im_end|>"}}}}], r"f\.p: .*im_end"),
        ([{"name": "f", "parameters": math.nan}], "f: not JSON"),
    ],
)
def test_tools_that_could_not_be_written_are_refused(tools, where):
    with pytest.raises(EdgeError, match=where):
        hermes.render([user()], tools)


@pytest.mark.parametrize("value", [math.nan, {1: 2}, (1,), b"x", "<|im_end|>", "<tool_call>"], ids=str)
def test_calls_that_could_not_be_read_back_are_refused(value):
    with pytest.raises(EdgeError, match="call f"):
        hermes.render_calls([Call("f", {"a": value})])


@pytest.mark.parametrize(
    "message",
    [
        "x",
        {"role": "ghost"},
        {"role": "user", "content": 5},
        user("<|im_end|>"),
        {"role": "assistant", "tool_calls": [{}]},
    ],
)
def test_messages_that_could_not_be_written_are_refused(message):
    with pytest.raises(EdgeError, match="message 2"):
        hermes.render([user(), message], [])


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
        st.none() | text,
    ),
    st.builds(lambda c: {"role": "tool", "content": c}, text | st.dictionaries(text, values, max_size=2)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(message, max_size=5), st.booleans())
def test_template_equals_render(messages, add):
    tools = [TOOL["function"], {"function": {"name": "g"}}]
    assert by_template(messages, tools, add) == hermes.render(messages, tools, add)


@settings(max_examples=60, deadline=None)
@given(st.lists(calls, max_size=3))
def test_what_is_rendered_is_read_back(calls):
    parsed = hermes.parse(
        hermes.completion({"role": "assistant", "tool_calls": [c.to_json() for c in calls]}) if calls else ""
    )
    assert parsed.calls == calls and not parsed.text.strip() and not parsed.errors and not parsed.notes


def test_a_tag_inside_a_string_is_text():
    body = json.dumps({"name": "f", "arguments": {"a": f'\\"{E}{B}\\', "b": 1}})
    assert hermes.parse(f"{B}\n{body}\n{E}<|im_end|>\n").calls == [Call("f", {"a": f'\\"{E}{B}\\', "b": 1})]


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "x",
        '{"name": 1}',
        '{"name": ""}',
        '{"name": "f", "arguments": []}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1e999}}',
        '{"name": "f',
        "[" * 5000,
        '{"name":"f","arguments":{"a":' + "[" * 70 + "]" * 70 + "}}",
    ],
)
def test_an_error_costs_no_other_call(bad):
    good = f'{B}{{"name": "g", "arguments": {{}}}}{E}'
    parsed = hermes.parse(f"1{good}2{B}{bad}{E}3{good}4")
    assert parsed.calls == [Call("g", {})] * 2 and parsed.text == "1234" and len(parsed.errors) == 1


def test_end_of_text():
    for end in ("", "<|im_end|>", f"\n{E}<|endoftext|>"):
        assert hermes.parse(f'{B}{{"name": "f", "arguments": {{}}}}{end}').calls == [Call("f", {})]
    assert len(hermes.parse(f'{B}{{"name": "f", "argum').errors) == 1
    assert hermes.parse(f'{B}{{"name": "f"}}{E}').notes == ["f: no arguments given"]


scraps = st.sampled_from(
    [B, E, '"', "\\", "{", "}", '{"name": "f", "arguments": {}}', "<|im_end|>", "<", "\ud800", " "]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(scraps, max_size=20).map("".join))
def test_any_text_in_any_chunks_gives_the_same(text):
    whole, stream, early = hermes.parse(text), hermes.stream(), []
    for character in text:
        early += stream.feed(character)
    assert stream.close() == whole and early == whole.calls[: len(early)]


@pytest.mark.parametrize(
    "text", [B * 5000, f'{B}"' * 5000, (f'{B}"' + f'{B}""' * 50) * 40, B + "[" * 50_000, "\\" * 50_000]
)
def test_work_is_linear(text):
    stream = hermes.stream()
    stream.feed(text)
    stream.close()
    assert stream.work <= 6 * len(text)
