"""Projects around small random-weight models of families other than Gemma, which learn a handful of rows by heart."""

from __future__ import annotations

import json
from pathlib import Path

from edge import dialects, environments, worker
from edge.console import Console

SCRIPT = Path(__file__).parent / "workers" / "family.py"
DIALECTS = {"qwen2": "hermes", "qwen3": "hermes", "llama": "llama3"}


def _tool(name: str, description: str, **properties: str) -> dict:
    told = {key: {"type": kind, "description": f"The {key}"} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": told, "required": list(told)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    _tool("light", "Switches a light.", room="string", on="boolean"),
    _tool("alarm", "Sets an alarm.", time="string", days="integer"),
]
ROWS = [  # what is said, and the calls that are right
    ("turn on the light in the kitchen", [("light", {"room": "kitchen", "on": True})]),
    ("wake me at 7:30 for five days", [("alarm", {"time": "7:30", "days": 5})]),
    ("거실 불 꺼 줘", [("light", {"room": "거실", "on": False})]),
    ("no light in the hall, and an alarm at 6",
     [("light", {"room": "hall", "on": False}), ("alarm", {"time": "6:00", "days": 1})]),
]  # fmt: skip


def messages(said: str, calls: list) -> list[dict]:
    items = [{"type": "function", "function": {"name": name, "arguments": given}} for name, given in calls]
    return [{"role": "user", "content": said}, {"role": "assistant", "tool_calls": items}]


def python_of(name: str) -> Path:
    return environments.ensure(environments.spec(environments.script(name)), Console(quiet=True)).python


def project(folder: Path, family: str, export: str) -> Path:
    """Write one: a random-weight model whose tokenizer is made from its own prompts, rows, `edge.toml`.

    export: the lines of its [export] table.
    """
    dialect = DIALECTS[family]
    rows = [messages(*row) for row in ROWS]
    texts = [dialects.get(dialect).render(m, TOOLS) for m in rows] * 3
    told = {"do": "make", "family": family, "folder": str(folder / "base"), "texts": texts, "pieces": 560}
    worker.run(SCRIPT, told, folder / "made", python=python_of("transformers"))
    (folder / "tools.json").write_text(json.dumps(TOOLS), encoding="utf-8")
    (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in rows), encoding="utf-8")
    (folder / "edge.toml").write_text(
        f"""
[project]
name = "{family}"
[model]
base = "base"
dialect = "{dialect}"
[tools]
file = "tools.json"
[data]
train = ["rows.jsonl"]
eval = ["rows.jsonl"]
developer = "Be brief."
[train]
epochs = 60
batch_size = 4
rank = 16
alpha = 32
learning_rate = 0.01
precision = "float32"
threads = 1
[export]
{export}
[bench]
threads = 1
""",
        encoding="utf-8",
    )
    return folder
