# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["pyarrow==26.0.1"]
#
# [tool.edge]
# megabytes = 250
# ///
"""Rows of Parquet files as JSON lines, without what Parquet's schema added to them.

A Parquet column has one type for all rows. `datasets` gives it the union of all fields, so that an argument that a row
doesn't have lies there as a null, and reads ISO dates as timestamps. Both are undone here: a null inside a struct is
left out, a timestamp is written as text again. What was undone is counted by its place, since a null or a date that was
really meant can't be told from these.

Request: {"files": [paths]}. Makes: NAME.jsonl for each. Answers {"files": {name: {"rows": N, "nulls": {place: N},
"dates": {place: N}}}}. Raises EdgeError for a file that is no Parquet and for bytes in a column that is used.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.errors import EdgeError

BATCH = 500


class Undoing:
    """One file's values as they were before they had a schema, and what was undone, by place."""

    def __init__(self, file: Path) -> None:
        self.nulls: Counter[str] = Counter()
        self.dates: Counter[str] = Counter()
        self._file = file

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row without the columns that are null in it; `tool_name` stays: null there says that no call is right."""
        kept = {k: v for k, v in row.items() if v is not None or (k == "tool_name" and row.get("user_content"))}
        return {key: self._value(value, key) for key, value in kept.items()}

    def _value(self, value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {k: self._value(v, f"{place}.{k}") for k, v in value.items() if not self._null(v, f"{place}.{k}")}
        if isinstance(value, list):
            return [self._value(v, f"{place}[]") for v in value]
        if isinstance(value, (dt.datetime, dt.date, dt.time)):
            self.dates[place] += 1
            return value.isoformat()
        if isinstance(value, Decimal):
            return int(value) if value == value.to_integral_value() else float(value)
        if isinstance(value, bytes):
            raise EdgeError(f"{self._file.name}: column {place} holds bytes, not text", "export the rows to JSON lines")
        return value

    def _null(self, value: Any, place: str) -> bool:
        self.nulls[place] += value is None
        return value is None


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    from pyarrow import ArrowException, parquet

    told: dict[str, Any] = {}
    for given in request["files"]:
        file = Path(given)
        try:
            told[file.name] = convert(parquet.ParquetFile(file), file, Path(request["out"]), reply)
        except (ArrowException, OSError) as error:
            raise EdgeError(f"{file}: not a Parquet file: {error}", "check the file: it may be cut off") from None
    return {"files": told}


def convert(source: Any, file: Path, out: Path, reply: Any) -> dict[str, Any]:
    undoing, rows = Undoing(file), 0
    with (out / f"{file.stem}.jsonl").open("w", encoding="utf-8") as lines:
        for batch in source.iter_batches(BATCH):
            for row in batch.to_pylist():
                lines.write(json.dumps(undoing.row(row), ensure_ascii=False) + "\n")
            rows += batch.num_rows
            reply.progress(rows, source.metadata.num_rows, file.name)
    return {"rows": rows, "nulls": +undoing.nulls, "dates": undoing.dates}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
