"""What was measured of an artifact on devices: from the measurements that lie beside it to entries of a contract."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge import records
from edge.bench import report
from edge.errors import EdgeError
from edge.records import Artifact, Json, Measurement

NOT_MEASUREMENTS = frozenset({"report.json", "evaluation.json"})
_DEVICE = ("name", "kind", "model", "cpu", "machine", "cores", "memory_bytes", "os")
_FIGURES = ("accuracy", "first_token_ms", "call_ms", "prefill_tokens_per_s", "decode_tokens_per_s")


@dataclass(frozen=True)
class Found:
    """entries: one for each device and runtime, the newest of each. emulated: how many were left out, since nobody holds
    such a device. answers: what the file itself wrote, by the row's id, in the newest measurement with prompts that we wrote."""

    entries: list[Json]
    emulated: int
    answers: dict[str, str] = field(default_factory=dict)


def find(artifact: Artifact, results: Sequence[Path], workloads: Sequence[Path], dialect: str) -> Found:
    """Every measurement of this artifact under these folders.

    Args:
        workloads: files of rows, or folders that they lie in: without its rows a measurement has no accuracy.
    """
    found = list(_measurements(results))
    ours = [m for m in found if m.subject == artifact.digest and not m.error]
    real = [m for m in ours if not m.device.get("emulated")]
    rows = _rows({m.workload for m in real}, [*workloads, *results])
    entries: dict[tuple[object, ...], Json] = {}
    for m in sorted(real, key=lambda m: m.started_at or ""):
        reference = [o for o in found if o.subject == artifact.checkpoint and o.workload == m.workload and not o.error][
            -1:
        ]
        entry = _entry(m, rows.get(m.workload, []), reference, dialect)
        entries[(m.device.get("name"), m.device.get("model"), m.runtime, m.threads, m.workload)] = entry
    plain = [m for m in real if not m.runtime.endswith("_chat")]
    newest = max(plain, key=lambda m: m.started_at or "", default=None)
    answers = {s.row: s.text for s in newest.samples if s.text is not None} if newest else {}
    return Found(list(entries.values()), len(ours) - len(real), answers)


def _measurements(folders: Sequence[Path]) -> Iterator[Measurement]:
    for file in dict.fromkeys(f for folder in folders for f in sorted(folder.rglob("*.json"))):
        if file.name in NOT_MEASUREMENTS:
            continue
        try:
            value = records.read_json(file)
            if isinstance(value, dict) and {"subject", "samples", "device", "workload"} <= set(value):
                yield records.load(Measurement, file)
        except EdgeError:
            continue  # somebody else's JSON, or cut short: nothing to take figures from


def _rows(wanted: set[str], places: Sequence[Path]) -> dict[str, list[Json]]:
    """Workload digest -> its rows, of those that are found."""
    found: dict[str, list[Json]] = {}
    files = dict.fromkeys(f for p in places for f in ([p] if p.is_file() else sorted(p.rglob("*.jsonl"))))
    for file in files:
        if wanted - set(found) and (digest := records.digest_file(file)) in wanted:
            found[digest] = [json.loads(line) for _, line in records.read_lines(file) if line]
    return found


def _entry(m: Measurement, rows: Sequence[Json], reference: Sequence[Measurement], dialect: str) -> Json:
    known = [r for r in rows if "expected" in r]
    made = report.build("", m.workload, known, [*reference, m], dialect=dialect,
                        baseline=reference[0].subject_name if reference else "")  # fmt: skip
    cell = next(c for c in made.cells if c["name"] == m.subject_name and c["subject"] == m.subject)
    change = cell["difference"]
    return {
        "name": m.subject_name,
        "device": {key: m.device[key] for key in _DEVICE if m.device.get(key) is not None},
        "runtime": m.runtime,
        "runtime_version": m.runtime_version,
        "threads": m.threads,
        "rows": len(m.samples),
        "right": cell["rows"]["right"] if cell["accuracy"]["n"] else None,
        **{key: cell[key] if cell[key]["value"] is not None else None for key in _FIGURES},
        "difference": {k: change[k] for k in ("value", "low", "high", "n", "verdict", "words")} if change else None,
        "load_s": m.load_s,
        "peak_rss_bytes": m.peak_rss_bytes,
        "measured_at": m.started_at,
        "workload_sha256": m.workload,
        "record_sha256": cell["measurement"]["digest"],
        "marks": cell["marks"],
    }
