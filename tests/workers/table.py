# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["pyarrow==26.0.1"]
#
# [tool.edge]
# environment = "parquet"
# ///
"""Rows as Parquet, as `datasets` writes them: one schema for all, absent fields null, ISO dates as timestamps.

Request: {"rows": […], "dates": [names of arguments]}. Makes rows.parquet. Pyarrow's own inference unifies the structs.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    import pyarrow
    from pyarrow import parquet

    rows = [_dated(row, request["dates"]) for row in request["rows"]]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pyarrow.table({key: [row.get(key) for row in rows] for key in columns})
    parquet.write_table(table, Path(request["out"]) / "rows.parquet")
    return {"schema": str(table.schema)}


def _dated(value: Any, dates: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: dt.datetime.fromisoformat(v) if k in dates and isinstance(v, str) else _dated(v, dates)
                for k, v in value.items()}  # fmt: skip
    return [_dated(v, dates) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
