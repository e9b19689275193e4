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
    if base == EMBEDDED:
        return job.read_checkpoint(tiny.SHIPPED, dialect, EMBEDDED)
    local = folder / Path(base).expanduser()
    if local.is_dir():
        return job.read_checkpoint(local, dialect, base)
    if not hub.parse(base):
        raise EdgeError(
            f"{base}: no such folder, and no hub id", f"give {EMBEDDED}, a folder, or owner/name[@revision]"
        )
    return fetching.fetch(base, download, dialect, client)
