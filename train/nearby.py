"""The tools of rows that bring none, where nobody named them: those of the project that their file lies in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge import project as projects
from edge.errors import EdgeError
from edge.records import Checkpoint
from edge.train.readers import Row


class ToolsMissing(EdgeError):
    """Rows expect calls of tools that nothing declares."""


def tools_for(file: Path, rows: Iterable[Row]) -> Path | None:
    """The tools file of the project around `file`; None if each of its rows has tools, or calls nothing.

    Raises ToolsMissing if there is no project, or one that can't be read.
    """
    if not any(row.tools is None and row.calls for row in rows):
        return None
    found = next((above for above in file.absolute().parents if (above / "edge.toml").is_file()), None)
    remedy = "name the tools: --tools FILE"
    if found is None:
        raise ToolsMissing(f"{file}: rows without tools, and no edge.toml above them names any", remedy)
    try:
        return projects.load(found).tools
    except EdgeError as error:
        raise ToolsMissing(
            f"{file}: rows without tools, and their project can't be read: {error.message}", remedy
        ) from None


def tuned_bare(checkpoint: Checkpoint) -> bool:
    """Whether its record says that rows without tools were among those that it was tuned on."""
    counts = (checkpoint.training or {}).get("tools")
    return isinstance(counts, dict) and bool(counts.get("none"))
