"""`edge data filter`: what each rule keeps, in which order, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datarows
import pytest
from datarows import LIGHT, MIXED, RAW, call, flat, mobile, raw

from edge.errors import EdgeError
from edge.train.data import filter as filtering
from edge.train.data.filter import Context
from edge.train.data.tokens import Length

ROWS = [
    flat("hall to 40", room="hall", percent=40),  # 0
    raw("hall to 40", RAW),  # 1: the same again
    flat("Hall to 40!", room="hall", percent=40),  # 2: nearly
    flat("hall to 50", room="hall", percent=50),  # 3: other values
    flat("what time is it", "now"),  # 4
    mobile("거실하고 욕실", call(room="거실"), call(room="bath")),  # 5
    mobile("time and bath", call("now"), call(room="bath")),  # 6
    raw("which rooms?", "The hall and the bath."),  # 7
    flat("hello", None),  # 8
]


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (["single-call"], [0, 1, 2, 3, 4]),
        (["parallel"], [5, 6]),
        (["no-call"], [7, 8]),
        (["has-arguments"], [0, 1, 2, 3, 5, 6]),
        (["valid"], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (["tool=now"], [4]),
        (["tool=now,light"], [0, 1, 2, 3, 4, 5, 6]),
        (["not-tool=light"], [4, 7, 8]),
        (["script=hangul"], [5]),
        (["max-chars=100"], [0, 1, 2, 3, 4]),
        (["max-tokens=100"], [5, 6, 7, 8]),
        (["unique"], [0, 2, 3, 4, 5, 6, 7, 8]),
        (["near-unique"], [0, 3, 4, 5, 6, 7, 8]),
        (["max-per-tool=2"], [0, 1, 4, 7, 8]),
        (["max-per-phrasing=1"], [0, 4, 5, 6, 7, 8]),
        (["max-per-tool=1", "no-call"], [7]),
        (["no-call", "max-per-tool=1"], [7]),
        (["single-call", "unique", "max-per-tool=1"], [0, 4]),
    ],
)
def test_what_a_rule_keeps(tmp_path: Path, rules: list[str], kept: list[int]) -> None:
    loaded, _ = datarows.load(tmp_path, *ROWS)
    lengths = {item.place: Length(90 if n < 5 else 110, 1, 110 if n < 5 else 90) for n, item in enumerate(loaded.items)}
    result = filtering.run(loaded, rules, Context(lengths))
    assert [item.row.line - 1 for item in result.kept] == kept
    assert [item.text for item in result.kept] == [datarows.dump(ROWS[n]) for n in kept]
    assert {r.line - 1 for r in result.rejects} == set(range(len(ROWS))) - set(kept)
    assert all(r.text == datarows.dump(ROWS[r.line - 1]) for r in result.rejects)


def test_steps_tell_what_each_rule_dropped_with_an_example(tmp_path: Path) -> None:
    loaded, _ = datarows.load(tmp_path, "{", *ROWS)
    result = filtering.run(loaded, ["single-call", "unique"], Context({}))
    file = str(tmp_path / "rows.jsonl")
    assert [(s["rule"], s["dropped"], s["kept"]) for s in result.steps] == [
        ("(readable)", 1, 9),
        ("single-call", 4, 5),
        ("unique", 1, 4),
    ]
    assert result.steps[1]["example"] == {"file": file, "line": 7, "reason": "single-call: 2 calls"}
    assert result.steps[2]["example"]["reason"] == f"unique: the same conversation and answer as {file}:2"
    assert (result.rejects[0].line, result.rejects[0].text) == (1, "{")


def test_rows_without_declared_tools_are_not_valid(tmp_path: Path) -> None:
    rows = [ROWS[0], {**ROWS[0], "tools": [LIGHT]}, ROWS[8]]
    loaded, _ = datarows.load(tmp_path, *rows, tools=False)
    result = filtering.run(loaded, ["valid"], Context({}))
    assert [item.row.line for item in result.kept] == [2, 3]
    assert result.rejects[0].reason == "valid: its tools are not declared"


def test_a_sample_is_the_same_in_any_order(tmp_path: Path) -> None:
    many = [flat(f"say {n}", "f", n=n) for n in range(200)]
    samples = []
    for rows in (many, many[::-1]):
        loaded, _ = datarows.load(tmp_path, *rows, tools=False)
        samples.append({item.text for item in filtering.run(loaded, ["sample=50"], Context({})).kept})
    assert samples[0] == samples[1] and len(samples[0]) == 50


@pytest.mark.parametrize(
    ("rule", "message", "hint"),
    [
        ("singel-call", "no rule 'singel-call'", "did you mean single-call"),
        ("xyz", "no rule 'xyz'", "max-per-tool"),
        ("single-call=1", "takes no value", "single-call"),
        ("tool", "no value", r"tool=NAME\[,NAME\]"),
        ("max-chars=many", "no whole number", "max-chars=500"),
        ("max-chars=0", "no whole number", "max-chars=500"),
        ("max-chars=²", "no whole number", "max-chars=500"),
        ("script=korean", "no such script", "hangul"),
        ("tool=lihgt", "no row declares or calls lihgt", "did you mean light"),
        ("not-tool=light,nothing-like-it", "no row declares or calls nothing-like-it", "there are: .*light"),
    ],
)
def test_a_rule_that_there_is_not(tmp_path: Path, rule: str, message: str, hint: str) -> None:
    loaded, _ = datarows.load(tmp_path, *MIXED)
    with pytest.raises(EdgeError, match=message) as caught:
        filtering.run(loaded, [rule], Context({}))
    import re

    assert re.search(hint, caught.value.hint or "")


def test_max_tokens_needs_a_tokenizer(tmp_path: Path) -> None:
    loaded, _ = datarows.load(tmp_path, *MIXED)
    lengths: dict[str, Any] = {item.place: Length(1, 1, None) for item in loaded.items}
    with pytest.raises(EdgeError, match="needs a tokenizer"):
        filtering.run(loaded, ["max-tokens=5"], Context(lengths))
