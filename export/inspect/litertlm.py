"""`.litertlm`: LiteRT-LM's container: a flatbuffer header that lists sections, each aligned to 16 KiB.

Field numbers: litertlm_header_schema.fbs and runtime/proto/{llm_metadata,token,llm_model_type,sampler_params}.proto of
google-ai-edge/LiteRT-LM, as in litert-lm-builder 0.18.1.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.export.inspect import tflite, tokens, wire
from edge.export.inspect.found import NO_TOKENIZER, Found, Section, Token, Tokenizer, sha256
from edge.export.inspect.tflite import Graph
from edge.export.inspect.wire import Message, Table, part

NAME, SUFFIXES = "LiteRT-LM .litertlm", (".litertlm",)
MAGIC = b"LITERTLM"
PREFILL_DECODE = "tf_lite_prefill_decode"  # the value of model_type on the section that writes text
_VERSION, _HEADER_END, _HEADER = 8, 24, 32  # byte offsets: three numbers; where the header ends; where it begins

_SYSTEM, _SECTIONS = 0, 1  # LiteRTLMMetaData
_ENTRIES = 0  # SystemMetadata, SectionMetadata, and the items of a SectionObject
_BEGIN, _END, _DATA_TYPE = 1, 2, 3  # SectionObject
_ITEM_KEY, _ITEM_TYPE, _ITEM_VALUE = 0, 1, 2  # KeyValuePair
_KINDS = ("none", "GenericBinaryData", "Deprecated", "TFLiteModel", "SP_Tokenizer", "LlmMetadata", "HF_Tokenizer",
          "TFLiteWeights", "EmbeddingMetadata", "ExecutorMetadata", "TtsMetadata", "AsrMetadata")  # fmt: skip
_SCALARS = {1: "B", 2: "b", 3: "H", 4: "h", 5: "I", 6: "i", 7: "f", 8: "?", 10: "Q", 11: "q", 12: "d"}
_STRING = 9

_START, _STOPS, _SAMPLER, _MAX_TOKENS, _MODEL_TYPE, _TEMPLATE = 1, 2, 4, 5, 6, 7  # LlmMetadata
_THINKING, _CALLING, _MIN_RUNTIME = 11, 12, 14
_IDS, _TEXT, _ID_LIST = 1, 2, 1  # TokenUnion, TokenIds
MODEL_TYPES = {1: "generic_model", 2: "gemma3n", 3: "function_gemma", 4: "gemma3", 5: "qwen3", 7: "qwen2p5", 8: "gemma4",
               9: "fast_vlm", 11: "lfm2", 12: "minicpm5", 13: "minicpmv4"}  # fmt: skip
SAMPLERS = {0: "unspecified", 1: "TOP_K", 2: "TOP_P", 3: "GREEDY"}


@dataclass(frozen=True)
class _Part:
    kind: str
    begin: int
    data: memoryview
    items: dict[str, str]


def matches(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as f:
        return f.read(len(MAGIC)) == MAGIC


def read(path: Path) -> Found:
    """Raises wire.CutOff for a file whose header or sections are not whole."""
    data = wire.mapped(path)
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise wire.CutOff("no .litertlm: it does not begin with LITERTLM")
    header = wire.root(part(data, _HEADER, struct.unpack("<Q", part(data, _HEADER_END, _HEADER))[0]))
    system = _items(header.table(_SYSTEM))
    sections = header.table(_SECTIONS)
    parts = [_part(t, data) for t in sections.tables(_ENTRIES)] if sections else []
    graph, tokenizer = _graph(parts), _tokenizer(parts)
    m = Message(next((p.data for p in parts if p.kind == "LlmMetadata"), data[:0]))
    return Found(
        path=str(path),
        format="litertlm",
        bytes=len(data),
        sha256=sha256(data),
        asked_tokens=m.number(_MAX_TOKENS) or None,
        tokenizer=tokenizer,
        start=_token(m.message(_START), tokenizer),
        stops=[t for s in m.messages(_STOPS) if (t := _token(s, tokenizer))],
        template=m.text(_TEMPLATE),
        model_type=_model_type(m.message(_MODEL_TYPE)),
        sampler=_sampler(m.message(_SAMPLER)),
        notices=[v for k, v in system.items() if "licen" in k.lower() or "notice" in k.lower()],
        sections=[Section(p.kind, p.begin, len(p.data), sha256(p.data), p.items) for p in parts],
        facts={"version": _version(data), "system": system, **_promises(m)},
        **(tflite.described(graph) if graph else {}),
    )


def prefill_decode(found: Found) -> list[Section]:
    """The sections that hold the language model."""
    return [
        s for s in found.sections if s.facts.get("model_type") == PREFILL_DECODE and s.name.startswith("TFLiteModel")
    ]


def _part(t: Table, data: memoryview) -> _Part:
    kind, begin = t.number(_DATA_TYPE, "B"), t.number(_BEGIN, "Q")
    name = _KINDS[kind] if kind < len(_KINDS) else f"type {kind}"
    return _Part(name, begin, part(data, begin, t.number(_END, "Q")), _items(t))


def _items(t: Table | None) -> dict[str, str]:
    return {item.text(_ITEM_KEY): _value(item) for item in t.tables(_ENTRIES)} if t else {}


def _value(item: Table) -> str:
    """A value as text. Each kind is a table with one field."""
    kind, table = item.number(_ITEM_TYPE, "B"), item.table(_ITEM_VALUE)
    if table is None:
        return ""
    if kind == _STRING:
        return table.text(0)
    return str(table.number(0, _SCALARS[kind])) if kind in _SCALARS else "unknown"


def _graph(parts: list[_Part]) -> Graph | None:
    """Of the prefill and decode model, or of the only model there is."""
    models = [p for p in parts if p.kind == "TFLiteModel"]
    main = next((p for p in models if p.items.get("model_type") == PREFILL_DECODE), models[0] if models else None)
    return tflite.parse(main.data) if main else None


def _tokenizer(parts: list[_Part]) -> Tokenizer | None:
    for p in parts:
        if p.kind == "SP_Tokenizer":
            return tokens.sentencepiece(p.data)
        if p.kind == "HF_Tokenizer":  # the length of the text in 8 bytes, then zlib
            try:
                return tokens.hugging_face(zlib.decompress(part(p.data, 8, len(p.data))))
            except zlib.error as error:
                raise wire.CutOff(f"the section HF_Tokenizer can't be unpacked: {error}") from None
    return None


def _token(union: Message | None, tokenizer: Tokenizer | None) -> Token | None:
    if union is None:
        return None
    known, ids, text = tokenizer or NO_TOKENIZER, union.message(_IDS), union.text(_TEXT)
    if ids is not None:
        return known.by_ids(ids.numbers(_ID_LIST))
    return known.by_text(text) if text else None


def _model_type(m: Message | None) -> str | None:
    """Which one of its alternatives is there; one that this edge doesn't know has a number only."""
    number = next(iter(m), None) if m else None
    return None if number is None else MODEL_TYPES.get(number, f"type {number}")


def _sampler(m: Message | None) -> str | None:
    if m is None:
        return None
    kind, p, temperature = m.number(1), m.real(3), m.real(4)
    words = [SAMPLERS.get(kind, f"type {kind}"), f"k={m.number(2)}" if 2 in m else "", f"p={p:g}" if p else ""]
    return " ".join(filter(None, [*words, f"temperature={temperature:g}" if temperature else ""]))


def _promises(m: Message) -> dict[str, Any]:
    return {
        "supports_thinking": bool(m.number(_THINKING)) if _THINKING in m else None,
        "supports_function_calling": bool(m.number(_CALLING)) if _CALLING in m else None,
        "min_runtime_version": m.text(_MIN_RUNTIME),
    }


def _version(data: memoryview) -> str:
    return ".".join(map(str, struct.unpack("<3I", part(data, _VERSION, _VERSION + 12))))
