"""Fetching from the hub, against a small server that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge import environments, worker
from edge.console import Console
from edge.errors import EdgeError, MissingError, WorkerError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"architectures": ["Gemma3ForCausalLM"]}',
    "model.safetensors": bytes(range(256)) * 4000,
    "tokenizer.model": b"pieces",
    "README.md": b"not needed",
}


class Hub(BaseHTTPRequestHandler):
    """The two questions that a download asks: what is in a revision, and a file of it (HEAD, GET, ranges)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        if self.path.startswith("/api/models/"):
            self._listing()
        elif "/resolve/" in self.path:
            self._file(self.path.rpartition("/")[2])
        else:
            self._send(404, b"")

    do_HEAD = do_GET

    def _listing(self):
        owner, name = self.path.split("?")[0].split("/")[3:5]
        status = self.server.failures.get(f"{owner}/{name}")
        if status:
            code, header = status
            return self._send(code, b"{}", header)
        if "/tree/" in self.path:
            tree = [
                {"type": "file", "path": f, "oid": hashlib.sha1(d).hexdigest(), "size": len(d)}
                for f, d in FILES.items()
            ]
            return self._send(200, json.dumps(tree).encode())
        siblings = [{"rfilename": f} for f in FILES]
        body = {"id": f"{owner}/{name}", "modelId": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "tags": []}
        return self._send(200, json.dumps(body).encode())

    def _file(self, name):
        data = FILES[name]
        tag = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        if self.command == "GET" and self.server.cut.pop(name, None):
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self._send(206 if start else 200, data[start:], None, headers)

    def _send(self, code, body, error=None, headers=None):
        self.send_response(code)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen, server.failures, server.cut = [], {}, {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(out, model="google/functiongemma-270m-it"):
    script = environments.script("fetch")
    built = environments.ensure(environments.spec(script), Console(quiet=True))
    env = {"HF_HOME": str(out.parent / "hf-home")}
    request = {"model": model, "revision": None}
    return worker.run(script, request, out, python=built.python, keep_partial=True, timeout_s=120, env=env)


@pytest.mark.slow
def test_it_takes_what_training_and_exporting_need(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HUGGINGFACE_HUB_TOKEN", "hf_secret")
    assert fetch(tmp_path / "base")["revision"] == COMMIT
    assert {f.name for f in (tmp_path / "base").iterdir()} == set(FILES) - {"README.md"}
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert any(token == "Bearer hf_secret" for _, _, token in hub.seen)
    told = "".join(p.read_text() for p in (tmp_path / "base.worker").iterdir() if p.is_file())
    assert "hf_secret" not in told


@pytest.mark.slow
def test_gated_absent_and_failing_each_say_what_to_do(hub, tmp_path):
    hub.failures.update({"a/gated": (403, "GatedRepo"), "a/absent": (404, "RepoNotFound"), "a/broken": (500, None)})
    with pytest.raises(MissingError, match="gated") as caught:
        fetch(tmp_path / "x", "a/gated")
    assert "HF_TOKEN" in caught.value.hint
    with pytest.raises(EdgeError, match="no such model"):
        fetch(tmp_path / "x", "a/absent")
    with pytest.raises(WorkerError, match="the hub answered 500"):
        fetch(tmp_path / "x", "a/broken")


@pytest.mark.slow
def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingError, match="can't be reached"):
        fetch(tmp_path / "x")
