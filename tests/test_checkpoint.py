"""What a checkpoint's folder must hold, and what is said of one that can't be exported."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import pytest

from edge.errors import EdgeError
from edge.export import checkpoint, gemma3

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def folder(tmp_path):
    return checkpoints.make(tmp_path / "model")


def refused(what, folder: Path, *words: str) -> None:
    with pytest.raises(EdgeError) as caught:
        what(folder)
    said = f"{caught.value.message} | {caught.value.hint}"
    assert str(folder) in said and caught.value.hint
    for word in words:
        assert word in said, said


def shape_of(folder: Path) -> gemma3.Shape:
    return gemma3.read(checkpoint.inspect(folder))


def check(folder: Path) -> None:
    found = checkpoint.inspect(folder)
    gemma3.check_tensors(found, gemma3.weights(gemma3.read(found)))


def test_single_file(folder):
    found = checkpoint.inspect(folder)
    assert len(found.tensors) == 6 * 13 + 2 and found.config["model_type"] == "gemma3_text"
    t = found.tensors["model.layers.5.self_attn.q_proj.weight"]
    assert (t.dtype, t.shape, t.nbytes) == ("BF16", (64, 64), 8192)
    check(folder)


def test_shards(folder, tmp_path):
    other = checkpoints.make(tmp_path / "sharded", shards=3)
    one, many = checkpoint.inspect(folder), checkpoint.inspect(other)
    assert one.parameters == many.parameters and set(one.tensors) == set(many.tensors)
    assert len({t.file for t in many.tensors.values()}) == 3
    for name, t in many.tensors.items():
        assert _bytes(t) == _bytes(one.tensors[name])
    check(other)


def _bytes(t: checkpoint.Tensor) -> bytes:
    return t.file.read_bytes()[t.offset : t.offset + t.nbytes]


def test_missing_folder(tmp_path):
    refused(checkpoint.inspect, tmp_path / "nowhere", "no such folder")


def test_missing_config(folder):
    (folder / "config.json").unlink()
    refused(checkpoint.inspect, folder, "no config.json")


def test_config_one_level_down(folder):
    refused(checkpoint.inspect, folder.parent, "no config.json", "one level down", "model")


def test_config_is_not_json(folder):
    (folder / "config.json").write_text('{"a": 1,\n')
    with pytest.raises(EdgeError, match=r"config\.json, line 2: not JSON"):
        checkpoint.inspect(folder)


def test_adapter(folder):
    for file in folder.iterdir():
        file.unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "google/gemma-3-270m"}')
    refused(checkpoint.inspect, folder, "an adapter", "google/gemma-3-270m", "edge merge")


def test_quantised_already(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    refused(checkpoint.inspect, folder, "quantised already", "bitsandbytes")


def test_weights_cut_off(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    refused(checkpoint.inspect, folder, "cut off", f"{len(whole):,}", f"{len(whole) - 100:,}")


def test_header_cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    refused(checkpoint.inspect, folder, "cut off")


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 64, b"\x08" + bytes(7) + b"not json"])
def test_not_safetensors(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    refused(checkpoint.inspect, folder, "model.safetensors", "safetensors")


def test_header_contradicts_itself(folder):
    checkpoints.change(folder, "model.norm.weight", shape=(63,))
    with pytest.raises(EdgeError, match="126 bytes, but the header gives it 128"):
        checkpoint.inspect(folder)


def test_git_lfs_pointer(folder):
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 536\n")
    refused(checkpoint.inspect, folder, "Git LFS pointer", "git lfs pull")


def test_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(checkpoint.inspect, folder, "no model.safetensors", "pickled")


def test_missing_shard(tmp_path):
    folder = checkpoints.make(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(checkpoint.inspect, folder, "1 of 3 shards are missing", "model-00002-of-00003.safetensors")


def test_index_names_a_tensor_that_is_nowhere(tmp_path):
    folder = checkpoints.make(tmp_path / "m", shards=2)
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"]["model.extra"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(told))
    refused(checkpoint.inspect, folder, "model.extra")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "qwen3", ["'qwen3'", "can't be exported", "Gemma3ForCausalLM"]),
        ("model_type", "gemma3", ["vision"]),
        ("architectures", ["Gemma3TextModel"], ["not a language model"]),
        ("layer_types", ["sliding_attention"] * 6, ["every sixth layer"]),
        ("query_pre_attn_scalar", 168, ["168", "must be 32"]),
        ("tie_word_embeddings", False, ["tie_word_embeddings"]),
        ("use_bidirectional_attention", True, ["use_bidirectional_attention"]),
        ("attn_logit_softcapping", 50.0, ["attn_logit_softcapping"]),
        ("hidden_activation", "relu", ["'relu'"]),
        ("hidden_size", None, ["config.json"]),
        ("rope_parameters", {"full_attention": {"rope_type": "yarn", "factor": 8}}, ["'yarn'"]),
    ],
)
def test_models_that_gguf_can_not_express(folder, key, value, words):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    refused(check, folder, *words)


@pytest.mark.parametrize(
    "key",
    [
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "intermediate_size", "sliding_window", "max_position_embeddings",
    ],
)  # fmt: skip
def test_counts_that_are_none(folder, key):
    config = json.loads((folder / "config.json").read_text())
    for value in (0, -1, 2.5, "4", True, None, [4]):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        refused(shape_of, folder, "config.json", f"{key} is {value!r}, not a whole number above 0")


def test_a_value_that_is_no_number(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "query_pre_attn_scalar": "32"}))
    refused(shape_of, folder, "config.json", "query_pre_attn_scalar")


def test_missing_key(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["head_dim"]
    (folder / "config.json").write_text(json.dumps(config))
    refused(shape_of, folder, "head_dim")


def test_configurations_of_both_generations(folder):
    new = shape_of(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"], config["layer_types"]
    old = {**config, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6}
    (folder / "config.json").write_text(json.dumps(old))
    assert shape_of(folder) == new
    (folder / "config.json").write_text(json.dumps({**old, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}))
    assert shape_of(folder).rope_factor == 8.0
    (folder / "config.json").write_text(json.dumps({**old, "sliding_window_pattern": 4}))
    refused(shape_of, folder, "sliding_window_pattern 4")


def test_unknown_tensor(folder):
    found = checkpoint.inspect(folder)
    plan = gemma3.weights(gemma3.read(found))
    t = found.tensors["model.norm.weight"]
    found.tensors["model.layers.0.self_attn.q_proj.lora_A.weight"] = t
    with pytest.raises(EdgeError, match=r"1 tensors are unknown, first model\.layers\.0.*lora_A"):
        gemma3.check_tensors(found, plan)
    found.tensors.pop("model.norm.weight")
    with pytest.raises(EdgeError, match=r"1 of 80 tensors are missing, first model\.norm\.weight"):
        gemma3.check_tensors(found, plan)


def test_tied_output_matrix_is_left_out(folder):
    found = checkpoint.inspect(folder)
    found.tensors["lm_head.weight"] = found.tensors["model.embed_tokens.weight"]
    gemma3.check_tensors(found, gemma3.weights(gemma3.read(found)))


def test_shape_against_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    refused(check, folder, "model.embed_tokens.weight", "[100, 64]")


def test_dtype(folder):
    checkpoints.change(folder, "model.norm.weight", dtype="I16")
    refused(check, folder, "model.norm.weight is I16", "BF16")


def test_metadata_of_the_270m():
    """Key by key as llama.cpp's converter and Ollama's write it."""
    if not (SHARED / "gguf_gemma3_expected_keys.json").exists():
        pytest.skip("shared/data is not beside the checkout")
    expected = json.loads((SHARED / "gguf_gemma3_expected_keys.json").read_text())
    config = {**expected["config_270m"], "model_type": "gemma3_text", "query_pre_attn_scalar": 256}
    shape = gemma3.read(checkpoint.Folder(Path("270m"), config, {}))
    written = {e.key: e for e in gemma3.entries(shape)}
    for row in expected["keys"]:
        if row["key"].startswith("gemma3.") and row["expected_for_270m"] is not None:
            e = written.pop(row["key"])
            assert e.value == pytest.approx(row["expected_for_270m"]), row
            assert e.kind == row["gguf_type"].lower().replace("[", ":").replace("]", ""), row
    assert set(written) == {"gemma3.rope.freq_base_swa"}  # llama.cpp reads it too
    plan = gemma3.weights(shape)
    assert len(plan) == expected["n_tensors"]
    targets = {w.source.replace("layers.3.", "layers.N."): w for w in plan}
    for row in expected["tensors"]:
        w = targets[row["hf"]]
        assert w.target == row["gguf"].replace("blk.N.", "blk.3.")
        assert w.shift == (1.0 if row["transform"] == "+1.0" else 0.0)
