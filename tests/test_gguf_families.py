"""GGUF of families other than Gemma: which are taken, and (slow) llama.cpp's converter with real small checkpoints."""

from __future__ import annotations

import importlib
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import pytest

from edge import dialects, environments, worker
from edge.console import Console
from edge.errors import EdgeError, GateError
from edge.export import families, gguf, gguf_file
from edge.export.checkpoint import Folder
from edge.export.job import read_checkpoint

SCRIPT = Path(__file__).parent / "workers" / "family.py"
FAMILIES = ("qwen2", "qwen3", "llama")
DIRECT = ["f32", "f16", "bf16", "q8_0"]
BY_LLAMA = ["q4_k_m", "q4_0-emb-q4_0", "q5_0"]

# --- which ------------------------------------------------------------------------------------------------------------


def config(**values: object) -> Folder:
    return Folder(Path("m"), dict(values), {})


def test_which_family():
    assert families.of(config(model_type="qwen2", architectures=["Qwen2ForCausalLM"])).name == "Qwen 2 and 2.5"
    assert families.of(config(model_type="llama")).architecture == "LlamaForCausalLM"
    assert families.of(Folder(Path("m"), {**checkpoints.CONFIG, "vocab_size": 300}, {})) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}, "'phi3'.*can't be exported to GGUF"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"]}, "can't be exported"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({}, "model_type None"),
    ],
)
def test_refused(values, words):
    with pytest.raises(EdgeError, match=words) as caught:
        families.of(config(**values))
    assert "format" in caught.value.hint or "GGUF" in caught.value.hint


def test_refused_before_anything_is_built(tmp_path):
    folder = checkpoints.make(tmp_path / "m")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "model_type": "phi3"}))
    with pytest.raises(EdgeError, match="'phi3'"):
        gguf.export(read_checkpoint(folder, "hermes"), ["f16"], tmp_path / "o", "m", Console(quiet=True), None)


def test_the_converter_is_built_from_the_sdist_without_compiling(tmp_path, monkeypatch):
    """What the environment's build is told; that it works, the slow tests show."""
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    spec = environments.spec(environments.script("convert_hf"))
    environments.cache().mkdir(parents=True)
    arguments = environments._install_arguments(spec)
    assert arguments[arguments.index("wheel.cmake=false") - 1] == "--config-setting" and not spec.needs
    assert replace(spec, config_settings={}).key != spec.key


def test_pre_tokenizer_by_hash_and_by_rule(monkeypatch):
    """The converter's hash where it knows one; it must not contradict the rule."""
    monkeypatch.setenv("EDGE_CODE", str(Path(__file__).parent))
    converter = importlib.import_module("edge.export.workers.convert_hf")

    def unknown(tokenizer):
        raise NotImplementedError

    for by_hash, known_by in ((unknown, "rule"), (lambda t: "qwen2", "converter")):
        tokens = SimpleNamespace(rule="qwen2", known_by="rule", _file="tokenizer.json")
        assert converter.Tokens.naming(tokens, by_hash)(None) == "qwen2" and tokens.known_by == known_by
    with pytest.raises(GateError, match="by its vocabulary this is llama-bpe, by the rule in it qwen2"):
        converter.Tokens.naming(tokens, lambda t: "llama-bpe")(None)


# --- the real thing ---------------------------------------------------------------------------------------------------


def python_of(name: str) -> Path:
    spec = environments.spec(environments.script(name))
    lack = environments.missing(spec)
    if lack:
        pytest.skip(f"needs {lack}")
    return environments.ensure(spec, Console(quiet=True)).python


def export(folder: Path, out: Path, names: list[str], **more: object):
    console = Console(quiet=True)
    record = read_checkpoint(folder, "hermes")
    return gguf.export(record, names, out, "m", console, lambda spec: environments.ensure(spec, console), **more)


def convert(folder: Path, out: Path, names: list[str]) -> dict:
    request = {"checkpoint": str(folder), "name": "m", "quantisations": names, "dialect": "hermes"}
    return worker.run(environments.script("convert_hf"), request, out, python=python_of("convert_hf"))


@pytest.fixture(scope="module", params=FAMILIES)
def made(request, tmp_path_factory):
    """A checkpoint and its GGUF files."""
    top = tmp_path_factory.mktemp(request.param)
    told = {"do": "make", "family": request.param, "folder": str(top / "model")}
    worker.run(SCRIPT, told, top / "made", python=python_of("transformers"))
    return request.param, top / "model", top / "out", export(top / "model", top / "out", [*DIRECT, *BY_LLAMA])


@pytest.mark.slow
def test_artifacts(made):
    family, _, out, exported = made
    assert [a.quantisation for a in exported.artifacts] == [*DIRECT, *BY_LLAMA] and not exported.missing
    checks = exported.artifacts[-1].checks
    assert checks["tokenizer_strings_checked"] > 300 and checks["tokenizer_mismatches"] == 0
    assert checks["pre_tokenizer"] == ("llama-bpe" if family == "llama" else "qwen2")
    assert checks["pre_tokenizer_known_by"] == "rule"  # of a vocabulary that nobody has published
    header = gguf_file.read(out / "m-q4_0-emb-q4_0.gguf")
    assert header.metadata["general.architecture"] == family
    assert header.metadata["tokenizer.chat_template"] == dialects.get("hermes").CHAT_TEMPLATE
    assert header.tensors["token_embd.weight"].type == "q4_0" and header.tensors["blk.2.ffn_up.weight"].type == "q4_0"
    assert ("output.weight" in header.tensors) == (family == "qwen3")
    kinds = dict(zip(header.metadata["tokenizer.ggml.tokens"], header.metadata["tokenizer.ggml.token_type"]))
    first = exported.artifacts[0]
    if family == "llama":
        assert checks["spelled_tokens"][:2] == ["<tool_call>", "</tool_call>"] and first.stop_tokens == ["<|eot_id|>"]
    else:
        assert kinds["<tool_call>"] == 4 and kinds["<|im_end|>"] == 3  # shown in the output, not shown
        assert first.stop_tokens == ["<|im_end|>", "<|endoftext|>"] and not checks["spelled_tokens"]


