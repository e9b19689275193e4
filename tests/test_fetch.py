"""Fetching from the hub, against a small server that answers as the hub does; and whose token is taken."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hub as hubs
import pytest

from edge import environments, pipeline, records, starter, worker
from edge import project as projects
from edge.console import Console
from edge.errors import EdgeError, MissingError, WorkerError
from edge.records import Json
from edge.train import credentials, fetching, hub, hub_errors, tiny

NAME = "google/functiongemma-270m-it"
WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": b'{"architectures": ["Gemma3ForCausalLM"]}',
    "model.safetensors": WEIGHTS,
    "tokenizer.model": b"pieces",
    "README.md": b"not needed",
    "checkpoint.json": b"somebody else's record",
    "original/model.safetensors": b"the same once more",
}
NEEDED = {"config.json", "model.safetensors", "tokenizer.model"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hubs.Server]:
    with hubs.at_hand(monkeypatch, tmp_path / "hf-home") as found:
        found.add(NAME, FILES)
        yield found


def client(folder: Path | None = None) -> fetching.Client:
    console = Console(quiet=True)
    return fetching.Client(console, lambda spec: environments.ensure(spec, console), folder)


def fetch(out: Path, model: str = NAME, folder: Path | None = None) -> Json:
    return fetching.files(model, None, out, client(folder))


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_the_first_token_that_is_not_empty_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*credentials.NAMES, "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert credentials.token(tmp_path) == (None, credentials.NONE)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_login\n")
    assert credentials.token(tmp_path) == ("hf_login", str(tmp_path / "home" / "token"))
    assert credentials.variables(credentials.token(tmp_path))["HF_TOKEN"] == ""  # its library reads and renews it
    env = tmp_path / ".env"
    env.write_text("# HF_TOKEN=hf_no\nHF_TOKEN=\nOTHER=1\nexport HUGGINGFACE_HUB_TOKEN='hf_second'  # mine\n")
    assert credentials.token(tmp_path) == ("hf_second", f"HUGGINGFACE_HUB_TOKEN in {env}")
    env.write_text('HUGGINGFACE_HUB_TOKEN=hf_second\nHF_TOKEN = "hf_first"\r\n')
    found = credentials.token(tmp_path)
    assert found == ("hf_first", f"HF_TOKEN in {env}") and credentials.variables(found)["HF_TOKEN"] == "hf_first"
    monkeypatch.setenv("HUGGINGFACE_HUB_TOKEN", "hf_other")
    assert credentials.token(tmp_path) == ("hf_other", "HUGGINGFACE_HUB_TOKEN")
    monkeypatch.setenv("HF_TOKEN", " hf_set\n")
    assert credentials.token(tmp_path) == ("hf_set", "HF_TOKEN")
    assert "hf_set" not in f"{credentials.token(tmp_path)} {credentials.token(tmp_path)!r}"


def test_what_is_no_token_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for wrong in ("hf_one\nhf_two", "hf_é", "hf_a b"):
        monkeypatch.setenv("HF_TOKEN", wrong)
        with pytest.raises(EdgeError, match="HF_TOKEN: what is there is no token") as caught:
            credentials.token(tmp_path)
        assert "hf_" not in f"{caught.value} {caught.value.hint}"


def test_the_address_of_the_hub_is_not_taken_from_a_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a project from elsewhere could have the user's token sent to it."""
    (tmp_path / ".env").write_text("HF_ENDPOINT=http://127.0.0.1:9\nHF_TOKEN=hf_x\n")
    assert set(credentials.variables(credentials.token(tmp_path))) == {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}


