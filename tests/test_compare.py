"""`edge report --compare`: a regression is told where the intervals show one, and nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from benchresults import PI, Folder
from click.testing import CliRunner, Result

from edge.bench import compare as comparing
from edge.bench.compare import BETTER, SAME, UNKNOWN, WORSE, Change, Comparison
from edge.bench.report import folder
from edge.commands.report import report as command
from edge.errors import EdgeError
from edge.records import Sample


def two(tmp_path: Path, n: int = 100, salt: str = "") -> tuple[Folder, Folder]:
    return Folder(tmp_path / "old", n), Folder(tmp_path / "new", n, salt)


def compare(old: Folder, new: Folder, **options: Any) -> Comparison:
    return comparing.compare(folder.read(old.path), folder.read(new.path), **options)


def change(found: Comparison, what: str) -> Change:
    (pair,) = found.pairs
    return next(c for c in pair.changes if c.what == what)


def noisy(made: Folder, call_s: float, seed: int, **changes: Any) -> list[Sample]:
    dice = random.Random(seed)
    return made.samples(call_s=call_s * (0.98 + 0.04 * dice.random()), **changes)


@pytest.mark.parametrize(
    ("before", "after", "what", "verdict"),
    [
        ({}, {}, "accuracy", SAME),
        ({}, {}, "latency", SAME),
        ({"wrong": range(10)}, {"wrong": range(12)}, "accuracy", SAME),
        ({"wrong": range(10)}, {"wrong": range(40)}, "accuracy", WORSE),
        ({"wrong": range(40)}, {"wrong": range(10)}, "accuracy", BETTER),
        ({"call_s": 0.1}, {"call_s": 0.103}, "latency", SAME),
        ({"call_s": 0.1}, {"call_s": 0.12}, "latency", WORSE),
        ({"call_s": 0.12}, {"call_s": 0.1}, "latency", BETTER),
    ],
)
def test_verdicts_of_samples(tmp_path: Path, before: Any, after: Any, what: str, verdict: str) -> None:
    old, new = two(tmp_path)
    old.add("q8_0", samples=old.samples(**before))
    new.add("q8_0", samples=new.samples(**after))
    found = compare(old, new)
    assert change(found, what).verdict == verdict and found.worse is (verdict == WORSE)


@pytest.mark.parametrize(("what", "field"), [("memory", "peak_rss_bytes"), ("size", "file_bytes")])
@pytest.mark.parametrize(("after", "verdict"), [(104, SAME), (106, WORSE), (90, BETTER)])
def test_verdicts_of_single_figures(tmp_path: Path, what: str, field: str, after: int, verdict: str) -> None:
    old, new = two(tmp_path, 10)
    old.add("q8_0", **{field: 100_000_000})
    new.add("q8_0", **{field: after * 1_000_000})
    assert change(compare(old, new), what).verdict == verdict
    assert change(compare(old, new, tolerance=0.5), what).verdict == SAME


@pytest.mark.parametrize(
    ("circumstance", "why"),
    [
        ({"throttled": True}, "new: throttled"),
        ({"load_average_before": 9.0}, "new: noisy"),
        ({"device": {**PI, "cpu": "Cortex-A72"}}, "cpu Cortex-A76, now Cortex-A72"),
        ({"device": {**PI, "emulated": True}}, "emulated"),
    ],
)
def test_no_verdict_on_time_where_none_can_be_given(tmp_path: Path, circumstance: Any, why: str) -> None:
    old, new = two(tmp_path)
    old.add("q8_0")
    new.add("q8_0", **{"samples": new.samples(call_s=0.9), **circumstance})
    found = change(compare(old, new), "latency")
    assert found.verdict == UNKNOWN and why in found.words and not compare(old, new).worse
    fewer = {"samples": new.samples(range(60), 0.9), **circumstance}
    new.add("q8_0", **fewer)
    assert change(compare(old, new), "accuracy").verdict == WORSE, "whether calls are right has nothing to do with it"


def test_a_cell_that_fails_now_got_worse(tmp_path: Path) -> None:
    old, new = two(tmp_path, 10)
    old.add("q8_0")
    new.add("q8_0", samples=[], error={"kind": "crash", "message": "died", "hint": None})
    assert compare(old, new).worse and "fails now: died" in change(compare(old, new), "run").words
    assert not compare(new, old).worse and change(compare(new, old), "run").verdict == BETTER


def test_only_rows_that_ask_the_same_are_compared(tmp_path: Path) -> None:
    old, new = Folder(tmp_path / "old", 50), Folder(tmp_path / "new", 80)
    old.add("q8_0")
    new.add("q8_0", samples=new.samples(range(50, 80)))
    found = compare(old, new)
    assert change(found, "accuracy").n == 50 and change(found, "accuracy").verdict == SAME
    assert any("over the 50 that ask and expect the same" in note for note in found.notes)
    other = Folder(tmp_path / "other", 50, salt=" tomorrow")
    other.add("q8_0")
    assert change(compare(old, other), "accuracy").verdict == UNKNOWN


def test_cells_are_matched_by_what_they_are(tmp_path: Path) -> None:
    old, new = two(tmp_path, 10)
    old.add("q8_0", threads=2)
    old.add("q4_0")
    new.add("q8_0", threads=4)
    with pytest.raises(EdgeError, match="no cell in common"):
        compare(old, new)
    new.add("q4_0")
    found = compare(old, new)
    assert (found.gone, found.added) == (["pi5/q8_0/llama_cpp/2"], ["pi5/q8_0/llama_cpp/4"]) and len(found.pairs) == 1


def test_two_runs_of_the_same_show_no_difference(tmp_path: Path) -> None:
    """Twenty pairs of runs whose speed wanders by 2 % either way: none is called worse."""
    for seed in range(20):
        old, new = two(tmp_path / str(seed), 60)
        old.add("q8_0", samples=noisy(old, 0.1, seed))
        new.add("q8_0", samples=noisy(new, 0.1, seed + 100))
        assert not compare(old, new).worse


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_command_tells_a_ci(tmp_path: Path) -> None:
    old, new = two(tmp_path)
    old.add("q8_0")
    new.add("q8_0")
    same = run("--compare", old.path, new.path)
    assert same.exit_code == 0 and "nothing got worse" in same.stdout
    new.add("q8_0", samples=new.samples(range(30)))
    worse = run("--compare", old.path, new.path)
    assert worse.exit_code == 1 and "worse: pi5/q8_0/llama_cpp/4" in worse.stdout and "−30.0 points" in worse.stdout
    told = run("--compare", old.path, new.path, "--json")
    assert told.exit_code == 1 and json.loads(told.stdout)["worse"] is True
    assert run(old.path, "--compare", old.path, new.path).exit_code == 2
    slower = run("--compare", old.path, new.path, "--tolerance", "0.5")
    assert slower.exit_code == 1, "accuracy has no tolerance"
