"""`edge tiny`: the shipped base model once more, from nothing, with its card; and the scores of such a model.

The training is a worker (`workers/tiny.py`, its parts in `scratch/`), so is the examination (`workers/exam.py`); here
are the folder that ships, `edge-tiny`, and the model card, which is written from what the two measured.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from edge import environments, worker
from edge.bench.stats import proportion
from edge.console import Console
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.locks import only_one
from edge.records import Checkpoint, digest_file, digest_folder, read_json, save, write_text
from edge.train.scratch import rounding

Json = dict[str, Any]

SHIPPED = Path(__file__).parent / "edge-tiny"
STEPS, SEED = 23100, 1  # of the shipped model's first go; 7,200 more with seed 3 came after it: its card says how
ROWS = 1000  # questions in each set of the card


def make(
    out: Path,
    console: Console,
    steps: int = STEPS,
    seed: int = SEED,
    rows: int = ROWS,
    model: Path | None = None,
    **more: Any,
) -> Json:
    """Train into `out` (replaced whole when done; a stopped run goes on), examine, write the card.

    steps: of `HEADS` times `QUESTIONS` examples. rows: questions in each set of the card. model: an earlier one
    to go on from. more: further fields of the worker's request. Returns {"training": …, "scores": …}, the two workers' answers.

    Raises EdgeError for a folder with something else in it, a training that was stopped there and was another one, or
    one that is at work there.
    """
    request = {"steps": steps, "seed": seed, "threads": os.cpu_count(), **more}
    if model:
        checkpoints.inspect(model)
        request["start"] = str(model.resolve())
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise EdgeError(f"{out}: what is there is no model, and would be replaced", "give a new or an empty folder")
    desk = out.absolute().with_name(f"{out.absolute().name}.worker")  # see edge/worker.py
    busy = EdgeError(f"{out}: another training is at work there", "wait for it, or give another folder")
    with only_one(desk / ".lock", busy):
        training = _trained(out, desk, request)
        if training is None:
            training = _run("tiny", request, out, console, f"training {out.name}", keep_partial=True)
        if model:
            training["start"] = f"{model.name} (sha256 {digest_folder(model)[:12]}…)"
        scores = score(out, console, rows)
        write_text(out / "CARD.md", card(out, training, scores))
        save(Checkpoint(digest_folder(out), ".", "functiongemma", source="edge-tiny"), out / "checkpoint.json")
    return {"training": training, "scores": scores}


def _trained(out: Path, desk: Path, request: Json) -> Json | None:
    """What the same training answered if it is done and was stopped before its card; None if there is something to train.

    Raises EdgeError rather than go on from another training's weights.
    """
    before = _left(desk / "request.json")
    same = all(before.get(key) == value for key, value in request.items() if key != "threads")
    if (desk / "partial" / "checkpoint.pt").exists() and before and not same:
        raise EdgeError(
            f"{desk}: a training with other options was stopped there",
            "give the same options to go on with it, or delete that folder",
        )
    answer = _left(desk / "reply.json").get("ok")
    done = (out / "config.json").is_file() and not (out / "CARD.md").exists()
    return answer if same and done else None


def _left(file: Path) -> Json:
    """What a worker's run left on its desk, {} if nothing or not whole."""
    try:
        return dict(read_json(file))
    except (EdgeError, TypeError, ValueError):
        return {}


def score(model: Path, console: Console, rows: int = ROWS, fake: str | None = None) -> Json:
    """Exact match on held-out rows: {"sets", "tools", "languages", "kinds": {name: {"right", "rows"}}}.

    rows: questions a set. fake: round the weights first, as `scratch/rounding.py` names it.

    Raises EdgeError for a rounding that there is not, and for a folder that holds no checkpoint.
    """
    if fake is not None and fake not in rounding.KINDS:
        raise EdgeError(f"no rounding {fake!r}", f"there are: {', '.join(rounding.KINDS)}")
    checkpoints.inspect(model)
    request = {"model": str(model.resolve()), "rows": rows, "threads": os.cpu_count(), "fake": fake}
    label = f"examining {model.name}" + (f" as {fake}" if fake else "")
    with tempfile.TemporaryDirectory() as folder:  # an examination leaves nothing but its answer
        return _run("exam", request, Path(folder) / "exam", console, label)


def _run(name: str, request: Json, out: Path, console: Console, label: str, **how: Any) -> Json:
    script = environments.script(name)
    environment = environments.ensure(environments.spec(script), console)
    with console.task(label) as progress:
        return worker.run(script, request, out, python=environment.python, progress=progress, **how)


