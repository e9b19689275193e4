"""A hub of our own for the tests: a small HTTP server with repositories in memory that answers as the model hub does.

It speaks what the pinned huggingface_hub asks for: information, trees and files (HEAD, GET, ranges), tokens with rights,
gated and private repositories, and the way up (create, branch, preupload, LFS batch with single and multi-part uploads,
commit). Models and data sets are served alike. Faults are put in by hand: `failures`, `cut`, `stall`.

    with hub.serve() as server:
        server.add("me/model", {"config.json": b"{}"})
        …  # with HF_ENDPOINT=server.url in the environment

What it was written from: the requests that huggingface_hub 2.4.0 sends, and the error codes that it tells apart.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

Files = dict[str, bytes]
WRITE, READ, STRANGER = "hf_WriteTokenOfMe0123456789", "hf_ReadTokenOfMe0123456789", "hf_WriteTokenOfYou012345678"
LFS_BYTES = 10 << 20  # a file of this size is an LFS file whatever its name, as a file of these endings is
LFS_ENDINGS = (".safetensors", ".gguf", ".tflite", ".task", ".litertlm", ".onnx", ".data", ".model", ".parquet", ".bin")
PAGE = 1000  # entries of a tree in one answer


@dataclass
class Repo:
    """Branches point at commits, commits hold whole trees. kind: "models" or "datasets"."""

    name: str
    kind: str
    private: bool = False
    gated: bool = False  # to everyone but those in `accepted`
    accepted: set[str] = field(default_factory=set)
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def commit(self, files: Files, branch: str = "main") -> str:
        """A commit with exactly these files; returns its id."""
        before = self.branches.get(branch, "")
        told = json.dumps([self.name, before, {k: hashlib.sha256(v).hexdigest() for k, v in files.items()}])
        sha = hashlib.sha1(told.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = dict(files), sha
        return sha

    def at(self, revision: str) -> str | None:
        """The commit of a branch or a commit id."""
        sha = self.branches.get(revision, revision)
        return sha if sha in self.commits else None

    def files(self, revision: str = "main") -> Files:
        return self.commits[self.at(revision) or ""]


@dataclass(frozen=True)
class Seen:
    method: str
    path: str  # without the query
    token: str | None
    range: str | None
    bytes: int  # of the request's body


def is_lfs(path: str, size: int) -> bool:
    return size >= LFS_BYTES or path.endswith(LFS_ENDINGS)


def blob_id(data: bytes) -> str:
    """What git calls such a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Server(ThreadingHTTPServer):
    """The hub, its repositories, and what it was asked.

    failures: {"owner/name": (status, headers)} for every question about it. cut: {file name: bytes} after which the
    connection is closed, once. stall: {file name: bytes} that are never passed, in whatever pieces one asks. hang: {file
    name: bytes} after which nothing comes, once, until `released`. sizes: {file
    name: bytes} that listings give instead of the true ones. altered: files that arrive with another last byte.
    uploads_cut: how many uploads are answered by a closed connection. commits_refused: how many commits by 501.
    part_bytes: LFS files above it go up in parts.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.tokens = {WRITE: ("me", "write"), READ: ("me", "read"), STRANGER: ("you", "write")}
        self.seen: list[Seen] = []
        self.failures: dict[str, tuple[int, dict[str, str]]] = {}
        self.cut: dict[str, int] = {}
        self.stall: dict[str, int] = {}
        self.hang: dict[str, int] = {}
        self.released = threading.Event()
        self.sizes: dict[str, int] = {}
        self.altered: set[str] = set()
        self.uploads_cut = self.commits_refused = 0
        self.part_bytes: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: Files | Path, kind: str = "models", **how: Any) -> Repo:
        """A repository with one commit. files: {path: bytes}, or a folder."""
        if isinstance(files, Path):
            files = {str(f.relative_to(files)): f.read_bytes() for f in sorted(files.rglob("*")) if f.is_file()}
        repo = self.repos[kind, name] = Repo(name, kind, **how)
        repo.commit(files)
        return repo

    def repo(self, name: str, kind: str = "models") -> Repo:
        return self.repos[kind, name]

    def asked(self, method: str, pattern: str) -> list[Seen]:
        """The requests so far with this method whose path matches."""
        return [s for s in self.seen if s.method == method and re.search(pattern, s.path)]


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def at_hand(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Server]:
    """A server that this process and its children take for the hub, nobody logged in. home: for the hub's own files."""
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(home))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@contextlib.contextmanager
def watch(folder: Path, secret: str) -> Iterator[set[str]]:
    """Where a secret turns up meanwhile and at the end: in files below a folder, in command lines of processes."""
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        for file in [*folder.rglob("*"), *Path("/proc").glob("[0-9]*/cmdline")]:
            with contextlib.suppress(OSError):
                if file.is_file() and secret.encode() in file.read_bytes():
                    found.add(str(file))

    def keep_looking() -> None:
        while not over.wait(0.05):
            look()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        look()


