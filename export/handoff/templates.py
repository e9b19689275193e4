"""Filling in the `.jinja` files beside this one, which hold the generated folders' files."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False
)


def fill(name: str, /, **values: Any) -> str:
    """The template `NAME.jinja` with these values; a value that is missing is an error."""
    source = (pkgutil.get_data("edge.export.handoff", f"{name}.jinja") or b"").decode()
    text = _ENVIRONMENT.from_string(source).render(**values)
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair, which JSON may hold, is no text


def comment(text: str) -> list[str]:
    """The lines of a description, without characters that can't be seen, and with nothing that opens or ends a comment."""
    text = text.replace("*/", "*&#47;").replace("/*", "/&#42;")
    return ["".join(c if c.isprintable() else " " for c in line).strip() for line in text.strip().splitlines()]


def changed(folder: Path, written: dict[str, str], model: str, size: int) -> list[str]:
    """What a receiver would find wrong: files that are missing or were changed, a model that is not whole or in its place.

    written: the files as they were made; model: where its file belongs; size: its bytes.
    """
    found = [
        f"{path} is {'not what was written' if (folder / path).is_file() else 'missing'}"
        for path, text in written.items()
        if not (folder / path).is_file() or (folder / path).read_text(encoding="utf-8") != text
    ]
    if not (folder / model).is_file() or (folder / model).stat().st_size != size:
        found.append(f"{model} is not the model: a file of {size} bytes was handed over")
    return found
