"""`edge export all`: which formats, side by side in how much memory, and (slow) every format proven from one checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import checkpoints
import pytest

from edge.errors import EdgeError
from edge.export import everything
from edge.export.everything import FORMATS, Lane
from edge.export.job import Exported
from edge.records import Artifact
from edge.train import tiny


def edge(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_formats_and_their_quantisations() -> None:
    assert everything.parse([]) == {name: list(f.quantisations) for name, f in FORMATS.items()}
    assert everything.parse(["onnx", "gguf=q8_0,f16"]) == {"onnx": ["int8", "int4"], "gguf": ["q8_0", "f16"]}
    with pytest.raises(EdgeError, match="no format 'gguff'") as told:
        everything.parse(["gguff"])
    assert "litertlm" in str(told.value.hint)


def test_lanes_run_together_only_where_their_memory_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of 3 GB fit into 8, a third waits; one that is larger than all there is runs alone."""
    running: list[str] = []
    seen: list[set[str]] = []
    lock = threading.Lock()

    def make(kind: str) -> Exported:
        with lock:
            running.append(kind)
            seen.append(set(running))
        time.sleep(0.2)
        with lock:
            running.remove(kind)
        return Exported([], [{"what": kind, "why": ""}])

    monkeypatch.setattr(everything, "MEMORY", 8e9)
    lanes = {
        Lane("a", 3e9, 0): ["a1", "a2"],
        Lane("b", 3e9, 0): ["b"],
        Lane("c", 3e9, 0): ["c"],
        Lane("d", 99e9, 0): ["d"],
    }
    made = list(everything._side_by_side(lanes, make, 1))
    assert {m.missing[0]["what"] for m in made} == {"a1", "a2", "b", "c", "d"}
    assert max(map(len, seen)) == 2 and {"a1", "a2"} not in seen and all(len(s) == 1 for s in seen if "d" in s)


AN_ARTIFACT = Artifact("digest", "file", "gguf", "q8_0", 1, "checkpoint", "functiongemma", "nobody")


class Log:
    """Formats that take a while, and who was at work at the same time."""

    def __init__(self, artifacts: list[Artifact]) -> None:
        self.artifacts, self.running, self.seen, self._lock = artifacts, set[str](), list[set[str]](), threading.Lock()

    def make(self, kind: str) -> Exported:
        self.work(kind)
        return Exported(self.artifacts, [])

    def work(self, name: str) -> None:
        with self._lock:
            self.running.add(name)
            self.seen.append(set(self.running))
        time.sleep(0.2)
        with self._lock:
            self.running.remove(name)


def test_what_is_dear_once_lets_others_in_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane whose first format takes 6 GB of 8 and the others 2, beside one of 4 GB."""
    monkeypatch.setattr(everything, "MEMORY", 8e9)
    monkeypatch.setattr(everything, "_PROOF", Lane("proof", 0, 0))
    lanes = {Lane("dear", 0, 6e9, later_each=2e9): ["a1", "a2", "a3"], Lane("b", 4e9, 0): ["b"]}
    log = Log([AN_ARTIFACT])
    list(everything._side_by_side(lanes, log.make, 1))
    assert {"a1", "b"} not in log.seen and {"a2", "b"} in log.seen
    nothing = Log([])  # whose first format made nothing: the next one does what is dear
    list(everything._side_by_side(lanes, nothing.make, 1))
    assert max(map(len, nothing.seen)) == 1


def test_a_proof_takes_its_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proving what is made waits until there is room for it beside what is still being made, and others wait for it."""
    monkeypatch.setattr(everything, "MEMORY", 8e9)
    monkeypatch.setattr(everything, "_PROOF", Lane("proof", 4e9, 0))
    lanes = {Lane("small", 1e9, 0): ["s1", "s2"], Lane("large", 5e9, 0): ["l1", "l2"]}
    log = Log([AN_ARTIFACT])
    for _ in everything._side_by_side(lanes, log.make, 1):
        log.work("proof")
    assert sum("proof" in s for s in log.seen) >= 4
    assert not any({"proof", large} <= s for s in log.seen for large in ("l1", "l2"))


def test_what_is_not_foreseen_ends_the_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(kind: str) -> Exported:
        raise ZeroDivisionError(kind)

    with pytest.raises(ZeroDivisionError):
        list(everything._side_by_side({Lane("a", 0, 0): ["a"]}, make, 1))


def test_an_architecture_that_no_format_knows(tmp_path: Path) -> None:
    """Bad input: said once, with what each architecture can become; nothing is made, no environment is built."""
    folder = checkpoints.make(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config.update(model_type="phi3", architectures=["Phi3ForCausalLM"])
    (folder / "config.json").write_text(json.dumps(config))
    told = edge("export", "all", folder, "--out", tmp_path / "out", "--unproven", "-q", "--json")
    assert told.returncode == 2 and told.stdout == "" and told.stderr.count("phi3") == 1
    assert "Gemma 3 (text): gguf, tflite, litertlm, task, onnx" in told.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_format_from_one_checkpoint_each_proven(tmp_path: Path) -> None:
    wanted = ["gguf=q8_0", "litertlm=int8", "task=int8", "task-legacy=int8", "onnx=int8"]
    formats = [word for text in wanted for word in ("--format", text)]
    command = ["export", "all", tiny.SHIPPED, *formats, "--out", tmp_path / "out", "--name", "m", "--count", 8]
    told = edge(*command, "--json")
    assert told.returncode == 0, told.stderr
    made = {Path(a["path"]).name: a for a in json.loads(told.stdout)["artifacts"]}
    assert set(made) == {
        "m-q8_0.gguf", "m_q8_ekv1024.litertlm", "m_q8_ekv1024.task", "m_q8_ekv1024_legacy.task", "m_q8_onnx",
    }  # fmt: skip
    assert {a["proof"]["verdict"] for a in made.values()} == {"proven"}
    assert all(a["proof"]["tokens"]["positions"] == 64 and a["proof"]["calls"]["rows"] == 8 for a in made.values())
    numpy = {name: a["checks"]["versions"].get("numpy") for name, a in made.items()}
    assert numpy["m_q8_ekv1024_legacy.task"].startswith("1.26") and numpy["m_q8_ekv1024.task"].startswith("2.")
    served = made["m_q8_ekv1024.litertlm"]["proof"]["prompts"]["litert_lm"]
    assert served["differ"] == 0 and made["m_q8_ekv1024.task"]["proof"]["prompts"]["flutter_gemma"]["differ"] == 8
    again = edge(*command)
    assert again.returncode == 0 and again.stderr.count("exported already") >= len(made)
    assert "next tokens" not in again.stderr  # judged by what the manifests hold
