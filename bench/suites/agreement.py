"""Whether our rates are those of the field's own tools, and what the harness adds to a call: `make bench-agreement`.

GGUF through `llama_cpp` beside `llama-bench`, compiled here from the same source with the same options; `.litertlm` through
`litert_lm` beside `litert-lm benchmark`. Same file, threads and lengths, one after the other, both once a round, in turns, so that
a neighbour's load falls on both. Agreement is the middle of the ratios round by round, with the 95 % interval of their mean
(Student's t over logarithms): "yes" if all of the interval lies within 5 %, "no" if none does, else more rounds are needed.

The harness's cost is measured on the same agents: how long many short rows take as their samples arrive here, less what the
runtime says that its calls took, a row.

    python -m edge.bench.suites.agreement --rounds 10            (`make bench-agreement`)
    python -m edge.bench.suites.agreement --gguf FILE --litertlm FILE --threads 2

Without files it makes those of the 270M architecture at random weights, as `formats_270m` does (a few minutes, 6 GB), or with
--tiny those of the embedded model. Prints a table and writes `agreement.json`. Ends with 1 unless all is "yes".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import environments, records
from edge.bench import measure
from edge.bench.runtimes import llama_cpp
from edge.bench.suites import formats_270m, run
from edge.console import Console
from edge.devices import runners
from edge.devices.local import Local
from edge.errors import EdgeError, WorkerError, from_json
from edge.export import everything, job
from edge.records import Json
from edge.train import tiny
from edge.worker import Channel, clean_environment

WITHIN = 0.05  # of their rate
OVERHEAD_S = 0.001  # a call
CONTEXT, ROWS = 1024, 50  # of the rows that the harness is timed on
LITERT_CLI = environments.Spec(
    name="litert-lm-cli",
    requires_python=">=3.10",
    dependencies=("litert-lm==0.18.1", "litert-lm-api==0.18.1"),
    pins=("absl-py==2.5.1", "click==8.5.1", "flatbuffers==25.12.19", "litert-lm-api==0.18.1", "litert-lm-builder==0.18.1",
          "litert-lm==0.18.1", "prompt-toolkit==3.0.53", "protobuf==7.36.2", "questionary==2.1.1", "tomli==2.5.0",
          "typing-extensions==4.16.0", "wcwidth==0.9.4"),
    about="litert-lm, for its benchmark",
    megabytes=200,
    platforms=("Linux x86_64", "Linux aarch64", "Darwin arm64"),
)  # fmt: skip
_SPEED = re.compile(r"^(Prefill|Decode) speed:\s+([\d.]+) tokens/s", re.MULTILINE)
_KINDS = ("prefill", "decode")
# Student's t, 97.5 %, for 1 to 29 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
      2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One file, our runtime for it, and the tool that it is held against."""

    name: str
    file: Path
    runtime: str
    tool: str


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    with Console() as console:
        found = Bench(given, console).run()
    records.save(found, given.out / "agreement.json")
    print(table(found))
    return 0 if all(row["verdict"] == "yes" for row in found["rows"]) and found["overhead_kept"] else 1


