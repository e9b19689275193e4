"""`edge merge`: an adapter and its base become the checkpoint that `edge export` takes.

In float32: an adapter's changes are small, and lower precision rounds some of them away.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edge import environments, records, worker
from edge.console import Console
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import gate
from edge.project import EMBEDDED
from edge.records import Checkpoint
from edge.train import bases, fetching, tiny

Json = dict[str, Any]

PROMPTS = 16  # on which base with adapter and merged checkpoint are compared


def merge(adapter: Path, base: Path | str | None, out: Path, dialect: str, console: Console) -> Checkpoint:
    """Merge into `out`, replaced whole. The adapter is kept, and copied to `out/adapter`.

    Args:
        base: edge-tiny, the base's folder, or a hub id, fetched to `out.base`; None for what the adapter names, if that
            is a folder here.

    Raises: EdgeError for what is no adapter, one that is cut off or can't be merged, or a base that isn't found.
    """
    config = config_of(adapter)
    client = fetching.Client(console, lambda spec: environments.ensure(spec, console))
    named, download = str(base or base_of(adapter, config)), out.with_name(f"{out.name}.base")
    source = bases.find(named, Path(), download, dialect, client)
    folder = Path(source.path)
    if out.resolve() in (folder.resolve(), adapter.resolve()):
        raise EdgeError(f"{out}: that is a folder that is read", "give another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "config.json").is_file():
        raise EdgeError(f"{out}: what is there is no model, and would be replaced", "give a new or an empty folder")
    checkpoints.read_header(adapter / "adapter_model.safetensors")
    script = environments.script("merge")
    environment = environments.ensure(environments.spec(script), console)
    prompts = [row["prompt"] for row in gate.own_rows(dialect, PROMPTS)]
    request = {"adapter": str(adapter.absolute()), "base": source.path, "prompts": prompts, "threads": os.cpu_count()}
    with console.task(f"merging {adapter.name} into {folder.name}") as progress:
        answer = worker.run(script, request, out, python=environment.python, progress=progress)
    merged = Checkpoint(
        digest=records.digest_folder(out),
        path=str(out.absolute()),
        dialect=dialect,
        base=source.digest,
        source=out.resolve().name,
        training={
            "merged": {k: v for k, v in answer.items() if k != "versions"},
            "adapter": records.digest_folder(adapter),
        },
        environment=environment.facts,
        notices=source.notices,
        renderer=_renderer(adapter) or source.renderer,
    )
    records.save(merged, out / "checkpoint.json")
    return merged


def config_of(adapter: Path) -> Json:
    """Its adapter_config.json. Raises EdgeError for a folder without one, and for a kind that can't be merged."""
    file = adapter / "adapter_config.json"
    if not file.is_file():
        what = "a checkpoint, no adapter" if (adapter / "config.json").is_file() else "no adapter_config.json in it"
        raise EdgeError(f"{adapter}: {what}", "give the folder that peft's `save_pretrained` wrote")
    if not (adapter / "adapter_model.safetensors").is_file():
        raise EdgeError(f"{adapter}: no adapter_model.safetensors in it", "copy the adapter's whole folder")
    config: Json = dict(records.read_json(file))
    if config.get("peft_type") != "LORA":
        raise EdgeError(
            f"{file}: an adapter of type {config.get('peft_type')!r}", "LoRA's can be merged, with its variants"
        )
    return config


def _renderer(adapter: Path) -> str | None:
    """Whose prompts it was tuned on, if the checkpoint that `edge train` made of it lies around it."""
    record = adapter.resolve().parent / "checkpoint.json"
    return records.load(Checkpoint, record).renderer if adapter.name == "adapter" and record.is_file() else None


def base_of(adapter: Path, config: Json) -> Path:
    """The folder that its configuration names as its base. Raises EdgeError if that is none here."""
    name = str(config.get("base_model_name_or_path") or "")
    if name == EMBEDDED:
        return tiny.SHIPPED
    for folder in (Path(name), adapter / name):
        if name and folder.is_dir():
            checkpoints.inspect(folder)
            return folder
    raise EdgeError(f"{adapter}: it names its base {name!r}, which is no folder here", "give the base: --base FOLDER")
