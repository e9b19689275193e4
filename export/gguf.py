"""GGUF artifacts from a checkpoint: which worker makes which quantisation, and the manifest that each leaves with.

The manifest (`NAME.gguf.json`, an Artifact) is also what tells whether an artifact is made already: same checkpoint, same
exporter, same environment, same options, and the file's digest still right.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import filelock

import edge
from edge import archive, environments, records, worker
from edge.console import Console
from edge.environments import Environment, Spec
from edge.errors import EdgeError
from edge.export import checkpoint as checkpoints
from edge.export import gemma3
from edge.export.quantisations import Quantisation, parse_all
from edge.records import Artifact, Checkpoint, Json

FORMAT = "gguf"
GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"


@dataclass(frozen=True)
class Exported:
    """Artifacts in the order asked for, and what could not be made here: [{"what", "why"}]."""

    artifacts: list[Artifact]
    missing: list[Json]


def export(
    checkpoint: Checkpoint,
    quantisations: list[str],
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
) -> Exported:
    """Make `out/NAME-QUANTISATION.gguf` for each, unless it is there already.

    Quantisations that need a compiler are left out, and said so, where there is none.

    Raises: EdgeError for a checkpoint that can't be exported, WorkerError when a worker fails.
    """
    wanted = parse_all(quantisations)
    with _only_one(out, console):
        return _export(wanted, checkpoint, out, name, console, environment)


def _export(
    wanted: list[Quantisation],
    checkpoint: Checkpoint,
    out: Path,
    name: str,
    console: Console,
    environment: Callable[[Spec], Environment],
) -> Exported:
    job = _Job(checkpoint, out, name, console, environment)
    done = {q.name: a for q in wanted if (a := job.kept(q))}
    for quantisation in done:
        console.say(f"= {name}-{quantisation}.gguf: exported already")
    todo = [q for q in wanted if q.name not in done]
    by_numpy = [q for q in todo if q.made_by == "numpy"]
    by_llama = [q for q in todo if q.made_by != "numpy"]
    lack = environments.missing(environments.spec(environments.script("quantise"))) if by_llama else None
    missing = [{"what": f"{name}-{q.name}.gguf", "why": f"needs {lack}"} for q in by_llama] if lack else []
    by_llama = [] if lack else by_llama
    if by_numpy or by_llama:
        done.update(job.make(by_numpy, by_llama))
    return Exported([done[q.name] for q in wanted if q.name in done], missing)


@contextlib.contextmanager
def _only_one(out: Path, console: Console) -> Iterator[None]:
    """One export a folder at a time: a second one waits, and then finds what the first has made."""
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        console.say(f"another export is at work in {out}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def read_checkpoint(folder: Path, dialect: str, source: str | None = None) -> Checkpoint:
    """The record that was left in a folder, if it is of these very files; else one of a plain Hugging Face folder.

    Weights that come from elsewhere in this architecture are Gemma's or derived from them, and carry Gemma's notice.

    Raises: EdgeError for a folder that holds no checkpoint, or one that can't become GGUF.
    """
    gemma3.read(checkpoints.inspect(folder))
    digest = records.digest_folder(folder)
    record = folder / "checkpoint.json"
    if record.exists():
        found = records.load(Checkpoint, record)
        if found.digest == digest:
            if found.dialect != dialect:
                hint = f"use --dialect {found.dialect}, or tune it again"
                raise EdgeError(f"{folder}: tuned for the dialect {found.dialect}, not {dialect}", hint)
            return replace(found, path=str(folder.absolute()))
    return Checkpoint(
        digest, str(folder.absolute()), dialect, source=source or folder.resolve().name, notices=[GEMMA_NOTICE]
    )


@dataclass(frozen=True)
class _Made:
    """What a worker made, before it is in its place."""

    exporter: str
    answer: Json
    folder: Path
    environment: Json


@dataclass(frozen=True)
class _Job:
    checkpoint: Checkpoint
    out: Path
    name: str
    console: Console
    environment: Callable[[Spec], Environment]

    def file(self, quantisation: Quantisation) -> Path:
        return self.out / f"{self.name}-{quantisation.name}.gguf"

    def manifest(self, quantisation: Quantisation) -> Path:
        return self.out / f"{self.file(quantisation).name}.json"

    def kept(self, quantisation: Quantisation) -> Artifact | None:
        """The artifact that lies there, if it is the one that would be made."""
        manifest, file = self.manifest(quantisation), self.file(quantisation)
        if not manifest.exists() or not file.exists():
            return None
        try:
            found = records.load(Artifact, manifest)
        except EdgeError:
            return None
        same = found.options.get("key") == self.key(quantisation) and found.digest == records.digest_file(file)
        return found if same else None

    def key(self, quantisation: Quantisation) -> str:
        scripts = [environments.script("gguf")]
        if quantisation.made_by != "numpy":
            scripts.append(environments.script("quantise"))
        code = archive.digest("edge/export/", "edge/dialects/")
        pins = [environments.spec(s).key for s in scripts]
        return records.digest_value([self.checkpoint.digest, self.checkpoint.dialect, quantisation.name, code, pins])

    def make(self, by_numpy: list[Quantisation], by_llama: list[Quantisation]) -> dict[str, Artifact]:
        names = [q.name for q in by_numpy]
        extra = ["f16"] if by_llama and "f16" not in names else []  # what llama.cpp quantises from
        made = self._run("gguf", {"checkpoint": self.checkpoint.path, "dialect": self.checkpoint.dialect,
                                  "quantisations": names + extra})  # fmt: skip
        folders = [made.folder]
        try:
            done = {}
            if by_llama:
                source = made.folder / f"{self.name}-f16.gguf"
                again = self._run("quantise", {"source": str(source), "quantisations": [q.name for q in by_llama]})
                folders.append(again.folder)
                # What is true of the source's metadata is true of its quantisations: llama.cpp carries it over.
                checks = {**made.answer["checks"], **again.answer["checks"]}
                again = replace(again, answer={**made.answer, **again.answer, "checks": checks})
                done = {q.name: self._place(q, again) for q in by_llama}
            return {**done, **{q.name: self._place(q, made) for q in by_numpy}}
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def _run(self, exporter: str, request: Json) -> _Made:
        script = environments.script(exporter)
        environment = self.environment(environments.spec(script))
        folder = self.out / f".{exporter}"
        with self.console.task(f"{exporter}: {', '.join(request['quantisations'])}") as progress:
            answer = worker.run(
                script, {**request, "name": self.name}, folder, python=environment.python, progress=progress
            )
        return _Made(exporter, answer, folder, environment.facts)

    def _place(self, quantisation: Quantisation, made: _Made) -> Artifact:
        """Move a file to its place and write its manifest, which comes last: without it the file doesn't count."""
        told = next(a for a in made.answer["artifacts"] if a["quantisation"] == quantisation.name)
        file = self.file(quantisation)
        self.manifest(quantisation).unlink(missing_ok=True)
        (made.folder / told["file"]).replace(file)
        artifact = Artifact(
            digest=records.digest_file(file),
            path=str(file.absolute()),
            format=FORMAT,
            quantisation=quantisation.name,
            bytes=file.stat().st_size,
            checkpoint=self.checkpoint.digest,
            dialect=self.checkpoint.dialect,
            exporter=f"{made.exporter}, edge {edge.__version__}",
            environment=made.environment,
            options={"key": self.key(quantisation), "quantisation": quantisation.name},
            chat_template_sha256=made.answer["chat_template_sha256"],
            stop_ids=made.answer["stop_ids"],
            stop_tokens=made.answer["stop_tokens"],
            context_tokens=made.answer["context_tokens"],
            export_s=told["export_s"],
            export_peak_rss_bytes=made.answer.get("peak_rss_bytes"),
            checks={**made.answer["checks"], "tensor_types": told["tensor_types"], "versions": made.answer["versions"]},
            notices=self.checkpoint.notices,
        )
        records.save(artifact, self.manifest(quantisation))
        return artifact
