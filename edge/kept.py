"""A folder that is the finished result of its inputs, by a key: kept while key and files are the same.

A stopped worker's unfinished folder is continued by the same work alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edge import archive, environments, records
from edge.records import Json

DONE = "done.json"


def key(script: Path, inputs: Json, code: tuple[str, ...] = ()) -> str:
    """The digest of everything that goes into a result: inputs, the worker, its environment.

    code: files of the package that the worker does its work by, as they are named in the archive.
    """
    parts = [inputs, records.digest_file(script), environments.spec(script).key]
    return records.digest_value([*parts, archive.digest(*code)] if code else parts)


def done(folder: Path, key: str) -> bool:
    """Is this folder the finished result of these inputs, untouched since?"""
    marker = folder / DONE
    if not marker.exists():
        return False
    told = records.read_json(marker)
    return bool(told.get("key") == key and told.get("digest") == records.digest_folder(folder))


def finish(folder: Path, key: str) -> None:
    records.save({"key": key, "digest": records.digest_folder(folder)}, folder / DONE)


def forget_other(out: Path, key: str) -> None:
    """A stopped run is only continued by the same one: anything else in its place would mix two trainings."""
    desk = out.with_name(out.name + ".worker")
    mark = desk / "key"
    if not mark.exists() or mark.read_text() != key:
        shutil.rmtree(desk / "partial", ignore_errors=True)
        desk.mkdir(parents=True, exist_ok=True)
        mark.write_text(key)
