"""The 270M architecture at random weights, with a vocabulary of 262,144 pieces: what the benchmark converts and runs.

Speed and size do not depend on what the weights say, so nobody needs to download, or to be allowed to, anything. A
worker; it runs in the gguf worker's environment.

Request:
    tokenizer   a folder with a SentencePiece tokenizer.model that has the function tokens, and the tokenizer.json and
                tokenizer_config.json of the same; pieces of letters are added until there are 262,144
    seed        of the weights
    prompts     lengths in tokens: for each, a text of exactly so many
    out         the folder to fill: config.json, the three files of the tokenizer and model.safetensors, which is
                536 MB in bfloat16

Answer: parameters, pieces, merges (of tokenizer.json), prompts ({length: text}).
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import itertools
import json
import math
import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.export import gemma3
from edge.export.checkpoint import Folder

ROWS = 1 << 14  # of a tensor at a time
CONFIG: dict[str, Any] = {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "vocab_size": 262144,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "layer_types": ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(18)],
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    out, source = Path(request["out"]), Path(request["tokenizer"])
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    shutil.copyfile(source / "tokenizer_config.json", out / "tokenizer_config.json")
    reply.progress(None, None, "tokenizer")
    added = _extend(source / "tokenizer.model", out / "tokenizer.model", CONFIG["vocab_size"])
    merges = _extend_json(source / "tokenizer.json", out / "tokenizer.json", added)
    plan = gemma3.weights(gemma3.read(Folder(out, CONFIG, {})))
    _write(out / "model.safetensors", plan, int(request["seed"]), reply)
    return {
        "parameters": sum(math.prod(w.shape) for w in plan),
        "pieces": CONFIG["vocab_size"],
        "merges": merges,
        "prompts": {str(n): _prompt(out / "tokenizer.model", n) for n in request["prompts"]},
    }


# --- tokenizer --------------------------------------------------------------------------------------------------------


def _extend(source: Path, target: Path, count: int) -> list[str]:
    """Add pieces of three and more letters, each less likely than the last, until there are `count`; returns them."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.ParseFromString(source.read_bytes())
    have, score = {p.piece for p in model.pieces}, model.pieces[-1].score
    added = list(itertools.islice((w for w in _words() if w not in have), count - len(model.pieces)))
    for piece in added:
        score -= 1
        model.pieces.add(piece=piece, score=score)
    target.write_bytes(model.SerializeToString())
    return added


def _words() -> Iterator[str]:
    for length in itertools.count(3):
        for letters in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=length):
            yield "".join(letters)


def _extend_json(source: Path, target: Path, added: list[str]) -> int:
    """The same for tokenizer.json, with the merges that make the pieces; returns how many merges it has.

    A piece is merged from any two that it can be cut into, as when SentencePiece's own are converted.
    """
    told = json.loads(source.read_text(encoding="utf-8"))
    vocabulary, merges = told["model"]["vocab"], told["model"]["merges"]
    for piece in added:
        vocabulary[piece] = len(vocabulary)
    for piece in added:
        cuts = ((piece[:k], piece[k:]) for k in range(1, len(piece)))
        merges += sorted((c for c in cuts if c[0] in vocabulary and c[1] in vocabulary), key=lambda c: vocabulary[c[0]])
    target.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    return len(merges)


def _prompt(model: Path, count: int) -> str:
    """<bos> and words that a random model reads as well as any, `count` tokens in all."""
    from sentencepiece import SentencePieceProcessor

    processor, rng, text = SentencePieceProcessor(model_proto=model.read_bytes()), random.Random(0), ""

    def length(more: str) -> int:
        return 1 + len(processor.encode(text + more))

    while length(word := f" {rng.randrange(1 << 16):x}") <= count:
        text += word
    while length("") < count:
        text += "1"  # every digit is a token
    assert length("") == count, f"{length('')} tokens, not {count}"
    return "<bos>" + text


# --- weights ----------------------------------------------------------------------------------------------------------


def _write(file: Path, plan: list[gemma3.Weight], seed: int, reply: Any) -> None:
    """Weights that keep the activations in range: norms near 1, matrices of deviation 0.04."""
    import numpy as np

    rng = np.random.default_rng(seed)
    with file.open("wb") as f:
        f.write(_header(plan))
        for n, w in enumerate(plan):
            reply.progress(n, len(plan), w.source)
            deviation = 0.3 if w.shift else 0.04
            rows, columns = math.prod(w.shape[:-1]), w.shape[-1]
            for begin in range(0, rows, ROWS):
                values = rng.standard_normal((min(ROWS, rows - begin), columns), dtype=np.float32) * np.float32(
                    deviation
                )
                f.write((values.view(np.uint32) >> 16).astype("<u2"))  # bfloat16, cut off


def _header(plan: list[gemma3.Weight]) -> bytes:
    table, offset = {}, 0
    for w in plan:
        end = offset + 2 * math.prod(w.shape)
        table[w.source] = {"dtype": "BF16", "shape": list(w.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