class Bench:
    """given: what `_parse` returns."""

    def __init__(self, given: Any, console: Console) -> None:
        self._given, self._console = given, console
        self._threads = given.threads or measure.default_threads()
        self._local = Local()

    def run(self) -> Json:
        pairs = self._pairs()
        ready = {pair.name: self._local.environment(pair.runtime, self._console) for pair in pairs}
        tools = {pair.name: self._tool(pair) for pair in pairs}
        rounds: list[Json] = []
        overhead: dict[str, list[float]] = {}
        before = os.getloadavg()[0]
        with contextlib.ExitStack() as stack:
            agents = {p.name: stack.enter_context(self._agent(p, ready[p.name])) for p in pairs}
            versions = {name: facts["runtime_version"] for name, (_, facts) in agents.items()}
            with self._console.task("rounds") as progress:
                for n in range(-1, self._given.rounds):  # the first warms both up, and does not count
                    turns = [(pair, ours) for pair in pairs for ours in (True, False)]
                    for pair, ours in random.Random(n).sample(turns, len(turns)):
                        rate = self._ours(agents[pair.name][0]) if ours else self._theirs(pair, tools[pair.name])
                        if n >= 0:
                            rounds.append({"round": n, "pair": pair.name, "ours": ours, **rate})
                    progress(n + 1, self._given.rounds)
            for pair in pairs:
                overhead[pair.name] = self._overhead(agents[pair.name][0])
        return {
            "schema": 1,
            "machine": self._local.facts(),
            "threads": self._threads,
            "prefill_tokens": self._given.prefill,
            "decode_tokens": self._given.decode,
            "rounds": rounds,
            "versions": versions,
            "tools": {pair.name: pair.tool for pair in pairs},
            "files": {p.name: {"name": p.file.name, "sha256": records.digest_file(p.file)} for p in pairs},
            "settings": {"environment": llama_cpp.ENVIRONMENT, "context": CONTEXT},
            "load_average": [before, os.getloadavg()[0]],
            "rows": rows(rounds),
            "overhead_s": overhead,
            "overhead_kept": all(statistics.median(seconds) < OVERHEAD_S for seconds in overhead.values()),
        }

    # --- ours ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _agent(self, pair: Pair, environment: environments.Environment) -> Iterator[tuple[Channel, Json]]:
        options: Json = {"threads": self._threads, "context": CONTEXT, "stop": [], "tokenizer": None}
        self._given.out.mkdir(parents=True, exist_ok=True)
        with (
            (self._given.out / f"{pair.runtime}.log").open("wb") as log,
            self._local.agent(pair.runtime, str(pair.file), options, environment, log) as agent,
        ):
            load = {"do": "load", "runtime": pair.runtime, "path": agent.path, "options": agent.options}
            yield agent.channel, ask(agent.channel, load)

    def _ours(self, channel: Channel) -> Json:
        told = ask(channel, {"do": "rates", "prefill": self._given.prefill, "decode": self._given.decode})
        return {kind: told[f"{kind}_tokens"] / told[f"{kind}_s"] for kind in _KINDS}

    def _overhead(self, channel: Channel) -> list[float]:
        """Seconds a call, one a repetition: short rows, so that what is added shows."""
        some = [{"id": str(n), "prompt": f"<bos>{n}"} for n in range(ROWS)]
        return [self._added(channel, some) for _ in range(self._given.rounds)]

    def _added(self, channel: Channel, some: list[Json]) -> float:
        """What a row takes longer than its call, from the first one's arrival (before it is the warm-up) to the last one's."""
        channel.send({"id": 1, "do": "run", "rows": some, "max_tokens": 8})
        came, calls = [], []
        while "ok" not in (message := _received(channel)):
            came.append(time.monotonic())
            calls.append(message["sample"]["call_s"])
        return float((came[-1] - came[0] - sum(calls[1:])) / (len(came) - 1))

    # --- theirs -------------------------------------------------------------------------------------------------------

    def _tool(self, pair: Pair) -> list[str]:
        """The command, without lengths."""
        if pair.runtime == "llama_cpp":
            bench = runners.build(runners.NATIVE, self._console) / "llama-bench"
            return [
                str(bench),
                "-m",
                str(pair.file),
                "-t",
                str(self._threads),
                "-r",
                "1",
                "-o",
                "json",
                *_flash(self._given),
            ]
        if lack := environments.missing(LITERT_CLI):
            raise EdgeError(f"litert-lm needs {lack}", "give --no-litertlm")
        python = environments.ensure(LITERT_CLI, self._console).python
        return [str(python.with_name("litert-lm")), "benchmark", str(pair.file), "--backend", "cpu", "--cache", "memory",
                "--cpu-thread-count", str(self._threads), "--max-num-tokens", str(CONTEXT)]  # fmt: skip

    def _theirs(self, pair: Pair, command: list[str]) -> Json:
        lengths = [
            "-p",
            str(self._given.prefill),
            "-n" if pair.runtime == "llama_cpp" else "-d",
            str(self._given.decode),
        ]
        env = {**clean_environment(), **llama_cpp.ENVIRONMENT}
        done = subprocess.run([*command, *lengths], env=env, capture_output=True, text=True, check=False)
        read = read_llama_bench if pair.runtime == "llama_cpp" else read_litert
        told = read(done.stdout) if done.returncode == 0 else None
        if not told:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise WorkerError(f"{pair.tool} failed (status {done.returncode}):\n{said}")
        return told

    # --- files --------------------------------------------------------------------------------------------------------

    def _pairs(self) -> list[Pair]:
        given = self._given
        files = {"gguf": given.gguf, "litertlm": given.litertlm}
        wanted = [f for f in files if not (f == "litertlm" and given.no_litertlm)]
        lacking = [f for f in wanted if not files[f]]
        if lacking:
            made = self._tiny(lacking) if given.tiny else self._large(lacking)
            files.update(made)
        how = {"gguf": ("llama_cpp", "llama-bench"), "litertlm": ("litert_lm", "litert-lm benchmark")}
        return [Pair(f, files[f].absolute(), *how[f]) for f in wanted]

    def _large(self, formats: list[str]) -> dict[str, Path]:
        out = self._given.out / "270m"
        kinds = {"gguf": "gguf=q8_0", "litertlm": "litertlm=int8"}
        words = ["--out", str(out), "--formats", *(kinds[f] for f in formats), "--steps", "export", "--keep"]
        formats_270m.main(words)
        made = records.read_json(out / "bench-270m.json")["export"]["artifacts"]
        return {a["format"]: Path(a["path"]) for a in made}

    def _tiny(self, formats: list[str]) -> dict[str, Path]:
        wanted = {"gguf": ["q8_0"], "litertlm": ["int8"]}
        checkpoint = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
        made = everything.export(
            checkpoint,
            {f: wanted[f] for f in formats},
            self._given.out / "tiny",
            "tiny",
            self._console,
            lambda spec: environments.ensure(spec, self._console),
        )
        return {a.format: Path(a.path) for exported in made for a in exported.artifacts}


