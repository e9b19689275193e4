"""A tuning step of ours beside TRL's defaults, on the 270M architecture with random weights: `make bench-training`.

Same rows in the same order, same steps, device, precision, LoRA and learning rate. TRL's recipe is the one of the usual
guides: eager attention, gradient checkpointing, logits at every position. Speed counts tokens of rows a second, over all
steps but the first, and CPU seconds of the whole process beside it: those a busy neighbour doesn't lengthen.

    python -P -m edge.bench.suites.training --steps 3

Prints a table and writes `bench-training.json`; ends with 1 if the losses differ by more than one in a hundred, or if the
memory estimate is more than a quarter off.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from pathlib import Path
from typing import Any

from edge import environments, records, worker
from edge.bench.suites import run
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.project import check_training
from edge.records import Json
from edge.train import batches, metrics
from edge.train.tiny import SHIPPED
from edge.train.tune import listener

HERE = Path(__file__)
AIM = 2.0  # times TRL's tokens a second
SAVING = "ours, saving"  # memory: with gradient checkpointing, as TRL's default has it
LOSS, MEMORY = 0.01, 0.25  # how far the losses and the estimate may be off, as a share


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    out = given.out.absolute()
    with Console() as console:
        bench = Bench(given, out, console)
        bench.prepare()
        sides = {"ours": bench.ours("auto"), SAVING: bench.ours("on"), "trl": bench.trl()}
    result = compare(sides, given)
    records.save(result, out / "bench-training.json")
    print(table(result))
    return 0 if result["equal_loss"] and result["estimate_holds"] else 1


class Bench:
    def __init__(self, given: Any, out: Path, console: Console) -> None:
        self._given, self._out, self._console = given, out, console
        self._python = environments.ensure(environments.spec(environments.script("tune")), console).python
        self._checkpoint = given.checkpoint or out / "checkpoint"
        self._options = check_training(
            {"epochs": 1, "batch_size": given.batch, "threads": given.threads, "eval_rows": 0, "schedule": "cosine",
             "warmup": 0.0, "precision": given.precision}
        )  # fmt: skip

    def prepare(self) -> None:
        """The random model and its rows, made once; the second file has them in the order in which ours deals them."""
        if not (self._checkpoint / "config.json").exists():
            script = HERE.with_name("random_270m.py")
            python = environments.ensure(environments.spec(environments.script("gguf")), self._console).python
            request = {"tokenizer": str(SHIPPED), "seed": 0, "prompts": []}
            with self._console.task("making the model") as progress:
                worker.run(script, request, self._checkpoint, python=python, progress=progress)
        count = self._given.steps * self._given.batch
        request = {
            "do": "rows",
            "tokens": self._given.tokens,
            "completion_tokens": self._given.completion,
            "count": count,
        }
        self._work("training_trl.py", request, "rows")
        lines = (self._out / "rows" / "rows.jsonl").read_text().splitlines(keepends=True)
        order = batches.order([self._given.tokens] * count, self._given.batch, 1, self._options["seed"], 0)
        records.write_text(self._out / "in-order.jsonl", "".join(lines[n] for n in order))

    def ours(self, checkpointing: str) -> Json:
        request = {
            "rows": str(self._out / "rows" / "rows.jsonl"),
            "watched": None,
            "stop": list(functiongemma.STOP),
            "function_tokens": list(functiongemma.FUNCTION_TOKENS),
            "name": "benchmark",
            "options": {**self._options, "checkpointing": checkpointing},
        }
        answer = self._work(environments.script("tune"), request, "ours")
        lines = metrics.read(self._out / "ours" / "training" / "metrics.jsonl")
        each = [line["seconds"] for line in lines]
        answer["step_s"] = [b - a for a, b in zip([0.0, *each], each)]
        answer["step_cpu_s"] = [line["cpu_s"] for line in lines]
        answer["losses"] = [line["loss"] for line in lines]
        return answer

    def trl(self) -> Json:
        bfloat16 = self._given.precision != "float32"
        options = {**self._options, "bfloat16": bfloat16}
        request = {"do": "train", "rows": str(self._out / "in-order.jsonl"), "options": options}
        answer = self._work("training_trl.py", request, "trl")
        return {**answer, "step_s": answer["seconds"], "step_cpu_s": answer["cpu"], "losses": answer["loss"]}

    def _work(self, script: str | Path, request: Json, name: str) -> Json:
        with self._console.task(name) as progress:
            return worker.run(
                HERE.with_name(script) if isinstance(script, str) else script,
                {"checkpoint": str(self._checkpoint), **request},
                self._out / name,
                python=self._python,
                progress=listener(progress, self._console),
            )


def compare(sides: dict[str, Json], given: Any) -> Json:
    """Every side's figures, and what ours are to TRL's."""
    ours, theirs = sides["ours"], sides["trl"]
    figures = {name: _figures(it, given.batch * given.tokens, theirs) for name, it in sides.items()}
    apart = max(it["loss_apart"] for it in figures.values())
    estimates = [it["estimate"] for it in figures.values() if it["estimate"]]
    saving = figures[SAVING]
    return {
        "schema": 2,
        "what": "Gemma 3 270M architecture, random weights, LoRA r16 on all linear layers",
        "machine": Local().facts(),
        "python": platform.python_version(),
        "versions": theirs["versions"],
        "threads": given.threads,
        "batch": given.batch,
        "tokens": given.tokens,
        "completion_tokens": given.completion,
        "steps": given.steps,
        "precision": ours["precision"],
        "attention": ours["attention"],
        "sides": figures,
        "aim_met": saving["speed"] >= AIM and saving["memory"] < 1,
        "equal_loss": apart <= LOSS,
        "estimate_holds": all(abs(it - 1) <= MEMORY for it in estimates),
    }


def _figures(it: Json, tokens: int, theirs: Json) -> Json:
    step, step_cpu = (statistics.median(it[key][1:]) for key in ("step_s", "step_cpu_s"))
    peak = it["peak_rss_bytes"]
    return {
        "tokens_per_s": tokens / step,
        "tokens_per_cpu_s": tokens / step_cpu,
        "speed": statistics.median(theirs["step_s"][1:]) / step,
        "speed_cpu": statistics.median(theirs["step_cpu_s"][1:]) / step_cpu,
        "memory": peak / theirs["peak_rss_bytes"],
        "estimate": it["preflight"]["bytes"] / peak if "preflight" in it else None,
        "loss_apart": max(abs(a - b) / abs(b) for a, b in zip(it["losses"], theirs["losses"])),
        **{key: it[key] for key in ("step_s", "step_cpu_s", "losses", "peak_rss_bytes", "wall_s")},
    }


def table(result: Json) -> str:
    """For people."""
    lines = [
        f"{'':14}{'tok/s':>8}{'x TRL':>7}{'tok/CPU s':>11}{'x TRL':>7}{'peak MB':>9}{'x TRL':>7}{'estimate':>10}  losses"
    ]
    for name, it in result["sides"].items():
        estimate = f"{it['estimate']:.2f}" if it["estimate"] else "-"
        losses = " ".join(f"{loss:.4f}" for loss in it["losses"])
        lines.append(
            f"{name:14}{it['tokens_per_s']:8.1f}{it['speed']:7.2f}{it['tokens_per_cpu_s']:11.1f}{it['speed_cpu']:7.2f}"
            f"{it['peak_rss_bytes'] / 1e6:9.0f}{it['memory']:7.2f}{estimate:>10}  {losses}"
        )
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += [
        "",
        f"aim ({AIM:g} times the speed in less memory, both with checkpointing): {'met' if result['aim_met'] else 'missed'}; "
        f"losses {'equal' if result['equal_loss'] else 'DIFFER'}; "
        f"memory estimate {'holds' if result['estimate_holds'] else 'is OFF'} (share of the measured peak)",
        f"batch {result['batch']}, {result['tokens']} tokens, {result['threads']} threads, {result['steps']} steps, "
        f"{result['precision']['used']}, {result['attention']['used']}; {versions}; {result['machine']['cpu']}",
    ]
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(prog="training", description="A tuning step of ours beside TRL's defaults.")
    parser.add_argument("--out", type=Path, default=Path("build/bench-training"))
    parser.add_argument("--checkpoint", type=Path, help="a folder instead of the random 270M")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--completion", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    given = parser.parse_args(arguments)
    if given.steps < 2:
        raise EdgeError("--steps must be at least 2: the first isn't counted")
    return given


if __name__ == "__main__":
    run(main)
