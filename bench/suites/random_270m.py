"""The 270M architecture at random weights, with a vocabulary of 262,144 pieces: what the benchmark converts and runs.

Speed and size do not depend on what the weights say, so nobody needs to download, or to be allowed to, anything. A
worker; it runs in the gguf worker's environment.

Request:
    tokenizer   a SentencePiece model with the function tokens; pieces of letters are added until there are 262,144
    seed        of the weights
    out         the folder to fill: config.json, tokenizer.model, tokenizer_config.json and model.safetensors, which is
                536 MB in bfloat16

Answer: parameters, pieces.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import itertools
import json
import math
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
    out = Path(request["out"])
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (out / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizer", "add_bos_token": true}\n')
    pieces = _extend(Path(request["tokenizer"]), out / "tokenizer.model", CONFIG["vocab_size"])
    plan = gemma3.weights(gemma3.read(Folder(out, CONFIG, {})))
    _write(out / "model.safetensors", plan, int(request["seed"]), reply)
    return {"parameters": sum(math.prod(w.shape) for w in plan), "pieces": pieces}


def _extend(source: Path, target: Path, count: int) -> int:
    """Add pieces of three and more letters after a space, each less likely than the last."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.ParseFromString(source.read_bytes())
    have, score = {p.piece for p in model.pieces}, model.pieces[-1].score
    words = (w for w in _words() if w not in have)
    for piece in itertools.islice(words, count - len(model.pieces)):
        score -= 1
        model.pieces.add(piece=piece, score=score)
    target.write_bytes(model.SerializeToString())
    return len(model.pieces)


def _words() -> Iterator[str]:
    for length in itertools.count(3):
        for letters in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=length):
            yield "\u2581" + "".join(letters)


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
