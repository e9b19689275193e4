# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["huggingface-hub==2.4.0"]
#
# [tool.edge]
# environment = "fetch"
# megabytes = 60
# ///
"""Put files into a repository of the hub, as one commit; what is there already is not sent again.

Request: {"model": "owner/name", "revision": a branch or null, "private": bool, "login": where the token is from,
"message", "files": {path in the repository: file here}}. Makes nothing here. Answers {"url", "commit", "created": was the
repository, "sent": [paths], "kept": [paths that were there by their digest], "sent_bytes"}.

Large files go up one after another by the hub's LFS protocol, before the commit; a push that was cut off finds those that
had arrived by their sha256. The token comes in HF_TOKEN, else from the hub's own login.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.errors import EdgeError
from edge.train import hub_errors

TELL_S = 0.5  # between two words of progress


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    name, branch = request["model"], request["revision"]
    files = {path: Path(local) for path, local in request["files"].items()}
    with hub_errors.told(name, request["login"], branch, writing=True):
        api = HfApi(token=os.environ.get("HF_TOKEN") or None)
        reply.progress(None, None, "looking at what is there")
        created = _repository(api, name, request["private"])
        if branch and branch != "main":
            api.create_branch(name, branch=branch, exist_ok=True)
        there = _there(api, name, branch)
        new = {path: local for path, local in files.items() if there.get(path) not in _digests(local)}
        total, before, sent = sum(f.stat().st_size for f in new.values()), 0, 0
        operations = []
        for path, local in new.items():
            with local.open("rb", buffering=0) as raw:
                # Hashed when the operation is made; what is read after that is on its way.
                file = _Read(raw, lambda read, path=path, before=before: _tell(reply, before + read, total, path))  # type: ignore[misc]
                operation = CommitOperationAdd(path, file)
                file.count = 0
                api.preupload_lfs_files(name, additions=[operation], revision=branch, free_memory=True)
                if operation._upload_mode == "regular":  # small: it goes into the commit itself
                    operation.path_or_fileobj = local.read_bytes()
                    file.count = local.stat().st_size
            before += local.stat().st_size
            sent += min(file.count, local.stat().st_size)
            operations.append(operation)
        commit, url = api.repo_info(name, revision=branch).sha, f"{api.endpoint}/{name}"
        if operations:
            reply.progress(total / 1e6, total / 1e6, "committing")
            made = api.create_commit(name, operations, commit_message=request["message"], revision=branch)
            commit = made.oid
        kept = [path for path in files if path not in new]
        return {"url": url, "commit": commit, "created": created, "sent": list(new), "kept": kept, "sent_bytes": sent}


def _repository(api: Any, name: str, private: bool) -> bool:
    """Make the repository unless it is there; returns whether it was made.

    Raises EdgeError for one that everybody sees where a private one is asked for: it would be too late afterwards.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.repo_info(name)
    except RepositoryNotFoundError:
        api.create_repo(name, private=private, exist_ok=True)
        return True
    if private and not info.private:
        raise EdgeError(
            f"{name}: it is there already, and public", "make it private on its settings page, or push to another name"
        )
    return False


def _there(api: Any, name: str, branch: str | None) -> dict[str, str]:
    """The digest of each file in the repository: sha256 of large files, git's of small ones."""
    from huggingface_hub import RepoFile

    listed = api.list_repo_tree(name, recursive=True, revision=branch)
    return {f.path: f.lfs.sha256 if f.lfs else f.blob_id for f in listed if isinstance(f, RepoFile)}


def _digests(local: Path) -> tuple[str, str]:
    """Both digests that the hub could know a file by."""
    large, small = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % local.stat().st_size)
    with local.open("rb") as f:
        while block := f.read(1 << 20):
            large.update(block)
            small.update(block)
    return large.hexdigest(), small.hexdigest()


class _Read(io.BufferedReader):
    """A file that says how much of it was read. One that is sent again after a fault counts again."""

    def __init__(self, raw: Any, tell: Callable[[int], None]) -> None:
        super().__init__(raw)
        self._tell, self.count = tell, 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        self._tell(self.count)
        return data


_LAST = [0.0]


def _tell(reply: Any, done: int, total: int, path: str) -> None:
    if time.monotonic() - _LAST[0] >= TELL_S:
        _LAST[0] = time.monotonic()
        reply.progress(min(done, total) / 1e6, total / 1e6, f"{path} (MB)")


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
