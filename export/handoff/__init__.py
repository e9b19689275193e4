"""What an app team gets: a folder with the model, code that calls it, and a contract that says what both were proven to do.

A target is one file `export/handoff/NAME.py` and one line in TARGETS. It has:

    FORMATS: tuple[str, ...]      what the target's runtime loads: ("task", "litertlm")
    RENDERS: str | None           who writes the prompts there, by its name in edge/renderers; None: the artifact decides
    ASSET: str                    where the model file lies in the folder; {file} stands for its name
    files(job) -> dict[str, str]  relative path -> text; raises EdgeError naming tool and remedy
    check(folder, job) -> list[str]   what is wrong with the folder, as its receiver would find out; empty if nothing is
    steps(job) -> list[str]       the three steps that remain
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Optional, Protocol, cast

from edge.errors import EdgeError
from edge.records import Artifact, Json

TARGETS: dict[str, str] = {  # name -> module
    "flutter": "edge.export.handoff.flutter",
    "android": "edge.export.handoff.android",
    "ollama": "edge.export.handoff.ollama",
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One artifact to be handed over, and everything that a target writes from."""

    name: str  # the artifact's name, safe as a file name: "tuned-q8_0"
    artifact: Path  # the file (of ONNX a folder)
    record: Artifact
    tools: list[Json]  # declarations {"type":"function","function":{…}} in the order the model learned
    dialect: str
    renderer: str  # which prompts it was tuned on
    context_tokens: int
    max_tokens: int  # longest answer
    stop_tokens: list[str]
    system: str  # the developer message of training
    contract: Json  # contract.json as it will be written
    options: dict[
        str, Any
    ]  # of the command: {"package": "flutter_edge_ai" | "flutter_gemma", "download_url": str | None, …}


class Target(Protocol):
    """What a module in TARGETS has; see above."""

    FORMATS: tuple[str, ...]
    RENDERS: Optional[str]
    ASSET: str

    def files(self, job: Job) -> dict[str, str]: ...
    def check(self, folder: Path, job: Job) -> list[str]: ...
    def steps(self, job: Job) -> list[str]: ...


def target(name: str) -> Target:
    """The module of a target. Raises EdgeError for a name that is none."""
    if name not in TARGETS:
        raise EdgeError(f"no target {name!r}", f"known: {', '.join(TARGETS)}")
    return cast(Target, importlib.import_module(TARGETS[name]))
