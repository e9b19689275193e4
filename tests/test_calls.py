"""Scoring calls and the JSON-lines loops: what counts as equal, and that one bad line costs no other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import callrows, dialects
from edge.calls import Call, exact, read_calls, unordered
from edge.errors import EdgeError

FUNCTIONGEMMA = dialects.get("functiongemma")


def call(name="f", **arguments):
    return Call(name, arguments)


@pytest.mark.parametrize(
    ("predicted", "expected", "right"),
    [
        ([], [], True),
        ([call(a=1, b={"x": 1, "y": []})], [call(b={"y": [], "x": 1}, a=1)], True),
        ([call(a=1)], [call(a=1.0)], False),
        ([call(a=1)], [call(a=True)], False),
        ([call(a=1)], [call(a="1")], False),
        ([call(a=[{"k": 0}])], [call(a=[{"k": False}])], False),
        ([call(a=None)], [call()], False),
        ([call()], [call(a=None)], False),
        ([call(a=[1, 2])], [call(a=[2, 1])], False),
        ([call("F")], [call("f")], False),
        ([call()], [call(), call()], False),
        ([call("f"), call("g")], [call("g"), call("f")], False),
    ],
)
def test_exact(predicted, expected, right):
    assert (exact(predicted, expected) is None) is right
    assert right or exact(predicted, expected)


def test_unordered_counts_each_call():
    f, g = call(a=1), call("g")
    assert unordered([f, g], [g, f]) is None
    assert unordered([f, f], [f, g]) and unordered([f], [f, f]) and unordered([f, f], [f])
    assert unordered([call(a=1.0)], [f])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from([0.0, 1.0, "", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(json_values, json_values)
def test_exact_is_equality_of_json_text(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (exact([call(x=one)], [call(x=other)]) is None) is same


def test_forms_of_calls():
    assert read_calls([{"name": "f", "arguments": {"a": 1}}, {"f": {"a": 1}}]) == [call(a=1)] * 2
    assert read_calls([{"name": {"a": 1}}]) == [call("name", a=1)]
    for bad in (
        None,
        {},
        "f",
        [1],
        [{}],
        [{"f": 1}],
        [{"name": "f", "arguments": "{}"}],
        [{"name": 1, "arguments": {}}],
    ):
        with pytest.raises(EdgeError):
            read_calls(bad)


# The loops


def lines(*rows):
    return [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]


def test_render_lines():
    tool = {
        "name": "f",
        "description": "F.",
        "parameters": {"type": "object", "properties": {"type": {"type": "string"}}},
    }
    user = [{"role": "user", "content": "hi"}]
    plain, warned, refused = callrows.render(
        lines(
            {"messages": user, "tools": None, "add_generation_prompt": False},
            {"messages": user, "tools": [tool]},
            {"messages": user, "tools": [tool, tool]},
        ),
        FUNCTIONGEMMA,
        "x.jsonl",
    )
    assert plain == {"text": "<bos><start_of_turn>user\nhi<end_of_turn>\n"}
    assert warned["text"].endswith("<start_of_turn>model\n") and "f.type" in warned["warnings"][0]
    assert refused["error"]["line"] == 3 and refused["error"]["message"].startswith("x.jsonl:3: f: declared")


def test_parse_lines():
    output = "hm<start_function_call>call:f{a:yes}<end_function_call>"
    noted, plain = callrows.parse(lines({"text": output}, {"text": ""}), FUNCTIONGEMMA)
    assert noted["calls"] == [{"name": "f", "arguments": {"a": "yes"}}]
    assert (noted["text"], noted["errors"], len(noted["notes"])) == ("hm", [], 1)
    assert plain == {"calls": [], "text": "", "errors": []}


BAD = {
    "cut off": b'{"text": "a',
    "not an object": b'["text"]',
    "not UTF-8": b'{"text": "\xff"}',
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "NaN": b'{"text": "a", "x": NaN}',
    "infinite": b'{"text": "a", "x": 1e999}',
    "deep": b'{"text": "a", "x": ' + b"[" * 200 + b"]" * 200 + b"}",
    "bomb": b'{"text": "a", "x": ' + b"[" * 200_000,
    "no text": b"{}",
    "a number": b'{"text": 5}',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_line_that_can_not_be_read_costs_no_other(bad):
    good = b'{"text": "a"}\r\n'
    results = list(callrows.parse([b"\xef\xbb\xbf" + good, b" \r\n", bad + b"\n", b"\n", good], FUNCTIONGEMMA, "x"))
    assert [callrows.failed(r) for r in results] == [False, True, False]
    assert results[1]["error"]["line"] == 3 and results[1]["error"]["message"].startswith("x:3: ")
    assert results[0] == results[2] == {"calls": [], "text": "a", "errors": []}


def test_score_lines():
    f, wrong = {"name": "f", "arguments": {"a": 1}}, {"f": {"a": 2}}
    functions = [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}]
    accepted = {"functions": functions, "category": "simple", "ground_truth": [{"f": {"a": [1, 3]}}]}
    right, differs, garbage, by_default, by_row = callrows.score(
        lines(
            {"prediction": [f], "ground_truth": [f]},
            {"prediction": [wrong], "ground_truth": [f]},
            {"prediction": "f(1)", "ground_truth": [f]},
            {"prediction": [{"f": {"a": 3}}], **accepted},
            {"prediction": [f], "rule": "exact", **accepted},
        )
    )
    assert right == {"valid": True, "error": None} == by_default
    assert not differs["valid"] and "argument 'a'" in differs["error"]
    assert not garbage["valid"] and isinstance(garbage["error"], str) and not callrows.failed(garbage)
    assert not by_row["valid"]


@pytest.mark.parametrize(
    "row",
    [
        {"ground_truth": []},
        {"prediction": []},
        {"prediction": [], "ground_truth": "f"},
        {"prediction": [], "ground_truth": [{"name": "f"}]},
        {"prediction": [], "ground_truth": [], "rule": "close"},
        {"prediction": [], "ground_truth": [], "rule": ["exact"]},
        {"prediction": [], "ground_truth": [{"f": {}}], "rule": "bfcl", "category": "simple"},
    ],
)
def test_what_can_not_be_scored_is_an_error(row):
    (result,) = callrows.score(lines(row))
    assert callrows.failed(result)


def test_the_rule_can_be_chosen_for_all_rows():
    calls = [{"f": {}}, {"g": {}}]
    row = lines({"prediction": calls, "ground_truth": calls[::-1]})
    assert [r["valid"] for r in callrows.score(row, "unordered")] == [True]
    assert [r["valid"] for r in callrows.score(row)] == [False]


def test_a_rule_that_is_null_is_not_given():
    calls = [{"f": {}}, {"g": {}}]
    row = {"prediction": calls, "ground_truth": calls[::-1], "rule": None}
    assert [r["valid"] for r in callrows.score(lines(row), "unordered")] == [True]
    assert [r["valid"] for r in callrows.score(lines(row))] == [False]


@pytest.mark.parametrize("rule", [[], "", 0, False, {}])
def test_a_rule_that_is_none_is_an_error(rule):
    (result,) = callrows.score(lines({"prediction": [], "ground_truth": [], "rule": rule}), "exact")
    assert result["error"]["message"].endswith(f"no rule {rule!r}")


@pytest.mark.parametrize("dialect", dialects.names())
def test_a_tool_that_is_no_object_is_named_by_its_place(dialect):
    tools = [{"name": "f", "description": "F."}, 5]
    (result,) = callrows.render(lines({"messages": [], "tools": tools}), dialects.get(dialect))
    assert result["error"]["message"] == "<stdin>:1: tools: tool 2 is not an object"


def test_every_result_is_one_line_of_utf8():
    for text in ("é\n", "\ud800", "\u2028"):
        line = callrows.encode({"text": text})
        assert "\n" not in line and json.loads(line.encode()) == {"text": text}
    assert callrows.encode({"text": "é"}) == '{"text": "é"}'


def test_dialects_are_found_by_name():
    assert {"functiongemma", "hermes"} <= set(dialects.names())
    with pytest.raises(EdgeError, match="no dialect"):
        dialects.get("klingon")
