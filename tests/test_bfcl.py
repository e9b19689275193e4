"""BFCL's rules, each quirk by a case of our own; the checker's own verdicts (../shared/data) where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge import bfcl
from edge.errors import EdgeError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def verdict(value, accepted, category="simple_python", required=(), **schema):
    """Whether `value` passes as the argument a of f."""
    functions = [{"name": "f", "parameters": {"properties": {"a": schema}, "required": list(required)}}]
    given = {} if value is ... else {"a": value}
    return bfcl.check([{"f": given}], [{"f": {"a": accepted}}], functions, category) is None


@pytest.mark.parametrize(
    ("value", "accepted", "schema", "valid"),
    [
        ("New-York, N.Y.", ["newyork ny"], {"type": "string"}, True),
        ("it's", ['IT"S'], {"type": "string"}, True),
        ("a\n", ["a"], {"type": "string"}, False),
        ('"a"', ["a"], {"type": "string"}, False),
        ("", ["x", ""], {"type": "string"}, True),
        (..., ["x", ""], {"type": "string"}, True),
        (..., ["x"], {"type": "string"}, False),
        (None, ["x"], {"type": "string"}, False),
        (5, [5], {"type": "integer"}, True),
        (5.0, [5], {"type": "integer"}, False),
        (True, [1], {"type": "integer"}, False),
        (5, [5.0], {"type": "float"}, True),
        (5, [5.0], {"type": "NUMBER"}, True),
        ([1, 2], [[1.0, 2.0]], {"type": "array", "items": {"type": "float"}}, False),
        ([1, 2], [[1, 2]], {"type": "array", "items": {"type": "integer"}}, True),
        ([2, 1], [[1, 2]], {"type": "array", "items": {"type": "integer"}}, False),
        (["A.", "b"], [["a", "B"]], {"type": "array", "items": {"type": "string"}}, True),
        ([1, "b"], [["a", "b"]], {"type": "array", "items": {"type": "string"}}, False),
        ([], [[1], ""], {"type": "array", "items": {"type": "integer"}}, True),
        ([1], [[1]], {"type": "tuple", "items": {"type": "integer"}}, True),
        ("x y", ["x y"], {"type": "integer"}, True),
        ("X Y", ["x y"], {"type": "integer"}, False),
        ("x", ["x"], {"type": "any"}, True),
        ({"k": "V"}, [{"k": ["v"], "o": [1, ""]}], {"type": "dict"}, True),
        ({"k": "v"}, [{"k": ["v"], "o": [1]}], {"type": "dict"}, False),
        ({"k": "v", "z": 1}, [{"k": ["v"]}], {"type": "dict"}, False),
        ([{"k": 1}], [[{"k": [1, 2]}]], {"type": "array", "items": {"type": "dict"}}, True),
        ([{"k": 3}], [[{"k": [1, 2]}]], {"type": "array", "items": {"type": "dict"}}, False),
        ([{"k": 1}, {"k": 1}], [[{"k": [1]}]], {"type": "array", "items": {"type": "dict"}}, False),
    ],
)
def test_values(value, accepted, schema, valid):
    assert verdict(value, accepted, **schema) is valid


def test_required_and_unexpected_arguments():
    assert not verdict(..., ["x", ""], required=["a"], type="string")
    functions = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert "not expected" in str(bfcl.check([{"f": {"b": 1}}], [{"f": {}}], functions, "simple"))
    assert bfcl.check([{"name": "f", "arguments": {}}], [{"f": {}}], functions, "simple") is None
    assert "name" in str(bfcl.check([{"F": {}}], [{"f": {}}], functions, "multiple"))


NUMBER = [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}]


def test_parallel_calls_match_in_any_order_and_are_never_given_back():
    def check(predicted, *accepted):
        wanted = [{"f": {"a": list(a)}} for a in accepted]
        return bfcl.check([{"f": {"a": a}} for a in predicted], wanted, NUMBER, "live_parallel_multiple")

    assert check([2, 1], [1], [2]) is None
    assert check([1, 2], [1, 2], [2]) is None
    assert "call 2" in str(check([2, 1], [1, 2], [2]))  # the first took 2, and BFCL doesn't go back
    assert "expected 2" in str(check([1], [1], [2]))


@pytest.mark.parametrize("prediction", [None, "f()", 5, {}, [1], [{}], [{"f": 1}], [{"f": {}, "g": {}}], []])
def test_what_is_no_call_is_wrong_unless_none_is_wanted(prediction):
    assert bfcl.check(prediction, [{"f": {}}], NUMBER, "simple_python")
    assert bfcl.check(prediction, None, NUMBER, "live_relevance")
    assert bfcl.check(prediction, None, NUMBER, "irrelevance") is None


def test_relevance_looks_at_whether_there_is_a_call():
    assert bfcl.check([{"g": {}}], None, NUMBER, "live_relevance") is None
    assert bfcl.check([{"g": {}}], None, NUMBER, "live_irrelevance")


@pytest.mark.parametrize(
    ("truth", "functions", "category"),
    [
        (None, NUMBER, "simple"),
        ([], NUMBER, "simple"),
        ([{"g": {}}], NUMBER, "simple"),
        ([{"f": {"a": 1}}], NUMBER, "simple"),
        ([{"f": {}}], None, "simple"),
        ([{"f": {}}], [{}], "simple"),
        ([{"f": {}}], [{"name": "f", "parameters": {"properties": []}}], ""),
        ([{"f": {}}], NUMBER, None),
        ([{"f": {}}], NUMBER, "simple_java"),
        ([{"f": {}}], [{"name": "f", "parameters": {"required": 1}}], "simple"),
    ],
)
def test_what_can_not_be_used_is_an_error(truth, functions, category):
    with pytest.raises(EdgeError):
        bfcl.check("nonsense", truth, functions, category)
    with pytest.raises(EdgeError, match="no type"):
        verdict(1, [1], type="colour")


def test_the_leaderboards_own_verdicts():
    if not (SHARED / "ast_verdicts.jsonl").exists():
        pytest.skip("ast_verdicts.jsonl: no folder of real cases beside the checkout")
    rows = [json.loads(line) for path in SHARED.glob("bfcl/*.jsonl") for line in path.read_text("utf-8").splitlines()]
    functions = {row["id"]: row["function"] for row in rows}
    wrong = []
    for line in (SHARED / "ast_verdicts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        why = bfcl.check(row["prediction"], row["ground_truth"], functions[row["id"]], row["category"])
        wrong += [(row["id"], row["perturbation"], why)] if (why is None) is not row["valid"] else []
    assert wrong == []