def test_names_and_contents() -> None:
    assert hub.parse("a/b") == hub.Id("a/b") and hub.parse("hf://a/b@refs/pr/1") == hub.Id("a/b", "refs/pr/1")
    assert str(hub.Id("a/b", "v1")) == "a/b@v1"
    for wrong in ("a", "a/b/c", "../b", "a/..", "/b", "a/b@", "a/b@-x", "~/b", "a b/c", "https://a/b"):
        assert hub.parse(wrong) is None, wrong
    assert set(hub.checkpoint_files(FILES)) == NEEDED
    assert hub.kind(FILES) == "checkpoint"
    assert hub.kind(["adapter_config.json", "adapter_model.safetensors"]) == "adapter"
    assert hub.kind(["README.md", "q4/m.gguf"]) == "artifacts" and hub.kind(["README.md", "x.bin"]) is None
    paths = ["genai_config.json", "model.onnx", "cpu/genai_config.json", "cpu/model.onnx", "cpu/x/y", "m.task"]
    assert hub.artifacts(paths) == ["m.task", ".", "cpu"]
    assert hub.artifact_files(paths, "cpu") == ["cpu/genai_config.json", "cpu/model.onnx"]
    assert hub.artifact_files(paths, ".") == ["genai_config.json", "model.onnx", "m.task"]
    assert hub.safe("a/b.c") and not any(map(hub.safe, ("", "/a", "../a", "a/../b", "a\\b", "c:a")))


def test_the_watch_sees_a_secret(tmp_path: Path) -> None:
    with hubs.watch(tmp_path, "hf_seen") as found:
        (tmp_path / "a").write_text("x hf_seen y")
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", "hf_seen"], check=True)
    assert str(tmp_path / "a") in found and any("cmdline" in f for f in found)


# --- fetching ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_takes_what_training_and_exporting_need(
    server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUGGINGFACE_HUB_TOKEN", hubs.READ)
    with hubs.watch(tmp_path, hubs.READ) as leaks:
        answer = fetch(tmp_path / "base")
    assert answer["revision"] == server.repo(NAME).branches["main"] and answer["resumed_bytes"] == 0
    assert {f.name for f in (tmp_path / "base").iterdir()} == NEEDED | {fetching.DONE}
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == WEIGHTS
    assert {s.token for s in server.seen} == {hubs.READ}
    assert not leaks
    asked = len(server.seen)
    assert fetch(tmp_path / "base")["revision"] == answer["revision"] and len(server.seen) == asked  # it lies there
    (tmp_path / "base" / "config.json").write_bytes(b"{}")
    assert fetch(tmp_path / "base")["revision"] == answer["revision"]  # it was touched, so it is fetched again
    assert (tmp_path / "base" / "config.json").read_bytes() == FILES["config.json"]


@pytest.mark.slow
def test_a_token_in_a_projects_folder_and_the_hubs_own_login(server: hubs.Server, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".env").write_text(f"HF_TOKEN={hubs.READ}\n")
    fetch(tmp_path / "one", folder=tmp_path / "project")
    assert {s.token for s in server.seen} == {hubs.READ}
    server.seen.clear()
    login = credentials.login_file()
    login.parent.mkdir(parents=True, exist_ok=True)
    login.write_text(hubs.WRITE)
    fetch(tmp_path / "two", folder=tmp_path)
    assert {s.token for s in server.seen} == {hubs.WRITE}
    login.unlink()
    server.seen.clear()
    fetch(tmp_path / "three", folder=tmp_path)
    assert {s.token for s in server.seen} == {None}


@pytest.mark.slow
def test_a_checkpoint_names_its_commit_and_carries_its_notice(server: hubs.Server, tmp_path: Path) -> None:
    sha = server.add("me/tiny", tiny.SHIPPED).branches["main"]
    server.repo("me/tiny").branches["v1"] = sha
    found = fetching.fetch("me/tiny@v1", tmp_path / "base", "functiongemma", client())
    assert found.source == f"me/tiny@{sha}" and "Gemma Terms of Use" in found.notices[0]
    assert records.load(records.Checkpoint, tmp_path / "base" / "checkpoint.json") == found


