"""The gate on families other than Gemma (slow): TFLite, bare and in a `.litertlm`, beside the float32 checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import checkpoints
import families as small
import pytest

from edge import dialects, environments, worker
from edge.bench import measure
from edge.console import Console
from edge.devices.local import Local
from edge.errors import EdgeError
from edge.export import gate, litertlm, tflite
from edge.export.job import read_checkpoint

QUIET = Console(quiet=True)
QUANTISATIONS = ["f32", "int8", "int8-weight-only"]


def environment(spec):
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, QUIET)


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama"])
def proven(request, tmp_path_factory):
    """A random-weight model's TFLite (Qwen's in bundles), judged over what the model itself writes."""
    family, top = request.param, tmp_path_factory.mktemp(request.param)
    told = {"do": "make", "family": family, "folder": str(top / "model")}
    python = environment(environments.spec(environments.script("transformers"))).python
    worker.run(small.SCRIPT, told, top / "made", python=python)
    record = read_checkpoint(top / "model", small.DIALECTS[family])
    exporter = tflite if family == "llama" else litertlm
    made = exporter.export(record, QUANTISATIONS, top / "out", "m", QUIET, environment, prefill=(64,), cache=640)
    rows = [
        {"id": f"r{n}", "prompt": dialects.get(record.dialect).render([{"role": "user", "content": text}], [])}
        for n, (text, _) in enumerate(small.ROWS)
    ]
    patch = pytest.MonkeyPatch()
    patch.setattr(gate, "refuse_nonsense", lambda *_: None)  # random weights call nothing
    patch.setattr(gate, "MAX_TOKENS", 24)
    try:
        with gate.Gate(record, rows, top / "gate", QUIET, environment) as judge:
            return family, top, {a.quantisation: judge.prove(a) for a in made.artifacts}
    finally:
        patch.undo()


@pytest.mark.slow
def test_float32_is_the_checkpoint(proven):
    _, _, artifacts = proven
    proof = artifacts["f32"].proof
    assert proof["verdict"] == "proven", proof
    tokens = proof["tokens"]
    assert tokens["positions"] >= 24 and tokens["same"] == tokens["positions"] and tokens["kl_max"] < 1e-9
    assert artifacts["f32"].checks["cut_rows"] == 5 and tokens["vocabulary"] > 256


@pytest.mark.slow
def test_quantised_ones_are_near(proven):
    _, _, artifacts = proven
    for name in ("int8", "int8-weight-only"):
        tokens = artifacts[name].proof["tokens"]
        assert 1e-9 < tokens["kl_mean"] < 0.02, tokens


@pytest.mark.slow
def test_a_model_that_was_changed_is_far(proven, tmp_path):
    """The sound TFLite against the answers of a checkpoint one matrix of which is zeros: the comparison would tell."""
    family, top, _ = proven
    shutil.copytree(top / "model", tmp_path / "model")
    told = json.loads((top / "model" / "config.json").read_text())
    zeros = bytes(2 * told["intermediate_size"] * told["hidden_size"])
    checkpoints.change(tmp_path / "model", "model.layers.1.mlp.up_proj.weight", value=zeros)
    stop = dialects.get(small.DIALECTS[family]).STOP
    bare = next((top / "out").glob("m_f32_*.tflite"))
    rows = [{"id": "r", "prompt": "turn off the kitchen lights", "completion": ", please"}]
    found = {}
    for name in ("sound", "changed"):
        folder = top / "model" if name == "sound" else tmp_path / "model"
        logits = str(tmp_path / name)
        reference = measure.Subject("model", folder, "", "checkpoint", "checkpoint")
        ask(reference, "transformers", stop, tmp_path, {"do": "reference", "rows": rows, "places": 6, "folder": logits})
        subject = measure.Subject("m", bare, "", "artifact", "tflite", top / "model" / "tokenizer.json")
        found[name] = ask(subject, "litert", stop, tmp_path, {"do": "compare", "folder": logits})["kl_mean"]
    assert found["sound"] < 1e-9 < 1e-3 < found["changed"], found


def ask(subject, runtime: str, stop, folder: Path, request: dict) -> dict:
    settings = measure.Settings(runtime, 1, 640, 24, stop)
    built = environment(environments.spec(environments.script(runtime)))
    return measure.Session(subject, settings, Local(), built, folder / f"{runtime}.log").ask(request)


@pytest.mark.slow
def test_a_tokenizer_of_another_size(proven, tmp_path):
    """A bare TFLite is given its tokenizer: one with more tokens than there are logits is refused."""
    family, top, _ = proven
    told = json.loads((top / "model" / "tokenizer.json").read_text())
    last = max(t["id"] for t in told["added_tokens"])
    told["added_tokens"].append({**told["added_tokens"][-1], "id": last + 1, "content": "<|more|>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    bare = next((top / "out").glob("m_f32_*.tflite"))
    subject = measure.Subject("m", bare, "", "artifact", "tflite", tmp_path / "tokenizer.json")
    with pytest.raises(EdgeError, match="they are of different models"):
        ask(subject, "litert", dialects.get(small.DIALECTS[family]).STOP, tmp_path, {"do": "compare", "folder": "none"})
