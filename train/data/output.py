"""Files that a command makes: each whole, never over one that is there unless told so, never over an input.

If one can't be written, those that the command brought into being go again; one that it replaced stays replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge.errors import EdgeError
from edge.records import write_text
from edge.train.readers import Reject

from .source import REJECTS, Source


def rejects_of(out: Path) -> Path:
    """Where the rows go that `out` leaves out: `small.jsonl` -> `small.rejects.jsonl`. Raises EdgeError for no name."""
    if not out.name:  # "", "." and "/"
        raise EdgeError(f"{out}: a folder", "name a file in it")
    return out.with_name(f"{out.stem}.{REJECTS}")


def refuse_existing(files: Iterable[Path], source: Source, force: bool) -> None:
    """Before any work is done. Raises EdgeError for an output that is an input, or is there without `force`."""
    others = (Path(file) for file in (source.tools_file, source.project_file) if file)
    inputs = {file.resolve() for file in (*source.files, *others)}
    for file in files:
        if file.resolve() in inputs:
            raise EdgeError(f"{file}: this is a file that is read", "write to another one")
        if file.is_dir():
            raise EdgeError(f"{file}: a folder", "name a file in it")
        if file.exists() and not force:
            raise EdgeError(f"{file}: already there", "give --force to replace it; nothing was written")


def write(files: dict[Path, str]) -> None:
    """Each file whole; if one fails (a full disk), those that this call brought into being go again."""
    new = [file for file in files if not file.exists()]
    try:
        for file, text in files.items():
            write_text(file, text)
    except BaseException:
        for file in new:
            file.unlink(missing_ok=True)
        raise


def lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def rejected_lines(rejects: Sequence[Reject]) -> str:
    """`{"file", "line", "reason", "text"}` a line, the text whole, in ASCII."""
    return lines(json.dumps({"file": r.file, "line": r.line, "reason": r.reason, "text": r.text}) for r in rejects)
