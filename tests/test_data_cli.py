"""`edge data …` on the command line: results, exit codes, files that are written whole, JSON, and real data."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import datarows
import pytest
from click.testing import CliRunner, Result
from datarows import MIXED, SHARED, flat, mobile

from edge.cli import main
from edge.commands import data
from edge.train.data import output, source

GREETINGS = ("say", "tell", "please", "quick", "hey", "well", "now", "so", "and", "then")
ROWS = [
    *(flat(f"{room} to {n}", room=room, percent=n) for room in ("hall", "bath") for n in range(20)),
    *(flat(f"{word} what time is it {word}", "now") for word in GREETINGS),
]


def edge(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


def told(result: Result) -> Any:
    assert result.exit_code in (0, 2), result.output
    return json.loads(result.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    datarows.tools_file(tmp_path)
    datarows.write(tmp_path, *ROWS)
    datarows.write(tmp_path, *MIXED, "{", flat("x", room="attic"), name="mixed.jsonl")
    return tmp_path


def read(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("command", ["", "check", "stats", "filter", "split", "convert", "synth"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = edge(*([command] if command else []), "--help")
    assert result.exit_code == 0 and f"edge data {command}" in result.stdout and "--" in result.stdout


def test_help_lists_every_rule() -> None:
    from edge.train.data.filter import RULES

    shown = edge("filter", "--help").stdout
    assert [name for name, rule in RULES.items() if name not in shown or rule.meaning not in shown] == []


def test_check_exits_with_2_and_names_file_line_and_remedy(folder: Path) -> None:
    result = edge("check", folder / "mixed.jsonl", "--tools", folder / "tools.json", "--rejects", folder / "bad.jsonl")
    assert result.exit_code == 2
    assert f"{folder / 'mixed.jsonl'}:9: outside enum: light.room" in result.stdout and "remedy: " in result.stdout
    assert "2 errors, 0 warnings" in result.stdout
    assert [(r["line"], r["text"][:1]) for r in read(folder / "bad.jsonl")] == [(8, "{"), (9, "{")]


def test_half_a_character_is_shown_as_an_escape(folder: Path) -> None:
    (folder / "odd.json").write_text((folder / "tools.json").read_text().replace('"hall"', '"\\ud83d"'))
    result = edge("check", folder / "rows.jsonl", "--tools", folder / "odd.json")
    assert result.exit_code == 2 and "outside enum" in result.stdout and "\\ud83d" in result.stdout


def test_check_of_sound_rows_exits_with_0(folder: Path) -> None:
    result = edge("check", f"{folder}/row*.jsonl", "--tools", folder / "tools.json", "--json")
    assert result.exit_code == 0 and told(result)["errors"] == 0
    assert told(result)["rows"] == len(ROWS)


def test_check_as_json_has_every_problem(folder: Path) -> None:
    found = told(edge("check", folder / "mixed.jsonl", "--tools", folder / "tools.json", "--json"))
    assert [(p["level"], p["kind"], p["line"]) for p in found["problems"]] == [
        ("error", "not JSON", 8),
        ("error", "outside enum", 9),
    ]


def test_check_goes_on_past_a_file_that_is_no_json_lines(folder: Path) -> None:
    (folder / "list.jsonl").write_text(json.dumps(ROWS))
    found = told(
        edge("check", folder / "list.jsonl", folder / "rows.jsonl", "--tools", folder / "tools.json", "--json")
    )
    assert found["rows"] == len(ROWS) and [p["kind"] for p in found["problems"]] == ["not JSON lines"]
    stopped = edge("stats", folder / "list.jsonl")
    assert stopped.exit_code == 2 and "list.jsonl, line 1: JSON in place of JSON lines" in stopped.stderr


def test_a_single_row_goes_through_everything_that_one_row_can(folder: Path) -> None:
    one = datarows.write(folder, ROWS[0], name="one.jsonl")
    kinds = {p["kind"] for p in told(edge("check", one, "--tools", folder / "tools.json", "--json"))["problems"]}
    assert kinds == {"uncalled tool", "single row"}
    assert told(edge("stats", one, "--json"))["rows"] == 1
    for command, *more in (("filter", "-r", "unique"), ("convert", "--to", "raw-call")):
        assert edge(command, one, "-o", folder / f"{command}.jsonl", *more).exit_code == 0
    result = edge("split", one, "-o", folder / "sides")
    assert result.exit_code == 2 and "nothing was written" in result.stderr


def test_stats(folder: Path) -> None:
    found = told(edge("stats", folder / "rows.jsonl", "--tools", folder / "tools.json", "--json"))
    assert found["calls_per_row"] == {"1": 50} and found["tools"]["light"]["calls"] == 40
    shown = edge("stats", folder / "rows.jsonl", "--tools", folder / "tools.json").stdout
    assert "light.percent" in shown and "tokens: not counted" in shown and "leaks: not looked for" in shown


def test_a_project_brings_files_tools_and_held_out_rows(folder: Path) -> None:
    datarows.write(folder, ROWS[0], name="eval.jsonl")
    (folder / "edge.toml").write_text(
        '[project]\nname = "x"\n[tools]\nfile = "tools.json"\n[data]\ntrain = ["rows.jsonl"]\n[model]\nbase = "nobody/none"\n'
    )
    found = told(edge("check", "--project", folder, "--json"))
    assert found["splits"] == {"train": 50, "eval": 1} and [p["kind"] for p in found["problems"]] == ["leak"]


def test_filter_writes_rows_as_they_stand_and_the_rest_beside_them(folder: Path) -> None:
    out = folder / "out" / "small.jsonl"
    result = edge("filter", folder / "rows.jsonl", folder / "mixed.jsonl", "--tools", folder / "tools.json",
                  "-o", out, "-r", "single-call", "-r", "max-per-tool=5", "--json")  # fmt: skip
    assert [s["kept"] for s in told(result)["rules"]] == [57, 53, 10]
    given = [datarows.dump(row) for row in [*ROWS, *MIXED]] + ["{", datarows.dump(flat("x", room="attic"))]
    kept = out.read_text().splitlines()
    assert set(kept) < set(given) and sorted(
        [*kept, *(r["text"] for r in read(out.with_name("small.rejects.jsonl")))]
    ) == (sorted(given))


def test_lines_are_kept_but_for_their_ends(folder: Path) -> None:
    (folder / "crlf.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(datarows.dump(r).encode() for r in ROWS))
    edge("filter", folder / "crlf.jsonl", "-o", folder / "lf.jsonl", "-r", "single-call")
    assert (folder / "lf.jsonl").read_bytes() == (folder / "rows.jsonl").read_bytes()


def test_split_and_again_with_more_rows(folder: Path) -> None:
    first = edge("split", folder / "rows.jsonl", "-o", folder / "data", "--eval", 0.3, "--json")
    assert told(first)["train"] + told(first)["eval"] == len(ROWS) and told(first)["rejected"] == 0
    before = {name: (folder / "data" / f"{name}.jsonl").read_text().splitlines() for name in ("train", "eval")}
    datarows.write(folder, flat("lock the door", "f"), mobile("a b c d e", datarows.call("g")), name="more.jsonl")
    again = edge("split", folder / "rows.jsonl", folder / "more.jsonl", "-o", folder / "data", "--eval", 0.3, "--force")
    assert again.exit_code == 0 and "rows are held out" in again.stdout
    for name, lines in before.items():
        assert (folder / "data" / f"{name}.jsonl").read_text().splitlines()[: len(lines)] == lines


def test_convert(folder: Path) -> None:
    result = edge("convert", folder / "rows.jsonl", folder / "mixed.jsonl", "--tools", folder / "tools.json",
                  "--to", "raw-call", "-o", folder / "raw.jsonl", "--json")  # fmt: skip
    found = told(result)
    assert (found["rows"], found["verbatim"], found["rejected"]) == (56, 2, 3)
    assert list(found["reasons"].values()) == [1, 1, 1]
    assert "3 rows" in edge("convert", folder / "rows.jsonl", folder / "mixed.jsonl", "--tools", folder / "tools.json",
                            "--to", "raw-call", "-o", folder / "raw.jsonl", "--force").stdout  # fmt: skip


MAKING = [
    ["filter", "-r", "single-call", "-o", "{out}.jsonl"],
    ["split", "-o", "{out}"],
    ["convert", "--to", "raw-call", "-o", "{out}.jsonl"],
]


@pytest.mark.parametrize("command", MAKING, ids=lambda c: c[0])
def test_nothing_is_overwritten_without_force(folder: Path, command: list[str]) -> None:
    arguments = [part.format(out=folder / "made") for part in command]
    assert edge(*arguments, folder / "rows.jsonl").exit_code == 0
    made = {f: f.read_bytes() for f in folder.rglob("*.jsonl")}
    refused = edge(*arguments, folder / "mixed.jsonl", "--tools", folder / "tools.json")
    assert refused.exit_code == 2 and "already there" in refused.stderr and "--force" in refused.stderr
    assert {f: f.read_bytes() for f in folder.rglob("*.jsonl")} == made


@pytest.mark.parametrize("command", [MAKING[0], MAKING[2]], ids=lambda c: c[0])
def test_an_input_is_never_overwritten(folder: Path, command: list[str]) -> None:
    arguments = [part.format(out=folder / "rows") for part in command]
    before = (folder / "rows.jsonl").read_bytes()
    refused = edge(*arguments, folder / "rows.jsonl", "--force")
    assert refused.exit_code == 2 and "is read" in refused.stderr and (folder / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize("command", MAKING, ids=lambda c: c[0])
def test_a_failed_write_leaves_nothing(folder: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before, written = set(folder.rglob("*.jsonl")), []

    def full(path: Path, text: str) -> None:
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    monkeypatch.setattr(output, "write_text", full)
    result = edge(*(part.format(out=folder / "made") for part in command), folder / "rows.jsonl")
    assert result.exit_code == 3 and "No space left" in result.stderr
    assert written and set(folder.rglob("*.jsonl")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "no file was given"),
        (["check", "none.jsonl"], "none.jsonl: no such file"),
        (["filter", "{rows}", "-o", "{out}"], "at least one --rule"),
        (["filter", "{rows}", "-o", "{out}", "-r", "no-call"], "no row is left after no-call"),
        (["filter", "{rows}", "-o", "{out}", "-r", "max-tokens=5"], "needs a tokenizer"),
        (["stats", "{rows}", "--tokenizer", "{out}"], "no tokenizer.json"),
        (["split", "{one}", "-o", "{out}"], "nothing was written"),
        (["convert", "{rows}", "--to", "flat", "--with-tools", "-o", "{out}"], "--with-tools needs --tools"),
        (["filter", "{rows}", "-o", "{out}", "-r", f"max-chars={'9' * 5000}"], "no whole number from 1 to 10^18"),
        (["filter", "{rows}", "-o", "", "-r", "unique"], ".: a folder"),
        (["stats", "{rows}", "--threshold", "nan"], "'nan' is no number"),
        (["split", "{rows}", "-o", "{out}", "--eval", "nan"], "'nan' is no number"),
        (["convert", "{rows}", "-o", "/", "--to", "flat"], "/: a folder"),
        (
            ["filter", "{rows}", "--tools", "{tools}", "-o", "{tools}", "-r", "unique", "--force"],
            "this is a file that is read",
        ),
    ],
)
def test_what_can_not_be_done_says_why_and_writes_nothing(folder: Path, arguments: list[str], message: str) -> None:
    one = datarows.write(folder, ROWS[0], name="one.jsonl")
    before = {file: file.read_bytes() for file in folder.rglob("*")}
    names = {"rows": folder / "rows.jsonl", "out": folder / "out", "one": one, "tools": folder / "tools.json"}
    result = edge(*(a.format(**names) for a in arguments))
    assert result.exit_code == 2 and message in result.stderr
    assert {file: file.read_bytes() for file in folder.rglob("*")} == before


def test_what_takes_over_a_second_shows_progress_and_what_does_not_is_quiet(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = edge("stats", folder / "rows.jsonl")
    read_ = source.read

    def slow(*arguments: Any) -> Any:
        time.sleep(0.3)
        return read_(*arguments)

    monkeypatch.setattr(data, "_SLOW_S", 0.1)
    monkeypatch.setattr(source, "read", slow)
    shown, silent = edge("stats", folder / "rows.jsonl"), edge("stats", folder / "rows.jsonl", "--quiet")
    assert "reading" in shown.stderr and not quick.stderr and not silent.stderr
    assert shown.stdout == silent.stdout == quick.stdout


def test_tools_in_python_are_announced_before_they_run(folder: Path) -> None:
    (folder / "tools.py").write_text('def now():\n    """The time."""\n')
    shown = edge("check", folder / "rows.jsonl", "--tools", folder / "tools.py")
    assert shown.exit_code == 2 and "tools.py (it runs" in shown.stderr and "undeclared tool: light" in shown.stdout


# ---- real rows

real = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not beside the checkout")
FILES = [SHARED / "finetune" / "*.jsonl", SHARED / "mobile_actions_rows.jsonl"]


@real
def test_real_rows_are_sound_but_for_one_contradiction() -> None:
    found = told(edge("check", *FILES, "--json"))
    assert found["rows"] == 1241 and found["errors"] == 0
    assert found["shapes"] == {"raw-call": 874, "flat": 360, "mobile-actions": 7}
    (contradiction,) = [p for p in found["problems"] if p["kind"] == "contradiction"]
    assert contradiction["line"] == 479 and "home_ko.train.jsonl:321" in contradiction["message"]


@real
@pytest.mark.parametrize("to", ["mobile-actions", "raw-call"])
def test_real_rows_have_a_place_in_both_shapes_of_messages(tmp_path: Path, to: str) -> None:
    found = told(edge("convert", *FILES, "--to", to, "-o", tmp_path / "all.jsonl", "--json"))
    assert (found["rows"], found["rejected"]) == (1241, 0)


@real
def test_real_rows_split(tmp_path: Path) -> None:
    found = told(edge("split", SHARED / "finetune" / "home_ko.*.jsonl", "-o", tmp_path, "--json"))
    assert found["train"] + found["eval"] + found["rejected"] == 874 and 40 < found["eval"] < 140
    leaks = told(edge("stats", tmp_path / "train.jsonl", "--eval-file", tmp_path / "eval.jsonl", "--json"))["leaks"]
    assert (leaks["exact"], leaks["near"], leaks["same_phrasing"]) == ([], [], 0)
