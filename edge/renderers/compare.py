"""Rows as training renders them against the same rows as targets do, by the checkpoint's own token ids. Host side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from edge import renderers
from edge.dialects import Message, Tool
from edge.errors import EdgeError, MissingError
from edge.renderers import TRAINING

from . import parity, token_ids

if TYPE_CHECKING:
    from edge.console import Console

BUILT_IN = 8  # rows that are compared when none are named


@dataclass(frozen=True)
class Case:
    """A prompt to be: the messages before the answer."""

    id: str
    messages: list[Message]
    tools: list[Tool]


@dataclass
class Result:
    """Of one target. `differ` counts rows whose ids differ; `refused` those that the target can't render."""

    target: str
    follows: str
    verified: str
    unknown: tuple[str, ...]
    rows: int = 0
    differ: int = 0
    refused: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    first: Optional[dict[str, Any]] = None
    missing: Optional[str] = None

    @property
    def equal(self) -> bool:
        return not (self.differ or self.refused or self.missing)


def built_in(count: int = BUILT_IN, seed: int = 0) -> list[Case]:
    """Rows of the generator, with the seven tools of google/mobile-actions."""
    from edge.train import generator

    made = generator.rows(count, seed, tools="mobile")
    return [Case(f"built-in:{n}", row["messages"][:-1], row["tools"]) for n, row in enumerate(made, 1)]


def read(file: Path, tools: Optional[Path] = None, bare: bool = False, console: Optional[Console] = None) -> list[Case]:
    """The rows of a file in any of the three shapes. Raises EdgeError for the first that can't be used.

    Args:
        tools: for rows without their own; None for those of the project that the file lies in.
        bare: rows without tools stay so.

    Raises ToolsMissing, an EdgeError, for rows that expect calls and have no tools.
    """
    from edge.train import nearby
    from edge.train.data import source

    loaded = source.read(source.find([str(file)], tools_file=tools, console=console))
    if not tools and not bare and (near := nearby.tools_for(file, (item.row for item in loaded.items))):
        loaded = source.read(source.find([str(file)], tools_file=near, console=console))
    if loaded.rejects:
        bad = loaded.rejects[0]
        raise EdgeError(f"{bad.file}, line {bad.line}: {bad.reason}", "see edge data check")
    return [Case(item.place, item.row.messages[:-1], item.tools) for item in loaded.items]


def compare(
    cases: Sequence[Case], checkpoint: Path, targets: Sequence[str], console: Console, trained: str = TRAINING
) -> list[Result]:
    """One result per target, in their order. Raises EdgeError if the checkpoint has no tokenizer.

    A target that needs a package that isn't here has `missing`. trained: whose rendering training used.
    """
    token_ids.find(checkpoint)
    template = token_ids.template(checkpoint)
    training = renderers.get(trained)
    prompts = [training.render(case.messages, case.tools, template) for case in cases]
    results, texts = [], []
    for name in targets:
        result, rendered = _render(name, cases, template)
        results.append(result)
        texts.append(rendered)
    wanted = dict.fromkeys([*prompts, *(text for each in texts for text in each if text is not None)])
    found = {tokens.text: tokens for tokens in token_ids.tokenise(wanted, checkpoint, console)}
    for result, rendered in zip(results, texts):
        _judge(result, cases, prompts, rendered, found)
    return results


def _render(name: str, cases: Sequence[Case], template: str) -> tuple[Result, list[Optional[str]]]:
    renderer = renderers.get(name)
    result = Result(name, renderer.FOLLOWS, renderer.VERIFIED, renderer.UNKNOWN)
    rendered: list[Optional[str]] = []
    for case in cases:
        try:
            rendered.append(renderer.render(case.messages, case.tools, template))
        except MissingError as why:
            result.missing = f"{why.message}: {why.hint}"
            return result, []
        except EdgeError as why:
            result.refused += 1
            result.first = result.first or {"row": case.id, "refused": why.message}
            rendered.append(None)
    return result, rendered


def _judge(
    result: Result,
    cases: Sequence[Case],
    prompts: Sequence[str],
    rendered: Sequence[Optional[str]],
    tokens: dict[str, parity.Tokens],
) -> None:
    counts: Counter[str] = Counter()
    result.rows = len(rendered)
    for case, prompt, text in zip(cases, prompts, rendered):
        if text is None:
            continue
        ours, theirs = tokens[prompt], tokens[text]
        at = parity.first_difference(ours.ids, theirs.ids)
        if at is None:
            continue
        classes = parity.classify(prompt, text)
        counts.update(classes)
        result.differ += 1
        if not result.first or "refused" in result.first:
            result.first = {"row": case.id, "token": at, "classes": classes, "lengths": [len(ours.ids), len(theirs.ids)],
                            "training": ours.around(at), "target": theirs.around(at)}  # fmt: skip
    result.classes = dict(counts.most_common())
