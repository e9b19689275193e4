"""The whole package as one zip: what workers and agents import, so that here and on a device the same files run.

Named by the digest of its content, so that versions can't mix. Standard library only, Python 3.9.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from functools import lru_cache
from pathlib import Path

KEEP = (".py", ".jinja")
FOLDERS = {
    "edge": "edge",
    "train": "edge/train",
    "export": "edge/export",
    "bench": "edge/bench",
    "devices": "edge/devices",
}


@lru_cache(maxsize=1)
def path() -> Path:
    """The zip's path in the user's cache, written if need be. In a worker: the zip that it was started from."""
    given = os.environ.get("EDGE_CODE")
    if given:
        return Path(given)
    data = build()
    target = cache() / f"{hashlib.sha256(data).hexdigest()[:16]}.zip"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(target)
    return target


def cache() -> Path:
    """Where the zips lie: under EDGE_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("EDGE_CACHE") or user_cache_path("edgecall")) / "code"


def build() -> bytes:
    """The zip's bytes, the same for the same files whenever it is built."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files().items()):
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def digest(*folders: str) -> str:
    """sha256 over the package's files in these folders (names in the zip): what a result that depends on code is tied to."""
    sha = hashlib.sha256()
    for name, file in sorted(files().items()):
        if name.startswith(folders):
            sha.update(name.encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()


def files() -> dict[str, Path]:
    """Name in the zip -> file, installed (one tree) or in a checkout (the card's top-level folders)."""
    here = Path(__file__).resolve().parent
    roots = {here: "edge"}
    if not (here / "train").is_dir():
        roots = {here.parent / folder: name for folder, name in FOLDERS.items()}
    found = {}
    for root, name in roots.items():
        for file in root.rglob("*"):
            if file.suffix in KEEP and "__pycache__" not in file.parts:
                found[f"{name}/{file.relative_to(root).as_posix()}"] = file
    return found
