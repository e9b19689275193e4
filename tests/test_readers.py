"""Data readers: the three formats give one shape, and every kind of bad row is rejected with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import dialects
from edge.calls import Call
from edge.errors import EdgeError
from edge.tools import normalise

# isort: split
from edge.train import readers
from edge.train.readers import Reject, Row

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
DIALECT = dialects.get("functiongemma")
LIGHT = {
    "name": "light",
    "description": "Sets a lamp.",
    "parameters": {
        "type": "object",
        "required": ["room"],
        "properties": {
            "room": {"type": "string", "description": "Where.", "enum": ["hall", "bath"]},
            "percent": {"type": "integer", "description": "How bright."},
        },
    },
}
NOW = {"name": "now", "description": "The time."}
TOOLS = [normalise(LIGHT)[0], normalise(NOW)[0]]

USER = {"role": "user", "content": "hall to 40"}
CALL = Call("light", {"room": "hall", "percent": 40})
RAW = "<start_function_call>call:light{percent:40,room:<escape>hall<escape>}<end_function_call>"
RAW_NOW = "<start_function_call>call:now{}<end_function_call>"
FLAT = {"user_content": "hall to 40", "tool_name": "light", "tool_arguments": {"room": "hall", "percent": 40}}


def structured(name: Any = "light", arguments: Any = CALL.arguments) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def write(folder: Path, *rows: Union[str, bytes, dict[str, Any]], name: str = "rows.jsonl", end: bytes = b"\n") -> Path:
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    (folder / name).write_bytes(b"".join(line + end for line in lines))
    return folder / name


def read(*files: Path, tools: Any = TOOLS, **options: Any) -> list[Union[Row, Reject]]:
    return list(readers.read(files, tools, DIALECT, **options))


def one(folder: Path, row: Union[str, bytes, dict[str, Any]], tools: Any = TOOLS) -> Union[Row, Reject]:
    (result,) = read(write(folder, row), tools=tools)
    return result


# ---- good rows


def test_the_three_formats_give_the_same_row_also_in_one_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {**FLAT, "metadata": "train"},
        {**FLAT, "tool_arguments": json.dumps(CALL.arguments)},
        {"messages": [USER, structured()], "metadata": "eval"},
        {"messages": [USER, structured(arguments=json.dumps(CALL.arguments))]},
        {"messages": [USER, {"role": "assistant", "content": RAW}], "metadata": "other"},
    )
    rows = [row for row in read(file, developer=None) if isinstance(row, Row)]
    assert [(r.id, r.line, r.split) for r in rows] == [
        ("rows.jsonl:1", 1, "train"),
        ("rows.jsonl:2", 2, None),
        ("rows.jsonl:3", 3, "eval"),
        ("rows.jsonl:4", 4, None),
        ("rows.jsonl:5", 5, None),
    ]
    answer = {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL.to_json()}]}
    for row in rows:
        assert (row.calls, row.tools, row.file) == ([CALL], None, str(file))
        assert row.messages == [USER, answer]


def test_only_the_flat_format_gets_a_developer_message(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        FLAT,
        {"messages": [USER, structured()]},
        {"messages": [{"role": "system", "content": "Be brief."}, USER, structured()]},
    )
    first = [row.messages[0] for row in read(file) if isinstance(row, Row)]
    assert first == [
        {"role": "developer", "content": readers.DEVELOPER},
        USER,
        {"role": "system", "content": "Be brief."},
    ]


def test_rows_with_tools_of_their_own_are_checked_against_those(tmp_path: Path) -> None:
    google = {
        "function": {
            "name": "mail",
            "description": "M.",
            "parameters": {
                "type": "OBJECT",
                "properties": {"to": {"type": "STRING", "description": "T."}},
                "required": ["to"],
            },
        }
    }
    row = one(tmp_path, {"tools": [google], "messages": [USER, structured("mail", {"to": "a"})]})
    assert isinstance(row, Row) and row.tools == [normalise(google)[0]] and row.findings == ()
    assert one(tmp_path, {"tools": [google], "messages": [USER, structured()]}).reason == "undeclared tool: light"
    assert one(tmp_path, {"tools": [], "messages": [USER, structured()]}).reason == "undeclared tool: light"


def test_tools_may_be_written_as_json_as_tables_need_it(tmp_path: Path) -> None:
    row = one(tmp_path, {"tools": json.dumps([LIGHT]), "messages": [USER, structured()]})
    assert isinstance(row, Row) and row.tools == [normalise(LIGHT)[0]]
    for given_, reason in (('[{"name"', "not JSON"), ("light", "unusable tools: a str"), ("[3]", "unusable tools: ")):
        bad = one(tmp_path, {"tools": given_, "messages": [USER, structured()]})
        assert isinstance(bad, Reject) and bad.reason.startswith(reason)


def test_what_is_odd_in_a_prompt_is_noted_and_the_row_kept(tmp_path: Path) -> None:
    odd = {"role": "system", "content": "Write <End_Function_Call>."}
    row = one(tmp_path, {"messages": [odd, USER, structured()]})
    assert isinstance(row, Row) and [note.partition(":")[0] for note in row.notes] == ["system role", "tag in a prompt"]
    plain = one(
        tmp_path, {"messages": [{"role": "developer", "content": "Use <b> and 3 < 4 > 2."}, USER, structured()]}
    )
    assert isinstance(plain, Row) and plain.notes == ()


def test_tools_that_evaluation_calls_and_training_does_not(tmp_path: Path) -> None:
    light = [r for r in read(write(tmp_path, FLAT)) if isinstance(r, Row)]
    both = [r for r in read(write(tmp_path, FLAT, {"messages": [USER, structured("now", {})]})) if isinstance(r, Row)]
    assert readers.unseen_tools(light, both) == ["now"]
    assert readers.unseen_tools(both, light) == readers.unseen_tools(both, both) == []


def test_warnings_about_a_rows_own_tools_are_kept(tmp_path: Path) -> None:
    row = one(
        tmp_path,
        {
            "tools": [
                {
                    "name": "f",
                    "description": "F.",
                    "parameters": {"type": "dict", "properties": {"x": {"type": "float", "description": "X."}}},
                }
            ],
            "messages": [USER, structured("f", {"x": 1.5})],
        },
    )
    assert isinstance(row, Row)
    assert [f.property for f in row.findings if "JSON Schema" in f.message] == ["", "x"]


def test_without_any_tools_calls_are_taken_as_they_are(tmp_path: Path) -> None:
    row = one(tmp_path, {"messages": [USER, structured("anything", {"x": [1, {"y": True}]})]}, tools=[])
    assert isinstance(row, Row) and row.calls == [Call("anything", {"x": [1, {"y": True}]})]


def test_text_stays_text_and_several_calls_stay_in_order(tmp_path: Path) -> None:
    text, both, spoken = read(
        write(
            tmp_path,
            {"messages": [USER, {"role": "assistant", "content": "Which room? 3 < 4 <b>"}]},
            {"messages": [USER, {"role": "assistant", "content": RAW + "\n" + RAW_NOW}]},
            {"messages": [USER, {"role": "assistant", "content": f"Right away. {RAW}"}]},
        )
    )
    assert isinstance(text, Row) and isinstance(both, Row) and isinstance(spoken, Row)
    assert text.calls == [] and text.messages[-1] == {"role": "assistant", "content": "Which room? 3 < 4 <b>"}
    assert both.calls == [CALL, Call("now", {})] and "content" not in both.messages[-1]
    assert spoken.calls == [CALL] and spoken.messages[-1]["content"].strip() == "Right away."


def test_a_null_tool_name_means_no_call(tmp_path: Path) -> None:
    row = one(tmp_path, {"user_content": "hello", "tool_name": None, "tool_arguments": None})
    assert isinstance(row, Row) and row.calls == [] and row.messages[-1] == {"role": "assistant", "content": ""}


def test_a_conversation_with_a_tools_response(tmp_path: Path) -> None:
    row = one(
        tmp_path,
        {
            "messages": [
                USER,
                {**structured("now", {}), "content": None},
                {"role": "tool", "name": "now", "content": {"time": "9:00"}},
                {"role": "assistant", "content": "Nine.", "tool_calls": None},
            ]
        },
    )
    assert isinstance(row, Row) and row.calls == []
    assert row.messages[2] == {"role": "tool", "name": "now", "content": {"time": "9:00"}}
    assert row.messages[3] == {"role": "assistant", "content": "Nine."}


def test_a_byte_order_mark_crlf_and_blank_lines(tmp_path: Path) -> None:
    line = json.dumps({**FLAT, "user_content": "거실 불 켜 줘\u2028"}, ensure_ascii=False).encode()
    rows = read(write(tmp_path, b"\xef\xbb\xbf" + line, b"", b"  ", line, end=b"\r\n"))
    assert [r.line for r in rows if isinstance(r, Row)] == [1, 4]
    assert rows[0].messages[1]["content"] == "거실 불 켜 줘\u2028"  # type: ignore[union-attr]


def test_null_is_good_where_the_tool_says_so(tmp_path: Path) -> None:
    tool = normalise(
        {
            "name": "f",
            "description": "F.",
            "parameters": {"type": "object", "properties": {"x": {"type": ["string", "null"], "description": "X."}}},
        }
    )[0]
    assert isinstance(one(tmp_path, {"messages": [USER, structured("f", {"x": None})]}, [tool]), Row)


def test_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    rows = read(write(tmp_path / "a", FLAT), write(tmp_path / "b", FLAT))
    assert len({r.id for r in rows if isinstance(r, Row)}) == 2


# ---- bad rows


def assistant(content: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "content": content}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON: "),
        ("[" * 100000, "not JSON: nested too deeply"),
        ("3", "not a row: "),
        ("[{}]", "not a row: .*list"),
        ('{"a": NaN}', "not JSON: NaN"),
        ('{"a": 1e999}', "not JSON: 1e999"),
        ('{"a": 1, "a": 2}', "key given twice: 'a'"),
        (r'{"user_content": "\ud800", "tool_name": null}', "not text: half a surrogate"),
        (b'{"user_content": "\xff"}', "not UTF-8: "),
        ({}, r"unknown format: keys \(none\)"),
        ({"prompt": "x", "completion": "y"}, "unknown format: keys completion, prompt"),
        ({**FLAT, "tool_arguments": json.dumps(json.dumps(CALL.arguments))}, "arguments twice encoded: light"),
        ({**FLAT, "tool_arguments": ["hall"]}, "arguments not an object: light's are a list"),
        ({**FLAT, "tool_arguments": "room=hall"}, "not JSON: "),
        ({**FLAT, "tool_arguments": None}, "arguments missing: light"),
        ({**FLAT, "tool_name": None}, "not a call: tool_arguments without"),
        ({**FLAT, "tool_name": 3}, "not a call: its name is 3"),
        ({**FLAT, "tool_name": "lihgt"}, r"undeclared tool: lihgt \(did you mean light\?\)"),
        ({**FLAT, "tool_arguments": {"room": "attic"}}, "outside enum: light.room"),
        ({**FLAT, "tool_arguments": {"room": "hall", "percent": "40"}}, "wrong type: light.percent"),
        ({**FLAT, "tool_arguments": {}}, "missing argument: light.room"),
        ({**FLAT, "tool_arguments": {"room": "hall", "x": 1}}, "undeclared argument: light.x"),
        ({**FLAT, "tool_arguments": {"room": "hall", "percent": None}}, "null argument: light.percent .*load_dataset"),
        ({**FLAT, "user_content": ""}, "no user message"),
        ({**FLAT, "user_content": 3}, "content is not text: user's is a int"),
        ({"messages": [structured()]}, "no user message"),
        ({"messages": []}, "no user message"),
        ({"messages": [USER]}, "no answer: the last message is the user's"),
        (
            {"messages": [USER, structured(), {"role": "tool", "name": "light", "content": "ok"}]},
            "no answer: .* tool's",
        ),
        ({"messages": [USER, {"role": "bot", "content": "x"}]}, "unknown role: 'bot'"),
        ({"messages": [3]}, "unknown role: 3"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content is not text: user's is a list"),
        (assistant(""), "empty answer"),
        (assistant(None), "empty answer"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": "x"}]}, "not a call: tool_calls is no list"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": ["x"]}]}, "not a call: write"),
        ({"messages": [USER, {**structured(), "content": RAW}]}, "stray tag: <start_function_call>"),
        (assistant(RAW.replace("<end", "</end")), "misspelt tag: </end_function_call>, where <end_function_call> was"),
        (assistant(RAW.replace("<end", "</end") + RAW), "misspelt tag: </end_function_call>"),
        (assistant("<function_call>now{}"), "misspelt tag: <function_call>"),
        (assistant("a <escape> b"), "stray tag: <escape>"),
        (assistant("<start_function_call>call:light{room:<escape>ha"), "malformed call: "),
        (assistant(RAW.replace("<escape>", "")), "malformed call: "),
        (assistant(f"{RAW} Done."), "text after a call"),
        ({"messages": [USER, structured("light", {"room": "hall"})], "tools": "x"}, "unusable tools: a str"),
        ({"messages": [USER, structured()], "tools": [LIGHT, LIGHT]}, "unusable tools: light is declared twice"),
        (
            {
                "messages": [USER, structured()],
                "tools": [
                    {
                        "name": "light",
                        "parameters": {"type": "object", "properties": {"room": {"type": "string"}, "to": None}},
                    }
                ],
            },
            "unusable tools: .*, parameter to: its schema is null",
        ),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason_and_reading_goes_on(tmp_path: Path, row: Any, reason: str) -> None:
    file = write(tmp_path, row, FLAT)
    bad, good = read(file)
    assert isinstance(bad, Reject) and isinstance(good, Row)
    assert (bad.file, bad.line) == (str(file), 1) and len(bad.text) <= readers.SHOWN
    assert re.match(reason, bad.reason), bad.reason


def test_a_string_that_the_dialect_cannot_write_is_rejected(tmp_path: Path) -> None:
    tool = normalise(
        {
            "name": "say",
            "description": "S.",
            "parameters": {"type": "object", "properties": {"text": {"type": "string", "description": "T."}}},
        }
    )[0]
    bad = one(tmp_path, {"messages": [USER, structured("say", {"text": "an <escape> inside"})]}, [tool])
    assert isinstance(bad, Reject) and bad.reason.startswith("not expressible: ")


def test_missing_and_empty_files_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    good = write(tmp_path, FLAT)
    for content in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "empty.jsonl").write_bytes(content)
        with pytest.raises(EdgeError, match=r"empty\.jsonl: file is empty"):
            readers.read([good, tmp_path / "empty.jsonl"], TOOLS, DIALECT)
    with pytest.raises(EdgeError, match=r"none\.jsonl: No such file"):
        readers.read([tmp_path / "none.jsonl"], TOOLS, DIALECT)
    with pytest.raises(EdgeError, match="file is empty"):
        read(write(tmp_path, b" ", name="blank.jsonl"))


LINES = st.binary(max_size=40).filter(lambda b: b"\n" not in b) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=6) | st.sampled_from(["user", "assistant", "light", RAW]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "messages",
                        "role",
                        "content",
                        "tool_calls",
                        "function",
                        "name",
                        "arguments",
                        "tools",
                        "user_content",
                        "tool_name",
                        "tool_arguments",
                        "metadata",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)


@given(st.lists(LINES, max_size=4))
def test_whatever_the_lines_hold_each_gives_a_row_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    file = write(tmp_path_factory.mktemp("any"), *lines, FLAT)
    found = read(file)
    assert [r.line for r in found] == [n for n, line in enumerate(lines, 1) if line.strip()] + [len(lines) + 1]
    assert isinstance(found[-1], Row)


# ---- what becomes of them


def rejects(found: Iterable[Union[Row, Reject]]) -> list[Reject]:
    return [r for r in found if isinstance(r, Reject)]


def test_rejects_are_written_and_counted(tmp_path: Path) -> None:
    bad = rejects(read(write(tmp_path, "{", FLAT, "}", {**FLAT, "tool_name": "x"})))
    readers.write_rejects(bad, tmp_path / "out" / "rejects.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [(r["line"], r["text"][:1]) for r in lines] == [(1, "{"), (3, "}"), (4, "{")]
    assert all(sorted(r) == ["file", "line", "reason", "text"] for r in lines)
    assert readers.count_reasons(bad) == {"not JSON": 2, "undeclared tool": 1}


def test_evaluation_rows_that_are_also_in_training(tmp_path: Path) -> None:
    other = {**FLAT, "tool_arguments": {"room": "bath"}}
    train = [r for r in read(write(tmp_path, FLAT)) if isinstance(r, Row)]
    evaluation = [
        r
        for r in read(
            write(
                tmp_path,
                {"messages": [USER, structured()]},
                other,
                {**FLAT, "user_content": "new"},
                {"messages": [USER, structured("now", {})]},
                name="eval.jsonl",
            )
        )
        if isinstance(r, Row)
    ]
    # the same request and calls in another format; the same prompt with another answer; then neither, twice
    assert readers.shared_rows(train, evaluation) == ["eval.jsonl:1", "eval.jsonl:2"]
    assert readers.shared_rows([], evaluation) == []


# ---- real rows

real = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not beside the checkout")


@real
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("finetune/home_ko.train.jsonl", 711),
        ("finetune/home_ko.val.jsonl", 163),
        ("finetune/flutter_gemma.jsonl", 320),
        ("finetune/google_docs_simple_tool_calling.jsonl", 40),
        ("mobile_actions_rows.jsonl", 7),
    ],
)
def test_real_rows_are_all_read(name: str, rows: int) -> None:
    found = read(SHARED / name, tools=[])
    assert [r.reason for r in rejects(found)] == []
    assert len(found) == rows and all(r.calls for r in found if isinstance(r, Row))


@real
def test_the_mobile_actions_split_and_calls() -> None:
    found = [r for r in read(SHARED / "mobile_actions_rows.jsonl") if isinstance(r, Row)]
    assert [r.split for r in found].count("eval") == 2 and [r.split for r in found].count("train") == 3
    assert {len(r.tools or []) for r in found} == {7}
    assert max(len(r.calls) for r in found) >= 2
