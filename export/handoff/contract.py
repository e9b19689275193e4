"""`contract.json`: what is handed over, what it was proven to do, and under which terms. Its form: contract.schema.json.

Nothing in it names a place on the machine where it was written. `files` comes last, once they are written; `digest` is over all
the rest, so that an edited contract shows (verify.py). Standard library only, as far as reading goes.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import edge
from edge import dialects, records
from edge.errors import EdgeError
from edge.export.handoff import refuse, verify
from edge.export.handoff.measured import Found
from edge.export.handoff.origin import Lesson, Origin
from edge.records import Artifact, Json, PathLike

VERSION = verify.NEWEST
MAX_TOKENS = 256  # of an answer: several calls fit; an endless one is cut
GREEDY = {"temperature": 0, "top_k": 1}
SCHEMA = Path(__file__).with_name(verify.SCHEMA)
_TRAINING = ("data", "rows", "train_rows", "eval_rows", "steps", "method", "precision", "options")


def schema() -> Json:
    return dict(json.loads(SCHEMA.read_bytes()))


def runtime(target: str, options: dict[str, Any], file_format: str) -> Json:
    """What the folder was written for, as the target's own file has it: from the runtimes' sources and changelogs, not run here."""
    if target == "flutter":
        from edge.export.handoff import flutter

        package = flutter.PACKAGES[str(options["package"])]
        engine, _, version = package.engines[file_format]
        note = f"with {options['package']}_{engine} {version.lstrip('^')}"
        return {"name": options["package"], "minimum": package.core.lstrip("^"), "note": note}
    if target == "android":
        from edge.export.handoff import android

        note = f"Kotlin {android.KOTLIN}, Android API {android.MIN_SDK}"
        return {"name": "com.google.ai.edge.litertlm:litertlm-android", "minimum": android.LITERT_LM, "note": note}
    if target == "ollama":
        from edge.export.handoff import ollama

        return {"name": "ollama", "minimum": ollama.MINIMUM, "note": "the first with RENDERER and PARSER functiongemma"}
    return {"name": target, "minimum": None, "note": ""}


def build(
    target: str,
    name: str,
    file: str,
    record: Artifact,
    origin: Origin,
    lesson: Lesson,
    served: Sequence[Json],
    measured: Found,
    *,
    notices: Sequence[str],
    accepted: Sequence[Json],
    warnings: Sequence[str],
    options: dict[str, Any],
    max_tokens: int = MAX_TOKENS,
) -> Json:
    """All of the contract but `files` and `digest`. file: where the model will lie in the folder."""
    told: Json = {
        "version": VERSION,
        "created_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "edge": edge.__version__,
        "target": target,
        "name": name,
        "model": {
            "file": file,
            "sha256": record.digest,
            "bytes": record.bytes,
            "format": record.format,
            "quantisation": record.quantisation or "unknown",
            "dialect": record.dialect,
            "context_tokens": context(record),
            "verdict": (record.proof or {}).get("verdict", "unproven"),
        },
        "prompt": {
            "renderer": origin.renderer,
            "version": refuse.version(origin.renderer),
            "system": lesson.system,
            "system_varies": lesson.system_varies,
            "served": list(served),
        },
        "stop": {"tokens": stops(record), "ids": record.stop_ids},
        "tools": lesson.tools,
        "tools_from": {
            "source": lesson.source,
            "as_trained": lesson.as_trained,
            "rows": lesson.rows,
            "same_order": lesson.same_order,
        },
        "sampling": {**GREEDY, "max_tokens": min(max_tokens, context(record) // 2)},
        "runtime": runtime(target, options, record.format),
        "measured": measured.entries,
        "proof": record.proof,
        "notices": list(notices),
        "provenance": _provenance(record, origin),
        "accepted": list(accepted),
        "warnings": list(warnings),
        "options": {k: v for k, v in options.items() if v is not None},
    }
    return told


def stops(record: Artifact) -> list[str]:
    """What ends an answer: the file's own, or those of its dialect where it names none (which lint calls an error)."""
    return record.stop_tokens or list(dialects.get(record.dialect).STOP)


def context(record: Artifact) -> int:
    return record.context_tokens or 1024


def _provenance(record: Artifact, origin: Origin) -> Json:
    checkpoint = origin.checkpoint
    training = (checkpoint.training if checkpoint else None) or {}
    files = list((training.get("files") or {}).items())
    for dataset in training.get("datasets") or []:
        files += [(f"{dataset['dataset']}:{name}", digest) for name, digest in (dataset.get("files") or {}).items()]
    if training.get("data"):
        files.append(("as the model saw them", training["data"]))
    data: dict[str, str] = {}
    for path, digest in files:  # places on this machine are nobody else's business
        name = str(path).rsplit("/", 1)[-1] if str(path).startswith("/") else str(path)
        data[name if data.get(name, digest) == digest else f"{name} ({digest[:8]})"] = digest
    datasets = [{k: v for k, v in d.items() if k != "files"} for d in training.get("datasets") or []]
    return {
        "checkpoint_sha256": record.checkpoint
        if len(record.checkpoint) == 64
        else None,  # "unknown" of what was imported
        "source": checkpoint.source if checkpoint else None,
        "base_sha256": checkpoint.base if checkpoint else None,
        "exporter": record.exporter,
        "packages": list((record.environment or {}).get("packages", [])),
        "training": {k: training[k] for k in _TRAINING if k in training} or None,
        "data": data,
        "datasets": datasets,
    }


def finish(told: Json, folder: Path) -> Json:
    """The contract with every file of the folder and its own digest, written there."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (verify.CONTRACT, verify.SIGNATURE))
    files = {
        p.relative_to(folder).as_posix(): {"sha256": verify.file_digest(p), "bytes": p.stat().st_size} for p in paths
    }
    whole = {**told, "files": files}
    whole = {"version": whole.pop("version"), "digest": verify.digest_of({**told, "files": files}), **whole}
    records.write_text(folder / verify.CONTRACT, json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
    return whole


def sound(folder: PathLike) -> Json:
    """The contract of a folder, of the form that a contract has. Raises EdgeError."""
    told = read(folder)
    wrong = verify.invalid(told, schema())
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise EdgeError(
            f"{Path(folder) / verify.CONTRACT}: changed by hand: {wrong[0]}{more}",
            f"edge handoff verify {folder} says what is wrong; hand it over again",
        )
    return told


def read(folder: PathLike) -> Json:
    """The contract of a folder. Raises EdgeError."""
    try:
        return verify.read(Path(folder))
    except verify.Unreadable as error:
        newer = "upgrade edgecall" if "version" in str(error) else "give a folder that `edge handoff` wrote"
        raise EdgeError(str(error), newer) from None
