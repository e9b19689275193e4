"""One file per runtime; the file's name is the runtime's name. READS says which run a format, best first.

A runtime is a module that runs inside the agent, in the environment that its PEP 723 block names, with

    ENVIRONMENT   variables to start it with, if any
    load(path, options) -> Model    options: {"threads", "context", "stop", "tokenizer": file or None}; may raise EdgeError

and a Model has

    facts() -> dict                 runtime version and what else moves the figures; {"tokenizer_mismatches": …} if checked
    generate(rows, max_tokens) -> iterator of dicts with the fields of edge.records.Sample, one a row, greedy

for one question at a time (`edge call`, `edge serve`), without the warm-up that `generate` does,

    answer(row, max_tokens, heard) -> the same dict. Without it `generate` is asked for the row alone
    ids(text) -> list of ints       the text's tokens as the runtime feeds them

heard(text, ids) is called while the answer is written, with all of it so far and its token ids, or None where the runtime
tells no ids; the answer ends there if it returns False. A runtime that tells nothing before its end never calls it,

and, if it can be held against the checkpoint token by token (bench/parity.py),

    context                         tokens of prompt and answer together that it can hold
    logits(ids, at) -> numpy float32 (len(at), vocabulary): what the model expects after each of these positions of `ids`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

Heard = Callable[[str, Optional[list[int]]], bool]

READS = {
    "gguf": ("llama_cpp", "xllamacpp"),
    "tflite": ("litert",),
    "litertlm": ("litert_lm", "litert_lm_chat"),
    "task": ("litert_lm",),
    "onnx": ("onnxruntime",),
}
# Which has `logits` for a format. LiteRT-LM tells none that can be trusted: of its files, the TFLite that they carry is asked.
COMPARES = {"gguf": "llama_cpp", "tflite": "litert", "litertlm": "litert", "task": "litert", "onnx": "onnxruntime"}
