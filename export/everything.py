"""`edge export all`: every format from one checkpoint, side by side as far as memory allows.

Formats whose exporters share a worker's result stand in one lane and follow each other; lanes run at the same time while
their estimated peaks fit into MEMORY, and whoever proves an artifact takes its part of it. What one format can't do (an
architecture that it doesn't know, no wheels for this machine) is said, and the others go on.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from edge import environments
from edge.bench import runtimes
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import families, gguf, litertlm, onnx, task, tflite
from edge.export.job import Exported
from edge.records import Checkpoint

MEMORY = 8e9  # bytes, of all lanes together; less if less is free


@dataclass(frozen=True)
class Lane:
    """Peak resident memory: `fixed` bytes and `each` for every parameter.

    later_each: instead of `each` once a format of the lane is made, since what takes most is then there; None: the same.
    """

    name: str
    fixed: float
    each: float
    later_each: float | None = None

    def bytes(self, parameters: int, later: bool = False) -> float:
        each = self.later_each if later and self.later_each is not None else self.each
        return self.fixed + each * parameters


@dataclass(frozen=True)
class Format:
    """quantisations: those made unless others are asked for. workers: whose environments it needs."""

    lane: Lane
    exporter: Callable[..., Exported]
    quantisations: tuple[str, ...]
    workers: tuple[str, ...]
    shaped: bool = False  # takes prefill lengths and a cache length
    file_format: str | None = None  # as runtimes know it, if that isn't its name


# Seen of 268 million parameters and 262,144 pieces: llama.cpp quantising 1.33 GB (numpy's types 0.57); converting to TFLite
# 6.16 (of 2 million 0.85), bundling one 1.16, of float32; ONNX 4.52, of which the model in float32 is 1.1, its graph as one
# message as much, and the embedding, cut loose twice, 1.3. Quantising a TFLite took 2.0 in a prototype.
_GGUF, _LITERT, _ONNX = Lane("gguf", 0.3e9, 4.5), Lane("litert", 0.9e9, 20, later_each=5), Lane("onnx", 0.6e9, 15)
# The gate runs one runtime at a time. Most take LiteRT-LM with a float32 bundle, of which 4.2 GB were seen, and the checkpoint.
_PROOF = Lane("proof", 0.8e9, 13)
_LEGACY = functools.partial(task.export, bundler="legacy")
FORMATS = {
    "gguf": Format(_GGUF, gguf.export, ("q8_0", "q4_k_m", "q4_0-emb-q4_0"), ("gguf", "quantise")),
    "tflite": Format(_LITERT, tflite.export, ("int8", "int4-block32"), ("tflite",), shaped=True),
    "litertlm": Format(_LITERT, litertlm.export, ("int8", "int4-block32"), ("tflite", "litertlm"), shaped=True),
    "task": Format(_LITERT, task.export, ("int8", "int4-block32"), ("tflite", "task"), shaped=True),
    "task-legacy": Format(_LITERT, _LEGACY, ("int8",), ("tflite", "task_legacy"), True, "task"),
    "onnx": Format(_ONNX, onnx.export, ("int8", "int4"), ("onnx",)),
}


def parse(given: list[str]) -> dict[str, list[str]]:
    """["gguf=q8_0,q4_k_m", "onnx"] as {format: quantisations}; all formats for none. Raises EdgeError for an unknown one."""
    found: dict[str, list[str]] = {}
    for text in given or list(FORMATS):
        name, _, quantisations = text.partition("=")
        if name not in FORMATS:
            raise EdgeError(f"no format {name!r}", f"there are: {' '.join(FORMATS)}")
        found[name] = [q for q in quantisations.split(",") if q] or list(FORMATS[name].quantisations)
    return found


def scripts(wanted: dict[str, list[str]], proven: bool, checkpoint: Path | None = None) -> list[Path]:
    """The workers and runtimes that these formats of a checkpoint need, those that are needed first in front.

    checkpoint: None for one of Gemma 3.
    """
    family = families.of(checkpoints.inspect(checkpoint)) if checkpoint else None
    able = [kind for kind in wanted if (FORMATS[kind].file_format or kind) in (family or families.GEMMA).formats]
    names = ["transformers"] if proven else []
    names += [w for kind in able for w in FORMATS[kind].workers]
    if family:
        names = ["convert_hf" if name == "gguf" else name for name in names]
    kinds = dict.fromkeys(FORMATS[kind].file_format or kind for kind in able) if proven else {}
    names += [r for kind in kinds for r in (runtimes.COMPARES[kind], runtimes.READS[kind][0])]
    return [environments.script(name) for name in dict.fromkeys(names)]


def export(
    checkpoint: Checkpoint,
    wanted: dict[str, list[str]],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
    *,
    prefill: tuple[int, ...] = tflite.PREFILL,
    cache: int = tflite.CACHE,
) -> Iterator[Exported]:
    """What each format made, as it is done. wanted: as `parse` gives it.

    An EdgeError of one format becomes its `missing`; any other exception ends the lot.
    """
    parameters = checkpoints.inspect(checkpoint.path).parameters

    def make(kind: str) -> Exported:
        shape = {"prefill": prefill, "cache": cache} if FORMATS[kind].shaped else {}
        try:
            return FORMATS[kind].exporter(checkpoint, wanted[kind], out, name, console, environment, **shape)
        except EdgeError as error:
            console.say(f"✗ {kind}: {error.message}")
            return Exported([], [{"what": kind, "why": f"{error.message}{f' ({error.hint})' if error.hint else ''}"}])

    lanes: dict[Lane, list[str]] = {}
    for kind in wanted:
        lanes.setdefault(FORMATS[kind].lane, []).append(kind)
    yield from _side_by_side(lanes, make, parameters)


@dataclass
class _Room:
    """Memory that running lanes may take. Whoever finds none waits, unless nobody else runs."""

    free: float
    running: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def taken(self, size: float) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: size <= self.free or not self.running)
            self.free, self.running = self.free - size, self.running + 1
        try:
            yield
        finally:
            with self.changed:
                self.free, self.running = self.free + size, self.running - 1
                self.changed.notify_all()


def _side_by_side(lanes: dict[Lane, list[str]], make: Callable[[str], Exported], parameters: int) -> Iterator[Exported]:
    done: queue.Queue[Exported | BaseException | None] = queue.Queue()
    room = _Room(min(MEMORY, 0.9 * psutil.virtual_memory().available))

    def run(lane: Lane, kinds: list[str]) -> None:
        later = False
        try:
            for kind in kinds:
                with room.taken(lane.bytes(parameters, later)):
                    made = make(kind)
                later = later or bool(made.artifacts)
                done.put(made)
        except BaseException as error:
            done.put(error)
        finally:
            done.put(None)

    for lane, kinds in lanes.items():  # daemons: when we are ended, the workers see their host gone and end too
        threading.Thread(target=run, args=(lane, kinds), daemon=True).start()
    left = len(lanes)
    while left:
        found = done.get()
        if isinstance(found, BaseException):
            raise found
        if found is None:
            left -= 1
        elif not found.artifacts:
            yield found
        else:
            with room.taken(_PROOF.bytes(parameters)):  # the caller proves it before it asks for the next one
                yield found
