# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["llama-cpp-python==0.3.36", "numpy==2.4.6"]
#
# [tool.edge]
# megabytes = 900
# environment = "llama"
# needs = ["c++"]
# about = "compiles llama.cpp, about 3 minutes on two cores, once"
#
# [tool.edge.build-environment]
# CMAKE_ARGS = """\
#     -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
#     -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF"""
# CMAKE_BUILD_PARALLEL_LEVEL = "2"
# ///
"""GGUF in f32, f16 or bf16 -> GGUF in any type of llama.cpp, by llama.cpp itself.

The environment is the llama_cpp runtime's, to the letter, so that both share one build.

Request:
    source          a GGUF that the gguf worker made
    tokens          the `tokens.jsonl` made with it; unless said, the one beside it
    name            the files are called NAME-QUANTISATION.gguf
    quantisations   names of edge.export.quantisations, such as ["q4_k_m", "q4_k_m-emb-q5_0"]; numpy's work too
    importance      an importance matrix (export/importance.py), for the quantisations that it changes; unless said, none
    checkpoint      with it: the digest of the checkpoint that the source was made from, which must be the matrix's
    threads         of the quantiser; unless said, as many as there are cores
    out             the folder to fill

Answer:
    artifacts       one each: file, quantisation, bytes, file_type, tensor_types (type -> count), export_s, fell_back
                    (type -> count: matrices whose rows fit no block of the preset's type: 640 is no multiple of 256)
    checks          tensors, tokenizer_strings_checked, tokenizer_mismatches (0, else it fails); with an importance
                    matrix, importance_matrices: how many it has
    versions        of the packages that the result depends on

Fails with "input" for a source that was quantised before or a matrix that is not of this model, "missing" for want of disk, "worker" with llama.cpp's own
words where it fails, "gate" if a file does not tokenise as the model was trained.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import ctypes
import shutil
import time
from pathlib import Path
from typing import Any

from edge.errors import EdgeError, MissingError, WorkerError
from edge.export import gguf_file, importance, quantisations, token_check
from edge.export.gguf_file import Header
from edge.export.importance import Importance
from edge.export.quantisations import TYPES, Quantisation

_UNQUANTISED = {"f32", "f16", "bf16"}
_LOG_LINES = 12


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    source, out = Path(request["source"]), Path(request["out"])
    chosen = quantisations.parse_all(request["quantisations"], importance=bool(request.get("importance")))
    header = gguf_file.verify(source)
    _refuse_quantised(source, header)
    weights = _importance(request, header)
    _check_disk(out, header, chosen)
    pairs = token_check.load(Path(request.get("tokens") or source.with_name(token_check.FILE)))
    threads = int(request.get("threads") or os.cpu_count() or 1)
    log = Log(reply)
    artifacts, strings = [], 0
    for n, q in enumerate(chosen):
        reply.progress(n, len(chosen), q.name)
        target = out / f"{request['name']}-{q.name}.gguf"
        seconds = _quantise(source, target, q, weights if q.weighted else None, threads, log)
        artifacts.append(_describe(target, q, header, seconds))
        strings = _check_tokens(target, pairs, log)
    reply.progress(len(chosen), len(chosen), "done")
    checks = {"tensors": len(header.tensors), "tokenizer_strings_checked": strings, "tokenizer_mismatches": 0}
    checks.update({"importance_matrices": len(weights.columns)} if weights else {})
    return {"artifacts": artifacts, "checks": checks, "versions": _versions()}


class Log:
    """llama.cpp's words: the last lines are kept for an error, and only then passed on."""

    def __init__(self, reply: Any) -> None:
        import llama_cpp

        self._reply, self._text = reply, ""
        self._callback = llama_cpp.llama_log_callback(self._take)  # must outlive every use of the library
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _user: Any) -> None:
        self._text = (self._text + text.decode("utf-8", "replace"))[-20_000:]

    def clear(self) -> None:
        self._text = ""

    def failure(self, what: str, hint: str | None = None) -> WorkerError:
        """An error with the last lines; all that was kept goes to the log."""
        self._reply.log(self._text)
        lines = [line for line in self._text.splitlines() if line.strip(" .")]
        return WorkerError("\n".join([what, *lines[-_LOG_LINES:]]), hint)


def _refuse_quantised(source: Path, header: Header) -> None:
    other = sorted(set(header.types()) - _UNQUANTISED)
    if other:
        raise EdgeError(
            f"{source}: quantised already ({', '.join(other)})",
            "quantise from an f16, bf16 or f32 file: twice loses twice",
        )