@pytest.mark.slow
def test_a_projects_base(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the token in the project's own folder, wherever the command is started."""
    server.add("me/tiny", tiny.SHIPPED, private=True)
    folder = tmp_path / "app"
    starter.write(folder, "me/tiny")
    (folder / ".env").write_text(f"HF_TOKEN={hubs.READ}\n")
    monkeypatch.chdir(tmp_path)
    console = Console(quiet=True)
    with contextlib.closing(environments.Builder(console)) as builder:
        found = pipeline.find_base(projects.load(folder), console, builder)
    assert found.path == str(folder / "build" / "base") and (found.source or "").startswith("me/tiny@")


@pytest.mark.slow
def test_gated(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = server.repo(NAME)
    repo.gated = True
    with pytest.raises(MissingError, match=r"gated.*nobody is logged in") as caught:
        fetch(tmp_path / "x")
    assert caught.value.hint and f"{server.url}/{NAME}" in caught.value.hint and "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", hubs.READ)
    with pytest.raises(MissingError, match=r"gated, and this login \(HF_TOKEN\) has not been given access") as caught:
        fetch(tmp_path / "x")
    assert caught.value.hint and "accept its terms" in caught.value.hint
    repo.accepted.add("me")
    assert fetch(tmp_path / "x")["revision"] == repo.branches["main"]


@pytest.mark.slow
def test_each_refusal_says_what_to_do(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add("you/secret", FILES, private=True)
    for absent in ("google/misspelled", "you/secret"):
        with pytest.raises(EdgeError, match="no such repository, or it is private") as caught:
            fetch(tmp_path / "x", absent)
        assert caught.value.hint and "spelling" in caught.value.hint and "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", hubs.READ)
    with pytest.raises(EdgeError, match=r"no such repository, or doesn't show it to this login \(HF_TOKEN\)"):
        fetch(tmp_path / "x", "you/secret")
    with pytest.raises(EdgeError, match="no revision 'v9'") as caught:
        fetch(tmp_path / "x", f"{NAME}@v9")
    assert caught.value.hint == "there are: main"
    server.failures.update({"a/broken": (501, {}), "a/forbidden": (403, {}), "a/asked": (429, {})})
    with pytest.raises(WorkerError, match="the hub answered 501"):
        fetch(tmp_path / "x", "a/broken")
    with pytest.raises(MissingError, match=r"\(HF_TOKEN\) may not read it: 403") as caught:
        fetch(tmp_path / "x", "a/forbidden")
    assert caught.value.hint and "fine-grained" in caught.value.hint
    with pytest.raises(WorkerError, match="too many questions"):
        fetch(tmp_path / "x", "a/asked")
    monkeypatch.setenv("HF_TOKEN", "hf_RevokedLongAgo")
    with (
        hubs.watch(tmp_path, "hf_RevokedLongAgo") as leaks,
        pytest.raises(MissingError, match="doesn't take") as caught,
    ):
        fetch(tmp_path / "x")
    assert caught.value.hint and "settings/tokens" in caught.value.hint
    assert not leaks and "Revoked" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.slow
def test_no_network(server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set"):
        fetch(tmp_path / "x")
    assert not server.seen
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingError, match=r"the hub at http://127.0.0.1:9 can't be reached \(ConnectError\)"):
        fetch(tmp_path / "x")
    monkeypatch.setenv("HF_ENDPOINT", "127.0.0.1:9")
    with pytest.raises(EdgeError, match=r"HF_ENDPOINT: .127\.0\.0\.1:9. is no address"):
        fetch(tmp_path / "x")


def _from(asked: hubs.Seen) -> int:
    return int((asked.range or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@pytest.mark.slow
def test_an_interrupted_download_goes_on_where_it_was(server: hubs.Server, tmp_path: Path) -> None:
    """Once in the same process; and in another one, after the first had given up."""
    server.cut["model.safetensors"] = 300_000
    fetch(tmp_path / "once")
    assert [_from(s) for s in server.asked("GET", "model.safetensors")] == [
        0,
        262_144,
    ]  # of 300,000 in pieces of 128 KiB
    assert (tmp_path / "once" / "model.safetensors").read_bytes() == WEIGHTS
    server.seen.clear()
    server.stall["model.safetensors"] = 700_000
    with pytest.raises(
        MissingError, match=r"model.safetensors was cut off at 0.7 of 1.0 MB \(RemoteProtocolError"
    ) as caught:
        fetch(tmp_path / "twice")
    assert caught.value.hint == "run it again: it goes on from there" and not (tmp_path / "twice").exists()
    server.stall.clear()
    server.seen.clear()
    assert fetch(tmp_path / "twice")["resumed_bytes"] == 655_360
    came = {s.path.rpartition("/")[2]: _from(s) for s in server.asked("GET", "resolve")}
    assert came == {"model.safetensors": 655_360, "tokenizer.model": 0}  # and config.json not again
    assert (tmp_path / "twice" / "model.safetensors").read_bytes() == WEIGHTS
    assert {f.name for f in (tmp_path / "twice").iterdir()} == NEEDED | {fetching.DONE}


@pytest.mark.slow
def test_what_came_of_another_commit_is_not_mixed_in(server: hubs.Server, tmp_path: Path) -> None:
    server.repo(NAME).commit({"added_tokens.json": b"[]", **FILES})
    server.stall["model.safetensors"] = 700_000
    with pytest.raises(MissingError, match="cut off"):
        fetch(tmp_path / "x")
    assert (tmp_path / "x.worker" / "partial" / "added_tokens.json").exists()
    server.stall.clear()
    changed = {**FILES, "model.safetensors": WEIGHTS[::-1], "config.json": b"{}"}
    server.repo(NAME).commit(changed)
    assert fetch(tmp_path / "x")["resumed_bytes"] == 0
    assert {n: (tmp_path / "x" / n).read_bytes() for n in NEEDED} == {n: changed[n] for n in NEEDED}
    assert {f.name for f in (tmp_path / "x").iterdir()} == NEEDED | {fetching.DONE}


@pytest.mark.slow
def test_a_full_disk(server: hubs.Server, tmp_path: Path) -> None:
    server.sizes["model.safetensors"] = 1 << 50  # said before anything is fetched
    with pytest.raises(MissingError, match=r"the disk is full: 1,125,899,9\d\d MB are still to come") as caught:
        fetch(tmp_path / "x")
    assert caught.value.hint and "what came so far is kept" in caught.value.hint
    assert not server.asked("GET", "resolve")
    server.sizes.clear()
    parts = tmp_path / "y.worker" / "partial" / ".parts"
    parts.mkdir(parents=True)
    (parts / hashlib.sha256(WEIGHTS).hexdigest()).symlink_to(
        "/dev/full"
    )  # the kernel's own "no space left", while it writes
    with pytest.raises(MissingError, match="the disk is full"):
        fetch(tmp_path / "y")


@pytest.mark.slow
def test_what_arrives_altered_is_not_taken(server: hubs.Server, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):  # by sha256, and by git's digest
        server.altered = {name}
        with pytest.raises(WorkerError, match=f"{name} is not what the hub's listing says"):
            fetch(tmp_path / name)
    server.altered = set()
    server.repo(NAME).commit({**FILES, "../x.json": b"{}"})
    with pytest.raises(EdgeError, match="which would not stay in its folder"):
        fetching.files(NAME, ["../x.json"], tmp_path / "z", client())
    assert not (tmp_path / "z").exists()


@pytest.mark.slow
def test_what_holds_no_checkpoint_is_named_before_it_is_fetched(server: hubs.Server, tmp_path: Path) -> None:
    server.add("me/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
    server.add("me/gguf", {"m.gguf": b"GGUF"})
    server.add("me/old", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    for name, word in (("adapter", "an adapter"), ("gguf", "artifacts, no checkpoint"), ("old", "no config.json with")):
        with pytest.raises(EdgeError, match=word) as caught:
            fetch(tmp_path / "x", f"me/{name}")
        assert caught.value.hint
    assert "pickled" in caught.value.hint and not server.asked("GET", "resolve")


@pytest.mark.slow
def test_a_token_that_an_error_would_repeat_is_left_out(
    server: hubs.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past `credentials`, which would refuse it: the HTTP library's own error holds the whole header."""
    script = environments.script("fetch")
    python = environments.ensure(environments.spec(script), Console(quiet=True)).python
    request = {"do": "look", "model": NAME, "revision": None, "kind": "model", "files": None, "login": "HF_TOKEN"}
    with hubs.watch(tmp_path, "hf_Torn") as leaks, pytest.raises(WorkerError) as caught:
        worker.run(script, request, tmp_path / "x", python=python, env={"HF_TOKEN": "hf_Torn\napart"})
    assert "hf_Torn" not in f"{caught.value} {caught.value.hint}" and not leaks
    assert hub_errors.NOBODY == credentials.NONE and os.environ.get("HF_TOKEN") is None
