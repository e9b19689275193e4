"""TFLite: a flatbuffer with graphs, their signatures and the weights. Also what `.task` and `.litertlm` carry.

Field numbers: tensorflow/compiler/mlir/lite/schema/schema.fbs (version 3), as in ai-edge-litert's
`schema_py_generated.py`.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.export.inspect import wire
from edge.export.inspect.found import Found, Signature, Tally, add, sha256
from edge.export.inspect.wire import Table, part

NAME, SUFFIXES = "TFLite", (".tflite",)
IDENTIFIER = b"TFL3"  # bytes 4 to 7 of every file

_OPERATOR_CODES, _SUBGRAPHS, _DESCRIPTION, _BUFFERS, _METADATA, _SIGNATURES = 1, 2, 3, 4, 6, 7  # Model
_BUILTIN_OLD, _BUILTIN = 0, 3  # OperatorCode
_TENSORS, _OPERATORS = 0, 3  # SubGraph
_OPCODE_INDEX, _OPERATOR_INPUTS = 0, 1  # Operator
_DATA, _OFFSET, _SIZE = 0, 1, 2  # Buffer: the bytes, or where they lie after the flatbuffer
_SHAPE, _TYPE, _BUFFER, _TENSOR_NAME, _QUANTISATION = 0, 1, 2, 3, 4  # Tensor
_SCALE, _DETAILS_TYPE, _DETAILS = 2, 4, 5  # QuantizationParameters
_BLOCKWISE, _BLOCK_SCALES, _BLOCK_SIZE = 2, 0, 2  # QuantizationDetails; BlockwiseQuantization
_INPUTS, _OUTPUTS, _KEY, _SUBGRAPH_INDEX = 0, 1, 2, 4  # SignatureDef
_MAP_NAME, _MAP_TENSOR = 0, 1  # TensorMap
_DEQUANTIZE = 6  # BuiltinOperator

TYPES = ("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
         "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4",
         "float8_e4m3", "float8_e5m2")  # fmt: skip
_WEIGHTS = ("float32", "float16", "bfloat16", "int8", "int4", "int2", "uint8", "uint4")
_INTEGERS = ("int8", "int4", "int2", "uint8", "uint4")
_FEW = 1024  # elements: what is smaller says nothing about how a model is quantised


@dataclass(frozen=True)
class Tensor:
    """buffer: empty for what is computed; scales: of its quantisation, in a buffer of their own if for blocks.

    block: how many elements share a scale, 0 for a channel or the whole tensor.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    buffer: int
    scales: memoryview | list[float]
    scale_type: str
    scale_buffer: int
    block: int


@dataclass(frozen=True)
class Graph:
    """What a TFLite says, wherever its bytes lie."""

    tensors: dict[str, Tally]
    parameters: int
    quantisation: str
    signatures: list[Signature]
    vocabulary: int | None
    cache_tokens: int | None
    bad_scales: list[str]
    description: str
    metadata: list[str]


