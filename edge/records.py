"""The records that everything passes on: Checkpoint -> Artifact -> Measurement -> Report.

Frozen dataclasses with a `schema` number, saved as JSON beside what they describe. Identity is sha256; provenance is by
reference. Units are in field names. Unknown is None, never 0. A failed run is a record with an `error`. Means,
percentiles and verdicts are computed from records, never stored instead of them. Standard library only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from edge.errors import EdgeError

SCHEMA = 1
Json = dict[str, Any]
PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face folder. `digest` is over its files (see `digest_folder`); `path` is where it lies now."""

    digest: str
    path: str
    dialect: str
    base: Optional[str] = None  # the digest of the checkpoint that it was tuned from
    source: Optional[str] = None  # a name: "edge-tiny", a hub id with its revision
    training: Optional[Json] = None  # settings, data digests, counts, loss curve
    environment: Optional[Json] = None  # {"name", "key", "python", "packages"}
    notices: list[str] = field(default_factory=list)  # licence sentences that go wherever the weights go
    renderer: str = "training"  # who wrote the prompts that it was tuned on: the dialect, or a target of edge/renderers
    schema: int = SCHEMA


@dataclass(frozen=True)
class Artifact:
    """One file that a device runs (of ONNX a folder), and how it came to be."""

    digest: str
    path: str
    format: str  # "gguf", …
    quantisation: str  # "q8_0", "q4_0-emb-q4_0", …
    bytes: int
    checkpoint: str  # the Checkpoint's digest
    dialect: str
    exporter: str
    environment: Optional[Json] = None
    options: Json = field(default_factory=dict)
    chat_template_sha256: Optional[str] = None
    stop_ids: list[int] = field(default_factory=list)
    stop_tokens: list[str] = field(default_factory=list)
    context_tokens: Optional[int] = None
    export_s: Optional[float] = None
    export_peak_rss_bytes: Optional[int] = None
    checks: Json = field(default_factory=dict)  # what was verified while exporting, with counts
    proof: Optional[Json] = None  # how it did beside its checkpoint, see edge.export.gate; None: not tried
    notices: list[str] = field(default_factory=list)  # the checkpoint's
    schema: int = SCHEMA


@dataclass(frozen=True)
class Sample:
    """One row of a workload through one runtime. Clocks are monotonic, in seconds."""

    row: str  # the row's id
    text: Optional[str]  # what the model wrote, stop token excluded
    prompt_tokens: Optional[int] = None
    completion_tokens: Optional[int] = None
    prefill_s: Optional[float] = None  # evaluating the prompt
    first_token_s: Optional[float] = None  # from the request to the first token
    decode_s: Optional[float] = None  # from the first token to the last
    call_s: Optional[float] = None  # the whole call, tokenising included
    stop: Optional[str] = None  # the token that ended it, or "length"
    error: Optional[str] = None
    round: Optional[int] = None  # of `edge bench`, which may answer a row several times: its first sample is scored


@dataclass(frozen=True)
class Measurement:
    """One artifact (or checkpoint) in one runtime on one device over one workload: raw samples and the circumstances."""

    subject: str  # digest of the Artifact or Checkpoint
    subject_name: str  # "base", "tuned", "q8_0": the row's name in a table
    subject_kind: str  # "artifact" or "checkpoint"
    runtime: str
    runtime_version: Optional[str]
    device: Json  # facts; {"name", "emulated", …}
    workload: str  # digest of the workload file
    threads: Optional[int]
    format: Optional[str] = None
    file_bytes: Optional[int] = None
    load_s: Optional[float] = None
    peak_rss_bytes: Optional[int] = None
    samples: list[Sample] = field(default_factory=list)
    prefix_cache: Optional[bool] = None  # was a common prompt prefix reused between rows
    file_cache: Optional[str] = None  # "warm", "cold"
    environment: Optional[Json] = None
    settings: Json = field(default_factory=dict)  # environment variables and options that move the figures
    load_average_before: Optional[float] = None
    load_average_after: Optional[float] = None
    throttled: Optional[bool] = None
    temperature_before_c: Optional[float] = None
    temperature_after_c: Optional[float] = None
    clock_before_hz: Optional[float] = None
    clock_after_hz: Optional[float] = None
    started_at: Optional[str] = None  # ISO 8601, UTC
    error: Optional[Json] = None  # {"kind", "message", "hint"}
    # What `edge bench` adds; a measurement of `edge run` has none of it.
    profile: Optional[str] = None  # "quick", "full", … (edge.bench.profiles)
    loads: list[Json] = field(
        default_factory=list
    )  # {"load_s", "file_cache": "warm" or "cold", "round"} each time it was loaded
    rates: list[Json] = field(
        default_factory=list
    )  # {"prefill_tokens", "prefill_s", "decode_tokens", "decode_s", "round"}
    vitals: list[Json] = field(default_factory=list)  # {"at_s" since the start, "round", …} as edge.devices.VITALS
    cpu_s: Optional[float] = None  # of the process that ran it, all threads, while it answered
    energy_j: Optional[float] = None  # of the whole device while it answered, where it tells
    cache_bytes: Optional[int] = None  # what the runtime wrote for itself beside or for the artifact
    schema: int = SCHEMA


