"""From rows as people write them to what training and measuring are given: one reading and one rendering for all commands.

`edge run`, `edge train` and `edge eval` must show a model the same prompt for the same row, so it is written here alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge import dialects, records, renderers
from edge.console import Console
from edge.dialects import Tool
from edge.records import Json
from edge.train import readers
from edge.train.data import datasets
from edge.train.data.datasets import Hub
from edge.train.readers import Reject, Row


@dataclass(frozen=True)
class Manner:
    """How rows become prompts: a project's, or what the options of a command say."""

    dialect: str
    developer: str | None = readers.DEVELOPER  # what a row says first that has no place for it
    renderer: str = renderers.TRAINING


def read(
    files: Iterable[Path | Hub], split: str, declared: list[Tool], manner: Manner, console: Console
) -> tuple[list[Row], list[Reject]]:
    """The rows for one purpose: those that name another (Mobile Actions' `metadata`, the file of a hub dataset) are left
    out, and counted. What is odd in prompts is said once."""
    here = datasets.local(files, console)
    found = list(readers.read(here.files, declared, dialects.get(manner.dialect), manner.developer))
    rows = [r for r in found if isinstance(r, Row)]
    ours = [r for r in rows if (r.split or here.splits.get(Path(r.file))) in (None, split)]
    if len(ours) < len(rows):
        console.say(f"{len(rows) - len(ours)} rows that say they are not for {split} are left out of it")
    for finding in dict.fromkeys(f for r in ours for f in r.findings):
        console.say(f"{finding.level}: {finding}")
    for note, count in Counter(n for r in ours for n in r.notes).items():
        console.say(f"warning: {note} (in {count} rows)")
    return ours, [r for r in found if isinstance(r, Reject)]


def say_renderer(manner: Manner, console: Console) -> None:
    """Who writes the prompts, if it isn't the dialect, and what is not known of it."""
    if manner.renderer != renderers.TRAINING:
        target = renderers.get(manner.renderer)
        console.say(f"prompts are written as {manner.renderer} writes them: {target.FOLLOWS} ({target.VERIFIED})")
        for unknown in target.UNKNOWN:
            console.say(f"warning: {manner.renderer}: not known: {unknown}")


def prompt(row: Row, declared: list[Tool], manner: Manner) -> str:
    """What the model is given before the row's answer. declared: the tools of rows that bring none."""
    tools_of_row = declared if row.tools is None else row.tools
    return renderers.prompt(manner.renderer, manner.dialect, row.messages[:-1], tools_of_row)


def training_row(row: Row, declared: list[Tool], manner: Manner) -> Json:
    """{"id", "prompt", "completion"}: exact texts, the completion ending in its stop token."""
    completion = dialects.get(manner.dialect).completion(row.messages[-1])
    return {"id": row.id, "prompt": prompt(row, declared, manner), "completion": completion}


def workload_row(row: Row, declared: list[Tool], manner: Manner) -> Json:
    """{"id", "prompt", "messages", "tools", "expected", "user"}; no expected call: saying something, or nothing, is right.

    messages, tools: what `prompt` was written from, for runtimes that write it themselves.
    """
    said = [m["content"] for m in row.messages if m["role"] == "user"]
    return {
        "id": row.id,
        "prompt": prompt(row, declared, manner),
        "messages": row.messages[:-1],
        "tools": declared if row.tools is None else row.tools,
        "expected": [c.to_json() for c in row.calls],
        "user": said[-1] if said else "",
    }


def write_lines(path: Path, rows: Iterable[Json]) -> None:
    """JSON lines in ASCII: U+2028 and its like are line ends to `str.splitlines`, and people do paste them."""
    records.write_text(path, "".join(json.dumps(r) + "\n" for r in rows))
