"""How long rows are: characters and bytes of the text that is trained on, and tokens, by a real tokenizer in a worker."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge import environments, worker
from edge import project as projects
from edge.console import Console
from edge.errors import EdgeError
from edge.records import write_text
from edge.train import readers

from .source import Item, Source

LIMIT = 1024


@dataclass(frozen=True)
class Length:
    """Of one row's prompt and completion together."""

    characters: int
    bytes: int
    tokens: int | None  # None: nobody named a tokenizer


def rendered(item: Item, source: Source) -> tuple[str, str]:
    """The prompt and the completion that `edge run` trains on."""
    prompt = source.dialect.render(item.row.messages[:-1], item.tools, add_generation_prompt=True)
    return prompt, source.dialect.completion(item.row.messages[-1])


def measure(items: Sequence[Item], source: Source, tokenizer: Path | None, console: Console) -> list[Length]:
    """The length of each row; tokens only with a tokenizer. Raises EdgeError if its folder holds none."""
    texts = [rendered(item, source) for item in items]
    counts: Sequence[int | None] = count(texts, tokenizer, console) if tokenizer and texts else [None] * len(texts)
    return [Length(len(p + c), len((p + c).encode("utf-8", "replace")), n) for (p, c), n in zip(texts, counts)]


def find(given: str | None, source: Source) -> Path | None:
    """The folder of a tokenizer: the one named, `edge-tiny` for the embedded one, else the project's base, else None."""
    if given is None:
        return source.base
    folder = Path(readers.__file__).parents[1] / given if given == projects.EMBEDDED else Path(given)
    if not (folder / "tokenizer.json").is_file():
        raise EdgeError(
            f"{folder}: no tokenizer.json there",
            f"name a checkpoint's folder, or {projects.EMBEDDED} for the embedded model's",
        )
    return folder


def count(texts: Sequence[tuple[str, str]], folder: Path, console: Console) -> list[int]:
    """Tokens of prompt and completion, counted apart as training does, by a worker."""
    script = environments.script("count_tokens")
    environment = environments.ensure(environments.spec(script), console)
    with tempfile.TemporaryDirectory(prefix="edge-data-") as desk, console.task("counting tokens") as progress:
        rows = Path(desk) / "texts.jsonl"
        write_text(rows, "".join(json.dumps(text) + "\n" for text in texts))
        request = {"tokenizer": str(folder.resolve() / "tokenizer.json"), "texts": str(rows), "total": len(texts)}
        told = worker.run(script, request, Path(desk) / "out", python=environment.python, progress=progress)
    return [int(n) for n in told["counts"]]
