"""Which files of a hub dataset hold rows, and for which side. Standard library only."""

from __future__ import annotations

import fnmatch
import re
from typing import Any, Optional

from edge.errors import EdgeError

# The first kind that a dataset has is taken: a second one would be the same rows again, or settings.
KINDS = ((".jsonl", ".ndjson"), (".parquet",), (".json",))
SIDES = {"train": "train"} | dict.fromkeys(("test", "validation", "valid", "val", "eval", "dev"), "eval")


def choose(name: str, paths: list[str], configurations: dict[str, Any], pick: Optional[str]) -> list[dict[str, Any]]:
    """The files that hold rows, each with its split. Raises EdgeError naming what there is to choose from."""
    rows = [p for p in paths if p.endswith(tuple(s for kind in KINDS for s in kind)) and not p.startswith(".")]
    if pick is not None and pick not in configurations:
        found = [p for p in rows if fnmatch.fnmatchcase(p, pick)]
        if not found:
            there = ", ".join([*configurations, *rows][:20]) or "nothing that holds rows"
            raise EdgeError(f"{name}: no configuration and no file {pick!r}", f"there are: {there}")
        return [{"path": p, "split": None} for p in found]
    if len(configurations) > 1 and pick is None and "default" not in configurations:
        first = next(iter(configurations))
        raise EdgeError(f"{name}: several configurations, {', '.join(configurations)}", f"choose one: {name}:{first}")
    told = configurations.get(pick or "default") or (next(iter(configurations.values())) if configurations else [])
    files = [
        {"path": p, "split": SIDES.get(split)} for split, glob in told for p in rows if fnmatch.fnmatchcase(p, glob)
    ]
    if not files:
        kind = next((k for k in KINDS if any(p.endswith(k) for p in rows)), ())
        files = [{"path": p, "split": _split(p)} for p in rows if kind and p.endswith(kind)]
    if not files:
        raise EdgeError(
            f"{name}: no file of rows in it (JSON lines, Parquet, JSON)",
            f"it holds: {', '.join(paths[:20]) or 'nothing'}",
        )
    return files


def _split(path: str) -> Optional[str]:
    """The side that a file's name speaks of."""
    words = re.split(r"[^a-z]+", path.lower())
    return next((SIDES[word] for word in words if word in SIDES), None)


_CARD = re.compile(r"---\r?\n(.*?)\n---", re.DOTALL)
_LINE = re.compile(r"(?P<indent> *)(?P<dashes>(?:- +)*)(?:(?P<key>\w+): *)?(?P<value>[^#\n]*)")


def configurations(card: str) -> dict[str, list[tuple[Optional[str], str]]]:
    """The configurations that a card's head names: name -> (split, glob) of its files; one that calls itself the default
    is `default` too. Read line by line: of YAML only what the hub itself writes there."""
    head = _CARD.match(card)
    lines = iter(head[1].splitlines()) if head else iter(())
    found: dict[str, list[tuple[Optional[str], str]]] = {}
    name, split, key = "default", None, ""
    for line in lines:
        if line.rstrip() == "configs:":
            break
    for line in lines:
        match = _LINE.fullmatch(line.rstrip())
        if not match or (match["key"] and not match["indent"] and not match["dashes"]):
            break  # the next key of the card
        key, value = match["key"] or key, match["value"].strip().strip("\"'")
        if key == "config_name":
            name, split = value, None
        elif key == "split":
            split = value
        elif key in ("path", "data_files") and value:
            found.setdefault(name, []).append((split, value))
        elif key == "default" and value == "true" and name in found:
            found.setdefault("default", found[name])
    return found
