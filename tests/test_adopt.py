"""`edge import`: what is from elsewhere, from here or the hub, becomes one of ours that inspect, lint and bench go by."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import artifacts
import hub as hubs
import pytest
from click.testing import CliRunner
from test_merge import made as random_adapter

from edge import environments, records
from edge.bench import measure
from edge.cli import Group
from edge.commands.artifacts import adopt as command
from edge.console import Console
from edge.devices.local import Local
from edge.dialects import functiongemma
from edge.export import gate, gguf, inspect, job
from edge.export.job import GEMMA_NOTICE, manifest_of
from edge.records import Artifact, Checkpoint, digest_path, load
from edge.train import tiny

MAKERS = {"gguf": artifacts.gguf, "task": artifacts.task, "litertlm": artifacts.litertlm, "onnx": artifacts.onnx}


def edge(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(*arguments: object) -> Any:
    """The command in this process: {"exit", "told": its JSON, "said": what it printed}."""
    done = CliRunner().invoke(Group(commands={"import": command}), ["import", *map(str, arguments), "--json", "-q"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return {"exit": done.exit_code, "told": json.loads(done.stdout) if done.stdout else {}, "said": done.stderr}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_from_elsewhere_becomes_an_artifact(kind: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    source = MAKERS[kind](tmp_path / "there" / f"m{'-onnx' if kind == 'onnx' else f'.{kind}'}")
    before = digest_path(source)
    made = run(source, "--out", tmp_path / "here", "--name", "other", "--notice", "Free for all")
    assert made["exit"] == 0, made["said"]
    told = made["told"]
    record = load(Artifact, manifest_of(Path(told["artifact"]["path"])))
    assert record.digest == digest_path(record.path) and digest_path(source) == before
    assert (record.format, record.dialect, record.checkpoint) == (kind, "functiongemma", "unknown")
    assert "Free for all" in record.notices and record.stop_tokens and record.exporter.startswith("imported")
    found = inspect.read(record.path)
    assert found.manifest and not found.manifest.error and not found.manifest.differs
    assert "manifest-missing" not in {f["rule"] for f in told["findings"]}
    again = run(source, "--out", tmp_path / "here", "--name", "other")
    assert again["exit"] == 2 and "already there" in again["said"]
    own = run(record.path, "--out", tmp_path / "third")
    assert own["exit"] == 2 and "has a manifest already" in own["said"]


def test_a_faulty_one_is_taken_and_its_errors_told(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    source = artifacts.litertlm(tmp_path / "there" / "m.litertlm", sampler=3)
    made = edge("import", source, "--out", tmp_path)
    assert made.returncode == 6 and "sampler" in made.stdout and (tmp_path / source.name).exists()


def test_what_is_no_artifact_says_what_to_do(tmp_path: Path) -> None:
    graph = artifacts.onnx(tmp_path / "graph") / "model.onnx"
    for source, words in ((graph, "onnxruntime-genai"), (tmp_path / "no.gguf", "no such file"), (__file__, "format"),
                          ("no/such/thing", "owner/name"), (tmp_path / "no", "no such file"), ("a.gguf", "no such file")):  # fmt: skip
        told = run(source, "--out", tmp_path / "out", "--name", "x")
        assert told["exit"] == 2 and words in told["said"], told["said"]
    assert not (tmp_path / "out").exists()


# --- from the hub -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hubs.Server]:
    with hubs.at_hand(monkeypatch, tmp_path / "hf-home") as found:
        yield found


def test_a_merged_model_here(tmp_path: Path) -> None:
    source = shutil.copytree(tiny.SHIPPED, tmp_path / "there")
    done = run(source, "--out", tmp_path / "here", "--name", "mine", "--notice", "As it is")
    assert done["exit"] == 0, done["said"]
    record = load(Checkpoint, tmp_path / "here" / "mine" / "checkpoint.json")
    assert record == job.read_checkpoint(tmp_path / "here" / "mine", "functiongemma")
    assert record.source == "edge-tiny" and record.notices == ["As it is"]
    assert done["told"]["inspect"]["parameters"] == 4332544 and not (tmp_path / "here" / "mine" / "CARD.md").exists()
    assert "already there" in run(source, "--out", tmp_path / "here", "--name", "mine")["said"]
    assert "needs no base" in run(source, "--out", tmp_path / "x", "--base", "a/b")["said"]


@pytest.mark.slow
def test_of_several_artifacts_one_is_named(server: hubs.Server, tmp_path: Path) -> None:
    artifacts.gguf(tmp_path / "a.gguf")
    onnx = artifacts.onnx(tmp_path / "cpu")
    files = {"a.gguf": (tmp_path / "a.gguf").read_bytes(), "q/b.gguf": b"GGUF", "README.md": b"x"}
    files |= {f"cpu/{f.name}": f.read_bytes() for f in onnx.iterdir()}
    repo = server.add("me/many", files)
    done = run("me/many", "--out", tmp_path / "out")
    assert done["exit"] == 2 and "holds 3 artifacts" in done["said"] and "q/b.gguf (0.0 MB)" in done["said"]
    assert "no artifact 'c.gguf'" in run("me/many", "--file", "c.gguf", "--out", tmp_path / "out")["said"]
    assert not server.asked("GET", "resolve")
    done = run("me/many", "--file", "a.gguf", "--out", tmp_path / "out")
    assert done["exit"] == 0, done["said"]
    record = load(Artifact, tmp_path / "out" / "a.gguf.json")
    assert record.options == {"from": f"me/many@{repo.branches['main']}"} and record.digest == digest_path(record.path)
    assert {s.path.rpartition("/")[2] for s in server.asked("GET", "resolve")} == {"a.gguf"}
    done = run("me/many", "--file", "cpu", "--out", tmp_path / "out")
    assert done["exit"] == 0 and digest_path(tmp_path / "out" / "cpu_onnx") == digest_path(onnx), done["said"]
    server.seen.clear()
    assert "already there" in run("me/many", "--file", "a.gguf", "--out", tmp_path / "out")["said"]
    assert not server.asked("GET", "resolve")  # it was said before fetching
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"a.gguf", "a.gguf.json", "cpu_onnx", "cpu_onnx.json"}
    server.add("me/none", {"README.md": b"x"})
    assert "holds nothing that edge takes" in run("me/none", "--out", tmp_path / "out")["said"]


@pytest.mark.slow
def test_a_manifest_from_elsewhere_tells_and_proves_nothing(server: hubs.Server, tmp_path: Path) -> None:
    file = artifacts.manifest(
        artifacts.gguf(tmp_path / "a.gguf"), notices=["Theirs"], proof={"verdict": "proven", "why": []}
    )
    records.save(replace(load(Artifact, manifest_of(file)), checkpoint="abc"), manifest_of(file))
    told = {f.name: f.read_bytes() for f in (file, manifest_of(file))}
    server.add("me/a", told)
    assert run("me/a", "--out", tmp_path / "one")["exit"] == 0
    record = load(Artifact, tmp_path / "one" / "a.gguf.json")
    assert (record.checkpoint, record.proof) == ("abc", None) and "Theirs" in record.notices
    server.add("me/b", {**told, "a.gguf": told["a.gguf"] + b"x"})  # of another file, it tells nothing
    run("me/b", "--out", tmp_path / "two")
    record = load(Artifact, tmp_path / "two" / "a.gguf.json")
    assert record.checkpoint == "unknown"


@pytest.mark.slow
def test_an_import_that_was_cut_off_goes_on(server: hubs.Server, tmp_path: Path) -> None:
    server.add("me/tiny", tiny.SHIPPED)
    server.stall["model.safetensors"] = 5_000_000
    done = run("me/tiny", "--out", tmp_path / "out")
    assert done["exit"] == 3 and "cut off at 5.0 of 8.7 MB" in done["said"] and not (tmp_path / "out" / "tiny").exists()
    server.stall.clear()
    server.seen.clear()
    assert run("me/tiny", "--out", tmp_path / "out")["exit"] == 0
    assert [s.range for s in server.asked("GET", "model.safetensors$")] == ["bytes=4980736-"]
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"tiny"}


@pytest.mark.slow
def test_an_import_that_was_killed_goes_on(server: hubs.Server, tmp_path: Path) -> None:
    server.add("me/tiny", tiny.SHIPPED)
    server.hang["model.safetensors"] = 5_000_000
    command = [sys.executable, "-m", "edge", "import", "me/tiny", "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            time.sleep(0.1)
            if sum(f.stat().st_size for f in (tmp_path / "out").glob("**/.parts/*")) > 4_000_000:
                break
        process.kill()
    server.seen.clear()
    done = run("me/tiny", "--out", tmp_path / "out")
    assert done["exit"] == 0, done["said"]
    (asked,) = server.asked("GET", "model.safetensors$")
    assert asked.range and int(asked.range.removeprefix("bytes=").removesuffix("-")) > 4_000_000


@pytest.mark.slow
def test_from_the_hub_to_a_bench(server: hubs.Server, tmp_path: Path) -> None:
    """The embedded model and its GGUF as somebody else's: fetched, proven beside each other, measured like ours."""
    sha = server.add("me/tiny", tiny.SHIPPED).branches["main"]
    done = run("me/tiny@main", "--out", tmp_path / "models")
    assert done["exit"] == 0 and done["told"]["inspect"]["architecture"] == "gemma3_text", done["said"]
    model = load(Checkpoint, tmp_path / "models" / "tiny" / "checkpoint.json")
    assert model.source == f"me/tiny@{sha}" and model.notices == [GEMMA_NOTICE]
    console = Console(quiet=True)
    ours = job.read_checkpoint(tiny.SHIPPED, "functiongemma")
    exported = gguf.export(ours, ["q8_0"], tmp_path / "theirs", "t", console, lambda s: environments.ensure(s, console))
    server.add("me/tiny-gguf", {"t-q8_0.gguf": Path(exported.artifacts[0].path).read_bytes()})
    done = run("me/tiny-gguf", "--out", tmp_path / "artifacts", "--checkpoint", model.path, "--count", 8)
    assert done["exit"] == 0, done["said"]
    made = load(Artifact, tmp_path / "artifacts" / "t-q8_0.gguf.json")
    assert made.proof and made.proof["verdict"] == "proven" and made.checkpoint == model.digest
    rows = gate.own_rows("functiongemma", 8)
    records.write_text(
        tmp_path / "rows.jsonl", "".join(json.dumps({"id": r["id"], "prompt": r["prompt"]}) + "\n" for r in rows)
    )
    environment = environments.ensure(environments.spec(environments.script("llama_cpp")), console)
    subject = measure.Subject("theirs", Path(made.path), made.digest, "artifact", made.format)
    settings = measure.Settings("llama_cpp", 1, 1024, 128, functiongemma.STOP)
    with Local() as device:
        found = measure.measure(
            subject, settings, tmp_path / "rows.jsonl", device, environment, tmp_path / "m.json", console
        )
    calls = [functiongemma.parse(s.text or "").calls for s in found.samples]
    assert not found.error and len(calls) == 8 and sum(map(bool, calls)) >= 6


