"""`edge data convert`: any shape to any, there and back, and what a shape has no place for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datarows
import pytest
from datarows import DEVELOPER, LIGHT, MIXED, NOW, RAW, TURNS, call, calls, flat, mobile, raw, said, user
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.records import digest_value
from edge.tools import normalise
from edge.train.data import convert as converter
from edge.train.data import source as sources
from edge.train.data.convert import Converted
from edge.train.data.source import Loaded

SHAPES = tuple(converter.SHAPES)


def convert(
    folder: Path, to: str, *rows: Any, tools: bool = True, with_tools: bool = False, **options: Any
) -> Converted:
    loaded, source = datarows.load(folder, *rows, tools=tools, **options)
    return converter.convert(loaded, source, to, with_tools)


def meaning(loaded: Loaded) -> list[str]:
    return [digest_value([item.row.messages, item.tools, item.row.split]) for item in loaded.items]


def test_every_shape_holds_one_call(tmp_path: Path) -> None:
    (line,) = convert(tmp_path, "mobile-actions", flat("hall to 40", room="hall", percent=40)).lines
    assert json.loads(line) == mobile("hall to 40", call(room="hall", percent=40))
    (line,) = convert(tmp_path, "raw-call", mobile("hall to 40", call(room="hall", percent=40))).lines
    assert json.loads(line) == raw("hall to 40", RAW)
    (line,) = convert(tmp_path, "flat", raw("hall to 40", RAW)).lines
    assert json.loads(line) == flat("hall to 40", percent=40, room="hall")


@pytest.mark.parametrize("dialect", ["functiongemma", "hermes"])
@pytest.mark.parametrize("to", SHAPES)
def test_mixed_rows_mean_the_same_in_every_shape_or_are_rejected(tmp_path: Path, to: str, dialect: str) -> None:
    rows = [row for row in MIXED if dialect == "functiongemma" or RAW not in json.dumps(row, ensure_ascii=False)]
    loaded, source = datarows.load(tmp_path, *rows, dialect=dialect)
    made = converter.convert(loaded, source, to)
    lost = {reject.line for reject in made.rejects}
    want = [m for m, item in zip(meaning(loaded), loaded.items) if item.row.line not in lost]
    back, _ = datarows.load(tmp_path / "back", *made.lines, dialect=dialect)
    assert back.rejects == [] and meaning(back) == want and len(want) + len(lost) == len(rows)
    assert len(want) >= (3 if to == "flat" else 4)


def test_rows_that_have_the_shape_are_kept_as_they_stand(tmp_path: Path) -> None:
    odd = '{ "tool_name":"now","user_content" : "time",  "tool_arguments":{}, "mine": 1}'
    made = convert(tmp_path, "flat", odd)
    assert made.lines == [odd] and made.verbatim == 1
    text = raw("which rooms?", "The hall.")
    assert all(convert(tmp_path, to, text).verbatim == 1 for to in ("raw-call", "mobile-actions"))


def test_what_belongs_to_no_shape_goes_along(tmp_path: Path) -> None:
    upper = {"function": {"name": "f", "description": "F.", "parameters": {"type": "OBJECT", "properties": {}}}}
    row = mobile("x", call("f"), tools=[upper], metadata="eval", source={"who": "me"})
    for to in ("raw-call", "flat"):
        told = json.loads(convert(tmp_path, to, row).lines[0])
        assert (told["tools"], told["metadata"], told["source"]) == ([upper], "eval", {"who": "me"})


def test_the_projects_tools_are_written_on_demand(tmp_path: Path) -> None:
    own = mobile("x", call(room="hall"), tools=[LIGHT])
    made = convert(tmp_path, "mobile-actions", flat("time", "now"), mobile("y", call("now")), own, with_tools=True)
    tools = [json.loads(line)["tools"] for line in made.lines]
    assert tools[0] == tools[1] == [normalise(LIGHT)[0], normalise(NOW)[0]] and tools[2] == [LIGHT]
    assert made.verbatim == 1


@pytest.mark.parametrize(
    ("to", "row", "reason"),
    [
        ("flat", mobile("x", call("now"), call("now")), "it has 2 calls"),
        ("flat", TURNS, "it has several turns"),
        ("flat", raw("x", f"Sure. {RAW}"), "its answer has text"),
        ("flat", raw("x", "Which room?"), "its answer has text"),
        ("flat", {"messages": [user("x"), calls(call("now"))]}, "it has no developer message"),
        ("flat", {"messages": [{**DEVELOPER, "content": "Hi."}, user("x"), calls(call("now"))]}, "developer message"),
        ("flat", {"messages": [{**DEVELOPER, "role": "system"}, user("x"), calls(call("now"))]}, "developer message"),
        ("mobile-actions", flat("hello", None), "its answer is empty"),
        ("raw-call", flat("hello", None), "its answer is empty"),
    ],
)
def test_what_a_shape_has_no_place_for(tmp_path: Path, to: str, row: dict[str, Any], reason: str) -> None:
    made = convert(tmp_path, to, flat("time", "now"), row)
    assert len(made.lines) == 1
    (reject,) = made.rejects
    assert (reject.line, reject.text) == (2, datarows.dump(row))
    assert reject.reason.startswith(f"no place in {to}: ") and reason in reject.reason


def test_a_developer_message_that_all_rows_share_can_be_named(tmp_path: Path) -> None:
    row = {"messages": [{**DEVELOPER, "content": "너는 집을 제어한다."}, user("x"), calls(call("now"))]}
    made = convert(tmp_path, "flat", row, developer="너는 집을 제어한다.")
    assert [json.loads(line)["tool_name"] for line in made.lines] == ["now"]
    bare = {"messages": [user("x"), calls(call("now"))]}
    assert len(convert(tmp_path, "flat", bare, developer="").lines) == 1


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=12)
VALUES = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["k", "l_2"]), inner, max_size=2),
    max_leaves=5,
)
CALLS = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    st.sampled_from(["f", "g_1"]),
    st.dictionaries(st.sampled_from(["a", "b", "Ab"]), VALUES, max_size=3),
)
ANSWERS = st.builds(
    lambda made, text: {**(calls(*made) if made else {"role": "assistant"}), "content": text},
    st.lists(CALLS, max_size=3),
    TEXT,
)


@settings(max_examples=150, deadline=None)
@given(asked=TEXT.filter(str.strip), answer=ANSWERS, to=st.sampled_from(SHAPES), via=st.sampled_from(SHAPES))
def test_there_and_back_gives_the_same_row_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, asked: str, answer: dict[str, Any], to: str, via: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    loaded, source = datarows.load(folder, {"messages": [DEVELOPER, user(asked), answer]}, tools=False)
    for step in (via, to):
        made = converter.convert(loaded, source, step)
        assert len(made.lines) + len(made.rejects) == 1
        if made.rejects:
            return
        source = datarows.find(folder, datarows.write(folder, *made.lines), tools=False)
        back = sources.read(source)
        assert meaning(back) == meaning(loaded)
        loaded = back


def test_nothing_in_gives_nothing_out(tmp_path: Path) -> None:
    made = convert(tmp_path, "flat", "{")
    assert made.lines == [] and [r.line for r in made.rejects] == [1]
    assert said("x")["role"] == "assistant"
