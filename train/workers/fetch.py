# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["huggingface-hub==2.4.0"]
#
# [tool.edge]
# megabytes = 60
# ///
"""Fetch files from the hub, going on where a download was cut off.

Request: {"do": "fetch" or "look", "model": "owner/name", "revision": null, "login": where the token is from, "kind":
"model" or "dataset", "files": [paths] or null for those of a checkpoint}. "look" makes nothing. Answers {"model",
"revision": the commit, "files": {path: bytes}, "license": the id that its page gives, or null}; of "fetch" also
"resumed_bytes", what was there already of files that had been cut off.

The token comes in HF_TOKEN, else from the hub's own login. Its library throws a half of a file away when its process
ends, so files are fetched here piece by piece with its own function for that, and compared with the digests of the
hub's listing: sha256 of large files, git's of small ones.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["EDGE_CODE"])

from edge.errors import EdgeError, MissingError, WorkerError
from edge.train import hub, hub_errors

PARTS = ".parts"  # in the folder to fill: what has come of files, by their digest
CHUNK = 128 << 10  # bytes that a cut costs at most; the library's own 10 MB are lost with the connection
TELL_S = 0.5  # between two words of progress


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    from huggingface_hub import HfApi, RepoFile
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    name, kind = request["model"], request["kind"]
    with hub_errors.told(name, request["login"], request["revision"], kind=kind):
        api = HfApi(token=os.environ.get("HF_TOKEN") or None)
        reply.progress(None, None, "asking what there is")
        info = api.repo_info(name, revision=request["revision"], repo_type=kind)
        listed = api.list_repo_tree(name, recursive=True, revision=info.sha, repo_type=kind)
        files = {f.path: f for f in listed if isinstance(f, RepoFile)}
        answer = {"model": name, "revision": info.sha, "files": {p: f.size for p, f in files.items()},
                  "license": _license(info)}  # fmt: skip
        if request["do"] == "look":
            return answer
        wanted = request["files"] or _checkpoint(name, list(files))
        absent = [path for path in wanted if path not in files]
        if absent:
            raise EdgeError(f"{name} has no {absent[0]}", f"it holds {', '.join(list(files)[:10])}")
        desk = _Desk(Path(request["out"]), name, kind, info.sha, reply)
        return {**answer, "resumed_bytes": desk.fill([files[p] for p in wanted])}


def _license(info: Any) -> str | None:
    card = info.card_data
    found = card.get("license") if card else None
    return found if isinstance(found, str) else None


def _checkpoint(name: str, paths: list[str]) -> list[str]:
    """The files of a checkpoint. Raises EdgeError, before anything is fetched, for a repository that holds none."""
    if hub.kind(paths) == "checkpoint":
        return hub.checkpoint_files(paths)
    pickled = any(p.endswith((".bin", ".pt", ".pth")) for p in paths)
    what, instead = {
        "adapter": ("an adapter", f"merge it into its base: edge import {name} --out FOLDER"),
        "artifacts": ("artifacts, no checkpoint to tune or export", f"take one as it is: edge import {name}"),
        None: ("no config.json with safetensors",
               "its weights are pickled, which run code when read: save it with `save_pretrained`" if pickled
               else f"it holds {', '.join(paths[:5]) or 'nothing'}"),
    }[hub.kind(paths)]  # fmt: skip
    raise EdgeError(f"{name} holds {what}", instead)


class _Desk:
    """Fills a folder with files of one commit."""

    def __init__(self, out: Path, name: str, kind: str, commit: str, reply: Any) -> None:
        self._out, self._name, self._kind, self._commit, self._reply = out, name, kind, commit, reply
        self._told = 0.0

    def fill(self, files: list[Any]) -> int:
        """Fetch them all; returns how many bytes of unfinished files were there already.

        What lies there of another commit is deleted. Raises MissingError if the disk is, or would be, full.
        """
        for file in files:
            if not hub.safe(file.path):
                raise EdgeError(f"{self._name}: a file named {file.path!r}, which would not stay in its folder")
        self._forget_others(files)
        parts = {file.path: self._out / PARTS / _digest(file) for file in files}
        had = {path: part.stat().st_size for path, part in parts.items() if part.exists()}
        missing = [f for f in files if not self._has(f)]
        needed = sum(f.size - had.get(f.path, 0) for f in missing)
        if needed > shutil.disk_usage(self._out).free:
            raise hub_errors.full_disk(self._out, needed)
        self._done, self._total = sum(f.size for f in files) - needed, sum(f.size for f in files)
        for file in missing:
            self._fetch(file, parts[file.path])
        shutil.rmtree(self._out / PARTS, ignore_errors=True)
        return sum(had.values())

    def _forget_others(self, files: list[Any]) -> None:
        wanted, digests = {file.path for file in files}, {_digest(file) for file in files}
        for found in [f for f in self._out.rglob("*") if f.is_file() or f.is_symlink()]:
            path = found.relative_to(self._out)
            if path.as_posix() not in wanted and not (path.parts[0] == PARTS and path.name in digests):
                found.unlink()

    def _has(self, file: Any) -> bool:
        target = self._out / file.path
        return target.is_file() and target.stat().st_size == file.size and _is(file, target)

    def _fetch(self, file: Any, part: Path) -> None:
        import httpx2
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        constants.DOWNLOAD_CHUNK_SIZE = CHUNK
        part.parent.mkdir(exist_ok=True)
        start = part.stat().st_size if part.exists() else 0
        if start > file.size:
            part.unlink()
            start = 0
        url = hf_hub_url(self._name, file.path, repo_type=self._kind, revision=self._commit)
        # Compressed, a text's length and the place to go on from would be others than those of the file.
        headers = {**build_hf_headers(token=os.environ.get("HF_TOKEN") or None), "Accept-Encoding": "identity"}
        try:
            with part.open("ab") as f:
                http_get(url, f, resume_size=start, headers=headers, expected_size=file.size,
                         displayed_filename=file.path, tqdm_class=self._bar(file.path))  # fmt: skip
        except httpx2.TransportError as error:
            raise self._cut_off(file, part, type(error).__name__) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise hub_errors.full_disk(self._out, file.size - _size(part)) from None
            if "Consistency check" in str(error):
                raise self._cut_off(file, part, "too short") from None
            raise
        if not _is(file, part):
            part.unlink()
            raise WorkerError(f"{self._name}: {file.path} is not what the hub's listing says: its digest differs",
                              "run it again; if it stays so, something between here and the hub alters files")  # fmt: skip
        target = self._out / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)

    def _cut_off(self, file: Any, part: Path, why: str) -> EdgeError:
        got, whole = _size(part) / 1e6, file.size / 1e6
        return MissingError(
            f"{self._name}: the download of {file.path} was cut off at {got:,.1f} of {whole:,.1f} MB ({why})",
            "run it again: it goes on from there",
        )

    def _bar(self, path: str) -> type:
        """What the hub's library takes for a progress bar."""
        desk = self

        class Bar:
            def __init__(self, *_: Any, **__: Any) -> None:
                pass

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def close(self) -> None:
                pass

            def update(self, n: float | None = 1) -> None:
                desk._done += int(n or 0)
                if time.monotonic() - desk._told >= TELL_S:
                    desk._told = time.monotonic()
                    desk._reply.progress(desk._done / 1e6, desk._total / 1e6, f"{path} (MB)")

        return Bar


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _digest(file: Any) -> str:
    """What the hub's listing says of a file's content."""
    return str(file.lfs.sha256 if file.lfs else file.blob_id)


def _is(file: Any, here: Path) -> bool:
    sha = hashlib.sha256() if file.lfs else hashlib.sha1(b"blob %d\0" % file.size)
    with here.open("rb") as f:
        while block := f.read(1 << 20):
            sha.update(block)
    return sha.hexdigest() == _digest(file)


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
