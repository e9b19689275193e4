"""Small checkpoints, by the standard library alone: Gemma 3 with random weights and a SentencePiece model written by hand;
other families with weights of zero, and a byte-level tokenizer that merges nothing."""

from __future__ import annotations

import array
import json
import math
import random
import struct
from pathlib import Path

from edge import dialects
from edge.export import families, gemma3
from edge.export.checkpoint import ELEMENT_BYTES, Folder

CONFIG = {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 32,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    },
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
MARKERS = [
    "<start_of_turn>", "<end_of_turn>", "<start_function_declaration>", "<end_function_declaration>",
    "<start_function_call>", "<end_function_call>", "<start_function_response>", "<end_function_response>", "<escape>",
    "\n", "\u2581\u2581",
]  # fmt: skip
SPARE_ROWS = 5
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def make(
    folder: Path, dtype: str = "BF16", shards: int = 1, markers: list[str] | None = None, **config: object
) -> Path:
    """Write a checkpoint; its embedding has a few rows more than the tokenizer has pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary(MARKERS if markers is None else markers)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(pieces))
    whole = {**CONFIG, "vocab_size": len(pieces) + SPARE_ROWS, **config}
    (folder / "config.json").write_text(json.dumps(whole))
    plan = gemma3.weights(gemma3.read(Folder(folder, whole, {})))
    write_weights(folder, {w.source: (dtype, w.shape, _random(w, dtype)) for w in plan}, shards)
    return folder


def make_family(
    folder: Path, kind: str = "qwen2", dtype: str = "BF16", tokens: list[str] | None = None, **config: object
) -> Path:
    """Write a checkpoint of Qwen or Llama. tokens: those that the tokenizer never cuts; the embedding has 5 rows more."""
    folder.mkdir(parents=True, exist_ok=True)
    added = list(dialects.get(families.CONVERTED[kind].dialect).FUNCTION_TOKENS) if tokens is None else tokens
    (folder / "tokenizer.json").write_text(json.dumps({
        "added_tokens": [{"id": 256 + n, "content": t, "special": True} for n, t in enumerate(added)],
        "model": {"type": "BPE", "vocab": {chr(0x100 + n): n for n in range(256)}, "merges": []},
    }))  # fmt: skip
    told = {"bos_token": "<|begin_of_text|>"} if kind == "llama" else {"pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    whole = {
        "model_type": kind, "architectures": [families.CONVERTED[kind].architecture], "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 1024, "vocab_size": 256 + len(added) + SPARE_ROWS, "tie_word_embeddings": True, **config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(whole))
    shapes = families._shapes(whole)
    size = ELEMENT_BYTES[dtype]
    write_weights(folder, {name: (dtype, shape, bytes(size * math.prod(shape))) for name, shape in shapes.items()})
    return folder


def write_weights(folder: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]], shards: int = 1) -> None:
    names = list(tensors)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    where = {}
    for n in range(shards):
        file = f"model-{n + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, {k: tensors[k] for k in names[n::shards]})
        where.update(dict.fromkeys(names[n::shards], file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def write_safetensors(file: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    table, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    header = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(data for _, _, data in tensors.values()))


def change(
    folder: Path, name: str, shape: tuple[int, ...] | None = None, dtype: str | None = None, value: bytes = b""
) -> None:
    """Say another shape or dtype of a tensor, or put `value` at its start; the file stays whole."""
    from edge.export.checkpoint import read_header

    file = folder / "model.safetensors"
    data = file.read_bytes()
    tensors = {
        t.name: (t.dtype, t.shape, data[t.offset : t.offset + t.nbytes]) for t in read_header(file).values()
    }  # fmt: skip
    was = tensors[name]
    tensors[name] = (dtype or was[0], shape or was[1], value + was[2][len(value) :])
    write_safetensors(file, tensors)


def vocabulary(markers: list[str]) -> list[tuple[str, float, int]]:
    """(text, score, type): the four specials, markers, bytes, merges, letters."""
    found = [("<pad>", 0.0, CONTROL), ("<eos>", 0.0, CONTROL), ("<bos>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
    found += [(m, 0.0, USER_DEFINED) for m in markers]
    found += [(f"<0x{n:02X}>", 0.0, BYTE) for n in range(256)]
    merges = [
        "\u2581t",
        "he",
        "\u2581the",
        "in",
        "er",
        "al",
        "call",
        "ll",
        "ca",
        "on",
        "\u2581a",
        "re",
        "it",
        "온도",
        "\u2581s",
        "se",
    ]
    letters = sorted(set("\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:{},_.-온도를"))
    return found + [(t, -float(n), NORMAL) for n, t in enumerate(merges + letters) if t not in markers]


def sentencepiece_model(pieces: list[tuple[str, float, int]], kind: int = 2, dummy_prefix: bool = False) -> bytes:
    """The protobuf message that SentencePiece reads. kind: 2 is BPE, 1 unigram."""
    body = b"".join(
        _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, type_))
        for text, score, type_ in pieces
    )
    trainer = _number(3, kind) + _number(35, 1)  # byte_fallback
    trainer += b"".join(_number(n, v) for n, v in ((40, 3), (41, 2), (42, 1), (43, 0)))  # ids: unk bos eos pad
    trainer += b"".join(_field(n, v.encode()) for n, v in ((45, "<unk>"), (46, "<bos>"), (47, "<eos>"), (48, "<pad>")))
    normaliser = _field(1, b"identity") + _number(3, dummy_prefix) + _number(4, 0) + _number(5, 1)
    return body + _field(2, trainer) + _field(3, normaliser)


def _random(w: gemma3.Weight, dtype: str) -> bytes:
    r, deviation = random.Random(w.source), 0.3 if w.shift else 0.1
    values = array.array("f", (r.gauss(0, deviation) for _ in range(math.prod(w.shape))))
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    words = array.array("I", values.tobytes())
    return array.array("H", (word >> 16 for word in words)).tobytes()


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)
