"""Examination of the embedded model on rows that training never saw: exact match, set by set and tool by tool.

Greedy decoding writes exactly the right answer if and only if the right token is the likeliest at each place of the
right answer. So one forward pass tells, and nothing need be generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge.train.generator import Generator
from edge.train.scratch.data import Batch, encode
from edge.train.scratch.net import Net, logits
from edge.train.scratch.tokenizer import Words

Json = dict[str, Any]

# What each set asks: the generator's arguments, and the kind and language of the question. All use unseen values.
EXAMS: dict[str, tuple[Json, Json]] = {
    "seen phrasings": ({}, {"kind": "call", "lang": "en"}),
    "unseen phrasings": ({"held": True}, {"kind": "call", "lang": "en"}),
    "unseen tools": ({"tools": "unseen"}, {"kind": "call", "lang": "en"}),
    "Mobile Actions tools": ({"tools": "mobile"}, {"kind": "call", "lang": "en"}),
    "parallel calls": ({}, {"kind": "parallel", "lang": "en"}),
    "Korean": ({}, {"kind": "call", "lang": "ko"}),
    "Korean, unseen phrasings": ({"held": True}, {"kind": "call", "lang": "ko"}),
    "several turns": ({}, {"kind": "multi", "lang": "en"}),
    "no fitting tool": ({}, {"kind": "none", "lang": "en"}),
}
SEED, SEED_ON_THE_WAY = 20261122, 20261121  # the card's rows, and those looked at while a training runs
SCENES, QUESTIONS = 6, 5  # heads in a batch, questions about each


def examine(net: Net, words: Words, rows: int, seed: int = SEED, exams: list[str] | None = None) -> Iterator[Json]:
    """One row after the other: {"set", "tool", "language", "kind", "right"}.

    rows: questions a set. tool: the concept's key ("composed" for all that are made up), of the first call.
    """
    for name in exams or EXAMS:
        for batch in _batches(words, name, rows, seed):
            queries = [query for asked in batch.queries for query in asked]
            for query, right in zip(queries, _right(net, words, batch, name == "no fitting tool")):
                yield {"set": name, "tool": _tool(query), "language": query.lang, "kind": query.kind, "right": right}


def _right(net: Net, words: Words, batch: Batch, abstain: bool) -> list[bool]:
    """Which questions are answered right. Where no tool fits, any answer without a call is."""
    import torch

    with torch.no_grad():
        found, wanted, of = logits(net, batch)
    best = found.argmax(-1)
    if abstain:
        starts = torch.cat([torch.tensor([True]), of[1:].cpu() != of[:-1].cpu()])
        return (best.cpu()[starts] != words.call).tolist()
    wrong = set(of[best != wanted].tolist())
    return [i not in wrong for i in range(int(of.max()) + 1)]


def _tool(query: Any) -> str:
    if not query.concepts:
        return "none"
    return "composed" if " " in query.concepts[0] else query.concepts[0]


def _batches(words: Words, name: str, rows: int, seed: int) -> Iterator[Batch]:
    which, asked = EXAMS[name]
    source = Generator(seed, "test", **which)
    scenes = []
    while len(scenes) * QUESTIONS < rows:
        scene = source.scene()
        if asked["lang"] == "en" or any(i.concept.ko for i in scene.targets):
            scenes.append(scene)
    scenes.sort(key=lambda s: len(str(s.tools())))  # little padding
    for at in range(0, len(scenes), SCENES):
        part = scenes[at : at + SCENES]
        yield encode(words, part, [[source.query(scene, **asked) for _ in range(QUESTIONS)] for scene in part])


def summary(rows: list[Json], by: str) -> Json:
    """{group: {"right", "rows"}} in order of appearance."""
    found: Json = {}
    for row in rows:
        group = found.setdefault(row[by], {"right": 0, "rows": 0})
        group["right"] += row["right"]
        group["rows"] += 1
    return found
