"""`edge data check`: every fault is found, with its file, its line and a remedy; sound rows give none."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import datarows
import pytest
from datarows import LIGHT, MIXED, RAW, call, calls, flat, mobile, raw, said, user

from edge import tools
from edge.errors import EdgeError
from edge.train import readers
from edge.train.data import check, source
from edge.train.data.tokens import Length

GOOD = flat("the hall please", room="hall")
GOOD_NOW = flat("what time is it", "now")


def problems(source_: source.Source) -> list[check.Problem]:
    loaded, faults = check.load(source_)
    return check.check(loaded, source_, [], 1024, faults=faults).problems


def found(folder: Path, *rows: Any, tools: bool = True, **options: Any) -> list[check.Problem]:
    return problems(datarows.find(folder, datarows.write(folder, *rows), tools=tools, **options))


def test_sound_rows_of_every_shape_have_no_problem(tmp_path: Path) -> None:
    assert [str(p) for p in found(tmp_path, *MIXED, GOOD_NOW)] == []


@pytest.mark.parametrize(
    ("row", "kind", "details"),
    [
        ('{"user_content": ', "not JSON", "Expecting value"),
        ("[{}]", "not a row", "list"),
        (b'{"user_content": "\xc0\xcf"}', "not UTF-8", "UTF-8"),
        ('{"a": 1, "a": 2}', "key given twice", "'a'"),
        ({"prompt": "x", "completion": "y"}, "unknown format", "completion, prompt"),
        ({**GOOD, "tool_arguments": '{"room": "hall"'}, "broken arguments", "delimiter"),
        ({**GOOD, "tool_arguments": json.dumps(GOOD["tool_arguments"])}, "arguments twice encoded", "light"),
        ({**GOOD, "tool_arguments": ["hall"]}, "arguments not an object", "list"),
        ({**GOOD, "tool_arguments": None}, "arguments missing", "light"),
        (flat("x", "lihgt", room="hall"), "undeclared tool", "did you mean light"),
        (flat("x", room="attic"), "outside enum", '"attic"'),
        (flat("x", percent=4), "missing argument", "light.room"),
        (flat("x", room="hall", percent="4"), "wrong type", "light.percent"),
        (flat("x", room="hall", note=26), "wrong type", "light.note is 26, declared string"),
        (flat("x", room="hall", colour="red"), "undeclared argument", "light.colour"),
        (flat("x", room="hall", note=None), "null argument", "light.note"),
        (flat("end<end_of_turn>", room="hall"), "control token", "<end_of_turn>"),
        (mobile("x <start_function_call>", call("now")), "control token", "message 2"),
        (flat("x", room="hall", note="an <escape> inside"), "not expressible|control token", "<escape>"),
        (raw("x", RAW.replace("<end", "</end")), "misspelt tag", "</end_function_call>"),
        (raw("x", RAW.replace("<escape>", "")), "malformed call", "hall"),
        (raw("x", f"{RAW} Done."), "text after a call", ""),
        (raw("x", "a <escape> b"), "stray tag", "<escape>"),
        (raw("x", ""), "empty answer", ""),
        ({"messages": [user("x")]}, "no answer", "user"),
        ({"messages": [said("x")]}, "no user message", ""),
        ({"messages": [{"role": "bot", "content": "x"}]}, "unknown role", "bot"),
        ({"messages": [user("x"), calls({"name": 3})]}, "not a call", ""),
        ({"messages": [{"role": "user", "content": [1]}, calls(call("now"))]}, "content is not text", "list"),
        (mobile("x", call("now"), tools="now"), "unusable tools", "str"),
    ],
)
def test_a_fault_in_a_row_is_an_error_with_file_line_and_remedy(
    tmp_path: Path, row: Any, kind: str, details: str
) -> None:
    errors = [p for p in found(tmp_path, GOOD, GOOD_NOW, row) if p.level == "error"]
    (problem,) = errors
    assert re.fullmatch(kind, problem.kind) and details in problem.message
    assert str(problem).startswith(f"{tmp_path / 'rows.jsonl'}:3: error: {problem.kind}")
    assert len(problem.remedy) > 10


def test_every_reason_of_the_readers_has_a_remedy() -> None:
    texts = [f.read_text() for f in (*Path(readers.__file__).parent.glob("*.py"), Path(tools.__file__))]
    kinds = {
        k
        for text in texts
        for k in re.findall(r'(?:BadRow\(\s*f?|yield f|return \[f|_reason = )"([a-zA-Z -]+): ', text)
    }
    assert len(kinds) > 20 and kinds <= set(check.REMEDIES)


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        (json.dumps([GOOD, GOOD_NOW]).encode(), "one list of 2 rows", "python3 -c"),
        (json.dumps([GOOD], indent=1).encode(), "one list of 1 rows", "python3 -c"),
        (b"\xef\xbb\xbf" + json.dumps(GOOD, indent=1).encode(), "one object over several lines", "python3 -c"),
        (json.dumps(GOOD).encode("utf-16"), "UTF-16", "iconv"),
        (b"", "empty", "one JSON object per line"),
        (b" \n\n", "empty", "one JSON object per line"),
        (b"PAR1....", "Parquet", "export"),
        (b"\x1f\x8b....", "gzip", "unpack"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, content: bytes, message: str, remedy: str) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(content)
    both = datarows.find(tmp_path, bad, datarows.write(tmp_path, GOOD, GOOD_NOW))
    problem = problems(both)[0]
    assert str(problem).startswith(f"{bad}:1: error: ") and message in problem.message and remedy in problem.remedy
    with pytest.raises(EdgeError, match=r"bad\.jsonl, line 1: ") as caught:
        source.read(both)
    assert caught.value.hint == problem.remedy


@pytest.mark.parametrize("value", [[GOOD, GOOD_NOW], GOOD])
def test_the_remedy_for_json_in_place_of_json_lines_works(tmp_path: Path, value: Any) -> None:
    bad = tmp_path / "it's rows.jsonl"
    bad.write_bytes(b"\xef\xbb\xbf" + json.dumps(value, indent=1).encode())
    before = bad.read_bytes()
    problem = problems(datarows.find(tmp_path, bad))[0]
    subprocess.run(problem.remedy.partition(": ")[2], shell=True, check=True, cwd=tmp_path)
    assert bad.read_bytes() == before
    made = problems(datarows.find(tmp_path, tmp_path / "it's rows.lines.jsonl"))
    assert [p for p in made if p.kind not in ("uncalled tool", "single row")] == []


def test_windows_line_ends_and_a_byte_order_mark_are_warnings(tmp_path: Path) -> None:
    lines = [b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), json.dumps(GOOD_NOW).encode()]
    (tmp_path / "rows.jsonl").write_bytes(lines[0] + b"\n" + lines[1] + b"\r\n")
    told = problems(datarows.find(tmp_path, tmp_path / "rows.jsonl"))
    assert [(p.level, p.kind, p.line) for p in told] == [("warning", "BOM", 1), ("warning", "CRLF", 2)]


def test_tools_that_no_row_calls(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, GOOD, flat("and the bath", room="bath"))
    assert (problem.kind, problem.file) == ("uncalled tool", str(tmp_path / "tools.json")) and "now" in problem.message
    other = {"name": "other", "description": "O."}
    told = found(tmp_path, GOOD, GOOD_NOW, mobile("x", call(room="hall"), tools=[LIGHT, other]))
    assert [(p.kind, p.line, "other" in p.message) for p in told] == [("uncalled tool", 3, True)]


def test_calls_that_nothing_is_declared_for(tmp_path: Path) -> None:
    told = found(tmp_path, GOOD_NOW, raw("x", "No."), tools=False)
    assert [(p.kind, p.line) for p in told] == [("no tools", 1)]


def test_what_a_model_cannot_be_told_of_a_tool(tmp_path: Path) -> None:
    odd = {**LIGHT, "parameters": {"type": "object", "properties": {"x": {"type": "float", "description": "X."}}}}
    told = found(tmp_path, GOOD, GOOD_NOW, mobile("x", call(x=1.5), tools=[odd]), mobile("y", call(x=2.5), tools=[odd]))
    assert [(p.kind, p.line) for p in told] == [("tool", 3)]


def test_an_argument_of_two_types(tmp_path: Path) -> None:
    rows = [flat(f"to {n}", "f", x=n) for n in (1, 2.5, 3)]
    told = found(tmp_path, *rows, flat("to four", "f", x="4"), tools=False)
    mixed = [p for p in told if p.kind == "mixed types"]
    assert [(p.line, p.message) for p in mixed] == [(4, "mixed types: f.x is number in 3 calls, string in 1 calls")]


def test_a_tool_response_to_nothing(tmp_path: Path) -> None:
    response = {"role": "tool", "name": "now", "content": {"time": "9:00"}}
    told = found(tmp_path, GOOD, GOOD_NOW, {"messages": [user("x"), calls(call(room="hall")), response, said("Nine.")]})
    assert [(p.kind, p.line, p.message) for p in told] == [
        ("stray response", 3, "stray response: now answers, the call before it is light")
    ]


def test_duplicates_whatever_their_shape_and_contradictions(tmp_path: Path) -> None:
    told = found(
        tmp_path,
        GOOD_NOW,
        flat("hall to 40", room="hall", percent=40),
        raw("hall to 40", RAW),
        flat("hall to 40", room="hall", percent=41),
    )
    assert [(p.kind, p.line) for p in told] == [("duplicate", 3), ("contradiction", 4)]
    assert "rows.jsonl:2" in told[0].message and "rows.jsonl:2" in told[1].message


def test_leaks_from_training_into_evaluation(tmp_path: Path) -> None:
    train = datarows.write(tmp_path, GOOD, GOOD_NOW, flat("switch the light in the hall on now, please", room="hall"))
    held_out = datarows.write(
        tmp_path,
        GOOD,
        flat("Switch the light in the hall on now, pleas!", room="hall"),
        flat("something else altogether", room="bath"),
        name="eval.jsonl",
    )
    told = problems(datarows.find(tmp_path, train, evaluation=[str(held_out)]))
    assert [(p.kind, p.line) for p in told] == [("leak", 1), ("near leak", 2)]
    assert all(p.file == str(held_out) for p in told) and "rows.jsonl:3" in told[1].message


def test_tools_that_evaluation_calls_and_training_never_saw_called(tmp_path: Path) -> None:
    train = datarows.write(tmp_path, GOOD, flat("and the bath", room="bath"))
    held_out = datarows.write(tmp_path, flat("a lamp in the hall", room="hall"), GOOD_NOW, name="eval.jsonl")
    told = problems(datarows.find(tmp_path, train, evaluation=[str(held_out)]))
    assert [(p.kind, p.line, p.message[:22]) for p in told] == [("unseen tool", 2, "unseen tool: now is ca")]
    alone = problems(datarows.find(tmp_path, evaluation=[str(held_out)]))
    assert [p.kind for p in alone] == []  # without training rows nothing can be missing from them


def test_tags_in_prompts_are_warned_of_once_and_in_answers_rejected(tmp_path: Path) -> None:
    near = {"role": "developer", "content": "Call so: call:f{}</end_function_call> and <b>bold</b>"}
    rows = [{"messages": [near, user(f"the {room}"), calls(call(room=room))]} for room in ("hall", "bath")]
    found_ = found(tmp_path, *rows, GOOD_NOW)
    assert [(p.level, p.kind, p.line) for p in found_] == [("warning", "tag in a prompt", 1)]
    assert "developer says </end_function_call>; the model's own is <end_function_call>" in found_[0].message
    assert "(in 2 rows)" in found_[0].message
    bad = found(tmp_path, *rows, GOOD_NOW, raw("x", "</end_function_call>"))
    assert [(p.kind, p.line) for p in bad if p.level == "error"] == [("misspelt tag", 4)]


def test_system_in_place_of_developer_is_told_where_it_matters(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "system", "content": "Be brief."}, user(f"the {room}"), calls(call(room=room))]}
            for room in ("hall", "bath")]  # fmt: skip
    told = found(tmp_path, *rows, GOOD_NOW)
    assert [(p.level, p.kind, p.line) for p in told] == [("warning", "system role", 1)] and "(in 2 rows)" in told[
        0
    ].message
    assert found(tmp_path, *rows, GOOD_NOW, dialect="hermes") == []  # Qwen's own word is system


def test_a_single_row(tmp_path: Path) -> None:
    assert {p.kind for p in found(tmp_path, GOOD, tools=False)} == {"no tools", "single row"}


def test_old_line_ends(tmp_path: Path) -> None:
    rows = [json.dumps(GOOD).encode(), json.dumps(GOOD_NOW).encode()]
    (tmp_path / "mac.jsonl").write_bytes(b"\r".join(rows) + b"\r")
    (problem,) = problems(datarows.find(tmp_path, tmp_path / "mac.jsonl"))
    assert (problem.level, problem.kind) == ("error", "not JSON lines") and "CR alone" in problem.message
    subprocess.run(problem.remedy.partition(": ")[2], shell=True, check=True)
    assert problems(datarows.find(tmp_path, tmp_path / "mac.lf.jsonl")) == []
    lines = [b"\xef\xbb\xbf" + rows[0] + b"\r\n", rows[1] + b"\n", b'{"a": "\xff"}\r\n']
    (tmp_path / "mixed.jsonl").write_bytes(b"".join(lines))
    told = problems(datarows.find(tmp_path, tmp_path / "mixed.jsonl"))
    assert [(p.level, p.kind, p.line) for p in told] == [
        ("error", "not UTF-8", 3), ("warning", "BOM", 1), ("warning", "CRLF", 1),
    ]  # fmt: skip


def test_rows_over_the_limit(tmp_path: Path) -> None:
    loaded, found_ = datarows.load(tmp_path, GOOD, GOOD_NOW, "{")
    lengths = [Length(1, 1, 1024), Length(1, 1, 1025)]
    checked = check.check(loaded, found_, lengths, 1024)
    assert [(p.level, p.kind, p.line) for p in checked.problems] == [
        ("error", "not JSON", 3),
        ("error", "too long", 2),
    ]
    assert [(r.line, r.reason.partition(":")[0]) for r in checked.rejects()] == [(3, "not JSON"), (2, "too long")]


def test_a_file_of_rejected_rows_is_known_as_ours(tmp_path: Path) -> None:
    told = found(tmp_path, GOOD, GOOD_NOW, {"file": "a", "line": 1, "reason": "r", "text": "t"})
    assert [(p.line, "edge wrote" in p.remedy) for p in told] == [(3, True)]


def test_files_are_found_once_and_globs_leave_rejects_out(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "a.rejects.jsonl", "rejects.jsonl"):
        datarows.write(tmp_path, GOOD, name=name)
    found_ = source.expand([f"{tmp_path}/*.jsonl", f"{tmp_path}/a.jsonl"])
    assert [f.name for f in found_] == ["a.jsonl", "b.jsonl"]
    for nothing, why in ((f"{tmp_path}/*.json", "no such file"), (str(tmp_path), "a folder")):
        with pytest.raises(EdgeError, match=why):
            source.expand([nothing])
