"""What exporting and running a 270M costs on this machine, in every format and quantisation: `make bench-270m`.

Makes the architecture at random weights (speed and size need no trained ones) and then, in steps:

    export   everything, through the function that `edge export all` runs, from nothing: seconds, files, and the memory of
             all processes together, watched from outside
    peer     four `.litertlm` recipes from nothing, ours and then litetune's, one after the other
    runs     each artifact in its runtime: prefill, decode, first token, load, memory. One round runs every file once, in an
             order of its own, so that a neighbour's load falls on all; what is shown is the middle of the rounds and their
             spread, and the middle of the ratios to GGUF F16 of the same round
    proof    the half of the gate that random weights can pass: next tokens against the checkpoint, artifact by artifact.
             (Nothing calls functions here, and answers that never stop would make the other half a matter of their length.)

    python -m edge.bench.suites.formats_270m --out build/bench-270m --rounds 3

A step that is done by the same code is not done again (`--again` does), so a long benchmark can be run in pieces, with `--keep`
and some of the `--steps`. Building environments comes first and counts nowhere. Prints tables and writes `bench-270m.json` with every
sample. Ends with 1 if a limit of the project is not kept, which holds for two idle cores.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import platform
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge import archive, environments, records, worker
from edge.bench import measure, runtimes
from edge.bench.suites import run, tables_270m
from edge.bench.suites.watch import Watch
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import functiongemma
from edge.errors import EdgeError
from edge.export import everything, job, onnx_model, tflite
from edge.records import Artifact, Checkpoint, Json

STEPS = ("export", "peer", "runs", "proof")
_NUMPY = ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q8_0-emb-q4_0", "q4_0-emb-q4_0")
_LLAMA = ("q6_k", "q5_k_m", "q4_k_m", "q4_k_m-emb-q5_0", "q3_k_m", "q2_k", "iq4_nl", "iq4_xs")
_TFLITE = tuple(tflite.QUANTISATIONS)
ALL = {
    "gguf": [*_NUMPY, *_LLAMA],
    "tflite": [*_TFLITE],
    "litertlm": [*_TFLITE],
    "task": [*_TFLITE],
    "task-legacy": ["int8"],
    "onnx": [*onnx_model.QUANTISATIONS],
}
# LiteRT-LM runs the same TFLite out of a `.task` as out of a `.litertlm`: one of them tells whether that is so.
_ONLY = {"task": ("int8",)}
PROMPT_TOKENS, NEW_TOKENS, CONTEXT = 256, 32, 1024  # the prompt fills one prefill of the TFLite
PLACES = 8
_WORDS = " 1f3a 9c0 47be 2d18 e05 b6a7 30f 8d21 5ce"  # what the proof continues the prompt with
RECIPES = {  # ours -> the quantizer's name for litetune; dynamic_wi4_afp32 is int4 by channel, as our dynamic_wi4c_afp32
    "int8": "dynamic_wi8_afp32",
    "int8-weight-only": "weight_only_wi8_afp32",
    "int4-block32": "dynamic_wi4b32_afp32",
    "int4-channel": "dynamic_wi4_afp32",
}
_TOKENIZER = Path(str(importlib.resources.files("edge.train"))) / "edge-tiny"
_CODE = ("edge/export/", "edge/dialects/", "edge/bench/suites/", "edge/bench/parity.py", "edge/bench/runtimes/")


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    with Console() as console:
        bench = Bench(given.out.absolute(), given, console)
        result = bench.run()
    records.save(result, given.out / "bench-270m.json")
    print(tables_270m.tables(result))
    if not given.keep:
        bench.remove_files()
    return 0 if all(limit["kept"] for limit in result["limits"]) and not result["errors"] else 1


class Bench:
    """given: what `_parse` returns."""

    def __init__(self, out: Path, given: Any, console: Console) -> None:
        self._out, self._console, self._given = out, console, given
        self._wanted: dict[str, list[str]] = everything.parse(given.formats) if given.formats else ALL
        self._threads = given.threads or measure.default_threads()
        self._errors: list[str] = []

    def run(self) -> Json:
        out, steps = self._out, self._given.steps
        self._build()
        checkpoint, prompt = self._checkpoint()
        found: Json = {
            "schema": 2,
            "what": "Gemma 3 270M architecture, random weights, 262,144 pieces",
            "machine": Local().facts(),
            "python": platform.python_version(),
            "threads": self._threads,
            "prompt_tokens": PROMPT_TOKENS,
            "new_tokens": NEW_TOKENS,
            "rounds": self._given.rounds,
        }
        made = self._step("export", [self._wanted], lambda: self._export(checkpoint))
        artifacts = [records.load(Artifact, job.manifest_of(Path(a["path"]))) for a in made["artifacts"]]
        todo: dict[str, Callable[[], Any]] = {
            "peer": lambda: self._step("peer", [RECIPES], lambda: self._peer(checkpoint)),
            "runs": lambda: self._runs(artifacts, prompt),
            "proof": lambda: self._step("proof", [self._wanted], lambda: self._proof(checkpoint, artifacts, prompt)),
        }
        found["export"] = made
        for name, do in todo.items():
            if name in steps:
                found[name] = do()
            found.update(errors=self._errors, limits=tables_270m.limits(found))
            records.save(found, out / "bench-270m.json")  # what there is, should a later step fail
        return found

    def remove_files(self) -> None:
        """The large ones; what was found stays."""
        for name in ("checkpoint", "artifacts", "ours", "litetune"):
            shutil.rmtree(self._out / name, ignore_errors=True)

    # steps

    def _step(self, name: str, about: list[Any], do: Callable[[], Json]) -> Json:
        """What a step found: as it was kept, or by doing it. The load of the machine before and after goes with it."""
        file = self._out / "steps" / f"{name}.json"
        key = records.digest_value([name, *about, archive.digest(*_CODE), self._threads])
        if file.exists() and name not in self._given.again:
            kept: Json = records.read_json(file)
            if kept.get("key") == key and (name != "export" or self._there(kept)):
                self._console.say(f"= {name}: done already, at {kept['at']}")
                return kept
        before = os.getloadavg()[0]
        found: Json = {**do(), "key": key, "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
                 "load_average": [before, os.getloadavg()[0]]}  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        records.save(found, file)
        return found

    def _there(self, kept: Json) -> bool:
        return all(Path(a["path"]).exists() for a in kept["artifacts"])

    def _build(self) -> None:
        """All environments; they are no part of what is measured."""
        scripts = [*everything.scripts(self._wanted, proven=True), environments.script("gguf")]
        environments.build_all(scripts, self._console)

    def _checkpoint(self) -> tuple[Checkpoint, str]:
        """The random model and a prompt for it, made once."""
        folder, note = self._out / "checkpoint", self._out / "checkpoint.worker" / "reply.json"
        if not (folder / "model.safetensors").exists():
            script = Path(__file__).with_name("random_270m.py")
            request = {"tokenizer": str(self._given.tokenizer.absolute()), "seed": 0, "prompts": [PROMPT_TOKENS]}
            self._work(script, "gguf", request, folder, "making the model")
        prompt = records.read_json(note)["ok"]["prompts"][str(PROMPT_TOKENS)]
        return job.read_checkpoint(folder, "functiongemma"), prompt

    def _export(self, checkpoint: Checkpoint) -> Json:
        out = self._out / "artifacts"
        shutil.rmtree(out, ignore_errors=True)
        return self._watched(checkpoint, self._wanted, out)

    def _watched(self, checkpoint: Checkpoint, wanted: dict[str, list[str]], out: Path) -> Json:
        """Export into an empty folder: artifacts, what is missing, when each format was there, memory from moment to moment."""
        artifacts: list[Artifact] = []
        missing: list[Json] = []
        there: dict[str, float] = {}
        started = time.monotonic()
        with Watch() as watch:
            for made in everything.export(checkpoint, wanted, out, "random", self._console, self._environment):
                artifacts += made.artifacts
                missing += made.missing
                there.update({a.format: time.monotonic() - started for a in made.artifacts})
        files = [{**asdict(a), "kind": _kind(a)} for a in artifacts]
        return {"artifacts": files, "missing": missing, "there_s": there, **watch.to_json()}

    def _proof(self, checkpoint: Checkpoint, artifacts: list[Artifact], prompt: str) -> Json:
        """Next tokens as the gate compares them, each artifact by its runtime: {"reference_s", "rows": [{…, "seconds"}]}."""
        folder = self._out / "logits"
        shutil.rmtree(folder, ignore_errors=True)
        words = prompt.split(" ")
        asked = [prompt, " ".join(words[: len(words) // 2])]
        texts = [{"id": str(n), "prompt": text, "completion": _WORDS} for n, text in enumerate(asked)]
        subject = measure.Subject("checkpoint", Path(checkpoint.path), checkpoint.digest, "checkpoint", "checkpoint")
        request = {"do": "reference", "rows": texts, "places": PLACES, "folder": str(folder)}
        with Watch() as watch:
            reference = self._asked(subject, "transformers", request)
            rows = [self._compared(a, folder) for a in artifacts if _chosen(a)]
        shutil.rmtree(folder, ignore_errors=True)
        return {"reference_s": reference["seconds"], "rows": rows, **watch.to_json()}

    def _compared(self, artifact: Artifact, folder: Path) -> Json:
        name = {"format": artifact.format, "quantisation": artifact.quantisation}
        try:
            request = {"do": "compare", "folder": str(folder)}
            return {**name, **self._asked(self._subject(artifact), runtimes.COMPARES[artifact.format], request)}
        except EdgeError as error:
            self._errors.append(f"{Path(artifact.path).name}: {error.message}")
            return {**name, "error": error.message}

    def _asked(self, subject: measure.Subject, runtime: str, request: Json) -> Json:
        """A runtime's answer, and the seconds from its start to its end."""
        session = measure.Session(
            subject,
            self._settings(runtime, functiongemma.STOP),
            Local(),
            self._runtime(runtime),
            self._out / "session.log",
        )
        started = time.monotonic()
        with self._console.task(f"{subject.name}: next tokens ({runtime})"):
            answer = session.ask(request)
        return {**answer, "runtime": runtime, "seconds": time.monotonic() - started}

    def _runs(self, artifacts: list[Artifact], prompt: str) -> list[Json]:
        """Every file once a round. What was measured before, by the same code on the same machine, is kept."""
        workload = self._out / "workload.jsonl"
        records.write_text(workload, json.dumps({"id": "0", "prompt": prompt}) + "\n")
        chosen = [a for a in artifacts if _chosen(a)]
        found = {a.path: tables_270m.new_row(a) for a in chosen}
        for n in range(self._given.rounds):
            for a in random.Random(n).sample(chosen, len(chosen)):
                took = self._measured(a, n, workload)
                tables_270m.add(found[a.path], took, n)
                if took.error:
                    self._errors.append(f"{Path(a.path).name}: {took.error['message']}")
        return list(found.values())

    def _measured(self, artifact: Artifact, n: int, workload: Path) -> records.Measurement:
        runtime = next(r for r in runtimes.READS[artifact.format] if not environments.missing(_spec(r)))
        subject = self._subject(artifact, f"-round-{n}")
        result = self._out / "rounds" / f"{n}-{Path(artifact.path).name}.json"
        if "runs" in self._given.again:
            result.unlink(missing_ok=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        settings = self._settings(runtime)
        return measure.measure(subject, settings, workload, Local(), self._runtime(runtime), result, self._console)

    def _peer(self, checkpoint: Checkpoint) -> Json:
        """Four `.litertlm` from nothing, ours and then litetune's."""
        script, theirs = Path(__file__).with_name("litetune_convert.py"), self._out / "litetune"
        spec = environments.spec(script)
        lack = environments.missing(spec)
        if lack:
            return {"missing": f"litetune needs {lack}"}
        python = environments.ensure(spec, self._console).python
        with self._console.task("litetune's environment") as progress:
            worker.run(script, {"do": "provision"}, theirs, python=python, progress=progress)
        out = self._out / "ours"
        shutil.rmtree(out, ignore_errors=True)
        ours = self._watched(checkpoint, {"litertlm": list(RECIPES)}, out)
        request = {"do": "convert", "checkpoint": checkpoint.path, "base_model": "google/functiongemma-270m-it",
                   "recipes": list(RECIPES.values()), "prefill": list(tflite.PREFILL), "cache": tflite.CACHE}  # fmt: skip
        with Watch() as watch, self._console.task(f"litetune: {len(RECIPES)} recipes") as progress:
            made = worker.run(script, request, theirs, python=python, progress=progress)
        # The worker's own high-water mark is that of the process which waits for litetune's.
        return {"ours": ours, "theirs": {**made, **watch.to_json(), "seconds": made["seconds"]}}

    # what they need

    def _environment(self, it: environments.Spec) -> environments.Environment:
        return environments.ensure(it, self._console)

    def _runtime(self, name: str) -> environments.Environment:
        return self._environment(_spec(name))

    def _settings(self, runtime: str, stop: tuple[str, ...] = ()) -> measure.Settings:
        """Without stop tokens every answer is of the same length."""
        return measure.Settings(runtime, self._threads, CONTEXT, NEW_TOKENS, stop)

    def _subject(self, artifact: Artifact, mark: str = "") -> measure.Subject:
        tokenizer = self._out / "checkpoint" / "tokenizer.model" if artifact.format == "tflite" else None
        file = Path(artifact.path)
        return measure.Subject(file.name, file, f"{artifact.digest}{mark}", "artifact", artifact.format, tokenizer)

    def _work(self, script: Path, environment: str, request: Json, target: Path, what: str) -> Json:
        python = self._runtime(environment).python
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._console.task(what) as progress:
            return worker.run(script, request, target, python=python, progress=progress)


def _spec(name: str) -> environments.Spec:
    return environments.spec(environments.script(name))


def _kind(artifact: Artifact) -> str:
    """The format as `edge export all` names it: the legacy bundler makes the same one."""
    return "task-legacy" if "_legacy" in Path(artifact.path).name else artifact.format


def _chosen(artifact: Artifact) -> bool:
    """Whether it is proven and run."""
    kind = _kind(artifact)
    return kind != "task-legacy" and artifact.quantisation in _ONLY.get(kind, (artifact.quantisation,))


def _parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="formats_270m",
        description="The 270M architecture in every format and quantisation: what it costs, how it runs.",
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-270m"))
    parser.add_argument(
        "--formats", nargs="+", metavar="FORMAT[=QUANT,…]", help="instead of all, such as gguf=f16,q8_0 onnx"
    )
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="export is always one of them")
    parser.add_argument("--no-peer", action="store_true", help="the same without peer")
    parser.add_argument("--again", nargs="+", choices=STEPS, default=[], help="do these again though they are done")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of the runtimes; exporters take what they want")
    parser.add_argument(
        "--tokenizer", type=Path, default=_TOKENIZER, help="a folder with the three files of a tokenizer"
    )
    parser.add_argument("--keep", action="store_true", help="keep the checkpoint and the artifacts (some 15 GB)")
    given = parser.parse_args(arguments)
    if given.no_peer:
        given.steps = [s for s in given.steps if s != "peer"]
    if not (given.tokenizer / "tokenizer.model").is_file():
        raise EdgeError(f"{given.tokenizer}: it has no tokenizer.model", "give a checkpoint's folder with --tokenizer")
    return given


if __name__ == "__main__":
    run(main)