@pytest.mark.slow
def test_logits_are_those_of_transformers(made, tmp_path):
    """In every float type, over positions to which Llama's rope scaling applies."""
    _, folder, out, _ = made
    ids = [10 + 7 * n % 280 for n in range(200)]
    told = {"do": "reference", "checkpoint": str(folder), "ids": ids}
    worker.run(SCRIPT, told, tmp_path / "hf", python=python_of("transformers"))
    files = [str(f) for f in sorted(out.glob("*.gguf"))]
    told = {"do": "compare", "files": files, "ids": ids, "reference": str(tmp_path / "hf" / "logits.npy")}
    answer = worker.run(SCRIPT, told, tmp_path / "compared", python=python_of("llama_cpp"))
    found = answer["found"]
    print(json.dumps(answer, indent=1))
    assert answer["sure"] > 100 and len(found) == len(DIRECT) + len(BY_LLAMA)
    for name in ("f32", "f16"):
        assert found[f"m-{name}.gguf"]["top1_sure"] == 1.0, found
        assert found[f"m-{name}.gguf"]["max_abs"] < 0.02 * answer["deviation"], found
    assert found["m-f32.gguf"]["kl"] < 1e-5
    assert found["m-q8_0.gguf"]["kl"] < found["m-q5_0.gguf"]["kl"] < found["m-q4_0-emb-q4_0.gguf"]["kl"] < 2


@pytest.mark.slow
def test_kept(made):
    """A second export finds everything made."""
    _, folder, out, exported = made
    before = {f: f.stat().st_mtime_ns for f in out.glob("*.gguf")}
    assert [a.digest for a in export(folder, out, ["q4_k_m", "f16"]).artifacts] == [
        a.digest for a in exported.artifacts if a.quantisation in ("q4_k_m", "f16")
    ][::-1]
    assert before == {f: f.stat().st_mtime_ns for f in out.glob("*.gguf")}


@pytest.mark.slow
def test_faults(made, tmp_path):
    """Each is noticed: another rule, a changed merge, tokens beyond the embedding, weights that are not finite."""
    family, original, _, _ = made
    folder = tmp_path / "m"
    shutil.copytree(original, folder)
    file = folder / "tokenizer.json"
    whole = json.loads(file.read_text())
    if family == "llama":  # of Qwen's, transformers takes the rule from its class, whatever the file says
        other = json.loads(file.read_text())
        other["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\w+|\W+"}
        file.write_text(json.dumps(other))
        with pytest.raises(EdgeError, match=r"tokenizer\.json: it cuts texts in a way that is none of qwen2"):
            convert(folder, tmp_path / "o", ["f16"])
    file.write_text("{}")
    with pytest.raises(EdgeError, match="not a tokenizer that can be read"):
        convert(folder, tmp_path / "o", ["f16"])
    file.write_text(json.dumps(whole))

    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "vocab_size": 300}))
    with pytest.raises(EdgeError, match="the embedding has 300 rows"):
        convert(folder, tmp_path / "o", ["f16"])
    (folder / "config.json").write_text(json.dumps(told))

    with pytest.raises(EdgeError, match="q4_0: the converter makes f32 f16"):
        convert(folder, tmp_path / "o", ["q4_0"])
    checkpoints.change(folder, "model.layers.1.mlp.up_proj.weight", value=struct.pack("<H", 0x7FC0))
    with pytest.raises(EdgeError, match=r"model\.layers\.1\.mlp\.up_proj\.weight has weights that are NaN"):
        convert(folder, tmp_path / "o", ["f16"])
    checkpoints.change(folder, "model.layers.1.mlp.up_proj.weight", value=struct.pack("<H", 0x4980))  # 2^20
    with pytest.raises(EdgeError, match="beyond float16, which f16 needs"):
        convert(folder, tmp_path / "o", ["f16"])


@pytest.mark.slow
def test_a_gguf_whose_tokens_are_wrong(made, tmp_path):
    """What llama.cpp tokenises is held against transformers' ids: two tokens that changed places are noticed."""
    _, _, out, _ = made
    convert(made[1], tmp_path / "c", ["f16"])
    header = gguf_file.read(out / "m-f16.gguf")
    data = (tmp_path / "c" / "m-f16.gguf").read_bytes()
    a, b = (struct.pack("<Q", 1) + t for t in (b"e", b"t"))
    assert data.count(a) and data.count(b) and header.metadata["tokenizer.ggml.model"] == "gpt2"
    (tmp_path / "c" / "m-f16.gguf").write_bytes(_swap(data, a, b))
    request = {"source": str(tmp_path / "c" / "m-f16.gguf"), "name": "m", "quantisations": ["q4_0"], "threads": 1}
    with pytest.raises(GateError, match="strings otherwise"):
        worker.run(environments.script("quantise"), request, tmp_path / "q", python=python_of("quantise"))


def _swap(data: bytes, a: bytes, b: bytes) -> bytes:
    """The first of each in the other's place; they are equally long."""
    i, j = data.index(a), data.index(b)
    changed = bytearray(data)
    changed[i : i + len(a)], changed[j : j + len(b)] = b, a
    return bytes(changed)