def ask(channel: Channel, request: Json) -> Json:
    channel.send({"id": 1, **request})
    answer: Json = _received(channel)["ok"]
    return answer


def _received(channel: Channel) -> Json:
    message = channel.receive(600)
    if "error" in message:
        raise from_json(message["error"])
    return message


def read_llama_bench(text: str) -> Json | None:
    """Tokens a second of its one prefill and its one decode; None if it is not what `-o json` prints."""
    try:
        told = {("decode" if row["n_gen"] else "prefill"): float(row["avg_ts"]) for row in json.loads(text)}
    except (ValueError, KeyError, TypeError):
        return None
    return told if set(told) == set(_KINDS) and all(told.values()) else None


def read_litert(text: str) -> Json | None:
    """The same of `litert-lm benchmark`, which swallows failures and prints 0 for them."""
    told = {name.lower(): float(value) for name, value in _SPEED.findall(text)}
    return told if set(told) == set(_KINDS) and all(told.values()) else None


# --- figures ----------------------------------------------------------------------------------------------------------


def rows(rounds: list[Json]) -> list[Json]:
    """One a pair and kind: medians, spreads, the ratio of ours to theirs with its interval, the verdict."""
    found = []
    for name in dict.fromkeys(r["pair"] for r in rounds):
        mine, its = (
            {r["round"]: r for r in rounds if r["pair"] == name and r["ours"] == ours} for ours in (True, False)
        )
        for kind in _KINDS:
            pairs = [(mine[n][kind], its[n][kind]) for n in mine if n in its]
            ratios = [a / b for a, b in pairs]
            low, high = interval(ratios)
            found.append(
                {
                    "pair": name,
                    "kind": kind,
                    "ours": _spread([a for a, _ in pairs]),
                    "theirs": _spread([b for _, b in pairs]),
                    "ratio": statistics.median(ratios),
                    "interval": [low, high],
                    "rounds": len(ratios),
                    "verdict": verdict(low, high),
                }
            )
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """Of their geometric mean, 95 %; of a single one all there is."""
    if len(ratios) < 2:
        return 0.0, math.inf
    logs = [math.log(r) for r in ratios]
    t = _T[len(logs) - 2] if len(logs) - 2 < len(_T) else 1.96
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(statistics.mean(logs) - half), math.exp(statistics.mean(logs) + half)