class _Refused(Exception):
    def __init__(self, status: int, code: str | None = None, message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """One question. `ROUTES` says which method answers what."""

    protocol_version = "HTTP/1.1"
    server: Server

    ROUTES = (
        ("GET", r"/api/whoami-v2", "_whoami"),
        ("POST", r"/api/repos/create", "_create"),
        ("POST", r"/api/validate-yaml", "_validate"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?", "_info"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "_tree"),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/refs", "_refs"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)", "_paths"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/branch/(?P<revision>[^/]+)", "_branch"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "_preupload"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "_commit"),
        ("POST", r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "_batch"),
        ("PUT", r"/lfs/(?P<oid>\w{64})(?:/(?P<part>\d+))?", "_upload"),
        ("POST", r"/lfs/(?P<oid>\w{64})/complete", "_complete"),
        ("POST", r"/lfs/(?P<oid>\w{64})/verify", "_verify"),
        ("GET", r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "_file"),
    )  # fmt: skip

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
        self.asked = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization") or ""
        self.token = authorization.removeprefix("Bearer ") or None
        seen = Seen(self.command, self.asked, self.token, self.headers.get("Range"), len(body))
        self.server.seen.append(seen)
        method = "GET" if self.command == "HEAD" else self.command
        for wanted, pattern, name in self.ROUTES:
            # Matched before unquoting: a revision may hold a slash, as %2F.
            match = re.fullmatch(pattern, urlsplit(self.path).path)
            if match and wanted == method:
                found = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                try:
                    self._known_token()
                    getattr(self, name)(body, **found)
                except _Refused as no:
                    self._refuse(no)
                return
        self._refuse(_Refused(404, None, "no such page"))

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _chunks(self) -> bytes:
        """A body that comes in chunks."""
        found = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return found

    # --- who may do what ----------------------------------------------------------------------------------------------

    def _known_token(self) -> None:
        if self.token and self.token not in self.server.tokens:
            raise _Refused(401, None, "Invalid credentials in Authorization header")

    @property
    def _who(self) -> tuple[str | None, str]:
        return self.server.tokens[self.token] if self.token else (None, "none")

    def _repo(self, name: str, kind: str, writing: bool = False) -> Repo:
        if name in self.server.failures:
            status, headers = self.server.failures[name]
            raise _Refused(status, headers.get("X-Error-Code"), headers.get("X-Error-Message", ""))
        repo = self.server.repos.get((kind, name))
        user, role = self._who
        if repo is None or (repo.private and user != repo.owner):
            # Whoever is not logged in isn't told what there is.
            raise (
                _Refused(404, "RepoNotFound", "Repository not found")
                if user
                else _Refused(401, "RepoNotFound", "Invalid username or password.")
            )
        if writing and (role != "write" or user != repo.owner):
            raise _Refused(403 if user else 401, None, "Authorization error.")
        return repo

    def _revision(self, repo: Repo, revision: str) -> str:
        sha = repo.at(revision)
        if sha is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _whoami(self, body: bytes) -> None:
        user, role = self._who
        if user is None:
            raise _Refused(401, None, "Invalid username or password.")
        access = {"type": "access_token", "accessToken": {"displayName": "a test's", "role": role}}
        self._json({"type": "user", "name": user, "orgs": [], "auth": access})

    # --- down ---------------------------------------------------------------------------------------------------------

    def _info(self, body: bytes, name: str, kind: str, revision: str = "main") -> None:
        repo = self._repo(name, kind)
        sha = self._revision(repo, revision)
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        told = {"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": [],
                "gated": "manual" if repo.gated else False, "downloads": 0, "likes": 0}  # fmt: skip
        self._json(told)

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        size = self.server.sizes.get(path, len(data))
        found: dict[str, Any] = {"type": "file", "path": path, "oid": blob_id(data), "size": size}
        if is_lfs(path, len(data)):
            found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 134}
        return found

    def _tree(self, body: bytes, name: str, kind: str, revision: str, path: str = "") -> None:
        repo = self._repo(name, kind)
        files = repo.commits[self._revision(repo, revision)]
        under = f"{path}/" if path else ""
        deep = "recursive=true" in self.path.lower()
        inside = {f: d for f, d in sorted(files.items()) if f.startswith(under)}
        folders = dict.fromkeys(
            f"{under}{'/'.join(parts[:n])}"
            for f in inside
            for parts in [f[len(under) :].split("/")]
            for n in range(1, len(parts) if deep else min(2, len(parts)))
        )
        entries = [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders]
        entries += [self._entry(f, d) for f, d in inside.items() if deep or "/" not in f[len(under) :]]
        query = re.search(r"cursor=(\d+)", self.path)
        start = int(query[1]) if query else 0
        more = {}
        if start + PAGE < len(entries):
            plain = re.sub(r"[?&]cursor=\d+", "", self.path)
            joint = "&" if "?" in plain else "?"
            more = {"Link": f'<{self.server.url}{plain}{joint}cursor={start + PAGE}>; rel="next"'}
        self._json(entries[start : start + PAGE], headers=more)

    def _paths(self, body: bytes, name: str, kind: str, revision: str) -> None:
        repo = self._repo(name, kind)
        files = repo.commits[self._revision(repo, revision)]
        wanted = (
            json.loads(body)["paths"] if body.startswith(b"{") else re.findall(r"paths=([^&]+)", unquote(body.decode()))
        )
        found = []
        for path in wanted:
            if path in files:
                found.append(self._entry(path, files[path]))
            elif any(f.startswith(f"{path}/") for f in files):
                found.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        self._json(found)

    def _refs(self, body: bytes, name: str, kind: str) -> None:
        repo = self._repo(name, kind)
        branches = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": sha} for b, sha in repo.branches.items()]
        self._json({"branches": branches, "converts": [], "tags": []})

    def _file(self, body: bytes, name: str, revision: str, path: str, kind: str = "models") -> None:
        repo = self._repo(name, kind)
        user, _ = self._who
        if repo.gated and user not in (*repo.accepted, repo.owner):
            message = (
                f"Access to model {name} is restricted. You must have access to it and be authenticated to access it."
            )
            raise _Refused(403 if user else 401, "GatedRepo", message)
        sha = self._revision(repo, revision)
        if path not in repo.commits[sha]:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        data = repo.commits[sha][path]
        tag = hashlib.sha256(data).hexdigest() if is_lfs(path, len(data)) else blob_id(data)
        if path in self.server.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"X-Repo-Commit": sha, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if "Range" in self.headers else 0
        end = len(data)
        if "Range" in self.headers and (last := self.headers["Range"].split("-")[1]):
            end = min(end, int(last) + 1)
        if self.command == "GET":
            hang = self.server.hang.pop(path, None)
            stop = hang or self.server.stall.get(path, self.server.cut.pop(path, None))
            if stop is not None:
                return self._cut_off(data, start, stop, headers, hang=hang is not None)
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self._send(206 if "Range" in self.headers else 200, data[start:end], headers)

    def _cut_off(self, data: bytes, start: int, stop: int, headers: dict[str, str], hang: bool) -> None:
        """The headers promise all of it; the connection is closed at `stop`."""
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if start else 200)
        for key, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data[start:stop])
        if hang:
            self.server.released.wait(60)
        self.close_connection = True

    # --- up -----------------------------------------------------------------------------------------------------------

    def _create(self, body: bytes) -> None:
        told = json.loads(body)
        user, role = self._who
        owner = told.get("organization") or user
        kind = f"{told.get('type') or 'model'}s"
        name = f"{owner}/{told['name']}"
        if name in self.server.failures:
            self._repo(name, kind)
        if user is None:
            raise _Refused(401, None, "Invalid username or password.")
        if role != "write" or user != owner:
            raise _Refused(403, None, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        url = {"url": f"{self.server.url}/{name}", "name": name}
        if (kind, name) in self.server.repos:
            self._json({**url, "error": "You already created this model repo"}, 409)
            return
        self.server.add(
            name, {".gitattributes": b"*.gguf filter=lfs\n"}, kind, private=told.get("visibility") == "private"
        )
        self._json(url)

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        if not re.match(r"---\n.*?\n---\n", content, re.DOTALL):
            self._json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
            return
        self._json({"errors": [], "warnings": []})

    def _branch(self, body: bytes, name: str, kind: str, revision: str) -> None:
        repo = self._repo(name, kind, writing=True)
        if revision in repo.branches:
            raise _Refused(409, None, "Reference already exists")
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        repo.branches[revision] = self._revision(repo, start)
        self._json({})

    def _preupload(self, body: bytes, name: str, kind: str, revision: str) -> None:
        repo = self._repo(name, kind, writing=True)
        files = repo.commits[self._revision(repo, revision)]
        told = []
        for f in json.loads(body)["files"]:
            large = is_lfs(f["path"], f["size"])
            entry = {"path": f["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if f["path"] in files:
                data = files[f["path"]]
                entry["oid"] = hashlib.sha256(data).hexdigest() if large else blob_id(data)
            told.append(entry)
        self._json({"files": told})

    def _batch(self, body: bytes, name: str, kind: str = "models") -> None:
        self._repo(name, kind, writing=True)
        objects = []
        for wanted in json.loads(body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            here = f"{self.server.url}/lfs/{oid}"
            entry: dict[str, Any] = {"oid": oid, "size": size}
            limit = self.server.part_bytes
            if oid in self.server.lfs:
                pass  # there already: nothing to do
            elif limit and size > limit:
                count = -(-size // limit)
                header = {"chunk_size": str(limit), **{str(n): f"{here}/{n}" for n in range(1, count + 1)}}
                entry["actions"] = {"upload": {"href": f"{here}/complete", "header": header}}
            else:
                entry["actions"] = {"upload": {"href": here}, "verify": {"href": f"{here}/verify"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, body: bytes, oid: str, part: str = "") -> None:
        if self.server.uploads_cut:
            self.server.uploads_cut -= 1
            self.close_connection = True
            return
        if part:
            self.server.parts[oid, int(part)] = body
        elif hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, None, "not the bytes that were announced")
        else:
            self.server.lfs[oid] = body
        self._send(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})

    def _complete(self, body: bytes, oid: str) -> None:
        told = json.loads(body)
        data = b"".join(self.server.parts.get((oid, p["partNumber"]), b"") for p in told["parts"])
        if told["oid"] != oid or hashlib.sha256(data).hexdigest() != oid:
            raise _Refused(400, None, "not the bytes that were announced")
        self.server.lfs[oid] = data
        self._json({})

    def _verify(self, body: bytes, oid: str) -> None:
        told = json.loads(body)
        if told["oid"] != oid or len(self.server.lfs.get(oid, b"")) != told["size"]:
            raise _Refused(404, None, "no such object")
        self._json({})

    def _commit(self, body: bytes, name: str, kind: str, revision: str) -> None:
        repo = self._repo(name, kind, writing=True)
        files = dict(repo.commits[self._revision(repo, revision)])
        if revision not in repo.branches:
            raise _Refused(400, None, "not a branch")
        if self.server.commits_refused:
            self.server.commits_refused -= 1
            raise _Refused(501, None, "not now")
        for line in body.splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "header":
                repo.messages.append(value["summary"])
            elif told["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                if value["oid"] not in self.server.lfs:
                    raise _Refused(400, None, f"{value['path']}: its content was not uploaded")
                files[value["path"]] = self.server.lfs[value["oid"]]
            elif told["key"] == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(files, revision)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    # --- answers ------------------------------------------------------------------------------------------------------

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, no: _Refused) -> None:
        headers = {"X-Error-Code": no.code} if no.code else {}
        headers |= {"X-Error-Message": no.message} if no.message else {}
        self._send(no.status, json.dumps({"error": no.message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
