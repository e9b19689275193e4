"""`make bench-270m`: what it sees of memory, its limits and tables; and (slow) its steps, on the embedded model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edge.bench.suites import formats_270m, tables_270m
from edge.bench.suites.watch import Watch
from edge.export import everything
from edge.records import Artifact, Measurement, Sample
from edge.train import tiny

MB = 1 << 20


def holding(count: int) -> Watch:
    """What is seen while so many processes hold 150 MB each, all at the same time."""
    hold = f"import sys; held = b'x' * {150 * MB}; print(len(held), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold]
    with Watch() as watch:
        some = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
        for process in some:
            assert process.stdout and process.stdout.readline()
        time.sleep(1)
        for process in some:
            process.communicate()
    return watch


def test_memory_is_that_of_all_processes_together() -> None:
    none, one, two = (holding(count) for count in range(3))
    assert 150 * MB < one.peak_rss_bytes - none.peak_rss_bytes < 250 * MB
    assert 300 * MB < two.peak_rss_bytes - none.peak_rss_bytes < 450 * MB
    assert len(two.at_peak) == 3 and sum(two.at_peak.values()) == two.peak_rss_bytes
    seen = [p for p in two.to_json()["processes"] if p["name"].startswith("python") and p["peak_rss_bytes"] > 150 * MB]
    assert len(seen) >= 2 and all(p["end_s"] - p["begin_s"] > 0.5 for p in seen)


def found(**changed: Any) -> dict[str, Any]:
    artifact = {"format": "tflite", "quantisation": "int8", "bytes": 280e6}
    ours = {"seconds": 90.0}
    result = {"export": {"seconds": 200.0, "peak_rss_bytes": 7.5e9, "artifacts": [artifact]},
              "peer": {"ours": ours, "theirs": {"seconds": 300.0}}}  # fmt: skip
    for path, value in changed.items():
        step, key = path.split("__")
        result[step][key] = value
    return result


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({}, None),
        ({"export__seconds": 361.0}, "all exports"),
        ({"export__peak_rss_bytes": 8.1e9}, "memory of all exports together, at the peak"),
        ({"export__artifacts": [{"format": "tflite", "quantisation": "int8", "bytes": 286e6}]}, "int8 TFLite"),
        ({"peer__theirs": {"seconds": 170.0}}, "four .litertlm, of litetune's time"),
    ],
)
def test_limits(changed: dict[str, Any], broken: str | None) -> None:
    told = tables_270m.limits(found(**changed))
    assert len(told) == 4 and [it["what"] for it in told if not it["kept"]] == ([broken] if broken else [])


def test_everything_that_can_be_made_is_in_it() -> None:
    """But for what needs an importance matrix, and other names for the same types of GGUF."""
    assert set(formats_270m.ALL) == set(everything.FORMATS)
    for kind, made in everything.FORMATS.items():
        assert set(made.quantisations) <= set(formats_270m.ALL[kind])


def test_rows_hold_a_value_a_round_and_ratios_are_of_the_same_round() -> None:
    def took(prefill_s: float, error: str | None = None) -> Measurement:
        sample = Sample("0", "x", 256, 32, prefill_s, prefill_s, 1.0, 2.0, "length")
        given: dict[str, Any] = dict.fromkeys(Measurement.__annotations__)
        given.update(samples=[] if error else [sample], load_s=0.5, peak_rss_bytes=10**9, load_average_before=0.1,
                     error={"message": error} if error else None, runtime_version="r", threads=2, settings={})  # fmt: skip
        return Measurement(**given)

    base = tables_270m.new_row(Artifact("d", "p", "gguf", "f16", 1, "c", "functiongemma", "e"))
    row = tables_270m.new_row(Artifact("d", "p", "gguf", "q8_0", 1, "c", "functiongemma", "e"))
    for n, seconds in enumerate((1.0, 2.0, 4.0)):
        tables_270m.add(base, took(seconds), n)
        tables_270m.add(row, took(seconds / 2, "gone" if n == 1 else None), n)
    assert row["round"] == [0, 2] and row["error"] == "gone" and row["prefill"] == [512.0, 128.0]
    assert tables_270m._ratio(row, base, "prefill") == "2.00"  # not that of the middles, which are 320 and 128


@pytest.mark.slow
def test_every_step_but_the_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the embedded model in the random one's place; a second time what is done is kept."""
    shutil.copytree(tiny.SHIPPED, tmp_path / "checkpoint")
    (tmp_path / "checkpoint.worker").mkdir()
    prompt = "<bos>" + " ".join(f"{n:x}" for n in range(40000, 40060))
    reply = {"ok": {"prompts": {str(formats_270m.PROMPT_TOKENS): prompt}}}
    (tmp_path / "checkpoint.worker" / "reply.json").write_text(json.dumps(reply))
    command = [
        "--out",
        str(tmp_path),
        "--formats",
        "gguf=f16,q8_0",
        "onnx=int8",
        "--rounds",
        "2",
        "--no-peer",
        "--keep",
    ]
    assert formats_270m.main(command) == 0
    shown, result = capsys.readouterr().out, json.loads((tmp_path / "bench-270m.json").read_text())
    assert {(a["kind"], a["quantisation"]) for a in result["export"]["artifacts"]} == {
        ("gguf", "f16"), ("gguf", "q8_0"), ("onnx", "int8"),
    }  # fmt: skip
    assert {"gguf", "onnx"} <= {p["name"] for p in result["export"]["processes"]}
    assert all(row["round"] == [0, 1] and row["decode"] for row in result["runs"])
    assert all(row["kl_mean"] < 0.02 for row in result["proof"]["rows"]) and "NOT KEPT" not in shown
    assert formats_270m.main(command) == 0
    again = capsys.readouterr()
    assert again.err.count("done already") == 2 and again.err.count("measured already") == 6
    assert json.loads((tmp_path / "bench-270m.json").read_text())["export"] == result["export"]
