"""Results folders as `edge bench` leaves them, made of the records of a real measurement.

What a case needs beyond that (another device, another speed, wrong answers, temperatures) is made by changing its fields:
these tests are about what is said of records, and no figure in them is one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import records
from edge.records import Artifact, Measurement, Sample

RECORDS = Path(__file__).parent / "data" / "records"
REAL = records.load(Measurement, RECORDS / "measurement-22a771b.json")
ARTIFACT = records.load(Artifact, RECORDS / "artifact-47039b6.json")
PI = {"name": "pi5", "kind": "ssh", "model": "Raspberry Pi 5", "cpu": "Cortex-A76", "machine": "aarch64", "cores": 4,
      "logical_cores": 4, "memory_bytes": 8_000_000_000, "os": "Linux 6.12", "features": ["asimddp"], "emulated": False}  # fmt: skip


def rows(n: int, salt: str = "") -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{i}",
            "prompt": f"weather in {i}{salt}?",
            "user": f"weather in {i}?",
            "expected": [{"name": "get_weather", "arguments": {"city": f"c{i}"}}],
        }
        for i in range(n)
    ]


def said(i: int, right: bool) -> str:
    city = f"c{i}" if right else "elsewhere"
    return f"<start_function_call>call:get_weather{{city:<escape>{city}<escape>}}<end_function_call>"


class Folder:
    """A results folder being made."""

    def __init__(self, path: Path, n: int = 100, salt: str = "") -> None:
        self.path, self.rows = path, rows(n, salt)
        (path / "workloads").mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        partial = path / "workloads" / "rows.jsonl"
        partial.write_text(text)
        self.digest = records.digest_file(partial)
        partial.rename(path / "workloads" / f"{self.digest[:12]}.jsonl")
        self.index: dict[str, Any] = {"schema": 1, "dialect": "functiongemma", "workload": self.digest, "baseline": "tuned",
                                      "project": "app", "rows": n, "subjects": {}, "runs": []}  # fmt: skip
        self._write()

    def _write(self) -> None:
        records.save(self.index, self.path / "bench.json")

    def set(self, **changes: Any) -> None:
        self.index |= changes
        self._write()

    def samples(self, wrong: Sequence[int] = (), call_s: float = 0.1, **changes: Any) -> list[Sample]:
        """Real timings of one row, spread a little, stretched to a call of `call_s`."""
        template = REAL.samples[0]
        assert template.call_s
        found = []
        for i in range(len(self.rows)):
            times = call_s * (1 + (i * 37 % 100) / 500) / template.call_s
            scaled = {
                key: value * times
                for key in ("prefill_s", "first_token_s", "decode_s", "call_s")
                if (value := getattr(template, key)) is not None
            }
            found.append(
                dataclasses.replace(template, **{"row": f"r{i}", "text": said(i, i not in wrong), **scaled, **changes})
            )
        return found

    def add(self, name: str, where: str = "pi5", threads: int | None = 4, **changes: Any) -> Measurement:
        """A measurement of an artifact, which is put into the index too."""
        digest = records.digest_value(name)
        fields: dict[str, Any] = {
            "subject": digest, "subject_name": name, "workload": self.digest, "threads": threads,
            "device": {**PI, "name": where}, "samples": self.samples(), "load_average_before": 0.2, "throttled": None,
            "started_at": "2026-11-21T10:00:00+00:00",
        }  # fmt: skip
        made = dataclasses.replace(REAL, **{**fields, **changes})
        if made.subject_kind == "artifact":
            artifact = dataclasses.replace(ARTIFACT, digest=digest, bytes=made.file_bytes or 0, quantisation=name)
            self.index["subjects"][name] = dataclasses.asdict(artifact)
            self._write()
        self.put(made, where)
        return made

    def put(self, made: Measurement, device: str, name: str | None = None) -> Path:
        file = self.path / device / (name or f"{made.subject_name}.{made.runtime}.t{made.threads}.json")
        file.parent.mkdir(exist_ok=True)
        records.save(made, file)
        return file

    def tuned(self, wrong: Sequence[int] = ()) -> Measurement:
        """The float checkpoint, scored in batches on this machine."""
        times: dict[str, Any] = dict.fromkeys(("prefill_s", "first_token_s", "decode_s", "call_s"))
        untimed = [dataclasses.replace(s, **times) for s in self.samples(wrong)]
        return self.add("tuned", "local", 2, subject_kind="checkpoint", runtime="transformers", format="checkpoint",
                        file_bytes=None, peak_rss_bytes=None, samples=untimed, device={**REAL.device})  # fmt: skip
