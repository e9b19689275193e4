"""What exporting and running a 270M costs on this machine, quantisation by quantisation: `make bench-270m`.

Makes the architecture at random weights (speed and size need no trained ones), exports every quantisation in the
workers that users' exports run in, and runs each through llama.cpp. The runs are interleaved: one round measures every
file once, so that a neighbour's load falls on all of them, and the spread over the rounds is reported beside the middle
one. Ratios are to F16 of the same round.

    python -m edge.bench.suites.gguf_270m --out build/bench-270m --rounds 3

Prints a table and writes `bench-270m.json` with every sample.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import platform
import random
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import environments, records, worker
from edge.bench import measure
from edge.console import Console
from edge.devices.local import Local
from edge.errors import EdgeError
from edge.export.quantisations import parse
from edge.records import Json

BASE = "f16"
NUMPY = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q8_0-emb-q4_0", "q4_0-emb-q4_0")
LLAMA = ("q6_k", "q5_k_m", "q4_k_m", "q4_k_m-emb-q5_0", "q3_k_m", "q2_k", "iq4_nl", "iq4_xs")
PROMPT_WORDS, NEW_TOKENS, CONTEXT = 160, 32, 1024
MAX_EXPORT_BYTES, MAX_EXPORT_S = 2 << 30, 120.0  # what the project promises on 2 cores
_TOKENIZER = Path(str(importlib.resources.files("edge.train"))) / "edge-tiny" / "tokenizer.model"


@dataclass
class Row:
    """One quantisation. Rates are one value a round, in tokens a second."""

    quantisation: str
    file_bytes: int
    export_s: float
    export_peak_rss_bytes: int | None
    tensor_types: Json
    prefill: list[float]
    decode: list[float]
    load_s: list[float]
    peak_rss_bytes: int | None = None
    error: str | None = None


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    with Console() as console:
        bench = Bench(given.out, given.threads or measure.default_threads(), console)
        checkpoint = bench.make_checkpoint(given.tokenizer)
        rows = bench.export(checkpoint)
        for n in range(given.rounds):
            bench.round(n, rows)
    result = bench.result(rows, given.rounds)
    records.save(result, given.out / "bench-270m.json")
    print(table(result))
    if not given.keep:
        bench.remove_files()
    return 0 if result["within_limits"] and not any(row.error for row in rows) else 1


class Bench:
    def __init__(self, out: Path, threads: int, console: Console) -> None:
        self._out, self._threads, self._console = out.absolute(), threads, console
        self._folders: list[Path] = []
        self._paths: dict[str, Path] = {}
        self._workers: list[Json] = []
        self._runtime = "llama_cpp"
        self._facts: Json = {}
        self._loads: list[float | None] = []

    def make_checkpoint(self, tokenizer: Path) -> Path:
        """The random model, made once."""
        target = self._out / "checkpoint"
        if not (target / "model.safetensors").exists():
            script = Path(__file__).with_name("random_270m.py")
            self._work(script, "gguf", {"tokenizer": str(tokenizer.absolute()), "seed": 0}, target, "making the model")
        return target

    def export(self, checkpoint: Path) -> list[Row]:
        """All quantisations: numpy's from one read of the weights; llama.cpp's from the F16, given a compiler."""
        request = {"checkpoint": str(checkpoint), "name": "random", "dialect": "functiongemma"}
        rows = self._export("gguf", {**request, "quantisations": list(NUMPY)})
        quantise = environments.spec(environments.script("quantise"))
        lack = environments.missing(quantise)
        if lack:
            self._console.say(f"K and i types need {lack}: left out")
            self._runtime = "xllamacpp"
            return rows
        source = {"source": str(self._paths[BASE]), "name": "random"}
        return rows + self._export("quantise", {**source, "quantisations": list(LLAMA)})

    def round(self, n: int, rows: list[Row]) -> None:
        """Measure every file once, in an order of its own."""
        environment = environments.ensure(environments.spec(environments.script(self._runtime)), self._console)
        settings = measure.Settings(self._runtime, self._threads, CONTEXT, NEW_TOKENS, ())
        workload = self._workload()
        for row in random.Random(n).sample(rows, len(rows)):
            path = self._paths[row.quantisation]
            subject = measure.Subject(row.quantisation, path, f"{row.file_bytes}-round-{n}", "artifact", "gguf")
            result = self._out / "rounds" / f"{n}-{row.quantisation}.json"
            result.unlink(missing_ok=True)
            took = measure.measure(subject, settings, workload, Local(), environment, result, self._console)
            self._keep(row, took)

    def result(self, rows: list[Row], rounds: int) -> Json:
        seconds = sum(w["wall_s"] for w in self._workers)
        peak = max(w.get("peak_rss_bytes") or 0 for w in self._workers)
        return {
            "schema": 1,
            "what": "Gemma 3 270M architecture, random weights, 262,144 pieces",
            "machine": Local().facts(),
            "python": platform.python_version(),
            "runtime": self._facts,
            "threads": self._threads,
            "rounds": rounds,
            "load_averages": self._loads,
            "workers": self._workers,
            "export_s": seconds,
            "export_peak_rss_bytes": peak,
            "within_limits": seconds <= MAX_EXPORT_S and peak <= MAX_EXPORT_BYTES,
            "rows": [_figures(row, rows[0]) for row in rows],
        }

    def remove_files(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _export(self, name: str, request: Json) -> list[Row]:
        target = self._out / name
        answer = self._work(environments.script(name), name, request, target, f"exporting ({name})")
        self._workers.append(
            {"worker": name, **{k: answer[k] for k in ("wall_s", "cpu_s", "peak_rss_bytes", "versions", "checks")}}
        )
        self._folders.append(target)
        rows = []
        for a in answer["artifacts"]:
            self._paths[a["quantisation"]] = target / a["file"]
            rows.append(
                Row(
                    a["quantisation"],
                    a["bytes"],
                    a["export_s"],
                    answer["peak_rss_bytes"],
                    a["tensor_types"],
                    [],
                    [],
                    [],
                )
            )
        return rows

    def _work(self, script: Path, environment: str, request: Json, target: Path, what: str) -> Json:
        python = environments.ensure(environments.spec(environments.script(environment)), self._console).python
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._console.task(what) as progress:
            return worker.run(script, request, target, python=python, progress=progress)

    def _workload(self) -> Path:
        """One prompt of some 300 tokens, in words that a random model reads as well as any."""
        words = [format(n, "x") for n in random.Random(0).sample(range(1 << 16), PROMPT_WORDS)]
        path = self._out / "workload.jsonl"
        records.write_text(path, json.dumps({"id": "0", "prompt": "<bos>" + " ".join(words)}) + "\n")
        return path

    def _keep(self, row: Row, took: records.Measurement) -> None:
        if took.error:
            row.error = took.error["message"]
            return
        self._loads.append(took.load_average_before)
        self._facts = {"name": took.runtime, "version": took.runtime_version, "settings": took.settings}
        row.peak_rss_bytes = max(row.peak_rss_bytes or 0, took.peak_rss_bytes or 0) or None
        row.load_s.append(took.load_s or 0.0)
        for s in took.samples:
            if s.prompt_tokens and s.prefill_s and s.completion_tokens and s.decode_s:
                row.prefill.append(s.prompt_tokens / s.prefill_s)
                row.decode.append(s.completion_tokens / s.decode_s)


def table(result: Json) -> str:
    """For people: the middle of the rounds, the spread, and the ratio to F16."""
    rates = f"{'prefill tok/s':>24}{'x F16':>7}{'decode tok/s':>22}{'x F16':>7}"
    head = f"{'':18}{'MB':>6}{'of F16':>8}{'export s':>10}{rates}{'RSS MB':>8}"
    lines = [head, *(_line(row) for row in result["rows"])]
    runtime, peak = result["runtime"], result["export_peak_rss_bytes"]
    loads = [v for v in result["load_averages"] if v is not None] or [0.0]
    lines += [
        "",
        f"all exports: {result['export_s']:.0f} s (at most {MAX_EXPORT_S:.0f} on two idle cores), "
        f"peak RSS {peak / 1e6:.0f} MB (at most {MAX_EXPORT_BYTES / 1e6:.0f})",
        f"{result['rounds']} rounds, {result['threads']} threads, {runtime.get('version')}, {result['machine']['cpu']}",
        f"load average before each run: {min(loads):.1f} to {max(loads):.1f}; above the core count, trust no rate",
    ]
    return "\n".join(lines)


def _line(row: Json) -> str:
    start = f"{row['quantisation']:18}{row['file_bytes'] / 1e6:6.0f}{row['size_ratio']:8.2f}{row['export_s']:10.1f}"
    if row["error"]:
        return f"{start}  failed: {row['error'].splitlines()[0][:80]}"
    rates = "".join(_rate(row[k], row[f"{k}_ratio"], width) for k, width in (("prefill", 24), ("decode", 22)))
    return f"{start}{rates}{(row['peak_rss_bytes'] or 0) / 1e6:8.0f}"


def _rate(values: list[float], ratio: float | None, width: int) -> str:
    if not values:
        return f"{'not measured':>{width}}{'':7}"
    spread = f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"
    return f"{spread:>{width}}{ratio or 0:7.2f}"


def _figures(row: Row, base: Row) -> Json:
    """The row with its ratios to F16."""
    assert base.quantisation == BASE and parse(row.quantisation).name == row.quantisation
    return {
        **row.__dict__,
        "size_ratio": row.file_bytes / base.file_bytes,
        "prefill_ratio": _ratio(row.prefill, base.prefill),
        "decode_ratio": _ratio(row.decode, base.decode),
    }


def _ratio(values: list[float], base: list[float]) -> float | None:
    """The middle of the ratios round by round."""
    ratios = [v / b for v, b in zip(values, base)]
    return statistics.median(ratios) if ratios else None


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="gguf_270m", description="The 270M architecture: every quantisation, as ratios to F16."
    )
    parser.add_argument(
        "--tokenizer", type=Path, default=_TOKENIZER, help="a SentencePiece model with the function tokens"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-270m"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep", action="store_true", help="keep the GGUF files (5 GB)")
    given = parser.parse_args(arguments)
    if not given.tokenizer.is_file():
        raise EdgeError(f"{given.tokenizer}: no such file", "give a tokenizer.model with --tokenizer")
    return given


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except EdgeError as error:
        print(f"{error.message}\n{error.hint or ''}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
