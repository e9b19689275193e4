"""Importance matrices: how much each input column of each matrix matters, so that a quantiser spends its bits there.

For every linear layer the mean of x² per input column, over texts that the model will meet. The file is what llama.cpp's
own tools read and write (GGUF with `general.type` "imatrix"): for each matrix `NAME.in_sum2` [1, columns], sums of x²,
and `NAME.counts` [1, 1], of how many tokens; in float32. Ours also says of which checkpoint and rows it is. Standard
library only.
"""

from __future__ import annotations

import array
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgeError
from edge.export import gguf_file
from edge.export.gguf_file import Entry, Header
from edge.records import Json

_LAYER = re.compile(r"model\.layers\.(\d+)\.(\w+\.\w+)$")
_PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
_AGAIN = "let `edge export gguf … --importance ROWS.jsonl` make it anew"


@dataclass(frozen=True)
class Importance:
    """checkpoint, rows_sha256: digests. rows, tokens: how many it is of. columns: GGUF's name of a matrix -> mean x²."""

    checkpoint: str
    rows_sha256: str
    rows: int
    tokens: int
    columns: dict[str, array.array[float]]

    def facts(self) -> Json:
        return {"rows_sha256": self.rows_sha256, "rows": self.rows, "tokens": self.tokens}


def gguf_name(module: str) -> str | None:
    """What GGUF calls the weight of a linear layer of transformers; None for the output layer.

    The output matrix is left out: it is the embedding in small models, and llama.cpp's own tool leaves it out too.

    Raises: EdgeError for a layer of an architecture that is not known here.
    """
    if module == "lm_head":
        return None
    match = _LAYER.fullmatch(module)
    if not match or match[2] not in _PARTS:
        raise EdgeError(f"linear layer {module}: an architecture whose names in GGUF are not known here",
                        "export without --importance")  # fmt: skip
    return f"blk.{match[1]}.{_PARTS[match[2]]}.weight"


def write(file: Path, found: Importance) -> None:
    entries = [
        Entry("general.type", "string", "imatrix"),
        Entry("imatrix.datasets", "array:string", [found.rows_sha256]),
        Entry("imatrix.chunk_count", "uint32", found.rows),
        Entry("imatrix.chunk_size", "uint32", max(1, found.tokens // max(1, found.rows))),
        Entry("edge.checkpoint", "string", found.checkpoint),
        Entry("edge.rows", "uint32", found.rows),
        Entry("edge.tokens", "uint32", found.tokens),
    ]
    data = {}
    for name, means in found.columns.items():
        data[f"{name}.in_sum2"] = array.array("f", (m * found.tokens for m in means))
        data[f"{name}.counts"] = array.array("f", [found.tokens])
    places = gguf_file.place((name, (1, len(values)), "f32") for name, values in data.items())
    with file.open("wb") as f:
        f.write(gguf_file.pack_header(len(entries), gguf_file.pack_entries(entries), places))
        for place, values in zip(places, data.values(), strict=True):
            f.write(_little(values).tobytes() + bytes(gguf_file.padded(place.nbytes) - place.nbytes))


def read(file: Path) -> Importance:
    """Raises: EdgeError for a file that is none of ours, is cut off, or holds what is no mean of squares."""
    header = gguf_file.verify(file)
    told = header.metadata
    if told.get("general.type") != "imatrix" or "edge.checkpoint" not in told:
        raise EdgeError(f"{file}: not an importance matrix that edge made", _AGAIN)
    columns = {}
    with file.open("rb") as f:
        for name in header.tensors:
            if name.endswith(".in_sum2"):
                matrix = name.removesuffix(".in_sum2")
                (count,) = _values(f, header, f"{matrix}.counts")
                means = array.array("f", (v / count if count else math.nan for v in _values(f, header, name)))
                if not all(0 <= m < math.inf for m in means) or not any(means):
                    raise EdgeError(f"{file}: {matrix}: not means of squares", _AGAIN)
                columns[matrix] = means
    return Importance(
        told["edge.checkpoint"], told["imatrix.datasets"][0], told["edge.rows"], told["edge.tokens"], columns
    )


def check(found: Importance, checkpoint: str, source: Header, file: Path) -> None:
    """It is of this very checkpoint, and has every matrix of the layers in `source`, column by column.

    Raises: EdgeError saying what is not so.
    """
    if found.checkpoint != checkpoint:
        raise EdgeError(
            f"{file}: the importance matrix of another model ({found.checkpoint[:12]}, not {checkpoint[:12]})", _AGAIN
        )
    wanted = {t.name: t.shape[-1] for t in source.tensors.values() if len(t.shape) == 2 and t.name.startswith("blk.")}
    has = {name: len(means) for name, means in found.columns.items()}
    off = [n for n in sorted({*wanted, *has}) if wanted.get(n) != has.get(n)]
    if off:
        raise EdgeError(f"{file}: {len(off)} of {len(wanted)} matrices are not those of the model; {off[0]} has "
                        f"{has.get(off[0])} columns, expected {wanted.get(off[0])}", _AGAIN)  # fmt: skip


def _values(f: object, header: Header, name: str) -> array.array[float]:
    place = header.tensors.get(name)
    if place is None:
        raise EdgeError(f"the importance matrix lacks {name}", _AGAIN)
    f.seek(header.data_start + place.offset)  # type: ignore[attr-defined]
    return _little(array.array("f", f.read(place.nbytes)))  # type: ignore[attr-defined]


def _little(values: array.array[float]) -> array.array[float]:
    if sys.byteorder == "big":
        values = array.array("f", values)
        values.byteswap()
    return values
