"""`make tiny`: the shipped base model once more, from nothing, with its card.

The training is a worker (`workers/tiny.py`); here are the folder that ships, `edge-tiny`, and the model card. The card
is written from what the worker measured, and tells the digests of the files beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge import environments, worker
from edge.bench.stats import proportion
from edge.console import Console
from edge.records import Checkpoint, digest_file, digest_folder, save, write_text

Json = dict[str, Any]

SHIPPED = Path(__file__).parent / "edge-tiny"
MINUTES, SEED = 18.0, 1  # what the shipped model was trained with


def make(out: Path, console: Console, minutes: float = MINUTES, seed: int = SEED, **more: Any) -> Json:
    """Train into `out` (replaced whole when done; a stopped run goes on), write the card, return the worker's answer.

    minutes: CPU minutes of training, besides the scoring. more: further fields of the worker's request.
    """
    script = environments.script("tiny")
    environment = environments.ensure(environments.spec(script), console)
    request = {"minutes": minutes, "seed": seed, **more}
    with console.task(f"training {out.name}") as progress:
        answer = worker.run(script, request, out, python=environment.python, progress=progress, keep_partial=True)
    write_text(out / "CARD.md", card(out, answer))
    save(Checkpoint(digest_folder(out), ".", "functiongemma", source="edge-tiny"), out / "checkpoint.json")
    return answer


def card(folder: Path, answer: Json) -> str:
    """The model card: purpose, recipe, scores with intervals, digests."""
    files = sorted(f for f in folder.iterdir() if f.suffix != ".md")
    return _CARD.format(
        parameters=answer["parameters"],
        megabytes=sum(f.stat().st_size for f in files) / 1e6,
        steps=answer["steps"],
        examples=answer["examples"],
        minutes=answer["cpu_minutes"],
        seed=answer["seed"],
        size=", ".join(f"{k.replace('_', ' ')} {v}" for k, v in answer["size"].items()),
        scores="\n".join(_score(name, s["exact"], s["rows"]) for name, s in answer["scores"].items()),
        curve="\n".join(_point(p) for p in answer["curve"]),
        digests="\n".join(f"| `{f.name}` | {f.stat().st_size:,} | `{digest_file(f)}` |" for f in files),
    )


def _score(name: str, exact: float, rows: int) -> str:
    share = proportion(round(exact * rows), rows)
    return f"| {name} | {exact:.3f} | {share.low:.3f} to {share.high:.3f} | {rows} |"


def _point(point: Json) -> str:
    scores = point["scores"]
    shown = [f"{scores[k]['exact']:.2f}" for k in ("seen phrasings", "unseen phrasings", "unseen tools", "parallel")]
    return f"| {point['minutes']:.0f} | {point['examples']:,} | {point['loss']:.3f} | {' | '.join(shown)} |"


_CARD = """# edge-tiny

A function-calling language model of {parameters:,} parameters in FunctionGemma's format, trained from scratch on
this project's own synthetic rows. **It is for testing this project**: a real `Gemma3ForCausalLM` with a real
tokenizer, small enough ({megabytes:.1f} MB) to ship, to tune in a minute and to run on anything, so that what tuning
gains and what a quantisation costs can be measured where the gated weights of `google/functiongemma-270m-it` are not
at hand.

It is not for use in an app, knows nothing about the world, and holds no weights of Gemma: what is Gemma's is the
architecture and the wire format. Licence: Apache-2.0, as the project.

## Recipe

{size}.
Every sixth layer is global. Tied embeddings, bfloat16. SentencePiece BPE with byte fallback and split digits.

{examples:,} examples in {steps:,} steps, {minutes:.0f} CPU minutes on one thread, seed {seed}: `train/workers/tiny.py`
says how (a start that can copy, AdamW, heads shared by ten questions), `train/generator.py` what from. To repeat it:
`make tiny`. The time decides how far it gets, so another machine gives other weights, and scores like these.

## Scores

Exact match, greedy: calls in order, names and arguments equal, nothing dropped. All values are unseen words. Each set
is drawn by `train/generator.py` with a fixed seed. Where no tool fits, any answer without a call is right. A score
near 0 means just that: these minutes were too few to learn it.

| set | exact | 95 % interval (Wilson) | rows |
|---|---|---|---|
{scores}

On the way (100 rows a set, so within 0.1):

| CPU minutes | examples | loss | seen phrasings | unseen phrasings | unseen tools | parallel |
|---|---|---|---|---|---|---|
{curve}

## Files

| file | bytes | sha256 |
|---|---|---|
{digests}
"""
