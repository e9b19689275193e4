"""The shipped base model: whole, small, honest about its digests, and in the dialect that it says."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from edge.dialects import functiongemma
from edge.records import Checkpoint, digest_file, digest_folder, load
from edge.train import tiny

FILES = {
    "CARD.md", "checkpoint.json", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer.model", "tokenizer_config.json",
}  # fmt: skip


def read(name: str) -> Any:
    return json.loads((tiny.SHIPPED / name).read_text(encoding="utf-8"))


def added() -> dict[str, dict[str, Any]]:
    return {token["content"]: token for token in read("tokenizer.json")["added_tokens"]}


def test_it_is_whole_and_small() -> None:
    assert {f.name for f in tiny.SHIPPED.iterdir()} == FILES
    assert sum(f.stat().st_size for f in tiny.SHIPPED.iterdir()) <= 10_000_000


def test_the_card_has_the_digests_of_the_files() -> None:
    told = dict(re.findall(r"\| `([\w.]+)` \| [\d,]+ \| `([0-9a-f]{64})` \|", (tiny.SHIPPED / "CARD.md").read_text()))
    assert set(told) == FILES - {"CARD.md", "checkpoint.json"}
    record = load(Checkpoint, tiny.SHIPPED / "checkpoint.json")
    assert record.digest == digest_folder(tiny.SHIPPED) and record.notices == []  # ours, so no notice of Gemma's
    assert {name: digest_file(tiny.SHIPPED / name) for name in told} == told


def test_llama_cpp_reads_its_layers_as_it_means_them() -> None:
    config = read("config.json")
    assert config["model_type"] == "gemma3_text"
    assert config["layer_types"] == ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(6)]
    assert config["query_pre_attn_scalar"] == config["head_dim"]
    assert config["tie_word_embeddings"]


def test_it_stops_on_the_three_tokens() -> None:
    ids = {added()[t]["id"] for t in functiongemma.STOP}
    assert set(read("generation_config.json")["eos_token_id"]) == ids
    assert len(ids) == 3


def test_function_tokens_are_single_pieces_of_the_right_kind() -> None:
    hidden = {"<start_of_turn>", "<end_of_turn>", "<start_function_response>", "<eos>", "<bos>", "<pad>", "<unk>"}
    tokens = added()
    assert set(functiongemma.FUNCTION_TOKENS) <= set(tokens)
    assert {t for t, how in tokens.items() if how["special"]} == hidden
    listed = read("tokenizer_config.json")["added_tokens_decoder"]
    assert {v["content"]: int(k) for k, v in listed.items()} == {t: how["id"] for t, how in tokens.items()}


def test_the_template_is_the_dialects() -> None:
    assert (tiny.SHIPPED / "chat_template.jinja").read_text(encoding="utf-8") == functiongemma.CHAT_TEMPLATE


def test_weights_are_finite_bfloat16() -> None:
    data = (tiny.SHIPPED / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {k: v for k, v in json.loads(data[8 : 8 + size]).items() if k != "__metadata__"}
    assert {t["dtype"] for t in tensors.values()} == {"BF16"}
    weights = data[8 + size :]
    full = [i for i, high in enumerate(weights[1::2]) if high & 0x7F == 0x7F]  # infinite or not a number: all exponent
    assert not [i for i in full if weights[2 * i] & 0x80]  # bits set, and the last of them lies in the low byte


@pytest.mark.slow
def test_a_short_training_makes_a_whole_folder(tmp_path: Path) -> None:
    from edge.console import Console

    with Console(quiet=True) as console:
        answer = tiny.make(tmp_path / "model", console, minutes=5, steps=3, rows=5)
    assert answer["steps"] == 3
    assert {f.name for f in (tmp_path / "model").iterdir()} == FILES
