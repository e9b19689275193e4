"""From the generator's scenes and questions to token ids: the batches of training and of examination."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from edge.dialects import functiongemma
from edge.train.generator import Generator, Query, Scene
from edge.train.scratch.net import Batch
from edge.train.scratch.tokenizer import Words

HEADS, QUESTIONS, SPARE = 2, 10, 5  # per step (a GPU wants more heads), and how many times as many are drawn
STAGES = [
    (0.06, 2),
    (0.15, 4),
    (math.inf, 7),
]  # up to this share of the steps, at most so many tools: first things first
USER = "<start_of_turn>user\n"


@dataclass(frozen=True)
class Lessons:
    """The batch of each step, by its number: what a torch DataLoader takes, so that a GPU's data come from processes.

    staged: begin with few tools in a prompt.
    """

    words: Words
    seed: int
    steps: int
    heads: int = HEADS
    staged: bool = True

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        stages = STAGES if self.staged else STAGES[-1:]
        most = next(tools for share, tools in stages if step < share * self.steps)
        return draw(self.words, self.seed, step, most, self.heads)


def draw(words: Words, seed: int, step: int, most: int = 7, heads: int = HEADS) -> Batch:
    """The data of one step. More are drawn than used and a slice is taken by length: little padding, any length."""
    rng = random.Random(f"{seed}/{step}")
    source = Generator(f"{seed}/{step}", most=most)
    scenes = sorted((source.scene() for _ in range(SPARE * heads)), key=lambda s: len(str(s.tools())))
    at = rng.randrange(SPARE) * heads
    scenes = scenes[at : at + heads]
    at = rng.randrange(SPARE) * QUESTIONS
    queries = []
    for scene in scenes:
        asked = sorted((source.query(scene) for _ in range(SPARE * QUESTIONS)), key=_length)
        queries.append(asked[at : at + QUESTIONS])
    return encode(words, scenes, queries)


def _length(query: Query) -> int:
    return len(query.text) + len(str(query.calls)) + len(str(query.history))


def encode(words: Words, scenes: list[Scene], queries: list[list[Query]]) -> Batch:
    """Cut each prompt before the user's first turn. That is between special tokens: the ids are those of the whole."""
    heads, questions, answers = [], [], []
    for scene, asked in zip(scenes, queries):
        developer = scene.developer()
        whole = functiongemma.render([developer, {"role": "user", "content": "?"}], scene.tools())
        heads.append(words.ids(whole.partition(USER)[0]))
        # what follows the head doesn't depend on the declarations, which would be written out for every question
        tails = [functiongemma.render([developer, *query.messages()], []).partition(USER)[2] for query in asked]
        questions.append(words.many([USER + tail for tail in tails]))
        answers.append(words.many([functiongemma.completion(query.answer()).rstrip("\n") for query in asked]))
    return Batch(heads, questions, answers, queries)


def texts(seed: int, count: int) -> Iterator[str]:
    """Text to make the tokenizer from: questions and answers; every twentieth with its declarations.

    The values are invented words only. From real ones the tokenizer would know those of the training half whole and
    cut the others up: copying several pieces would be asked for in the examination and hardly ever in training.
    """
    source = Generator(seed, invented=1.0)
    for i in range(count):
        scene = source.scene()
        for _ in range(6):
            query = source.query(scene)
            yield query.text + functiongemma.completion(query.answer())
        if i % 20 == 0:
            messages = [scene.developer(), {"role": "user", "content": query.text}]
            yield functiongemma.render(messages, scene.tools()).replace("<bos>", "")
