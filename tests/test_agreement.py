"""`make bench-agreement`: what it reads from the other tools and makes of the figures; and (slow) a short run of all of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edge import environments
from edge.bench.suites import agreement
from edge.errors import EdgeError

LLAMA_BENCH = [
    {"n_prompt": 512, "n_gen": 0, "avg_ts": 816.5, "samples_ns": [1]},
    {"n_prompt": 0, "n_gen": 64, "avg_ts": 64.25},
]
LITERT = """Benchmarking model: m.litertlm (/m.litertlm)
Running iteration 1 of 1..
----- Results -----
Prefill speed:        2138.50 tokens/s
Decode speed:         86.25 tokens/s
Init time:            0.6441 s
Time to first token:  0.1302 s
"""


def test_reads_what_the_other_tools_print() -> None:
    assert agreement.read_llama_bench(json.dumps(LLAMA_BENCH)) == {"prefill": 816.5, "decode": 64.25}
    assert agreement.read_litert(LITERT) == {"prefill": 2138.5, "decode": 86.25}


@pytest.mark.parametrize("text", ["", "[]", json.dumps(LLAMA_BENCH[:1]), "{", '[{"n_gen": 1}]', json.dumps([1])])
def test_what_llama_bench_does_not_print_is_no_rate(text: str) -> None:
    assert agreement.read_llama_bench(text) is None


def test_a_failure_that_litert_swallows_is_no_rate() -> None:
    assert agreement.read_litert(LITERT.replace("86.25", "0.00")) is None
    assert agreement.read_litert("An error occurred during benchmarking\n") is None
    assert agreement.read_litert(LITERT.replace("Prefill", "Refill")) is None


def test_the_interval_is_students() -> None:
    """Of 1, 2, 4, 8 the logarithms (base 2) are 0 to 3: mean 1.5, deviation sqrt(5/3), half 3.182 * that / 2."""
    low, high = agreement.interval([1.0, 2.0, 4.0, 8.0])
    half = 3.182 * math.sqrt(5 / 3) / 2
    assert math.log2(low) == pytest.approx(1.5 - half) and math.log2(high) == pytest.approx(1.5 + half)
    assert agreement.interval([1.01] * 5) == pytest.approx((1.01, 1.01))
    assert agreement.interval([1.0]) == (0.0, math.inf)
    narrow, wide = (agreement.interval([0.99, 1.01] * n) for n in (40, 2))
    assert wide[0] < narrow[0] < 1 < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("interval", "word"),
    [((0.95, 1.05), "yes"), ((0.96, 1.0), "yes"), ((0.949, 1.0), "open"), ((0.9, 1.2), "open"), ((1.0, 1.051), "open"),
     ((1.06, 1.2), "no"), ((0.5, 0.94), "no"), ((0.0, math.inf), "open")],
)  # fmt: skip
def test_verdicts(interval: tuple[float, float], word: str) -> None:
    assert agreement.verdict(*interval) == word


def rounds(*ratios: float) -> list[dict[str, Any]]:
    """Theirs drifts as a busy machine does; ours is so many times theirs of the same round."""
    found = []
    for n, ratio in enumerate(ratios):
        its = {"prefill": 100.0 * (n + 1), "decode": 10.0 * (n + 1)}
        found.append({"round": n, "pair": "gguf", "ours": False, **its})
        found.append(
            {"round": n, "pair": "gguf", "ours": True, "prefill": its["prefill"] * ratio, "decode": its["decode"]}
        )
    return found


def test_ratios_are_of_the_same_round() -> None:
    prefill, decode = agreement.rows(rounds(1.02, 1.02, 1.02))
    assert (prefill["pair"], prefill["kind"], prefill["rounds"]) == ("gguf", "prefill", 3)
    assert prefill["theirs"] == [200.0, 100.0, 300.0] and prefill["ratio"] == pytest.approx(1.02)
    assert prefill["verdict"] == decode["verdict"] == "yes" and decode["interval"] == pytest.approx([1.0, 1.0])
    assert agreement.rows(rounds(0.8, 0.8, 0.8))[0]["verdict"] == "no"
    assert agreement.rows(rounds(0.8, 1.0, 1.2))[0]["verdict"] == "open"
    assert [r["rounds"] for r in agreement.rows(rounds(1.0, 1.0)[1:])] == [1, 1]  # theirs of the first round failed


def test_table_says_what_is_not_kept() -> None:
    found: dict[str, Any] = {
        "rows": agreement.rows(rounds(0.8, 0.8, 0.8)), "overhead_s": {"gguf": [0.0002, 0.0003], "litertlm": [0.002, 0.0001, 0.003]},
        "prefill_tokens": 512, "decode_tokens": 64, "threads": 2, "machine": {"cpu": "a processor"},
        "versions": {"gguf": "llama-cpp-python 0"}, "tools": {"gguf": "llama-bench"}, "load_average": [0.1, 2.0],
    }  # fmt: skip
    lines = agreement.table(found).splitlines()
    assert lines[1].startswith("gguf") and lines[1].endswith(" no") and lines[2].endswith(" yes")
    assert "0.250 ms a call, 0.300 at most: under 1 ms" in lines[3] and "2.000 ms a call" in lines[4]
    assert lines[4].endswith("NOT under 1 ms") and "llama-cpp-python 0 beside llama-bench" in lines[5]


def test_bad_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"gone\.gguf: no such file"):
        agreement._parse(["--gguf", str(tmp_path / "gone.gguf")])
    with pytest.raises(EdgeError, match="--rounds 1"):
        agreement._parse(["--rounds", "1"])


def test_the_tools_are_pinned() -> None:
    runtime = environments.spec(environments.script("litert_lm"))
    assert set(runtime.dependencies) <= set(agreement.LITERT_CLI.dependencies) <= set(agreement.LITERT_CLI.pins)


@pytest.mark.slow
def test_all_of_it_on_the_embedded_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is right about it, not how fast it is: that depends on who else is at work here."""
    agreement.main(
        ["--out", str(tmp_path), "--tiny", "--rounds", "2", "--threads", "1", "--prefill", "128", "--decode", "16"]
    )
    found = json.loads((tmp_path / "agreement.json").read_text())
    assert {(r["pair"], r["kind"], r["rounds"]) for r in found["rows"]} == {
        (pair, kind, 2) for pair in ("gguf", "litertlm") for kind in ("prefill", "decode")
    }
    assert len(found["rounds"]) == 8 and all(r["prefill"] > 0 and r["decode"] > 0 for r in found["rounds"])
    assert [len(seconds) for seconds in found["overhead_s"].values()] == [2, 2]
    assert found["threads"] == 1 and len(found["files"]["gguf"]["sha256"]) == 64
    shown = capsys.readouterr().out
    assert "llama-bench" in shown and "litert-lm benchmark" in shown and found["machine"]["cpu"] in shown
