"""`edge import`: an artifact from elsewhere gets a manifest, so that it is inspected, linted, proven and measured like ours.

The file is copied, not changed: nothing is repaired, and what is wrong with it is for `edge lint` to say.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import edge
from edge import records
from edge.errors import EdgeError
from edge.export import inspect, lint
from edge.export.inspect.found import Found
from edge.export.job import manifest_of
from edge.records import Artifact, Checkpoint

FORMATS = ("gguf", "tflite", "litertlm", "task", "onnx")


def adopt(
    source: Path, out: Path, name: str, dialect: str | None, notices: list[str], checkpoint: Checkpoint | None
) -> Artifact:
    """Copy an artifact to `out/NAME.ENDING`, or leave it where it is if it lies in `out`, and write its manifest.

    Args:
        dialect: None for that of its vocabulary. notices: licence sentences besides those that the file names.
        checkpoint: what it was made from, if that is known.

    Raises: EdgeError for what is no artifact, is of no dialect that we know, or has a manifest already.
    """
    found = inspect.read(source)
    if found.format not in FORMATS or (found.format == "onnx" and not source.is_dir()):
        raise EdgeError(f"{source}: {_WHAT.get(found.format, found.format)}", _INSTEAD.get(found.format))
    if found.manifest and not found.manifest.error:
        raise EdgeError(f"{source}: it has a manifest already ({found.manifest.path})", "it can be used as it is")
    spoken = dialect or (checkpoint.dialect if checkpoint else None) or (lint.dialect_of(found) or (None,))[0]
    if spoken is None:
        raise EdgeError(
            f"{source}: its vocabulary has the function tokens of no dialect that edge knows", "give --dialect"
        )
    file = out / f"{name}{_ending(source, found)}"
    if file.resolve() != source.resolve():
        _copy(source, file)
    artifact = _record(found, file, spoken, notices, checkpoint)
    records.save(artifact, manifest_of(file))
    return artifact


def _record(found: Found, file: Path, dialect: str, notices: list[str], checkpoint: Checkpoint | None) -> Artifact:
    told = [*found.notices, *notices, *(checkpoint.notices if checkpoint else [])]
    return Artifact(
        digest=records.digest_path(file),
        path=str(file.absolute()),
        format=found.format,
        quantisation=found.quantisation or "unknown",
        bytes=records.size_path(file),
        checkpoint=checkpoint.digest if checkpoint else "unknown",
        dialect=dialect,
        exporter=f"imported by edge {edge.__version__}",
        options={"from": file.name},
        chat_template_sha256=found.template_sha256,
        stop_ids=[t.ids[0] for t in found.stops if len(t.ids) == 1],
        stop_tokens=[t.text for t in found.stops if t.text],
        context_tokens=found.cache_tokens or found.context_tokens,
        notices=list(dict.fromkeys(told)),
    )


def _ending(source: Path, found: Found) -> str:
    return "_onnx" if found.format == "onnx" else source.suffix or f".{found.format}"


def _copy(source: Path, file: Path) -> None:
    """Whole or not at all."""
    if file.exists():
        raise EdgeError(f"{file}: already there", "give another --name, or delete it")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    try:
        if source.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
        else:
            shutil.copyfile(source, partial)
        partial.replace(file)
    finally:
        shutil.rmtree(partial, ignore_errors=True) if partial.is_dir() else partial.unlink(missing_ok=True)


_WHAT = {
    "checkpoint": "a checkpoint, no artifact",
    "adapter": "an adapter, no artifact",
    "onnx": "a lone .onnx file, without tokenizer and stop tokens",
}
_INSTEAD = {
    "checkpoint": "name it in edge.toml as [model] base, or export it: edge export all FOLDER",
    "adapter": "merge it into its base first: edge merge ADAPTER --base FOLDER --out MODEL",
    "onnx": "give the folder that onnxruntime-genai runs",
}
