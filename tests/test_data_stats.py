"""`edge data stats`: counts of calls, arguments, values, lengths, repetitions and leaks, against rows counted by hand."""

from __future__ import annotations

from pathlib import Path

import datarows
import pytest
from datarows import MIXED, call, flat, mobile

from edge import environments
from edge.console import Console
from edge.train.data import source, stats, tokens
from edge.train.data.tokens import Length

ROWS = [
    flat("hall to 40", room="hall", percent=40),
    flat("hall to 50", room="hall", percent=50),
    flat("the bath, dark", room="bath"),
    mobile("bath and hall", call(room="bath"), call(room="hall")),
    "{",
]


def test_what_is_in_mixed_files(tmp_path: Path) -> None:
    loaded, _ = datarows.load(tmp_path, *MIXED, "{", "[]")
    told = stats.overview(loaded)
    assert told["shapes"] == {"mobile-actions": 3, "flat": 2, "raw-call": 1, "text": 1}
    assert (told["rows"], told["rejected"], told["reasons"]) == (7, 2, {"not JSON": 1, "not a row": 1})
    assert told["files"] == {str(tmp_path / "rows.jsonl"): {"rows": 7, "rejected": 2}}
    assert (told["no_call"], told["several_turns"], told["with_tool_responses"]) == (2, 1, 1)
    assert told["with_tools_of_their_own"] == 1 and told["splits"] == {"not said": 6, "train": 1}


def test_tools_arguments_and_values(tmp_path: Path) -> None:
    loaded, _ = datarows.load(tmp_path, *ROWS)
    told = stats.stats(loaded, [Length(1, 1, None)] * 4, 10)
    assert told["calls_per_row"] == {1: 3, 2: 1}
    light = told["tools"]["light"]
    assert (light["offered"], light["rows"], light["calls"]) == (4, 4, 5)
    assert light["arguments"]["room"] == {
        "calls": 5,
        "distinct": 2,
        "once": 0,
        "in_text": 5,
        "common": [("hall", 3), ("bath", 2)],
        "enum_unseen": ["거실"],
    }
    assert light["arguments"]["percent"]["common"] == [("40", 1), ("50", 1)]
    assert light["arguments"]["note"]["calls"] == 0
    assert told["tools"]["now"]["calls"] == 0 and told["tools"]["now"]["offered"] == 4
    assert told["scripts"] == {"latin": 4} and told["leaks"] is None


def test_repetitions(tmp_path: Path) -> None:
    loaded, _ = datarows.load(tmp_path, *ROWS, ROWS[0], flat("HALL to 40!", room="hall", percent=41))
    told = stats.repetitions(loaded.items)
    assert told["duplicates"] == 1 and told["near_duplicates"] == 2
    assert told["common_phrasings"] == [("_ to _", 4), ("the _ dark", 1), ("_ and _", 1)]  # 41 or not, numbers go
    assert told["contradictions"] == []
    other, _ = datarows.load(tmp_path, ROWS[0], flat("hall to 40", room="hall"))
    (places,) = stats.repetitions(other.items)["contradictions"]
    assert [p.rpartition(":")[2] for p in places] == ["1", "2"]


def test_leaks_need_both_sides(tmp_path: Path) -> None:
    held_out = datarows.write(tmp_path, ROWS[0], flat("bath to 7", room="bath", percent=7), name="eval.jsonl")
    found = datarows.find(tmp_path, datarows.write(tmp_path, *ROWS), evaluation=[str(held_out)])
    told = stats.leaks(source.read(found).items)
    assert told == {
        "train_rows": 4,
        "eval_rows": 2,
        "exact": [f"{held_out}:1"],
        "near": [(f"{held_out}:1", f"{tmp_path / 'rows.jsonl'}:1")],
        "same_phrasing": 2,
    }


def test_lengths_are_of_what_is_trained_on(tmp_path: Path) -> None:
    loaded, found = datarows.load(tmp_path, *ROWS, flat("거실", room="거실"))
    lengths = tokens.measure(loaded.items, found, None, Console(quiet=True))
    prompt, completion = tokens.rendered(loaded.items[-1], found)
    assert prompt.startswith("<bos><start_of_turn>developer") and completion.endswith("<start_function_response>")
    assert lengths[-1] == Length(len(prompt + completion), len((prompt + completion).encode()), None)
    told = stats.lengths_of(loaded.items, lengths, 10)
    assert told["tokens"] is None and told["over_limit"] is None
    assert told["bytes"]["longest"] == max(length.bytes for length in lengths)
    counted = [Length(1, 1, n) for n in (5, 11, 9, 12, 8)]
    told = stats.lengths_of(loaded.items, counted, 10)
    assert told["tokens"] == {"median": 9, "p95": 12, "longest": 12, "longest_at": loaded.items[3].place}
    assert told["over_limit"] == 2 and told["over_limit_at"] == [loaded.items[n].place for n in (1, 3)]


@pytest.mark.slow
def test_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    loaded, found = datarows.load(tmp_path, *MIXED)
    folder = tokens.find("edge-tiny", found)
    lengths = tokens.measure(loaded.items, found, folder, Console(quiet=True))
    assert all(length.tokens and 20 < length.tokens < length.bytes for length in lengths)
    empty, marks = tokens.count([("", ""), ("<bos>", "<end_of_turn><escape>")], folder, Console(quiet=True))
    assert (empty, marks) == (0, 3)
    assert environments.read(environments.spec(environments.script("gguf")))