def _importance(request: dict[str, Any], header: Header) -> Importance | None:
    """Raises EdgeError for a matrix that is damaged, or of another model."""
    if not request.get("importance"):
        return None
    file = Path(request["importance"])
    found = importance.read(file)
    importance.check(found, request["checkpoint"], header, file)
    return found


def _check_disk(out: Path, header: Header, chosen: list[Quantisation]) -> None:
    tensors = header.tensors.values()
    matrices = sum(t.elements for t in tensors if len(t.shape) > 1 and t.name != "token_embd.weight")
    vectors = sum(t.elements for t in tensors if len(t.shape) == 1)
    embedding = sum(t.elements for t in tensors if t.name == "token_embd.weight")
    needed = sum(q.estimate_bytes(matrices, embedding, vectors) for q in chosen)
    free = shutil.disk_usage(out).free
    if needed > free:
        what = ", ".join(q.name for q in chosen)
        raise MissingError(
            f"{out}: up to {needed / 1e6:,.0f} MB are needed for {what}, {free / 1e6:,.0f} MB are free",
            "free some disk, or export fewer quantisations at a time",
        )


def _quantise(source: Path, target: Path, q: Quantisation, weights: Importance | None, threads: int, log: Log) -> float:
    """Seconds that it took. Raises WorkerError with llama.cpp's words."""
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = q.file_type, threads
    if q.embedding:
        settings.token_embedding_type = TYPES[q.embedding].number
    columns = _columns(weights) if weights else None  # must outlive the call
    if columns:
        settings.imatrix = columns
    log.clear()
    started = time.perf_counter()
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(settings))
    if status:
        raise log.failure(f"llama.cpp could not make {q.name} from {source} (status {status})")
    return time.perf_counter() - started


def _columns(weights: Importance) -> Any:
    """As llama.cpp takes them: an array that ends with an item without a name."""
    import llama_cpp

    items = (llama_cpp.llama_model_imatrix_data * (len(weights.columns) + 1))()
    for item, (name, means) in zip(items, weights.columns.items()):
        item.name, item.size = name.encode(), len(means)
        item.data = (ctypes.c_float * len(means)).from_buffer(means)
    return items


def _describe(target: Path, q: Quantisation, source: Header, seconds: float) -> dict[str, Any]:
    """Read back what llama.cpp wrote. Raises EdgeError if a tensor is missing or lies outside the file."""
    header = gguf_file.verify(target)
    if {t.name: t.shape for t in header.tensors.values()} != {t.name: t.shape for t in source.tensors.values()}:
        raise WorkerError(f"{target}: not the tensors of the source", "quantise again; if it stays so, report it")
    return {
        "file": target.name,
        "quantisation": q.name,
        "bytes": target.stat().st_size,
        "file_type": header.metadata["general.file_type"],
        "tensor_types": header.types(),
        "fell_back": _fell_back(q, header),
        "export_s": seconds,
    }


def _fell_back(q: Quantisation, header: Header) -> dict[str, int]:
    counts: dict[str, int] = {}
    for t in header.tensors.values():
        if len(t.shape) > 1 and t.name != "token_embd.weight" and t.shape[-1] % TYPES[q.matrix].block:
            counts[t.type] = counts.get(t.type, 0) + 1
    return counts


def _check_tokens(target: Path, pairs: list[token_check.Pair], log: Log) -> int:
    """How many strings llama.cpp tokenised, all of them right. Raises GateError at a difference."""
    import llama_cpp

    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    log.clear()
    model = llama_cpp.llama_model_load_from_file(str(target).encode(), settings)
    if not model:
        raise log.failure(f"llama.cpp can't load {target}, which it wrote")
    try:
        vocab = llama_cpp.llama_model_get_vocab(model)
        return token_check.check(pairs, lambda text: _tokenise(vocab, text), str(target))
    finally:
        llama_cpp.llama_model_free(model)


def _tokenise(vocab: Any, text: str) -> list[int]:
    import llama_cpp

    data = text.encode()
    room = len(data) + 8  # a token is at least a byte
    ids = (llama_cpp.llama_token * room)()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, room, False, True)
    assert 0 <= count <= room, f"{count} tokens for {len(data)} bytes"
    return list(ids[:count])


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": sys.version.split()[0], "llama-cpp-python": version("llama-cpp-python")}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
