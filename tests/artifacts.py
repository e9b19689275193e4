"""Small artifacts of every format, written by the standard library alone: whole files with a tiny graph inside.

The writers here are the tests' own and know only what these files need; `slow` tests make the same formats with the
real exporters.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import checkpoints

from edge import records
from edge.dialects import functiongemma
from edge.export import gguf_file
from edge.export.gguf_file import Entry
from edge.export.vocabulary import Piece, Vocabulary
from edge.records import Artifact

PIECES = checkpoints.vocabulary(checkpoints.MARKERS)
ROWS = len(PIECES)
IDS = {text: n for n, (text, _, _) in enumerate(PIECES)}
STOPS = [IDS[t] for t in functiongemma.STOP]
TEMPLATE = "{#- a template -#}{% for m in messages %}{{ m['role'] | upper }}{% endfor %}"
CACHE, PREFILL = 64, 32


# Flatbuffers: a table is {field: value}. A value is ("layout", number), ("layout", [numbers]), str, bytes, a table, or a
# list of tables. Children follow their parents, so that every distance is positive.


def flatbuffer(root: dict[int, Any], identifier: bytes = b"") -> bytes:
    out = bytearray(4) + identifier
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _table(out: bytearray, fields: dict[int, Any]) -> int:
    _align(out)
    vtable, slots = len(out), max(fields, default=-1) + 1
    where = {f: 8 + 8 * n for n, f in enumerate(fields)}
    size = 8 + 8 * len(fields)
    out += struct.pack(f"<HH{slots}H", 4 + 2 * slots, size, *(where.get(f, 0) for f in range(slots)))
    _align(out)
    at = len(out)
    out += struct.pack("<i", at - vtable) + bytes(size - 4)
    for f, value in fields.items():
        if isinstance(value, tuple) and not isinstance(value[1], list):
            struct.pack_into("<" + value[0], out, at + where[f], value[1])
    for f, value in fields.items():
        if not isinstance(value, tuple) or isinstance(value[1], list):
            struct.pack_into("<I", out, at + where[f], _child(out, value) - at - where[f])
    return at


def _child(out: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _table(out, value)
    _align(out)
    at = len(out)
    if isinstance(value, tuple):
        out += struct.pack(f"<I{len(value[1])}{value[0]}", len(value[1]), *value[1])
    elif isinstance(value, (str, bytes)):
        data = value.encode() if isinstance(value, str) else value
        out += struct.pack("<I", len(data)) + data + b"\0"
    else:
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for n, item in enumerate(value):
            slot = at + 4 + 4 * n
            struct.pack_into("<I", out, slot, _table(out, item) - slot)
    return at


def _align(out: bytearray) -> None:
    out += bytes(-len(out) % 8)


# Protobuf: a message is [(field, value)]; a value is an int, text, bytes, a float or a message.


def message(fields: list[tuple[int, Any]]) -> bytes:
    out = b""
    for number, value in fields:
        if isinstance(value, (bool, int)):
            out += checkpoints._number(number, int(value))
        elif isinstance(value, float):
            out += checkpoints._varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            data = message(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
            out += checkpoints._field(number, data)
    return out


# Artifacts


def sentencepiece(pieces: list[tuple[str, float, int]] = PIECES) -> bytes:
    return checkpoints.sentencepiece_model(pieces)


def tflite(
    kind: str = "int8",
    rows: int = ROWS,
    cache: int = CACHE,
    prefill: int = PREFILL,
    scale: float = 0.5,
    block: bool = False,
) -> bytes:
    """One embedding, two signatures. scale: that of the embedding's first row; the others are 0.5."""
    number, bits = {"float32": (0, 32), "int8": (9, 8), "int4": (17, 4)}[kind]
    weights = bytes([1]) * (rows * 32 * bits // 8)
    scales = [scale, *[0.5] * (rows - 1)]
    quantisation = {} if kind == "float32" else {2: ("f", scales)}
    if block:  # the scales are tensor 1, of float16
        quantisation = {4: ("B", 2), 5: {0: ("i", 1), 2: ("i", 32)}}
    tensors = [
        _tensor("embedding", [rows, 32], number, 1, quantisation),
        _tensor("scales", [rows, 1], 1, 2 if block else 0),
        _tensor("tokens", [1, prefill], 2, 0),
        _tensor("mask", [1, 1, prefill, cache], 0, 0),
        _tensor("logits", [1, 1, rows], 0, 0),
        _tensor("token", [1, 1], 2, 0),
    ]
    signatures = [
        {0: [{0: "tokens", 1: ("I", 2)}, {0: "mask", 1: ("I", 3)}], 1: [], 2: f"prefill_{prefill}", 4: ("I", 0)},
        {0: [{0: "tokens", 1: ("I", 5)}, {0: "mask", 1: ("I", 3)}], 1: [{0: "logits", 1: ("I", 4)}], 2: "decode", 4: ("I", 0)},
    ]  # fmt: skip
    buffers: list[dict[int, Any]] = [{}, {0: weights}, {0: struct.pack(f"<{rows}e", *scales)}]
    model = {0: ("I", 3), 1: [{3: ("i", 9)}], 2: [{0: tensors, 3: []}], 3: "a test", 4: buffers, 6: [], 7: signatures}
    return flatbuffer(model, b"TFL3")


def _tensor(name: str, shape: list[int], kind: int, buffer: int, quantisation: Any = None) -> dict[int, Any]:
    found = {0: ("i", shape), 1: ("b", kind), 2: ("I", buffer), 3: name}
    return {**found, 4: quantisation} if quantisation else found


def task(
    path: Path,
    stops: tuple[str, ...] = functiongemma.STOP,
    start: str = "<bos>",
    prefix: str = "",
    leave_out: str = "",
    compression: int = zipfile.ZIP_STORED,
    pieces: list[tuple[str, float, int]] = PIECES,
    more: list[tuple[int, Any]] | None = None,
    **graph: Any,
) -> Path:
    told: list[tuple[int, Any]] = [*((5, s) for s in stops), *(more or [])]
    told += [(6, start)] if start else []
    told += [(8, [(2, prefix)])] if prefix else []
    members = {
        "TF_LITE_PREFILL_DECODE": tflite(**graph),
        "TOKENIZER_MODEL": sentencepiece(pieces),
        "METADATA": message(told),
    }
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, data in members.items():
            if name != leave_out:
                z.writestr(name, data)
    return path


def litertlm(
    path: Path,
    stops: list[Any] | None = None,
    start: int | None = IDS["<bos>"],
    model_type: int = 3,
    template: str = TEMPLATE,
    sampler: int = 2,
    max_tokens: int = CACHE,
    activation: str = "fp32",
    graph_type: str = "tf_lite_prefill_decode",
    leave_out: str = "",
    notice: str = "",
    pieces: list[tuple[str, float, int]] = PIECES,
    **graph: Any,
) -> Path:
    """stops: ids, strings, or lists of ids. model_type: a field of LlmModelType, 0 for none."""
    told: list[tuple[int, Any]] = [(1, _union(start))] if start is not None else []
    told += [(2, _union(s)) for s in (STOPS if stops is None else stops)]
    told += [(4, [(1, sampler), (2, 1), (3, 1.0)]), (5, max_tokens), (6, [(model_type, b"")] if model_type else [])]
    told += [*([(7, template)] if template else []), (11, False), (12, True)]
    items = {"model_type": graph_type, "prefer_activation_type": activation}
    parts = [
        ("metadata", 5, message(told), {}),
        ("tokenizer", 4, sentencepiece(pieces), {}),
        ("model", 3, tflite(**graph), {k: v for k, v in items.items() if v}),
    ]
    return _container(path, [p for p in parts if p[0] != leave_out], {"license": notice} if notice else {})


def _union(token: Any) -> list[tuple[int, Any]]:
    if isinstance(token, str):
        return [(2, token)]
    ids = token if isinstance(token, list) else [token]
    return [(1, [(1, b"".join(map(checkpoints._varint, ids)))])]


def _container(path: Path, parts: list[tuple[str, int, bytes, dict[str, str]]], system: dict[str, str]) -> Path:
    places, at = [], 16384
    for _, _, data, _ in parts:
        places.append((at, at + len(data)))
        at += -(-len(data) // 16384) * 16384
    sections = [
        {0: _items(items), 1: ("Q", begin), 2: ("Q", end), 3: ("B", kind)}
        for (_, kind, _, items), (begin, end) in zip(parts, places)
    ]
    header = flatbuffer({0: {0: _items(system)}, 1: {0: sections}})
    whole = bytearray(b"LITERTLM" + struct.pack("<3I4xQ", 1, 7, 0, 32 + len(header)) + header)
    for (_, _, data, _), (begin, _) in zip(parts, places):
        whole += bytes(begin - len(whole)) + data
    path.write_bytes(whole)
    return path


def _items(values: dict[str, str]) -> list[dict[int, Any]]:
    return [{0: k, 1: ("B", 9), 2: {0: v}} for k, v in values.items()]


def gguf(
    path: Path,
    pieces: list[tuple[str, float, int]] = PIECES,
    rows: int = ROWS,
    stops: dict[str, str] | None = None,
    template: str = TEMPLATE,
    tokens: bool = True,
    context: int = 1024,
    more: tuple[Entry, ...] = (),
) -> Path:
    """stops: {"eos": text, …}."""
    named = {"eos": "<eos>", "eot": "<end_of_turn>", "eom": "<start_function_response>"} if stops is None else stops
    entries = [
        Entry("general.architecture", "string", "gemma3"),
        Entry("general.file_type", "uint32", 7),
        Entry("gemma3.context_length", "uint32", context),
        Entry("tokenizer.ggml.model", "string", "llama"),
        Entry("tokenizer.ggml.bos_token_id", "uint32", IDS["<bos>"]),
        *(Entry(f"tokenizer.ggml.{k}_token_id", "uint32", IDS[t]) for k, t in named.items()),
        *([Entry("tokenizer.chat_template", "string", template)] if template else []),
        *(Vocabulary([Piece(*p) for p in pieces], 0, [], {}).entries() if tokens else []),
        *more,
    ]
    places = gguf_file.place([("token_embd.weight", (rows, 32), "q8_0"), ("output_norm.weight", (32,), "f32")])
    data = b"".join(bytes([7]) * gguf_file.padded(p.nbytes) for p in places)
    path.write_bytes(gguf_file.pack_header(len(entries), gguf_file.pack_entries(entries), places) + data)
    return path


def onnx(
    folder: Path,
    rows: int = ROWS,
    context: int = CACHE,
    max_length: int = CACHE,
    eos: list[int] | None = None,
    tokenizer: bool = True,
    pieces: list[tuple[str, float, int]] = PIECES,
    template: str = TEMPLATE,
) -> Path:
    """What onnxruntime-genai runs: a graph with its weights beside it, a configuration, a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = bytes(rows * 32 * 4)
    (folder / "model.onnx.data").write_bytes(weights)
    outside = [[(1, "location"), (2, "model.onnx.data")], [(1, "length"), (2, str(len(weights)))]]
    tensor = [(1, rows), (1, 32), (2, 1), (8, "embedding"), *((13, e) for e in outside), (14, 1)]
    shape = [(1, [(2, "batch")]), (1, [(1, rows)])]
    logits = [(1, "logits"), (2, [(1, [(1, 1), (2, shape)])])]
    graph = [(1, [(4, "Gather")]), (2, "a test"), (5, tensor), (11, [(1, "input_ids")]), (12, logits)]
    (folder / "model.onnx").write_bytes(message([(1, 10), (2, "edge"), (7, graph), (8, [(2, 21)])]))
    model = {"type": "gemma3_text", "vocab_size": rows, "context_length": context, "bos_token_id": IDS["<bos>"],
             "eos_token_id": STOPS if eos is None else eos, "decoder": {"filename": "model.onnx"}}  # fmt: skip
    (folder / "genai_config.json").write_text(json.dumps({"model": model, "search": {"max_length": max_length}}))
    if tokenizer:
        (folder / "tokenizer.model").write_bytes(sentencepiece(pieces))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def checkpoint(folder: Path, template: str = TEMPLATE, **config: Any) -> Path:
    checkpoints.make(folder, **config)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    (folder / "LICENSE").write_text("terms")
    return folder


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_safetensors(folder / "adapter_model.safetensors", {"a.lora_A": ("F32", (2, 4), bytes(32))})
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "edge-tiny"}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def manifest(path: Path, **more: Any) -> Path:
    """The record beside an artifact, as of now."""
    digest = records.digest_folder(path) if path.is_dir() else records.digest_file(path)
    fields = {"format": path.suffix[1:] or "onnx", "quantisation": "q8_0", "notices": ["terms"], **more}
    size = sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size
    made = Artifact(
        digest=digest, path=str(path), bytes=size, checkpoint="", dialect="functiongemma", exporter="a test", **fields
    )
    records.save(made, path.with_name(f"{path.name}.json"))
    return path
