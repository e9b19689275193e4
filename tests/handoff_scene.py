"""A project as `edge run` leaves it, without its costs: rows, a tuned checkpoint's record, an artifact, its measurements."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import artifacts
from click.testing import CliRunner

from edge import dialects, records, renderers
from edge.cli import main
from edge.console import Console
from edge.export.handoff import verify, write
from edge.export.job import manifest_of
from edge.records import Artifact, Checkpoint, Json, Measurement, Sample
from edge.train.readers import DEVELOPER

QUIET = Console(quiet=True)
CHECKPOINT = "c" * 64
PROVEN = {"verdict": "proven", "why": [], "class": "8 bits",
          "tokens": {"positions": 9, "same": 9, "kl_mean": 0.0012, "sure": 80, "sure_same": 79},
          "calls": {"rows": 50, "right_before": 40, "right": 39, "lost": 1, "gained": 0, "difference": -0.02}}  # fmt: skip
DEGRADED = {**PROVEN, "verdict": "degraded", "why": ["6 of 40 right rows lost"]}
REFUSED = {**PROVEN, "verdict": "refused", "why": ["3 nats a token from the checkpoint"]}
LOCAL = {"name": "local", "cpu": "a processor", "cores": 2, "emulated": False}


def tool(name: str, required: list[str], **properties: Json) -> Json:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": parameters}}


ROOM = {"type": "string", "description": "Which."}
LIGHT = tool("set_light", ["room"], room=ROOM, on={"type": "boolean", "description": "Whether."})
HEAT = tool("set_heat", ["room", "degrees"], degrees={"type": "integer", "description": "How warm."}, room=ROOM)
LEARNED = [LIGHT, HEAT]
QUESTIONS = [
    ("Light on in the hall", [{"name": "set_light", "arguments": {"room": "hall", "on": True}}]),
    ("21 degrees in the attic", [{"name": "set_heat", "arguments": {"room": "attic", "degrees": 21}}]),
    ("Hall dark, and 18 degrees there", [{"name": "set_light", "arguments": {"room": "hall", "on": False}},
                                         {"name": "set_heat", "arguments": {"room": "hall", "degrees": 18}}]),
    ("Sing something", []),
]  # fmt: skip


@dataclass
class Scene:
    """A folder with build/tuned, build/data, build/artifacts and results. tools: as rows declare them."""

    top: Path
    tools: list[Json]
    renderer: str = "ollama"  # whose prompts it was tuned on
    system: str = DEVELOPER

    @property
    def data(self) -> Path:
        return self.top / "build" / "data"

    @property
    def file(self) -> Path:
        return self.top / "build" / "artifacts" / "app-q8_0.gguf"

    def rows(self, dialect: str = "functiongemma") -> list[Json]:
        found = []
        for n, (said, expected) in enumerate(QUESTIONS, 1):
            messages = [{"role": "developer", "content": self.system}, {"role": "user", "content": said}]
            prompt = renderers.prompt(self.renderer, dialect, messages, self.tools)
            found.append({"id": f"eval.jsonl:{n}", "prompt": prompt, "messages": messages, "tools": self.tools,
                          "expected": expected, "user": said})  # fmt: skip
        return found

    def write(self, dialect: str = "functiongemma", training: list[str] | None = None) -> Scene:
        rows = self.rows(dialect)
        lines(self.data / "eval.jsonl", rows)
        prompts = training if training is not None else [r["prompt"] for r in rows]
        lines(
            self.data / "train.jsonl", [{"id": f"t:{n}", "prompt": p, "completion": "x"} for n, p in enumerate(prompts)]
        )
        told: Json = {"data": records.digest_file(self.data / "train.jsonl"), "rows": len(prompts),
                      "files": {"train.jsonl": "d" * 64, str(self.top / "eval.jsonl"): "e" * 64}}  # fmt: skip
        record = Checkpoint(CHECKPOINT, str(self.top / "build/tuned"), dialect, base="b" * 64, source="app",
                            training=told, renderer=self.renderer)  # fmt: skip
        records.save(record, self.top / "build/tuned/checkpoint.json")
        return self

    def artifact(self, path: Path | None = None, **manifest: Any) -> Path:
        file = path or self.file
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".litertlm":
            artifacts.litertlm(file, max_tokens=1024, cache=1024)
        elif file.suffix == ".task":
            artifacts.task(file, cache=1024)
        else:
            artifacts.gguf(file)
        told = {"proof": PROVEN, "stop_tokens": list(dialects.get("functiongemma").STOP), "stop_ids": artifacts.STOPS,
                "context_tokens": 1024, "notices": ["terms"], **manifest}  # fmt: skip
        artifacts.manifest(file, **told)
        # what artifacts.manifest leaves open
        self.change(file, checkpoint=CHECKPOINT, **{k: v for k, v in manifest.items() if k == "dialect"})
        return file

    def change(self, file: Path, **fields: Any) -> None:
        found = records.load(Artifact, manifest_of(file))
        records.save(replace(found, **fields), manifest_of(file))

    def measured(self, name: str = "q8_0", wrong: int = 1, device: Json = LOCAL, at: str = "2026-11-20T10:00:00+00:00",
                 **more: Any) -> Path:  # fmt: skip
        """A measurement in which the first rows but `wrong` of the last are right."""
        rows, samples = self.rows(), []
        write_calls = dialects.get("functiongemma").completion
        for n, row in enumerate(rows):
            calls = [{"function": c} for c in row["expected"]]
            right = write_calls(
                {"role": "assistant", "tool_calls": calls} if calls else {"role": "assistant", "content": "No."}
            )
            text = right.partition("<start_function_response>")[0].partition("<end_of_turn>")[0]
            if n >= len(rows) - wrong:
                text = "<start_function_call>call:nothing{}<end_function_call>"
            samples.append(Sample(row["id"], text, prompt_tokens=100, completion_tokens=10, prefill_s=0.01, first_token_s=0.02,
                                  decode_s=0.05, call_s=0.1 + n / 100))  # fmt: skip
        made = Measurement(records.digest_file(self.file), name, "artifact", more.pop("runtime", "llama_cpp"), "a runtime 1.0", device,
                           records.digest_file(self.data / "eval.jsonl"), 2, format="gguf", load_s=0.5, peak_rss_bytes=10**8,
                           samples=samples, started_at=at, **more)  # fmt: skip
        file = self.top / "results" / f"{name}-{device['name']}-{at[:10]}.json"
        records.save(made, file)
        return file

    def hand_over(self, target: str = "ollama", file: Path | None = None, **wish: Any) -> write.Done:
        wish = {"out": self.top / "handed", **wish}
        return write.hand_over(target, file or self.file, write.Wish(**wish), QUIET)


def lines(file: Path, rows: list[Json]) -> None:
    records.write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def scene(top: Path, **how: Any) -> Scene:
    """Tuned on Ollama's prompts, proven and measured: nothing speaks against it."""
    made = Scene(top, list(LEARNED), **how).write()
    made.artifact()
    made.measured()
    return made


def edge(*arguments: object) -> Any:
    """As `edge handoff …`."""
    return CliRunner().invoke(main, ["handoff", *map(str, arguments)])


def read(folder: Path) -> Json:
    return dict(json.loads((folder / "contract.json").read_text()))


def rewrite(folder: Path, told: Json, digest: bool = False) -> None:
    if digest:
        told["digest"] = verify.digest_of(told)
    (folder / "contract.json").write_text(json.dumps(told))
