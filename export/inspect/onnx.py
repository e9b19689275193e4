"""ONNX: a protobuf file, alone or in a folder as onnxruntime-genai wants it (genai_config.json, tokenizer, weights).

Field numbers: onnx.proto3 of onnx/onnx. The folder's keys: onnxruntime-genai's configuration reference.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.export.inspect import folder as folders
from edge.export.inspect import wire
from edge.export.inspect.found import NO_TOKENIZER, Found, Section, Tally, Tokenizer, add, sha256
from edge.export.inspect.wire import Message
from edge.records import Json, digest_file, digest_folder, read_json

NAME, SUFFIXES = "ONNX (a file, or a folder of onnxruntime-genai)", (".onnx",)
CONFIG = "genai_config.json"
_IR, _PRODUCER, _PRODUCER_VERSION, _GRAPH, _OPSETS, _PROPERTIES = 1, 2, 3, 7, 8, 14  # ModelProto
_NODES, _INITIALIZERS, _INPUTS, _OUTPUTS = 1, 5, 11, 12  # GraphProto
_READS, _OP, _ATTRIBUTES, _ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 4, 5, 1, 3  # NodeProto, AttributeProto
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14  # TensorProto
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1  # ValueInfoProto and inside it
_KEY, _VALUE = 1, 2  # StringStringEntryProto
# TensorProto.DataType, and how many bits an element has
TYPES = {1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16), 6: ("int32", 32),
         7: ("int64", 64), 9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64), 12: ("uint32", 32),
         13: ("uint64", 64), 16: ("bfloat16", 16), 21: ("uint4", 4), 22: ("int4", 4)}  # fmt: skip
_ANGLES = {"GroupQueryAttention": slice(7, 9), "RotaryEmbedding": slice(2, 4)}  # which inputs are rotary tables
_WEIGHTS = ("float32", "float16", "bfloat16", "float64", "uint8", "int8", "uint4", "int4")


@dataclass(frozen=True)
class Weights:
    """One initializer."""

    name: str
    type: str
    elements: int
    bytes: int
    shape: tuple[int, ...]


def matches(path: Path) -> bool:
    return (path / CONFIG).is_file() or (path.is_file() and path.suffix == ".onnx")


def read(path: Path) -> Found:
    """Raises EdgeError or wire.CutOff for a graph that is not whole, or whose weights are missing or cut short."""
    config = _config(path / CONFIG) if path.is_dir() else {}
    model = _object(config, "model")
    file = path / _decoder(model) if path.is_dir() else path
    if not file.is_file():
        raise EdgeError(f"{file}: missing; {CONFIG} names it as the decoder", "copy the whole folder")
    data = wire.mapped(file)
    proto = Message(data)
    graph = proto.message(_GRAPH)
    if graph is None:
        raise wire.CutOff("no ONNX model: it holds no graph")
    weights, beside = _weights(graph, file)
    tokenizer = folders.tokenizer(path) if path.is_dir() else None
    nodes = Counter(n.text(_OP) or "" for n in graph.messages(_NODES))
    tally: dict[str, Tally] = {}
    for w in weights:
        add(tally, w.type, w.elements, w.bytes)
    files = sorted({file, *beside})
    return Found(
        path=str(path),
        format="onnx",
        bytes=_size(path) if path.is_dir() else sum(f.stat().st_size for f in files),
        sha256=digest_folder(path) if path.is_dir() else sha256(data),
        architecture=model.get("type"),
        parameters=_parameters(weights, graph),
        tensors=dict(sorted(tally.items(), key=lambda item: -item[1].bytes)),
        quantisation=_quantisation(graph, weights),
        vocabulary=model.get("vocab_size") or _logits(graph),
        context_tokens=model.get("context_length"),
        asked_tokens=_object(config, "search").get("max_length"),
        tokenizer=tokenizer,
        start=_one(tokenizer, model.get("bos_token_id")),
        stops=[t for n in _list(model.get("eos_token_id")) if (t := _one(tokenizer, n))],
        template=folders.template(path) if path.is_dir() else None,
        notices=folders.licences(path) if path.is_dir() else [],
        sections=[Section(f.name, 0, f.stat().st_size, digest_file(f)) for f in files],
        facts={
            "ir_version": proto.number(_IR),
            "producer": " ".join(filter(None, (proto.text(_PRODUCER), proto.text(_PRODUCER_VERSION)))),
            "opsets": {o.text(1) or "ai.onnx": o.number(2) for o in proto.messages(_OPSETS)},
            "embedding": _embedding(graph),
            "operators": dict(nodes.most_common()),
            "metadata": {p.text(_KEY): p.text(_VALUE) for p in proto.messages(_PROPERTIES)},
            "inputs": _names(graph, _INPUTS)[:3],  # the cache's follow, two a layer
            "outputs": _names(graph, _OUTPUTS)[:3],
        },
    )


def _config(file: Path) -> Json:
    value = read_json(file)
    if not isinstance(value, dict):
        raise EdgeError(f"{file}: not a JSON object")
    return value


def _object(config: Json, key: str) -> Json:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise wire.CutOff(f"{key} in {CONFIG} is no object")
    return value


def _decoder(model: Json) -> str:
    return str(_object(model, "decoder").get("filename") or "model.onnx")


def _weights(graph: Message, file: Path) -> tuple[list[Weights], set[Path]]:
    """The initializers, and the files beside the graph that hold their bytes."""
    found, beside = [], set()
    for t in graph.messages(_INITIALIZERS):
        kind, bits = TYPES.get(t.number(_DATA_TYPE), (f"type {t.number(_DATA_TYPE)}", 0))
        shape = tuple(t.numbers(_DIMS))
        nbytes = math.prod(shape) * bits // 8
        if t.number(_LOCATION) == 1:
            beside.add(_external(t, file, nbytes))
        elif (raw := t.bytes(_RAW)) is not None and len(raw) < nbytes:
            raise wire.CutOff(f"tensor {t.text(_TENSOR_NAME)} has {len(raw):,} of {nbytes:,} bytes")
        found.append(Weights(t.text(_TENSOR_NAME) or "", kind, math.prod(shape), nbytes, shape))
    return found, beside


def _external(t: Message, file: Path, nbytes: int) -> Path:
    told = {e.text(_KEY): e.text(_VALUE) or "" for e in t.messages(_EXTERNAL)}
    where = file.parent / Path(told.get("location") or "").name  # never a path that leads elsewhere
    if not where.is_file():
        raise EdgeError(f"{where}: missing; {file.name} keeps its weights there", "copy both files, side by side")
    end = int(told.get("offset") or 0) + int(told.get("length") or nbytes)
    if where.stat().st_size < end:
        said = f"{file.name} wants {end:,} bytes of it, it has {where.stat().st_size:,}"
        raise EdgeError(f"{where}: cut short: {said}", "copy it or export it again")
    return where


def _integer_nodes(graph: Message, operator: str) -> list[tuple[list[str], dict[str, int]]]:
    """(inputs, whole-numbered attributes) of every node that computes with packed whole numbers in this way."""
    return [
        (n.texts(_READS), {a.text(_ATTRIBUTE_NAME) or "": a.number(_ATTRIBUTE_INT) for a in n.messages(_ATTRIBUTES)})
        for n in graph.messages(_NODES)
        if n.text(_OP) == operator
    ]


def _quantisation(graph: Message, weights: list[Weights]) -> str | None:
    bits = sorted({told.get("bits", 4) for _, told in _integer_nodes(graph, "MatMulNBits")})
    if bits:
        return " + ".join(f"int{n} (MatMulNBits)" for n in bits)
    count: Counter[str] = Counter()
    for w in weights:
        if w.type in _WEIGHTS:
            count[w.type] += w.elements
    return count.most_common(1)[0][0] if count else None


def _embedding(graph: Message) -> str | None:
    """The type of an embedding in whole numbers, None for others."""
    bits = {told.get("bits", 4) for _, told in _integer_nodes(graph, "GatherBlockQuantized")}
    return " + ".join(f"int{n}" for n in sorted(bits)) or None


def _parameters(weights: list[Weights], graph: Message) -> int:
    """Each weight once: MatMulNBits packs K x N of them into bytes, with scales and zero points; angles are none."""
    known = {w.name: w for w in weights if w.type in _WEIGHTS}
    count = 0
    for reads, told in _integer_nodes(graph, "MatMulNBits"):
        count += told.get("K", 0) * told.get("N", 0)
        for name in reads[1:]:
            known.pop(name, None)
    for reads, told in _integer_nodes(graph, "GatherBlockQuantized"):
        data = known.pop(reads[0], None) if reads else None  # else it is the output matrix, counted above
        count += data.elements * (8 // (told.get("bits") or 4) if data.type == "uint8" else 1) if data else 0
        for name in reads[2:]:
            known.pop(name, None)
    for operator, place in _ANGLES.items():
        for reads, _ in _integer_nodes(graph, operator):
            for name in reads[place]:
                known.pop(name, None)
    return count + sum(w.elements for w in known.values())


def _names(graph: Message, which: int) -> list[str]:
    return [v.text(_VALUE_NAME) or "" for v in graph.messages(which)]


def _logits(graph: Message) -> int | None:
    """The last dimension of the output `logits`, where it is a number."""
    for value in graph.messages(_OUTPUTS):
        kind = value.message(_VALUE_TYPE)
        tensor = kind.message(_TENSOR_TYPE) if kind else None
        shape = tensor.message(_SHAPE) if tensor else None
        dims = shape.messages(_DIM) if shape else []
        if "logits" in (value.text(_VALUE_NAME) or "") and dims:
            return dims[-1].number(_DIM_VALUE) or None
    return None


def _list(value: Any) -> list[int]:
    return [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]


def _one(tokenizer: Tokenizer | None, n: Any) -> Any:
    return (tokenizer or NO_TOKENIZER).by_ids([n]) if isinstance(n, int) else None


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
