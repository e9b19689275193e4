"""The model card that goes up with a model: what it is, from what, how it was tuned, what it scores, what must be said.

Everything on it is read from records; what isn't known is left out. Its head is the YAML that the hub reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import edge
from edge import records
from edge.bench.metrics import METRICS
from edge.bench.report.words import megabytes, number, percent, points
from edge.records import Artifact, Checkpoint, Json

_LIBRARIES = {"checkpoint": "transformers", "adapter": "peft"}
_RELATIONS = {"checkpoint": "finetune", "adapter": "adapter", "artifacts": "quantized"}
_WHAT = {
    "checkpoint": "a checkpoint of a function-calling model",
    "adapter": "a LoRA adapter for function calling",
    "artifacts": "a function-calling model for devices",
}
_TAGS = {"gguf": "gguf", "litertlm": "litert-lm", "task": "mediapipe", "tflite": "tflite", "onnx": "onnx"}
_RUNS = {
    "gguf": "llama.cpp, Ollama",
    "litertlm": "LiteRT-LM",
    "task": "MediaPipe's LLM inference, flutter_gemma",
    "tflite": "LiteRT",
    "onnx": "onnxruntime-genai",
}
_LONG = 200  # characters of a setting that is shown


@dataclass(frozen=True)
class Story:
    """What a card tells.

    kind: "checkpoint", "adapter" or "artifacts". base: a hub id, or the name of a base that the hub doesn't have.
    cells: of a report, see edge.bench.report, over the rows with the digest `workload`. evaluated: a subject of `evaluation`,
    see edge.bench.evaluation. accepted: {artifact's file name: why it is pushed all the same}.
    """

    name: str
    kind: str
    files: dict[str, Path]
    checkpoint: Checkpoint | None = None
    base: str | None = None
    artifacts: Sequence[Artifact] = ()
    cells: Sequence[Json] = ()
    workload: str | None = None
    evaluated: Json = field(default_factory=dict)
    evaluation: Json = field(default_factory=dict)
    datasets: Sequence[str] = ()
    license: str | None = None
    notices: Sequence[str] = ()
    accepted: dict[str, str] = field(default_factory=dict)

    @property
    def dialect(self) -> str | None:
        return self.checkpoint.dialect if self.checkpoint else next((a.dialect for a in self.artifacts), None)


def write(story: Story) -> str:
    """The card, in Markdown, with the YAML head."""
    title = f"# {story.name.rpartition('/')[2]}"
    sections = (_opening, _quantisations, _scores, _evaluation, _proof, _training, _files, _licence)
    parts = [_head(story), title, *(section(story) for section in sections)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(story: Story) -> str:
    formats = dict.fromkeys(_TAGS[a.format] for a in story.artifacts)
    tags = ["function-calling", *([story.dialect] if story.dialect else []), "edge", *formats]
    told: Json = {"tags": tags, "pipeline_tag": "text-generation"}
    if story.license:
        told["license"] = story.license
    if story.kind in _LIBRARIES:
        told["library_name"] = _LIBRARIES[story.kind]
    if story.base and "/" in story.base:
        told |= {"base_model": story.base, "base_model_relation": _RELATIONS[story.kind]}
    if story.datasets:
        told["datasets"] = list(story.datasets)
    lines = []
    for key in sorted(told):
        if isinstance(told[key], list):
            lines += [f"{key}:", *(f"  - {json.dumps(item)}" for item in told[key])]
        else:
            lines.append(f"{key}: {json.dumps(told[key])}")
    return "\n".join(["---", *lines, "---"])


def _opening(story: Story) -> str:
    base = f", made from {_code(story.base)}" if story.base else ""
    said = [f"This is {_WHAT[story.kind]}{base}. It was made with edge {edge.__version__}."]
    if story.dialect:
        said.append(f"Prompts and calls are in the {_code(story.dialect)} format.")
    stops = next((a.stop_tokens for a in story.artifacts if a.stop_tokens), None)
    if stops:
        said.append(f"Generation stops at {', '.join(map(_code, stops))}.")
    return " ".join(said)


def _quantisations(story: Story) -> str:
    if not story.artifacts:
        return ""
    rows = []
    for a in story.artifacts:
        name = Path(a.path).name
        rows.append([_code(name), a.format, _plain(a.quantisation), megabytes(a.bytes), _RUNS.get(a.format, ""),
                     _plain(_verdict(story, a))])  # fmt: skip
    lines = _table(["file", "format", "quantisation", "MB", "runs in", "verdict"], rows)
    reasons = [f"{_code(name)} was pushed all the same: {_plain(why)}" for name, why in story.accepted.items()]
    return "\n\n".join(["## Quantisations", lines, *reasons])


def _verdict(story: Story, artifact: Artifact) -> str:
    """What its proof says, and what speaks against it; else what the report saw."""
    if artifact.proof:
        why = "; ".join(artifact.proof.get("why", []))
        return f"{artifact.proof['verdict']}{f': {why}' if why else ''}"
    cell = next((c for c in story.cells if c["subject"] == artifact.digest), None)
    change = (cell or {}).get("difference")
    return str(change["words"]) if change else "measured" if cell else "not proven"


def _scores(story: Story) -> str:
    measured = [c for c in story.cells if c["accuracy"]["n"]]
    if not measured:
        return ""
    rows = [
        [_plain(c["name"]), megabytes(c["bytes"]), _share(c["accuracy"]), str(c["accuracy"]["n"]), _change(c["difference"]),
         number(c["call_ms"]["value"]), _plain(c["runtime_version"] or c["runtime"])]
        for c in measured
    ]  # fmt: skip
    head = ["", "MB", "calls right, %", "rows", "change, points", "median call, ms", "runtime"]
    device = measured[-1]["device"]
    told = [device.get(key) for key in ("model", "cpu") if device.get(key)]
    where = f" Times are of {_plain(', '.join(map(str, told)))}." if told else ""
    return "\n\n".join([
        "## Scores",
        "Right means: all calls in order, names and arguments equal, nothing besides. In brackets are 95 % intervals; changes "
        f"are over the same rows, of the tuned model against its base and of the others against the tuned one.{where}",
        _table(head, rows),
        f"The rows have the digest {_code(story.workload)}." if story.workload else "",
    ]).strip()  # fmt: skip


def _evaluation(story: Story) -> str:
    """Every metric of `edge eval`, beside that of the base where it was evaluated too."""
    subject = story.evaluated
    if not subject:
        return ""
    bases = {s["name"]: s for s in story.evaluation["subjects"] if s["kind"] == "base" and s is not subject}
    base = next(iter(bases.values()), None)
    rows = []
    for name, metric in METRICS.items():
        found, change = subject["metrics"].get(name), (subject["difference"] or {}).get(name)
        if not found or found["value"] is None:
            continue
        before = base["metrics"].get(name) if base else None
        shown = _share(before) if before and before["value"] is not None else ""
        rows.append([metric.title, shown, _share(found), str(found["n"]), _change(change), _plain(metric.meaning)])
    head = ["", "base, %", "this, %", "n", "change, points", "what it counts"]
    said = f"Greedy answers to {story.evaluation['rows']} rows (digest {_code(story.evaluation['workload'])}), 95 % intervals."
    of = "" if story.kind != "artifacts" else " of the checkpoint"
    return "\n\n".join([f"## Evaluation{of}", said, _table(head, rows)])


def _share(estimate: Json) -> str:
    return f"{percent(estimate['value'])} [{percent(estimate['low'])}, {percent(estimate['high'])}]"


def _change(difference: Json | None) -> str:
    if not difference or difference["value"] is None:
        return ""
    return f"{points(difference['value'])} [{points(difference['low'])}, {points(difference['high'])}]"


def _proof(story: Story) -> str:
    rows = []
    for a in story.artifacts:
        tokens, calls = (a.proof or {}).get("tokens", {}), (a.proof or {}).get("calls", {})
        if not a.proof or "rows" not in calls:
            continue
        kl = f"{tokens['kl_mean']:.2g}" if tokens.get("positions") else "not compared"
        same = f"{tokens['sure_same']} of {tokens['sure']}" if tokens.get("positions") else ""
        low, high = points(calls["low"]), points(calls["high"])
        rows.append([_code(Path(a.path).name), kl, same, f"{calls['right_before']} → {calls['right']} of {calls['rows']}",
                     f"{points(calls['difference'])} [{low}, {high}]"])  # fmt: skip
    if not rows:
        return ""
    head = ["file", "KL, nats a token", "same first token where sure", "rows right, before → after", "change, points"]
    return "\n\n".join(["## Beside its checkpoint", "Each file in its own runtime, against the checkpoint that it was made from.",
                        _table(head, rows)])  # fmt: skip


def _training(story: Story) -> str:
    training = (story.checkpoint.training if story.checkpoint else None) or {}
    options = training.get("options") or {}
    facts = {
        k: training[k]
        for k in ("method", "rows", "tokens", "steps", "trainable", "parameters", "precision")
        if k in training
    }
    data = training.get("data")
    if not (options or facts or data or story.datasets):
        return ""
    rows = [
        [_plain(name.replace("_", " ")), _setting(value)]
        for name, value in {**facts, **options}.items()
        if _setting(value)
    ]
    digests = {"training rows": data} if isinstance(data, str) else {}
    files = training.get("files")
    digests |= {Path(name).name: digest for name, digest in files.items()} if isinstance(files, dict) else {}
    told = [[_plain(name), _code(str(value))] for name, value in digests.items() if isinstance(value, (str, int))]
    found = ["## Training"]
    if story.datasets:
        found.append("Data: " + ", ".join(map(_code, story.datasets)) + ".")
    found += [_table(["setting", "value"], rows)] if rows else []
    found += [_table(["data", "sha256"], told)] if told else []
    return "\n\n".join(found)


def _setting(value: object) -> str:
    """A value as a table shows it: of {"used", "why"} what was used; "" for what is no single value."""
    if isinstance(value, dict):
        value = value.get("used")
    if isinstance(value, bool) or value is None:
        return "" if value is None else "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return _plain(str(value)) if isinstance(value, (str, int)) and len(str(value)) <= _LONG else ""


def _files(story: Story) -> str:
    rows = [[_code(p), f"{f.stat().st_size:,}", _code(records.digest_file(f))] for p, f in story.files.items()]
    return "## Files\n\n" + _table(["file", "bytes", "sha256"], rows)


def _licence(story: Story) -> str:
    return "\n\n".join(["## Licence", *story.notices]) if story.notices else ""


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """The cells are Markdown already: `_plain` or `_code` made them, or they are figures."""
    names = list(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in [names, ["---"] * len(names), *rows])


def _plain(text: str) -> str:
    """Text from elsewhere in one line of Markdown: no cell, tag or heading of its own."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _code(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