def matches(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as f:
        return f.read(8)[4:] == IDENTIFIER


def read(path: Path) -> Found:
    """Raises wire.CutOff for a file that is not whole."""
    data = wire.mapped(path)
    graph = parse(data)
    return Found(
        path=str(path),
        format="tflite",
        bytes=len(data),
        sha256=sha256(data),
        **described(graph),
        facts={"description": graph.description, "metadata": graph.metadata},
    )


def described(graph: Graph) -> dict[str, Any]:
    """The fields of Found that a graph fills, in whichever container."""
    return {
        "parameters": graph.parameters,
        "tensors": graph.tensors,
        "quantisation": graph.quantisation,
        "vocabulary": graph.vocabulary,
        "cache_tokens": graph.cache_tokens,
        "signatures": graph.signatures,
        "bad_scales": graph.bad_scales,
    }


def parse(data: memoryview) -> Graph:
    """Read a model. Raises wire.CutOff if something lies outside of it."""
    if bytes(data[4:8]) != IDENTIFIER:
        raise wire.CutOff("no TFLite model: the identifier TFL3 is missing")
    model = wire.root(data)
    buffers = [_bytes(b, data) for b in model.tables(_BUFFERS)]
    graphs = model.tables(_SUBGRAPHS)
    tensors = [_tensors(g, buffers) for g in graphs]
    constants: dict[int, Tensor] = {}
    for t in (t for ts in tensors for t in ts if _constant(t, buffers)):
        constants.setdefault(t.buffer, t)  # graphs share their weights
    tally: dict[str, Tally] = {}
    for t in constants.values():
        add(tally, t.type, math.prod(t.shape), len(buffers[t.buffer]))
    signatures = [(s, s.number(_SUBGRAPH_INDEX, "I")) for s in model.tables(_SIGNATURES)]
    inputs = {s.text(_KEY): _shapes(s, _INPUTS, tensors[n]) for s, n in signatures}
    outputs = [_shapes(s, _OUTPUTS, tensors[n]) for s, n in signatures]
    scales = {t.scale_buffer for t in constants.values()}
    return Graph(
        tensors=dict(sorted(tally.items(), key=lambda item: -item[1].bytes)),
        parameters=sum(math.prod(t.shape) for t in constants.values() if t.type in _WEIGHTS and t.buffer not in scales),
        quantisation=_quantisation(list(constants.values()), _dequantises(model, graphs, tensors, buffers)),
        signatures=[Signature(key, _token_count(shapes)) for key, shapes in inputs.items()],
        vocabulary=next((s[-1] for o in outputs for name, s in o.items() if "logits" in name and s), None),
        cache_tokens=max((n for shapes in inputs.values() if (n := _cache(shapes))), default=None),
        bad_scales=sorted(t.name for t in constants.values() if t.type == "int4" and _unusable(t)),
        description=model.text(_DESCRIPTION),
        metadata=[m.text(0) for m in model.tables(_METADATA)],
    )


def _bytes(buffer: Table, data: memoryview) -> memoryview:
    """A buffer's bytes; in models over 2 GB they lie after the flatbuffer."""
    offset = buffer.number(_OFFSET, "Q")
    if offset > 1:  # 0 and 1 stand for none
        return part(data, offset, offset + buffer.number(_SIZE, "Q"))
    return buffer.bytes(_DATA)


def _tensors(graph: Table, buffers: list[memoryview]) -> list[Tensor]:
    tables = graph.tables(_TENSORS)
    return [_tensor(t, tables, buffers) for t in tables]


def _tensor(t: Table, others: list[Table], buffers: list[memoryview]) -> Tensor:
    scales, kind, where, block = _scales(t.table(_QUANTISATION), others, buffers)
    number = t.number(_TYPE, "b")
    return Tensor(
        name=t.text(_TENSOR_NAME),
        shape=tuple(t.numbers(_SHAPE)),
        type=TYPES[number] if 0 <= number < len(TYPES) else f"type {number}",
        buffer=t.number(_BUFFER, "I"),
        scales=scales,
        scale_type=kind,
        scale_buffer=where,
        block=block,
    )


def _scales(q: Table | None, others: list[Table], buffers: list[memoryview]) -> tuple[Any, str, int, int]:
    """(scales, their type, buffer, block): in a vector for channels; for blocks they are another tensor of the graph."""
    if q is None:
        return [], "", -1, 0
    details = q.table(_DETAILS)
    if q.number(_DETAILS_TYPE, "B") != _BLOCKWISE or details is None:
        return q.numbers(_SCALE, "f"), "float32", -1, 0
    where = others[details.number(_BLOCK_SCALES, "i")]
    buffer = where.number(_BUFFER, "I")
    return buffers[buffer], TYPES[where.number(_TYPE, "b")], buffer, details.number(_BLOCK_SIZE, "i")


def _constant(t: Tensor, buffers: list[memoryview]) -> bool:
    if t.buffer >= len(buffers):
        raise wire.CutOff(f"tensor {t.name} is in buffer {t.buffer} of {len(buffers)}")
    return len(buffers[t.buffer]) > 0


def _shapes(signature: Table, which: int, tensors: list[Tensor]) -> dict[str, tuple[int, ...]]:
    return {m.text(_MAP_NAME): tensors[m.number(_MAP_TENSOR, "I")].shape for m in signature.tables(which)}


def _token_count(inputs: dict[str, tuple[int, ...]]) -> int | None:
    """How many tokens a signature takes at once: `tokens` is [1, n], or `embeddings` [1, n, width]."""
    shape = inputs.get("tokens") or inputs.get("embeddings") or ()
    return shape[1] if len(shape) > 1 else None


def _cache(inputs: dict[str, tuple[int, ...]]) -> int | None:
    """The key-value cache's length: the last dimension of the mask over it, else the cache's largest."""
    mask = next((s for name, s in inputs.items() if "mask" in name and len(s) > 1), None)
    if mask:
        return mask[-1]
    cache = [s for name, s in inputs.items() if name.startswith("kv_cache_k") and s]
    return max(cache[0]) if cache else None


def _quantisation(constants: list[Tensor], dequantised: bool) -> str:
    """In words: the types of the weights, by elements, and what shares a scale."""
    large = [t for t in constants if t.type in _WEIGHTS and math.prod(t.shape) >= _FEW]
    whole = [t for t in large if t.type in _INTEGERS]
    if not whole:
        return " + ".join(sorted({t.type for t in large})) or "unknown"
    count: dict[str, int] = {}
    for t in whole:
        word = f"{t.type} block-{t.block}" if t.block else f"{t.type} {'channel' if len(t.scales) > 1 else 'tensor'}"
        count[word] = count.get(word, 0) + math.prod(t.shape)
    words = " + ".join(sorted(count, key=lambda w: -count[w]))
    return f"{words}, {'weight-only' if dequantised else 'dynamic'}"


def _dequantises(model: Table, graphs: list[Table], tensors: list[list[Tensor]], buffers: list[memoryview]) -> bool:
    """Whether weights are turned to floats before they are used: then the sums are floats too (weight-only)."""
    codes = [max(c.number(_BUILTIN_OLD, "b"), c.number(_BUILTIN, "i")) for c in model.tables(_OPERATOR_CODES)]
    if _DEQUANTIZE not in codes:
        return False
    return any(
        codes[o.number(_OPCODE_INDEX, "I")] == _DEQUANTIZE
        and any(n >= 0 and _constant(ts[n], buffers) and ts[n].type in _INTEGERS for n in o.numbers(_OPERATOR_INPUTS))
        for g, ts in zip(graphs, tensors)
        for o in g.tables(_OPERATORS)
    )


def _unusable(t: Tensor) -> bool:
    """Whether a scale is zero or too small for a normal number, which XNNPACK refuses; a row of zeros has such."""
    if isinstance(t.scales, list):
        return any(abs(s) < _SMALLEST for s in t.scales)
    if t.scale_type == "float16":  # the exponent's five bits are all zero: in the upper of the two bytes
        return re.search(rb"[\x00-\x03\x80-\x83]", bytes(t.scales[1::2])) is not None
    return t.scale_type == "float32" and any(abs(s) < _SMALLEST for (s,) in struct.iter_unpack("<f", t.scales))


_SMALLEST = 2.0**-126  # of normal float32 numbers
