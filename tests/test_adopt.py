"""`edge import`: artifacts from elsewhere, copied whole, with a manifest that inspect and lint go by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import artifacts
import pytest

from edge.export import inspect
from edge.export.job import manifest_of
from edge.records import Artifact, digest_path, load
from edge.train import tiny

MAKERS = {"gguf": artifacts.gguf, "task": artifacts.task, "litertlm": artifacts.litertlm, "onnx": artifacts.onnx}


def edge(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_from_elsewhere_becomes_an_artifact(kind: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    source = MAKERS[kind](tmp_path / "there" / f"m{'-onnx' if kind == 'onnx' else f'.{kind}'}")
    before = digest_path(source)
    made = edge("import", source, "--out", tmp_path / "here", "--name", "other", "--notice", "Free for all", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    record = load(Artifact, manifest_of(Path(told["artifact"]["path"])))
    assert record.digest == digest_path(record.path) and digest_path(source) == before
    assert (record.format, record.dialect, record.checkpoint) == (kind, "functiongemma", "unknown")
    assert "Free for all" in record.notices and record.stop_tokens and record.exporter.startswith("imported")
    found = inspect.read(record.path)
    assert found.manifest and not found.manifest.error and not found.manifest.differs
    assert "manifest-missing" not in {f["rule"] for f in told["findings"]}
    again = edge("import", source, "--out", tmp_path / "here", "--name", "other")
    assert again.returncode == 2 and "already there" in again.stderr
    own = edge("import", record.path, "--out", tmp_path / "third")
    assert own.returncode == 2 and "has a manifest already" in own.stderr


def test_a_faulty_one_is_taken_and_its_errors_told(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    source = artifacts.litertlm(tmp_path / "there" / "m.litertlm", sampler=3)
    made = edge("import", source, "--out", tmp_path)
    assert made.returncode == 6 and "sampler" in made.stdout and (tmp_path / source.name).exists()


def test_what_is_no_artifact_says_what_to_do(tmp_path: Path) -> None:
    for source, words in ((tiny.SHIPPED, "[model] base"), (tmp_path / "no.gguf", "no such file"), (__file__, "format")):
        told = edge("import", source, "--out", tmp_path / "out", "--name", "x")
        assert told.returncode == 2 and words in told.stderr, told.stderr
    assert not (tmp_path / "out").exists()
