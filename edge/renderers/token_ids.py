"""Token ids of texts, by a checkpoint's own tokenizer, in a worker. The host's side: it needs more than the core."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import EdgeError

from .parity import Tokens

if TYPE_CHECKING:
    from edge.console import Console


def tokenise(texts: Iterable[str], checkpoint: Path, console: Console) -> Iterator[Tokens]:
    """Each text's tokens, in order; read back one at a time. Raises EdgeError if the folder holds no tokenizer."""
    from edge import environments, worker

    tokenizer = find(checkpoint)
    script = environments.script("token_ids")
    environment = environments.ensure(environments.spec(script), console)
    with tempfile.TemporaryDirectory(prefix="edge-prompt-") as desk:
        file, out = Path(desk) / "texts.jsonl", Path(desk) / "out"
        with file.open("w", encoding="utf-8") as lines:
            total = sum(bool(lines.write(json.dumps(text) + "\n")) for text in texts)
        request = {"tokenizer": str(tokenizer), "texts": str(file), "total": total}
        with console.task("tokenising") as progress:
            worker.run(script, request, out, python=environment.python, progress=progress)
        with file.open(encoding="utf-8") as given, (out / "ids.jsonl").open(encoding="utf-8") as found:
            for text, line in zip(given, found):
                told = json.loads(line)
                yield Tokens(json.loads(text), told["ids"], [(a, b) for a, b in told["spans"]])


def find(checkpoint: Path) -> Path:
    """The checkpoint's tokenizer.json."""
    file = checkpoint / "tokenizer.json"
    if not file.is_file():
        raise EdgeError(f"{checkpoint}: no tokenizer.json there", "name the folder of a whole checkpoint")
    return file.resolve()


def template(checkpoint: Path) -> str:
    """The checkpoint's chat template, "" if it has none."""
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        config = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    found = config.get("chat_template") if isinstance(config, dict) else None
    return found if isinstance(found, str) else ""