@dataclass(frozen=True)
class Report:
    """What `report.json` holds: references to what was measured, and the figures derived from it."""

    project: str
    created_at: str
    workload: str
    rows: int
    baseline: str  # the row that quantisations are compared with: "tuned"
    cells: list[Json]  # one per Measurement, see edge.bench.report
    wrong: list[Json]  # every wrong call: row, subject, expected, got
    data: Json = field(default_factory=dict)  # counts: rows read, rejected, shared between training and evaluation
    missing: list[Json] = field(default_factory=list)  # what could not be done here, and what it needs
    schema: int = SCHEMA


R = TypeVar("R", Checkpoint, Artifact, Measurement, Report)


def save(record: Any, path: PathLike) -> None:
    """Write a record (or any JSON value) whole or not at all."""
    value = dataclasses.asdict(record) if dataclasses.is_dataclass(record) else record  # type: ignore[arg-type]
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def load(kind: type[R], path: PathLike) -> R:
    """Read a record. Raises EdgeError for a file that is none, or is of a newer schema."""
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise EdgeError(f"{path}: not a {kind.__name__} record (no schema number)")
    if value["schema"] > SCHEMA:
        raise EdgeError(
            f"{path}: written by a newer edge (schema {value['schema']}, this one reads {SCHEMA})", "upgrade edgecall"
        )
    known = {f.name for f in dataclasses.fields(kind)}
    fields = {k: v for k, v in value.items() if k in known}
    try:
        if kind is Measurement:
            fields["samples"] = [Sample(**s) for s in fields.get("samples", [])]
        return kind(**fields)
    except TypeError as error:
        raise EdgeError(f"{path}: not a {kind.__name__} record: {error}") from None


def read_json(path: PathLike) -> Any:
    """The JSON in a file. Raises EdgeError naming file and line."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise EdgeError(f"{path}{f', line {line}' if line else ''}: not JSON: {error}") from None


def write_text(path: PathLike, text: str) -> None:
    """Write a file whole or not at all: beside it first, then moved."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        # Half a surrogate pair, which JSON text may hold and UTF-8 may not, becomes JSON's own escape for it.
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        partial.replace(target)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(target)  # what was asked for
        raise
    finally:
        with contextlib.suppress(OSError):  # what could not be written can't be removed; the reason is on its way
            partial.unlink(missing_ok=True)


def digest_file(path: PathLike) -> str:
    """sha256 of a file's bytes, in hex."""
    sha = hashlib.sha256()
    with Path(path).open("rb") as f:
        while block := f.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def digest_folder(path: PathLike) -> str:
    """sha256 over the names and digests of the files right in a folder, hidden ones and our own records left out."""
    files = sorted(f for f in Path(path).iterdir() if f.is_file() and not f.name.startswith(".") and f.name not in OWN)
    return digest_value([[f.name, digest_file(f)] for f in files])


def digest_path(path: PathLike) -> str:
    """sha256 of a file, or of the files right in a folder."""
    return digest_folder(path) if Path(path).is_dir() else digest_file(path)


def size_path(path: PathLike) -> int:
    """Bytes of a file, or of all files in a folder."""
    top = Path(path)
    return sum(f.stat().st_size for f in ([top] if top.is_file() else top.rglob("*")) if f.is_file())


OWN = frozenset({"checkpoint.json", "request.json", "reply.json", "worker.log", "done.json"})


def digest_value(value: Any) -> str:
    """sha256 of a JSON value, key order ignored."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_lines(path: PathLike) -> Iterable[tuple[int, str]]:
    """Line numbers (from 1) and lines of a UTF-8 file, BOM and either line ending taken off.

    A line that is not UTF-8 raises EdgeError with its number.
    """
    with Path(path).open("rb") as f:
        for number, raw in enumerate(f, 1):
            yield number, decode_line(raw, path, number)


def decode_line(raw: bytes, path: PathLike, number: int) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise EdgeError(f"{path}, line {number}: not UTF-8 (byte {error.start})", "save the file as UTF-8") from None