@pytest.mark.slow
def test_an_adapter_and_its_base_from_the_hub(server: hubs.Server, tmp_path: Path) -> None:
    server.add("me/tiny", tiny.SHIPPED)
    random_adapter(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    records.save({**records.read_json(config), "base_model_name_or_path": "me/tiny"}, config)
    sha = server.add("me/lora", tmp_path / "adapter").branches["main"]
    done = run("me/lora", "--out", tmp_path / "models")
    assert done["exit"] == 0, done["said"]
    merged = load(Checkpoint, tmp_path / "models" / "lora" / "checkpoint.json")
    base = load(Checkpoint, tmp_path / "models" / "me--tiny" / "checkpoint.json")
    assert merged.base == base.digest and merged.source == f"me/lora@{sha}" and GEMMA_NOTICE in merged.notices
    assert (merged.training or {})["merged"]["changed"] > 0
    assert merged.digest == records.digest_folder(tmp_path / "models" / "lora")
    done = run(tmp_path / "adapter", "--out", tmp_path / "models", "--name", "again", "--base", "edge-tiny")
    assert done["exit"] == 0 and done["told"]["checkpoint"]["base"] == records.digest_folder(tiny.SHIPPED), done["said"]
    assert "already there" in run(tmp_path / "adapter", "--out", tmp_path / "models", "--name", "again")["said"]
