"""What `edge eval` counts: meaning, mistakes, metrics, the page, and everything that is refused before a model runs."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import checkpoints
import click
import pages
import pytest
from click.testing import CliRunner

from edge import callrows, records
from edge.bench import evaluate as evaluation
from edge.bench import metrics, mistakes, semantics, stats, subjects
from edge.bench.evaluation import Evaluation, common_mistakes, headline
from edge.bench.metrics import METRICS, Facts, Judged, bfcl_verdict, by_argument, figures
from edge.bench.report import evaluation as page
from edge.bench.score import Outcome
from edge.calls import Call, exact
from edge.cli import Group
from edge.commands.eval import eval_, show
from edge.console import Console
from edge.errors import EdgeError
from edge.records import Checkpoint, write_text
from edge.rows import Manner
from edge.train import tiny

QUIET = Console(quiet=True)


# ---- meaning


@pytest.mark.parametrize(
    "alike",
    [
        ["Seoul", "SEOUL", " seoul ", '"Seoul"', "Seoul.", "\uff33eoul", "\u201cSeoul\u201d"],
        [20, 20.0, "20", "20.0", "+20"],
        [1000, "1,000", "1000"],
        [True, "true", "True"],
        ["2025-06-06", "2025/6/6", "June 6, 2025", "6 June 2025", "Jun 6th, 2025", "2025년 6월 6일", "2025. 6. 6."],
        ["14:00", "14:00:00", "2 pm", "2:00 PM", "2 p.m.", "오후 2시", "14시", "오후 2시 0분"],
        ["00:30", "12:30 am", "오전 12시 30분"],
        ["2025-06-06T14:00:00", "2025-06-06 14:00", "June 6, 2025 at 2 pm", "2025년 6월 6일 오후 2시"],
        ["2025-06-06T14:00:00+09:00", "2025-06-06T05:00:00Z"],
        [["A", 1], ["a", "1"]],
        [{"x": "A", "y": 2}, {"y": 2.0, "x": "a"}],
        ["거실", "거실"],
    ],
)
def test_what_means_the_same(alike: list[Any]) -> None:
    assert [v for v in alike if not semantics.same(alike[0], v)] == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Seoul", "Busan"), (20, 21), ("007", 7), ("20 %", 20), (1, True), ("1", True), (None, ""), (None, "null"),
        ("6/6/2025", "2025-06-06"), ("2025-06-06", "2025-06-07"), ("2025-02-31", "2025-2-31"), ("25:00", "1:00"),
        ("2025-06-06", "2025-06-06T00:00:00"), ("2025-06-06T14:00:00Z", "2025-06-06T14:00:00"), ("13 pm", "1 pm"),
        ([1, 2], [2, 1]), ({"a": 1}, {"a": 1, "b": None}), ("a b", "ab"), ("", " x "), ("30.12.2025", "2025-12-30"),
    ],
)  # fmt: skip
def test_what_does_not(a: Any, b: Any) -> None:
    assert not semantics.same(a, b)


def test_any_text_has_a_meaning() -> None:
    for text in (
        "",
        ".",
        '"',
        "'\"'",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+14:00",
        "１２：００",
        "1" * 5000,
        "24시",
    ):
        assert semantics.same(text, text) and hash(semantics.normal(text)) is not None


# ---- mistakes


def call(tool: str = "light", **arguments: Any) -> Call:
    return Call(tool, arguments)


def outcome(expected: list[Call], got: list[Call], row: str = "r", **changes: Any) -> Outcome:
    errors = tuple(changes.pop("errors", ()))
    why = exact(got, expected) or next(iter(errors), None)
    state = changes.pop("state", "wrong" if why else "right")
    return Outcome(row, state, expected, got, why=why, errors=errors, text="…", **changes)


HALL = call(room="hall", percent=40)
KINDS = {
    "failed": outcome([HALL], [], state="failed"),
    "unparsable": outcome([HALL], [HALL], errors=["truncated"]),
    "unwanted call": outcome([], [HALL]),
    "no call": outcome([HALL], []),
    "wrong tool": outcome([HALL], [call("heat", room="hall", percent=40)]),
    "missing call": outcome([HALL, call("now")], [HALL]),
    "extra call": outcome([HALL], [HALL, call("now")]),
    "wrong order": outcome([HALL, call("now")], [call("now"), HALL]),
    "missing argument": outcome([HALL], [call(room="hall")]),
    "extra argument": outcome([HALL], [call(room="hall", percent=40, note="x")]),
    "value far": outcome([HALL], [call(room="kitchen", percent=40)]),
    "value near": outcome([HALL], [call(room="hall", percent=41)]),
    "other form": outcome([HALL], [call(room="Hall", percent="40")]),
}


def test_every_kind_of_mistake_is_told_from_the_others() -> None:
    assert list(KINDS) == list(mistakes.KINDS)
    assert {name: mistakes.find(o)[0].kind for name, o in KINDS.items()} == {name: name for name in KINDS}
    assert mistakes.find(outcome([HALL], [HALL])) == []
    assert mistakes.find(outcome([HALL], [], state="missing")) == []


def test_the_gravest_mistake_names_the_row_and_all_are_told() -> None:
    found = mistakes.find(outcome([HALL, call("now")], [call(room="halls", note="x"), call("now"), call("heat")]))
    assert [(m.kind, m.call, m.argument) for m in found] == [
        ("extra call", 3, None), ("missing argument", 1, "percent"), ("extra argument", 1, "note"), ("value near", 1, "room"),
    ]  # fmt: skip


def test_calls_are_paired_with_those_that_were_made_for_them() -> None:
    bath, hall = call(room="bath", percent=40), call(room="hall", percent=1)
    assert mistakes.pair([HALL, bath], [bath, hall]) == [(0, 1), (1, 0)]
    assert mistakes.pair([HALL, bath], [call(room="hall", percent=9)]) == [(0, 0), (1, None)]
    assert mistakes.pair([HALL], [call("now"), hall]) == [(0, 1), (None, 0)]
    assert mistakes.pair([HALL], [call("now")]) == [(0, 0)]
    assert mistakes.pair([], [HALL]) == [(None, 0)]


@pytest.mark.parametrize(
    ("a", "b", "close"),
    [
        (100, 109, True), (100, 112, False), (3, 4, True), (3, 5, False), (-3, 3, False),
        ("14:00", "14:59", True), ("14:00", "15:01", False), ("2025-06-06", "2025-06-07", True),
        ("2025-06-06", "2025-06-08", False), ("2025-06-06T14:00", "2025-06-06", True),
        ("Buy milk today", "Buy milk", True), ("kitchen", "kitchens", True), ("hall", "bath", False),
        (True, False, False), (None, "x", False), ("hall", 3, False), (["drain", "serve"], ["drain", "me"], True),
    ],
)  # fmt: skip
def test_near(a: Any, b: Any, close: bool) -> None:
    assert mistakes.near(a, b) is mistakes.near(b, a) is close


# ---- metrics


def tool(name: str, **properties: str) -> dict[str, Any]:
    schema = {k: {"type": v, "description": k} for k, v in properties.items()}
    parameters = {"type": "object", "properties": schema, "required": []}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


TOOLS = [tool("light", room="string", percent="integer", note="string"), tool("now"), tool("heat", room="string")]


def judged(o: Outcome, tokens: tuple[float, float] | None = None, turns: bool = False, **facts: Any) -> Judged:
    return Judged(
        o, Facts(facts.get("tools", TOOLS), turns, facts.get("script", "latin"), facts.get("said", "hi")), tokens
    )


def test_each_metric_counts_what_its_meaning_says() -> None:
    lower = outcome([HALL], [call(room="HALL", percent=40)])
    order, silent, loud = KINDS["wrong order"], outcome([], []), KINDS["unwanted call"]
    rows = [judged(outcome([HALL], [HALL]), (9, 10)), judged(lower, (5, 10), turns=True), judged(order), judged(silent),
            judged(loud), judged(KINDS["unparsable"]), judged(KINDS["failed"])]  # fmt: skip
    sums = {name: tuple(map(sum, zip(*[metric.count(j) for j in rows]))) for name, metric in METRICS.items()}
    assert sums == {
        "exact": (2, 7), "bfcl": (4, 7), "unordered": (3, 7), "semantic": (3, 7), "names": (3, 7),
        "arguments": (7, 10), "arguments_semantic": (8, 10), "tokens": (14, 20), "parsed": (5, 7),
        "coverage": (4, 5), "abstention": (1, 2), "parallel": (0, 1), "multi_turn": (0, 1),
    }  # fmt: skip


def test_arguments_of_another_tool_count_for_nothing() -> None:
    assert metrics.arguments(KINDS["wrong tool"]) == [
        ("light", "room", False, False),
        ("light", "percent", False, False),
    ]
    found = by_argument([judged(KINDS["extra argument"]), judged(KINDS["value near"])])
    assert found["light"]["percent"] == {"n": 2, "right": 1, "same": 1, "extra": 0}
    assert found["light"]["note"] == {"n": 0, "right": 0, "same": 0, "extra": 1}


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("failed", "unparsable")])
def test_bfcl_is_the_verdict_of_edge_calls_score(name: str) -> None:
    """The same rows as lines of `edge calls score`, alternatives written by hand."""
    o = KINDS[name]
    truth = [{c.name: {k: [v] for k, v in c.arguments.items()}} for c in o.expected]
    category = "irrelevance" if not truth else "parallel" if len(truth) > 1 else "simple"
    line = {"prediction": [c.to_json() for c in o.got], "ground_truth": truth, "functions": TOOLS, "category": category}
    (told,) = callrows.score([json.dumps(line).encode()])
    assert bfcl_verdict(o, TOOLS) is told["valid"]


def test_bfcl_of_objects_and_of_rows_without_tools() -> None:
    nested = call(room={"floor": 1, "name": "Hall"}, note=[{"a": 1}, {"a": 2}])
    shape = tool("light", room="object", note="array")
    items = tool("light", room="object", note="array")
    items["function"]["parameters"]["properties"]["note"]["items"] = {"type": "object"}
    untyped = tool("light", room="string", note="string")  # the declaration is wrong: values are compared as they are
    for declared in (shape, items, untyped):
        assert bfcl_verdict(outcome([nested], [nested]), [declared]) is True
        other = call(room={"floor": 2, "name": "Hall"}, note=[{"a": 1}, {"a": 2}])
        assert bfcl_verdict(outcome([nested], [other]), [declared]) is False
    cased = call(room={"floor": 1, "name": "hall"}, note=[{"a": 1}, {"a": 2}])
    assert bfcl_verdict(outcome([nested], [cased]), [items]) is True
    assert bfcl_verdict(outcome([HALL], [HALL]), []) is None
    assert bfcl_verdict(outcome([call("undeclared")], []), TOOLS) is None


def test_differences_are_paired_and_tested() -> None:
    right, wrong = outcome([HALL], [HALL]), KINDS["no call"]
    base = [judged(right if i < 10 else wrong, (i % 5, 5)) for i in range(60)]
    tuned = [judged(right if i >= 5 else wrong, (5, 5)) for i in range(60)]
    values, differences = figures({"base": base, "tuned": tuned}, "base")
    d = differences["tuned"]["exact"]
    assert (d["gained"], d["lost"], d["n"]) == (50, 5, 60) and d["value"] == pytest.approx(45 / 60)
    assert d["p"] == pytest.approx(2 * sum(_choose(55, k) for k in range(6)) / 2**55)
    assert d["bootstrap"][0] < d["value"] < d["bootstrap"][1] and abs(d["bootstrap"][0] - d["low"]) < 0.05
    assert values["base"]["tokens"]["value"] == pytest.approx(0.4) and values["tuned"]["tokens"]["value"] == 1
    t = differences["tuned"]["tokens"]
    assert t["value"] == pytest.approx(0.6) and t["p"] is None and t["low"] < 0.6 < t["high"]
    assert values["base"]["parallel"]["value"] is None and differences["tuned"]["parallel"]["value"] is None
    assert figures({"only": base}, "base")[1] == {}


def test_more_is_said_where_interval_and_test_both_do() -> None:
    """Of five rows, four gained: the interval excludes 0, and the test has p = 0.12."""
    metrics = {name: {"value": 0.8, "low": 0.4, "high": 1.0, "n": 5} for name in ("exact",)}

    def said(gained: int, lost: int, n: int) -> tuple[str, str]:
        d = vars(stats.paired_difference([i < lost for i in range(n)], [lost <= i < lost + gained for i in range(n)]))
        subject = {"name": "tuned", "metrics": metrics, "difference": {"exact": d}}
        return headline(Evaluation("app", "", "", "", "", n, [subject], []))[0], page._change(d)

    told, cell = said(4, 0, 5)
    assert "no difference from the base that these rows can show (+80.0 points" in told and "p = 0.12" in told
    assert "none seen" in cell and "gained" not in cell
    assert "more than the base" in said(40, 0, 50)[0] and "gained" in said(40, 0, 50)[1]
    assert "fewer than the base" in said(0, 40, 50)[0]


def test_one_row_is_one_row(tmp_path: Path) -> None:
    made = found(tmp_path)
    shown = pages.read(page.render(made)).text
    assert "1 row:" in shown.replace(" :", ":") and not re.search(r"\b1 rows\b", shown)


def _choose(n: int, k: int) -> int:
    import math

    return math.comb(n, k)


# ---- the record, the page, the terminal


HOSTILE = "</script></pre><img src=x onerror=alert(1)>\x00\x1b[31m\u202e & \uffff"


def found(tmp_path: Path) -> Evaluation:
    """Three rows that only base has, each kind of mistake in tuned, all right otherwise; hostile text in one."""
    names = list(KINDS)
    wrong = {f"r{i}": KINDS[name] for i, name in enumerate(names)}
    hostile = outcome([call(room=HOSTILE)], [call(room=HOSTILE + "x", **{HOSTILE: HOSTILE})], errors=[HOSTILE])
    wrong["bad"] = hostile
    import dataclasses

    tuned = [judged(dataclasses.replace(o, row=row), (5, 10), said=f"say {row}") for row, o in wrong.items()]
    tuned += [judged(outcome([HALL], [HALL], row="good"), (10, 10), script="hangul")]
    base = [judged(outcome(j.outcome.expected, [], row=j.outcome.row), (0, 10), said="x") for j in tuned]
    every = {"base": base, "tuned": tuned}
    values, differences = figures(every, "base")
    right = {j.outcome.row for j in base if j.outcome.right}

    def subject(name: str) -> dict[str, Any]:
        record = Checkpoint("ab" * 32, str(tmp_path / name), "functiongemma")
        measurement = records.Measurement(
            "ab" * 32, name, "checkpoint", "transformers", "transformers 5", {}, "cd" * 32, 1
        )
        one = subjects.Candidate(name, record)
        return evaluation._subject(one, every[name], measurement, values[name], differences.get(name), tmp_path)

    return Evaluation(
        "app", "2026-11-21T10:00:00+00:00", "functiongemma", "training", "cd" * 32, len(tuned),
        [subject("base"), subject("tuned")],
        [m for name in every for m in evaluation._mistakes(name, every[name], right)],
        {"rows": len(tuned), "reasons": {"no answer": 2}}, [f"training never calls {HOSTILE}"],
        {"html": "evaluation.html", "json": "evaluation.json"},
    )  # fmt: skip


def test_the_page_shows_every_wrong_row_and_stays_text(tmp_path: Path) -> None:
    made = found(tmp_path)
    html = page.render(made)
    read = pages.read(html)
    articles = sum(tag == "article" for tag, _ in read.tags)
    assert articles == len(made.mistakes) == 14 + 14  # base is right where nothing is expected
    assert "right in base" in read.text and "prefers-color-scheme: dark" in html
    for kind, meaning in mistakes.KINDS.items():
        assert kind in read.text and meaning in read.text
    for metric in METRICS.values():
        assert metric.meaning in read.text


def test_the_letters_that_differ_are_marked() -> None:
    left, right = page._sides([call(room="kitchen").to_json()], [call(room="kitchens", note=1).to_json()])
    assert (
        left
        == '<div class="call"><b>light</b><ul><li>room <code><mark>&quot;kitchen&quot;</mark></code></li></ul></div>'
    )
    assert "kitchen<mark>s</mark>" in right and "note <code><mark>1</mark></code>" in right
    moved, _ = page._sides([HALL.to_json(), call("now").to_json()], [call("now").to_json(), HALL.to_json()])
    assert "mark" not in moved


def test_the_terminal_shows_five_kinds_with_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = found(tmp_path)
    show(made)
    told = capsys.readouterr().out
    assert "exact" in told and "tuned: 14 wrong rows" in told and "base: " not in told
    five = common_mistakes(made, "tuned")
    assert len(five) == 5 and five[0][0] == "unparsable" and five[0][1] == 2
    for kind, _, example in five:
        assert re.search(rf"^{kind} .*{re.escape(example['said'][:20])}", told, re.MULTILINE), told
    assert "tuned gets 6.7 % of 15 rows exactly right" in told == headline(made)[1] in told or headline(made)[1] in told


def test_one_wrong_row_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = found(tmp_path)
    tuned = next(s for s in made.subjects if s["name"] == "tuned")
    tuned["mistakes"] = {"unparsable": 1}
    show(made)
    assert "tuned: 1 wrong row; the most" in capsys.readouterr().out


def test_the_record_is_json_and_counts_add_up(tmp_path: Path) -> None:
    made = json.loads(json.dumps(vars(found(tmp_path))))
    tuned = made["subjects"][1]
    assert tuned["rows"] == {"expected": 15, "right": 1, "wrong": 13, "failed": 1, "missing": 0}
    assert sum(tuned["mistakes"].values()) == 14
    assert tuned["scripts"]["hangul"]["value"] == 1 and tuned["kinds"]["several calls"]["n"] == 2
    (form,) = [m for m in made["mistakes"] if m["subject"] == "tuned" and m["kind"] == "other form"]
    assert form["differences"] == [
        {"kind": "other form", "call": 1, "argument": "room", "expected": "hall", "got": "Hall"},
        {"kind": "other form", "call": 1, "argument": "percent", "expected": 40, "got": "40"},
    ]
    assert [m["row"] for m in made["mistakes"] if m["new"]] == ["r2"]  # nothing was expected, and base was silent


# ---- what is refused


def row(text: str, *made: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = {"tool_calls": [{"function": m} for m in made]} if made else {"content": "No."}
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", **answer}], **more}


def lines(file: Path, *rows: dict[str, Any]) -> Path:
    write_text(file, "".join(json.dumps(r) + "\n" for r in rows))
    return file


NOW = {"name": "now", "arguments": {}}
LIGHT = {"name": "light", "arguments": {"room": "hall"}}


def header(file: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    checkpoints.write_safetensors(
        file, {k: ("F32", s, struct.pack(f"<{s[0] * s[1]}f", *[0.0] * (s[0] * s[1]))) for k, s in tensors.items()}
    )


def adapter(folder: Path, tensors: dict[str, tuple[int, ...]], **config: Any) -> Path:
    told = {"peft_type": "LORA", "base_model_name_or_path": "edge-tiny", **config}
    write_text(folder / "adapter_config.json", json.dumps(told))
    header(folder / "adapter_model.safetensors", tensors)
    return folder


QUERY = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def test_subjects_that_do_not_fit(tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", row("time?", NOW))

    def refused(message: str, *given: Path | str, **options: Any) -> None:
        with pytest.raises(EdgeError, match=message):
            evaluation.evaluate(given, [rows], out=tmp_path / "out", **options)

    refused("nothing to evaluate")
    refused("no such folder", tmp_path / "nowhere")
    refused("no config.json", tmp_path)
    refused("no dialect 'latin'", "edge-tiny", dialect="latin")
    refused("tuned for the dialect functiongemma, not hermes", "edge-tiny", dialect="hermes")
    refused("is the same as base", "edge-tiny", base="edge-tiny")
    refused("no such folder, and no hub id", "edge-tiny", base="a/b/c")
    good = {QUERY.format("A"): (4, 256), QUERY.format("B"): (256, 4)}
    refused("names its base 'owner/name'", adapter(tmp_path / "far", good, base_model_name_or_path="owner/name"))
    refused(
        "is 256 x 256 there, and its lora_B 512 x 4", adapter(tmp_path / "wide", {**good, QUERY.format("B"): (512, 4)})
    )
    deep = {QUERY.format("A").replace("layers.0", "layers.9"): (4, 256)}
    refused("has no model.layers.9.self_attn.q_proj", adapter(tmp_path / "deep", deep))
    inside = adapter(tmp_path / "run" / "adapter", good)
    refused("an adapter lies in it", tmp_path / "run")
    base = records.load(Checkpoint, tiny.SHIPPED / "checkpoint.json")
    records.save(Checkpoint("00", "x", "functiongemma", base="11" * 32), tmp_path / "run" / "checkpoint.json")
    refused("an adapter of another base", inside)
    records.save(Checkpoint("00", "x", "functiongemma", base=base.digest), tmp_path / "run" / "checkpoint.json")
    (first, second) = subjects.find([inside], None, "functiongemma")
    assert (first.name, second.name, second.kind) == ("base", "run-adapter", "adapter") and first.digest == base.digest
    assert second.digest not in (first.digest, base.digest) and second.adapter == inside


def test_rows_that_say_nothing_of_calls(tmp_path: Path) -> None:
    def refused(message: str, *rows: dict[str, Any]) -> None:
        with pytest.raises(EdgeError, match=message):
            evaluation.evaluate(["edge-tiny"], [lines(tmp_path / "rows.jsonl", *rows)], out=tmp_path / "out")

    foreign = row("time?")
    foreign["messages"][-1]["content"] = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    refused("none of the 2 rows expects a call", row("hello"), foreign)
    unanswered = {"messages": [{"role": "user", "content": "hi"}]}
    refused("no usable evaluation rows", unanswered)
    assert "no answer" in (tmp_path / "out" / "rejects.jsonl").read_text()
    with pytest.raises(EdgeError, match="no rows to answer"):
        evaluation.evaluate(["edge-tiny"], out=tmp_path / "out")


def test_tools_that_training_never_saw_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evals = lines(tmp_path / "eval.jsonl", row("time?", NOW), row("lamp", LIGHT), row("time?", NOW))
    train = lines(tmp_path / "train.jsonl", row("time?", NOW))
    read = evaluation._read([evals], None, [train], None, Manner("functiongemma"), None, tmp_path / "out", Console())
    assert read.warnings[0] == "training never calls light, and 1 evaluation rows do"
    assert "2 evaluation rows are also in training" in read.warnings[1]
    assert f"warning: {read.warnings[0]}" in capsys.readouterr().err
    assert read.counts["tools_unseen_in_training"] == ["light"] and read.counts["without_tools"] == 3
    assert read.facts["eval.jsonl:2"].unseen == ("light",) and read.facts["eval.jsonl:1"].unseen == ()
    again = evaluation._read([evals], None, [], 2, Manner("functiongemma"), None, tmp_path / "out", QUIET)
    assert again.warnings == [] and len(again.workload) == 2 and again.counts["not taken"] == 1
    assert again.workload[1]["completion"].endswith("<start_function_response>")


def test_what_is_known_of_a_row(tmp_path: Path) -> None:
    talk = row("불 켜줘", LIGHT)
    talk["messages"] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."},
        *talk["messages"],
    ]
    file = lines(tmp_path / "eval.jsonl", talk, row("lamp", LIGHT, tools=TOOLS))
    facts = evaluation._read([file], None, [], None, Manner("functiongemma"), None, tmp_path / "out", QUIET).facts
    first, second = facts["eval.jsonl:1"], facts["eval.jsonl:2"]
    assert (first.several_turns, first.script, first.tools) == (True, "hangul", [])
    assert (second.several_turns, second.script, len(second.tools)) == (False, "latin", 3)


def test_counts_of_other_rows_are_begun_anew(tmp_path: Path) -> None:
    file, result = tmp_path / "tuned.tokens.jsonl", tmp_path / "tuned.json"
    for of, kept in ((["a", "b"], False), (["a", "b"], True), (["a", "c"], False)):
        result.write_text("{}")
        before = file.read_text() if file.exists() else ""
        evaluation._start_tokens(file, of, result)
        assert result.exists() is kept and (file.read_text() == before) is kept
        with file.open("a") as f:
            f.write('{"row": "r", "right": 1, "of": 2}\n{"row": "r", "right": 2, "of": 2}\n{"row": "s", "ri')
        assert evaluation._tokens(file) == {"r": (2, 2)}


@click.group(cls=Group)
def app() -> None:
    """`edge`, as far as it is needed here."""


app.add_command(eval_)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
        return result.exit_code, result.output

    with_project = tmp_path / "app"
    write_text(with_project / "edge.toml", '[project]\nname = "app"\n')
    lines(with_project / "train.jsonl", row("time?", NOW))
    lines(with_project / "eval.jsonl", row("time?", NOW))
    code, told = run(with_project)
    assert code == 2 and "nothing is tuned yet" in told
    code, told = run(tmp_path / "nowhere", "--data", with_project / "eval.jsonl", "--out", tmp_path / "out")
    assert code == 2 and "no such folder" in told
    code, told = run("edge-tiny", "--data", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert code == 2 and "no such file" in told
    code, told = run("--help")
    assert code == 0 and "same meaning" in told


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    import filelock

    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(EdgeError, match="another edge eval is at work"):
        evaluation.evaluate(["edge-tiny"], ["x.jsonl"], out=tmp_path)


def test_small_chances_are_not_spelled_out() -> None:
    from edge.bench.evaluation import chance

    assert [chance(p) for p in (None, 0.0, 9e-5, 1e-4, 0.0312, 1.0)] == [
        "–", "< 0.0001", "< 0.0001", "= 0.0001", "= 0.031", "= 1"]  # fmt: skip