def verdict(low: float, high: float) -> str:
    if low >= 1 - WITHIN and high <= 1 + WITHIN:
        return "yes"
    return "no" if high < 1 - WITHIN or low > 1 + WITHIN else "open"


def _spread(values: list[float]) -> list[float]:
    """Middle, smallest, largest."""
    return [statistics.median(values), min(values), max(values)]


def table(found: Json) -> str:
    """For people."""
    lines = [f"{'':22}{'ours tok/s':>26}{'theirs tok/s':>26}{'ratio':>24}  within {WITHIN:.0%}"]
    for row in found["rows"]:
        ours, theirs = ("{:,.0f} ({:,.0f} to {:,.0f})".format(*row[side]) for side in ("ours", "theirs"))
        ratio = f"{row['ratio']:.3f} [{row['interval'][0]:.3f}, {row['interval'][1]:.3f}]"
        word = row["verdict"] if row["verdict"] != "open" else "open: more --rounds"
        lines.append(f"{row['pair']:10}{row['kind']:12}{ours:>26}{theirs:>26}{ratio:>24}  {word}")
    for name, values in found["overhead_s"].items():
        kept = "under" if statistics.median(values) < OVERHEAD_S else "NOT under"
        worst = max(values) * 1e3
        lines.append(
            f"{name:10}harness: {statistics.median(values) * 1e3:.3f} ms a call, {worst:.3f} at most: {kept} 1 ms"
        )
    lines.append(
        f"{found['prefill_tokens']} and {found['decode_tokens']} tokens, {found['threads']} threads, {found['machine']['cpu']}; "
        + "; ".join(f"{found['versions'][name]} beside {tool}" for name, tool in found["tools"].items())
    )
    before, after = found["load_average"]
    lines.append(f"load average {before:.1f} to {after:.1f}; above the core count, trust no rate")
    return "\n".join(lines)


def _flash(given: Any) -> list[str]:
    """llama-bench's flash attention: as our runtime's, unless told."""
    return [] if given.defaults else ["-fa", "0"]


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="agreement", description="Our rates beside those of llama-bench and litert-lm."
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-agreement"))
    parser.add_argument("--gguf", type=Path, help="instead of a 270M of random weights in q8_0")
    parser.add_argument("--litertlm", type=Path, help="instead of the same in int8")
    parser.add_argument("--tiny", action="store_true", help="files of the embedded model instead")
    parser.add_argument("--no-litertlm", action="store_true", help="GGUF alone")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prefill", type=int, default=512, help="tokens fed")
    parser.add_argument("--decode", type=int, default=64, help="tokens made")
    parser.add_argument("--defaults", action="store_true", help="llama-bench with its own choice of flash attention")
    given = parser.parse_args(arguments)
    for file in (given.gguf, given.litertlm):
        if file and not file.is_file():
            raise EdgeError(f"{file}: no such file")
    if given.rounds < 2:
        raise EdgeError(f"--rounds {given.rounds}", "an interval needs two")
    given.out = given.out.absolute()
    return given


if __name__ == "__main__":
    run(main)