def card(folder: Path, training: Json, scores: Json, note: str = "") -> str:
    """The model card: purpose, recipe, scores with intervals, digests. note: what a reader should know of this training."""
    files = sorted(f for f in folder.iterdir() if f.suffix != ".md" and f.name != "checkpoint.json")
    return _CARD.format(
        **{key: training[key] for key in ("parameters", "steps", "examples", "seed", "threads", "device")},
        start=_STARTS.get(training["start"], f"going on from the model {training['start']}"),
        repeat=_repeat(training),
        note=f"\n{note}\n" if note else "",
        minutes=training["minutes"],
        cpu_minutes=training["cpu_minutes"],
        megabytes=sum(f.stat().st_size for f in files) / 1e6,
        size=", ".join(f"{k.replace('_', ' ')} {v}" for k, v in training["size"].items()),
        sets=table(scores["sets"]),
        languages=table(scores["languages"]),
        kinds=table(scores["kinds"]),
        tools=table(dict(sorted(scores["tools"].items()))),
        curve="\n".join(_point(p) for p in training["curve"]),
        head=" | ".join(training["curve"][0]["scores"]) if training["curve"] else "",
        rule="|---" * (4 + len(training["curve"][0]["scores"]) if training["curve"] else 4) + "|",
        digests="\n".join(f"| `{f.name}` | {f.stat().st_size:,} | `{digest_file(f)}` |" for f in files),
    )


def _repeat(training: Json) -> str:
    if training["start"] in _STARTS:
        return "To repeat it: `edge tiny train`. It then"
    how = f"--from MODEL --seed {training['seed']} --steps {training['steps']}"
    return f"To repeat it, with that model: `edge tiny train OUT {how}`. It then"


def table(scores: Json) -> str:
    """Lines of a Markdown table: name, share of exact answers, 95 % interval (Wilson), rows."""
    lines = []
    for name, found in scores.items():
        share = proportion(found["right"], found["rows"])
        exact = found["right"] / found["rows"]
        lines.append(f"| {name} | {exact:.3f} | {share.low:.3f} to {share.high:.3f} | {found['rows']} |")
    return "\n".join(lines)


def _point(point: Json) -> str:
    shown = " | ".join(f"{score:.2f}" for score in point["scores"].values())
    return f"| {point['minutes']:.0f} | {point['steps']:,} | {point['examples']:,} | {point['loss']:.3f} | {shown} |"


_STARTS = {"copying": "from weights that can copy", "plain": "from plain random weights"}

_CARD = """# edge-tiny

A function-calling language model of {parameters:,} parameters in FunctionGemma's format, trained from scratch on
this project's own synthetic rows. **It is for testing this project**: a real `Gemma3ForCausalLM` with a real
tokenizer, small enough ({megabytes:.1f} MB) to ship, to tune in minutes and to run on anything, so that what tuning
gains and what a quantisation costs can be measured where the gated weights of `google/functiongemma-270m-it` are not
at hand.

It is not for use in an app, knows nothing about the world, and holds no weights of Gemma: what is Gemma's is the
architecture and the wire format. Licence: Apache-2.0, as the project.

## Recipe

{size}.
Every sixth layer is global. Tied embeddings, bfloat16. SentencePiece BPE with byte fallback and split digits.

{examples:,} examples in {steps:,} steps {start}, {minutes:.0f} minutes ({device}, {threads} threads, {cpu_minutes:.0f}
CPU minutes), seed {seed}: `train/workers/tiny.py` says how, `train/scratch/` has the parts, `train/generator.py` and
`train/toolset/` say what from. {repeat} sees the same rows in
the same order; rounding differs between machines and grows, so expect scores like these, not the same bytes.
{note}
## Scores

Exact match, greedy: calls in order, names and arguments equal, nothing dropped. Weights as they ship. All values are
words that training never saw. Each set is drawn by `train/generator.py` with a fixed seed, which no decision looked
at. Where no tool fits, any answer without a call is right. The intervals are for independent rows; here five questions
are asked about each prompt, so the true ones are wider. To repeat it: `edge tiny score`.

| set | exact | 95 % interval (Wilson) | rows |
|---|---|---|---|
{sets}

| language | exact | 95 % interval | rows |
|---|---|---|---|
{languages}

| kind of row | exact | 95 % interval | rows |
|---|---|---|---|
{kinds}

Single calls in English by tool, seen and unseen phrasings together ("composed" are all made-up tools):

| tool | exact | 95 % interval | rows |
|---|---|---|---|
{tools}

On the way (100 other rows a set, so within 0.1):

| minutes | steps | examples | loss | {head} |
{rule}
{curve}

## Files

| file | bytes | sha256 |
|---|---|---|
{digests}
"""
