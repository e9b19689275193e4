"""The model hub as both ends see it: how a model is named, what a repository holds, which of its files are needed.

Standard library only. What talks to the hub are the workers `fetch` and `push`; what can go wrong there is told by
`hub_errors.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Optional

CHECKPOINT = ("*.safetensors", "*.json", "tokenizer.model", "merges.txt", "*.jinja", "LICENSE*", "NOTICE*")
OURS = ("checkpoint.json", "done.json")  # records of whoever pushed it; we write our own
ARTIFACTS = (".gguf", ".litertlm", ".task", ".tflite")
ONNX = "genai_config.json"  # the file that makes a folder one that onnxruntime-genai runs
_ID = re.compile(r"(?:hf://)?(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)


@dataclass(frozen=True)
class Id:
    """A repository, and a branch, tag or commit of it (None: its main branch)."""

    name: str
    revision: Optional[str] = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def parse(text: str) -> Optional[Id]:
    """`owner/name`, `owner/name@revision`, with or without `hf://` before it; None for anything else."""
    match = _ID.fullmatch(text)
    return Id(match[1], match[2]) if match else None


def kind(paths: Iterable[str]) -> Optional[str]:
    """What a repository is by its files: "checkpoint", "adapter", "artifacts", or None."""
    top = {p for p in paths if "/" not in p}
    if "adapter_config.json" in top and "config.json" not in top:
        return "adapter"
    if "config.json" in top and any(p.endswith(".safetensors") for p in top):
        return "checkpoint"
    return "artifacts" if artifacts(paths) else None


def checkpoint_files(paths: Iterable[str]) -> list[str]:
    """What training and exporting need of a checkpoint or an adapter. Right in the repository: a folder is another's."""
    return [p for p in paths if "/" not in p and p not in OURS and any(fnmatch(p, wanted) for wanted in CHECKPOINT)]


def artifacts(paths: Iterable[str]) -> list[str]:
    """The files and folders that a device could run; "." is the repository itself."""
    found = [p for p in paths if p.endswith(ARTIFACTS)]
    return found + [str(PurePosixPath(p).parent) for p in paths if PurePosixPath(p).name == ONNX]


def artifact_files(paths: Iterable[str], artifact: str) -> list[str]:
    """The files of one of `artifacts`: itself, or all that lie right in its folder."""
    return [p for p in paths if p == artifact or str(PurePosixPath(p).parent) == artifact]


def safe(path: str) -> bool:
    """Does a path that a server named stay in the folder that it is put in, on every system?"""
    return (
        bool(path) and not path.startswith("/") and "\\" not in path and ":" not in path and ".." not in path.split("/")
    )
