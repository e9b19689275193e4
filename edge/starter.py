"""`edge init`: a small project that runs as it is, for a model that has never seen its tools."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edge.console import Console
from edge.errors import EdgeError
from edge.project import EMBEDDED, KEYS, REQUIRED
from edge.records import Json, write_text
from edge.train import demo, tiny

TRAIN_ROWS, EVAL_ROWS = 3000, 300
SCRATCH, SCRATCH_STEPS, SCRATCH_ROWS = "base", 1200, 100  # folder, length and examination of a base trained live


def write(folder: Path, base: str = EMBEDDED, every_format: bool = False) -> list[Path]:
    """Write edge.toml, tools.py, train.jsonl and eval.jsonl. Raises EdgeError rather than overwrite one.

    every_format: ask for those besides GGUF as well.
    """
    template = Path(__file__).with_name("template.toml").read_text(encoding="utf-8")
    template = re.sub(r"^# (?=litertlm|task|onnx)", "", template, flags=re.MULTILINE) if every_format else template
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-.") or "app"
    texts = {
        "edge.toml": template.replace("{name}", name).replace(f'"{EMBEDDED}" ', f'"{base}" ', 1),
        "tools.py": demo.tools_source(),
        "train.jsonl": _lines("train", TRAIN_ROWS),
        "eval.jsonl": _lines("eval", EVAL_ROWS),
    }
    for file in texts:
        if (folder / file).exists():
            raise EdgeError(f"{folder / file}: already there", "give an empty folder; nothing was written")
    for file, text in texts.items():
        write_text(folder / file, text)
    return [folder / file for file in texts]


def train_base(folder: Path, console: Console) -> None:
    """Train the base model of a demo written for that, unless it is there. Raises EdgeError for other projects."""
    if f'base = "{SCRATCH}"' not in (folder / "edge.toml").read_text(encoding="utf-8"):
        raise EdgeError(f"{folder}: a project with another base model is there", "give --from-scratch a new folder")
    if not (folder / SCRATCH / "CARD.md").exists():
        console.say(f"a base model from nothing: {SCRATCH_STEPS} steps, some minutes; the embedded one took far more")
        tiny.make(folder / SCRATCH, console, SCRATCH_STEPS, rows=SCRATCH_ROWS)


def keys() -> Json:
    """Every key of edge.toml: {table: {key: {"required", "default", "meaning"}}}."""
    return {
        table: {
            key: {
                "required": default is REQUIRED,
                "default": None if default is REQUIRED else default,
                "meaning": meaning,
            }
            for key, (_, default, meaning) in known.items()
        }
        for table, known in KEYS.items()
    }


def explain() -> str:
    """Every key of edge.toml with its default and its meaning, as in the file."""
    lines = []
    for table, known in keys().items():
        lines.append(f"[{table}]")
        for key, told in known.items():
            value = "…" if told["required"] else json.dumps(told["default"], ensure_ascii=False)
            lines.append(f"{key} = {value}  # {told['meaning']}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _lines(split: str, count: int) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in demo.rows(split, count, seed=0))
