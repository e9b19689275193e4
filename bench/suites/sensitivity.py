"""How much each quantisation loses on the embedded model, so that a loss seen elsewhere can be told from noise.

Exports every quantisation named, runs each through llama.cpp over the same held-out rows of the generator, and compares
with F16 row by row. Beside them the same weights rounded in float32 (no format, no runtime: `train/scratch/rounding.py`)
over the examination's rows. The order to expect: F16 = Q8_0 >= Q4_K_M > Q4_0 with the embedding too > Q2_K.

    python -m edge.bench.suites.sensitivity --rows 1000        (`make bench-sensitivity`)

Prints a table and writes `sensitivity.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edge import environments, records
from edge.bench import measure
from edge.bench.score import Score, score
from edge.bench.stats import paired_difference, proportion
from edge.bench.suites import run
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.export import gguf, job
from edge.records import Json
from edge.train import tiny
from edge.train.generator import rows as generate

KINDS = ("f16", "q8_0", "q5_k_m", "q4_k_m", "q4_0", "q4_0-emb-q4_0", "q3_k_m", "q2_k")
FAKE = ("int8", "int4-block32", "int4-block32-embedding", "int4-channel", "int3-block32", "int2-block32")
ORDER = ("f16", "q8_0", "q4_k_m", "q4_0-emb-q4_0", "q2_k")
SEED = 20261122
RUNTIME = "llama_cpp"


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    out = given.out.absolute()
    with Console() as console:
        rows = workload(out / "workload.jsonl", given.rows)
        real = real_ones(given.model, rows, out, console)
        fake = fake_ones(given.model, given.rows, console)
    result = {
        "schema": 1,
        "model": records.digest_folder(given.model),
        "machine": Local().facts(),
        **real,
        "fake": fake,
    }
    records.save(result, out / "sensitivity.json")
    print(table(result))
    return 0


def workload(path: Path, count: int) -> list[Json]:
    """Held-out values in phrasings that training saw: single calls, several calls, Korean, as the generator mixes them."""
    made = []
    for n, row in enumerate(generate(count, SEED, "test")):
        *prompt, answer = row["messages"]
        made.append({
            "id": str(n),
            "prompt": functiongemma.render(prompt, row["tools"]),
            "expected": [call["function"] for call in answer.get("tool_calls", [])],
        })  # fmt: skip
    records.write_text(path, "".join(json.dumps(row) + "\n" for row in made))
    return made


def real_ones(model: Path, rows: list[Json], out: Path, console: Console) -> Json:
    """Every quantisation through llama.cpp: {"runtime", "threads", "rows", "real": {name: figures}}."""
    source = job.read_checkpoint(model, "functiongemma")
    made = gguf.export(
        source, list(KINDS), out / "gguf", model.name, console, lambda spec: environments.ensure(spec, console)
    )
    environment = environments.ensure(environments.spec(environments.script(RUNTIME)), console)
    settings = measure.Settings(RUNTIME, measure.default_threads(), 2048, 160, functiongemma.STOP)
    scores: dict[str, Score] = {}
    version = None
    for a in made.artifacts:
        subject = measure.Subject(a.quantisation, Path(a.path), a.digest, "artifact", a.format)
        result = out / "results" / f"{a.quantisation}.json"
        took = measure.measure(subject, settings, out / "workload.jsonl", Local(), environment, result, console)
        scores[a.quantisation] = score(rows, took, "functiongemma")
        version = took.runtime_version
    base = [o.right for o in scores["f16"].outcomes]
    sizes = {a.quantisation: a.bytes for a in made.artifacts}
    figures = {name: _figures(base, [o.right for o in s.outcomes], sizes[name]) for name, s in scores.items()}
    return {"runtime": version, "threads": settings.threads, "rows": len(rows), "real": figures}


def fake_ones(model: Path, rows: int, console: Console) -> Json:
    """Rounded weights over the examination's seen phrasings, Korean, parallel calls …: {name: figures}."""
    per_set = max(20, rows // 9)
    base = _digits(tiny.score(model, console, per_set))
    found = {"float": _figures(base, base, None)}
    for kind in FAKE:
        found[kind] = _figures(base, _digits(tiny.score(model, console, per_set, kind)), None)
    return found


def _digits(scores: Json) -> list[bool]:
    return [digit == "1" for digit in scores["digits"]]


def _figures(base: list[bool], right: list[bool], size: int | None) -> Json:
    share, change = proportion(sum(right), len(right)), paired_difference(base, right)
    return {
        "bytes": size,
        "exact": share.value,
        "interval": [share.low, share.high],
        "change": change.value,
        "change_interval": [change.low, change.high],
        "gained": change.gained,
        "lost": change.lost,
        "rows": len(right),
    }


def table(result: Json) -> str:
    """For people. The order that is expected of the real ones is said to hold or not."""
    lines = [f"{'':26}{'MB':>6}{'exact %':>9}{'change, points':>28}{'lost':>6}{'gained':>8}"]
    lines += [_line(name, row) for name, row in result["real"].items()]
    lines += ["", f"weights rounded in float32, {result['fake']['float']['rows']} rows of the examination"]
    lines += [_line(name, row) for name, row in result["fake"].items()]
    exact = [result["real"][name]["exact"] for name in ORDER if name in result["real"]]
    held = all(a >= b - 0.005 for a, b in zip(exact, exact[1:]))  # within half a point counts as equal
    lines += ["", f"{result['rows']} rows, {result['runtime']}, {result['threads']} threads",
              f"order {' >= '.join(ORDER)}: {'holds' if held else 'does not hold'}"]  # fmt: skip
    return "\n".join(lines)


def _line(name: str, row: Json) -> str:
    low, high = row["change_interval"]
    size = f"{row['bytes'] / 1e6:6.1f}" if row["bytes"] else f"{'':6}"
    change = f"{100 * row['change']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{name:26}{size}{100 * row['exact']:9.1f}{change:>28}{row['lost']:6}{row['gained']:8}"


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="sensitivity", description="What each quantisation loses, row by row.")
    parser.add_argument("--model", type=Path, default=tiny.SHIPPED, help="a checkpoint's folder")
    parser.add_argument("--out", type=Path, default=Path("build/bench-sensitivity"))
    parser.add_argument("--rows", type=int, default=1000)
    given = parser.parse_args(arguments)
    if not (given.model / "config.json").is_file():
        raise EdgeError(f"{given.model}: no checkpoint", "give a folder with config.json")
    return given


if __name__ == "__main__":
    run(main)
