"""What `edge eval` is given: checkpoints, and adapters that stay beside their base. Found, named, and refused where they don't fit.

Nothing is loaded here: what headers and records tell is said before anything takes its time; what is left,
`bench/runtimes/transformers.py` refuses when it loads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge import records
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import job
from edge.project import EMBEDDED
from edge.records import Checkpoint
from edge.train import merge, tiny

BASE = "base"


@dataclass(frozen=True)
class Candidate:
    """Something that answers prompts: a checkpoint, or one with an adapter that is not merged into it."""

    name: str
    checkpoint: Checkpoint
    adapter: Path | None = None

    @property
    def digest(self) -> str:
        if self.adapter is None:
            return self.checkpoint.digest
        return records.digest_value([self.checkpoint.digest, records.digest_folder(self.adapter)])

    @property
    def kind(self) -> str:
        return BASE if self.name == BASE else "adapter" if self.adapter else "checkpoint"


def folder_of(given: str | Path) -> Path:
    """The folder that is meant: `edge-tiny` is the embedded model, unless a folder here is called so."""
    return tiny.SHIPPED if str(given) == EMBEDDED and not Path(given).exists() else Path(given)


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def find(given: Sequence[str | Path], base: str | Path | None, dialect: str) -> list[Candidate]:
    """The base first, if there is one, then each subject in order. The base that adapters name counts, if all name the same.

    Raises EdgeError for a folder that is neither a checkpoint nor an adapter, a checkpoint of another dialect, an adapter
    of another base, and the same thing given twice.
    """
    folders = [folder_of(one) for one in given]
    under = folder_of(base) if base is not None else None
    found = [_adapter(f, under, dialect) if is_adapter(f) else Candidate("", _read(f, dialect)) for f in folders]
    names = _names(folders)
    found = [replace(one, name=name) for one, name in zip(found, names)]
    first = Candidate(BASE, _read(under, dialect)) if under else _shared_base(found)
    every = [first, *found] if first else found
    seen: dict[str, str] = {}
    for one in every:
        if one.digest in seen:
            raise EdgeError(f"{one.name} is the same as {seen[one.digest]}", "give what differs, or leave --base out")
        seen[one.digest] = one.name
    return every


def recorded(folder: Path) -> Checkpoint | None:
    """The record that tuning left: in the folder, or of an adapter in the one above it; it says dialect and renderer."""
    for place in (folder, folder.parent) if is_adapter(folder) else (folder,):
        if (place / "checkpoint.json").is_file():
            return records.load(Checkpoint, place / "checkpoint.json")
    return None


def _read(folder: Path, dialect: str) -> Checkpoint:
    if not (folder / "config.json").is_file() and (folder / "adapter" / "adapter_config.json").is_file():
        raise EdgeError(f"{folder}: no checkpoint, but an adapter lies in it", f"give {folder / 'adapter'}")
    return job.read_checkpoint(folder, dialect, EMBEDDED if folder == tiny.SHIPPED else None)


def _adapter(folder: Path, base: Path | None, dialect: str) -> Candidate:
    config = merge.config_of(folder)
    source = _read(base or merge.base_of(folder, config), dialect)
    _refuse_other_base(folder, source)
    return Candidate("", source, folder.absolute())


def _shared_base(found: Sequence[Candidate]) -> Candidate | None:
    bases = {one.checkpoint.digest: one.checkpoint for one in found if one.adapter}
    return Candidate(BASE, next(iter(bases.values()))) if len(bases) == 1 else None


def _refuse_other_base(adapter: Path, base: Checkpoint) -> None:
    """By what the record beside it says, and by the shapes of its matrices."""
    hint = "give the checkpoint that it was trained on: --base"
    record = recorded(adapter)
    if record and record.base and record.base != base.digest:
        raise EdgeError(f"{adapter}: an adapter of another base than {base.path} (its record says {record.base[:12]}, "
                        f"this is {base.digest[:12]})", hint)  # fmt: skip
    shapes = {t.name: t.shape for t in checkpoints.inspect(Path(base.path)).tensors.values()}
    for tensor in checkpoints.read_header(adapter / "adapter_model.safetensors").values():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight", tensor.name)
        if not match or match[1].endswith("lm_head"):  # often tied, and then no tensor of the base's
            continue
        shape = shapes.get(f"{match[1]}.weight")
        side = {"A": -1, "B": 0}[match[2]]
        if shape is None:
            raise EdgeError(f"{adapter}: not an adapter of {base.path}: that has no {match[1]}", hint)
        if tensor.shape[side] != shape[side]:
            raise EdgeError(
                f"{adapter}: not an adapter of {base.path}: {match[1]} is {_by(shape)} there, and its lora_{match[2]} "
                f"{_by(tensor.shape)}", hint)  # fmt: skip


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names that files can have, each once: the folder's, with its parent's where it says nothing by itself."""
    names: list[str] = []
    for folder in folders:
        own, above = folder.resolve().name, folder.resolve().parent.name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{above}-{own}" if own in ("adapter", "out", "model") else own)
        name = name.strip("-.") or "subject"
        number = 2
        unique = name
        while unique in (*names, BASE):
            unique, number = f"{name}-{number}", number + 1
        names.append(unique)
    return names
