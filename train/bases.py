"""The checkpoint that a tuning starts from, however it is named."""

from __future__ import annotations

from pathlib import Path

from edge.errors import EdgeError
from edge.export import job
from edge.project import EMBEDDED
from edge.records import Checkpoint
from edge.train import fetching, hub, tiny


def find(base: str, folder: Path, download: Path, dialect: str, client: fetching.Client) -> Checkpoint:
    """The embedded model, a folder (relative to `folder`), or a hub model, fetched once into `download`.

    Raises EdgeError for what is none of them.
    """
    local = folder_of(base, folder)
    if local:
        return job.read_checkpoint(local, dialect, EMBEDDED if local == tiny.SHIPPED else base)
    if not hub.parse(base):
        raise EdgeError(
            f"{base}: no such folder, and no hub id", f"give {EMBEDDED}, a folder, or owner/name[@revision]"
        )
    return fetching.fetch(base, download, dialect, client)


def here(name: str, dialect: str) -> Checkpoint:
    """The embedded model or a folder: where `app/tuned` is a path, and no model of the hub. Raises EdgeError."""
    folder = folder_of(name)
    if folder is None:
        raise EdgeError(
            f"{name}: no such folder",
            f"give {EMBEDDED} or a checkpoint's folder; `edge import owner/name` fetches one from the hub",
        )
    return job.read_checkpoint(folder, dialect, EMBEDDED if folder == tiny.SHIPPED else None)


def folder_of(base: str, folder: Path = Path()) -> Path | None:
    """What is meant, if it lies here. `edge-tiny` is the embedded model, unless a checkpoint here is called so."""
    local = folder / Path(base).expanduser()
    if base == EMBEDDED and not (local / "config.json").is_file():
        return tiny.SHIPPED
    return local if local.is_dir() else None
