"""What every exporter does besides converting: one export a folder, artifacts that are kept, manifests that come last.

An exporter's file (`gguf.py`, …) says which workers make its quantisations; its worker makes files. The manifest
(`FILE.json`, an Artifact) is also what tells whether an artifact is made already: same checkpoint, same code, same
environments, same options, and the file's digest still right.
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
from edge.records import Artifact, Checkpoint, Json

GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"


@dataclass(frozen=True)
class Exported:
    """Artifacts in the order asked for, and what could not be made here: [{"what", "why"}]."""

    artifacts: list[Artifact]
    missing: list[Json]


@dataclass(frozen=True)
class Made:
    """What a worker made, before it is in its place."""

    exporter: str
    answer: Json
    folder: Path
    environment: Json


@dataclass(frozen=True)
class Job:
    """One checkpoint on its way into one format.

    out: where artifacts go. name: what their files begin with. environment: from a spec to a built environment.
    """

    checkpoint: Checkpoint
    format: str
    out: Path
    name: str
    console: Console
    environment: Callable[[Spec], Environment]

    def __post_init__(self) -> None:
        if self.out.resolve() == Path(self.checkpoint.path).resolve():
            raise EdgeError(
                f"{self.out}: that is the checkpoint's own folder; artifacts in it would make it another checkpoint",
                "give another --out",
            )

    def key(self, workers: list[str], *options: object, code: tuple[str, ...] = ("edge/export/",)) -> str:
        """Two artifacts with the same key would be the same file.

        Args:
            workers: those that take part.
            options: whatever else decides what comes out.
            code: files or folders of the package that do, dialects aside.
        """
        code_digest = archive.digest(*code, "edge/dialects/")
        pins = [environments.spec(environments.script(w)).key for w in workers]
        return records.digest_value([self.checkpoint.digest, self.checkpoint.dialect, *options, code_digest, pins])

    def kept(self, file: Path, key: str) -> Artifact | None:
        """The artifact that lies there, if it is the one that would be made. One that was refused will be judged again."""
        if refused_of(file).exists() and not file.exists():
            refused_of(file).replace(file)
            if manifest_of(refused_of(file)).exists():
                manifest_of(refused_of(file)).replace(manifest_of(file))
        manifest = manifest_of(file)
        if not manifest.exists() or not file.exists():
            return None
        try:
            found = records.load(Artifact, manifest)
        except EdgeError:
            return None
        if found.options.get("key") != key or found.digest != records.digest_path(file):
            return None
        self.console.say(f"= {file.name}: exported already")
        return replace(found, path=str(file.absolute()))

    def run(self, exporter: str, request: Json, what: str) -> Made:
        """Let a worker fill `out/.EXPORTER`, which the caller removes."""
        script = environments.script(exporter)
        environment = self.environment(environments.spec(script))
        folder = self.out / f".{exporter}"
        with self.console.task(f"{exporter}: {what}") as progress:
            answer = worker.run(
                script, {**request, "name": self.name}, folder, python=environment.python, progress=progress
            )
        return Made(exporter, answer, folder, environment.facts)

    def place(self, made: Made, told: Json, file: Path, quantisation: str, options: Json) -> Artifact:
        """Move a file to its place and write its manifest, which comes last: without it the file doesn't count.

        told: the worker's entry for this file: "file", "export_s", and "checks" of its own besides those of the answer.
        """
        manifest_of(file).unlink(missing_ok=True)
        if file.is_dir():  # nothing is ever moved onto a folder that holds something
            shutil.rmtree(file)
        (made.folder / told["file"]).replace(file)
        artifact = Artifact(
            digest=records.digest_path(file),
            path=str(file.absolute()),
            format=self.format,
            quantisation=quantisation,
            bytes=records.size_path(file),
            checkpoint=self.checkpoint.digest,
            dialect=self.checkpoint.dialect,
            exporter=f"{made.exporter}, edge {edge.__version__}",
            environment=made.environment,
            options={**options, "quantisation": quantisation},
            chat_template_sha256=made.answer.get("chat_template_sha256"),
            stop_ids=made.answer.get("stop_ids", []),
            stop_tokens=made.answer.get("stop_tokens", []),
            context_tokens=made.answer.get("context_tokens"),
            export_s=told["export_s"],
            export_peak_rss_bytes=made.answer.get("peak_rss_bytes"),
            checks={**made.answer.get("checks", {}), **told.get("checks", {}), "versions": made.answer["versions"]},
            notices=self.checkpoint.notices,
        )
        records.save(artifact, manifest_of(file))
        return artifact


def manifest_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def is_manifest(file: Path) -> bool:
    """Of the artifact beside it; so that a folder's `*` can be given, what takes artifacts leaves these out."""
    return file.suffix == ".json" and file.with_suffix("").exists()


def refused_of(file: Path) -> Path:
    """What an artifact is called that must not be handed on."""
    return file.with_name(f"{file.name}.refused")


@contextlib.contextmanager
def only_one(out: Path, console: Console, kind: str) -> Iterator[None]:
    """One export of a kind in a folder at a time: a second one waits, and then finds what the first has made.

    kind: formats whose exporters run the same workers are of the same kind.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / f".{kind}.lock")
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

    Weights in Gemma's architecture that come from elsewhere are Gemma's or derived from them, and carry its notice.

    Raises: EdgeError for a folder that holds no checkpoint.
    """
    config = checkpoints.inspect(folder).config
    digest = records.digest_folder(folder)
    record = folder / "checkpoint.json"
    if record.exists():
        found = records.load(Checkpoint, record)
        if found.digest == digest:
            if found.dialect != dialect:
                hint = f"use --dialect {found.dialect}, or tune it again"
                raise EdgeError(f"{folder}: tuned for the dialect {found.dialect}, not {dialect}", hint)
            return replace(found, path=str(folder.absolute()))
    notices = [GEMMA_NOTICE] if str(config.get("model_type", "")).startswith("gemma") else []
    return Checkpoint(digest, str(folder.absolute()), dialect, source=source or folder.resolve().name, notices=notices)
