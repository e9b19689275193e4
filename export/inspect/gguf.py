"""GGUF, through our own reader of its header (`edge/export/gguf_file.py`), whose keys the code below names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.export import gguf_file
from edge.export.gguf_file import Header
from edge.export.inspect.found import NO_TOKENIZER, Found, Section, Tally, Token, Tokenizer, add, sha256
from edge.export.inspect.wire import mapped
from edge.export.quantisations import PRESETS

NAME, SUFFIXES = "GGUF", (".gguf",)
_ENDS = ("eos", "eot", "eom")
# Stops that llama.cpp finds by their text, whatever the keys say (llama-vocab.cpp, as of llama-cpp-python 0.3.36).
_BY_NAME = ("<end_of_turn>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>",
            "<EOT>")  # fmt: skip
_EMBEDDING = "token_embd.weight"


def matches(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as f:
        return f.read(4) == gguf_file.MAGIC


def read(path: Path) -> Found:
    """Raises EdgeError for a header that is cut off, or tensors that lie beyond the file's end."""
    header, size = _header(path), path.stat().st_size
    m, architecture = header.metadata, str(header.metadata.get("general.architecture") or "unknown")
    tokenizer = _tokenizer(m)
    embedding = header.tensors.get(_EMBEDDING)
    tally: dict[str, Tally] = {}
    for t in header.tensors.values():
        add(tally, t.type, t.elements, t.nbytes)
    data = mapped(path)
    return Found(
        path=str(path),
        format="gguf",
        bytes=size,
        sha256=sha256(data),
        architecture=architecture,
        parameters=sum(t.elements for t in header.tensors.values()),
        tensors=dict(sorted(tally.items(), key=lambda item: -item[1].bytes)),
        quantisation=_quantisation(m, embedding.type if embedding else None),
        vocabulary=embedding.shape[0] if embedding else None,
        context_tokens=m.get(f"{architecture}.context_length"),
        tokenizer=tokenizer,
        start=_start(m, tokenizer or NO_TOKENIZER),
        stops=_stops(m, tokenizer or NO_TOKENIZER),
        template=m.get("tokenizer.chat_template"),
        notices=[str(m[k]) for k in ("general.license.name", "general.license") if m.get(k)],
        sections=[
            Section("header", 0, header.data_start, sha256(data[: header.data_start])),
            Section("tensors", header.data_start, size - header.data_start, sha256(data[header.data_start :])),
        ],
        facts={k: v for k, v in m.items() if not isinstance(v, list) and not k.startswith("tokenizer.")},
    )


def _header(path: Path) -> Header:
    try:
        header = gguf_file.read(path)
    except (OverflowError, MemoryError, ValueError):  # a length that no file has
        raise EdgeError(f"{path}: the GGUF header is cut off or damaged", "copy it or export it again") from None
    end = max((header.data_start + t.offset + t.nbytes for t in header.tensors.values()), default=0)
    size = path.stat().st_size
    if size < end:
        said = f"its header says {end:,} bytes, the file has {size:,}"
        raise EdgeError(f"{path}: cut short: {said}", "copy it or export it again")
    return gguf_file.verify(path)


def _tokenizer(m: dict[str, Any]) -> Tokenizer | None:
    pieces = m.get("tokenizer.ggml.tokens")
    if not pieces:
        return None
    return Tokenizer(f"GGUF {m.get('tokenizer.ggml.model')}", pieces, m.get("tokenizer.ggml.token_type") or [])


def _start(m: dict[str, Any], tokenizer: Tokenizer) -> Token | None:
    """The token that llama.cpp puts first, if it is to put one."""
    n = m.get("tokenizer.ggml.bos_token_id")
    return tokenizer.by_ids([n]) if n is not None and m.get("tokenizer.ggml.add_bos_token", True) else None


def _stops(m: dict[str, Any], tokenizer: Tokenizer) -> list[Token]:
    named = [n for key in _ENDS if (n := m.get(f"tokenizer.ggml.{key}_token_id")) is not None]
    ids = dict.fromkeys([*named, *(tokenizer.ids[t] for t in _BY_NAME if t in tokenizer.ids)])
    return [tokenizer.by_ids([n]) for n in ids]


def _quantisation(m: dict[str, Any], embedding: str | None) -> str | None:
    names = {number: name for name, (number, _) in PRESETS.items()}
    preset = names.get(m.get("general.file_type", -1))
    return f"{preset}, embedding {embedding}" if preset and embedding not in (None, preset) else preset
