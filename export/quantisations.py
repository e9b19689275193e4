"""GGUF's quantisations: one table of names, what makes each, and how large it comes out.

A name is a preset, `q4_0`, or a preset with the type of the embedding, `q4_0-emb-q4_0`. The embedding is also the
output matrix (they are tied) and 63 % of a 270M model, so its type decides the size.

    preset                              embedding unless said    made by
    f32 f16 bf16                        the same                 numpy
    q8_0                                q8_0                     numpy
    q4_0 q4_1 q5_0 q5_1                 q8_0                     numpy
    q2_k … q6_k, iq3_s iq3_m, iq4_…     llama.cpp's choice       llama.cpp
    iq1_s … iq3_xs, q2_k_s              llama.cpp's choice       llama.cpp, with an importance matrix alone

numpy's are bit for bit what llama.cpp writes. With an importance matrix llama.cpp makes all but the floats and q8_0, in
whose rounding there is nothing to weigh. llama.cpp's choice for the embedding is q8_0 where the hidden size is no
multiple of 256 (270M: 640), and q6_k or so elsewhere. In such models it also replaces the K types, which come in blocks
of 256, by types in blocks of 32; so Q4_K_M is hardly smaller than Q8_0, and `-emb-q5_0` is what makes it small.
Standard library only.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from edge.errors import EdgeError


@dataclass(frozen=True)
class BlockType:
    """A tensor type. number: ggml's; block: elements in a block; block_bytes: what a block takes."""

    number: int
    block: int
    block_bytes: int

    def nbytes(self, elements: int) -> int:
        return -(-elements // self.block) * self.block_bytes


TYPES = {
    "f32": BlockType(0, 1, 4), "f16": BlockType(1, 1, 2), "bf16": BlockType(30, 1, 2),
    "q4_0": BlockType(2, 32, 18), "q4_1": BlockType(3, 32, 20), "q5_0": BlockType(6, 32, 22),
    "q5_1": BlockType(7, 32, 24), "q8_0": BlockType(8, 32, 34), "iq4_nl": BlockType(20, 32, 18),
    "q2_k": BlockType(10, 256, 84), "q3_k": BlockType(11, 256, 110), "q4_k": BlockType(12, 256, 144),
    "q5_k": BlockType(13, 256, 176), "q6_k": BlockType(14, 256, 210), "iq3_xxs": BlockType(18, 256, 98),
    "iq3_s": BlockType(21, 256, 110), "iq4_xs": BlockType(23, 256, 136), "iq2_xxs": BlockType(16, 256, 66),
    "iq2_xs": BlockType(17, 256, 74), "iq2_s": BlockType(22, 256, 82), "iq1_s": BlockType(19, 256, 50),
    "iq1_m": BlockType(29, 256, 56),
}  # fmt: skip
TYPE_NAMES = {t.number: name for name, t in TYPES.items()}
NUMPY_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
# What llama.cpp takes instead of a type in blocks of 256 when a row is no multiple of 256.
FALLBACK = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
            **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl")}  # fmt: skip

# preset -> (general.file_type, the type of most matrices)
PRESETS = {
    "f32": (0, "f32"), "f16": (1, "f16"), "bf16": (32, "bf16"),
    "q4_0": (2, "q4_0"), "q4_1": (3, "q4_1"), "q8_0": (7, "q8_0"), "q5_0": (8, "q5_0"), "q5_1": (9, "q5_1"),
    "q2_k": (10, "q2_k"), "q3_k_s": (11, "q3_k"), "q3_k_m": (12, "q3_k"), "q3_k_l": (13, "q3_k"),
    "q4_k_s": (14, "q4_k"), "q4_k_m": (15, "q4_k"), "q5_k_s": (16, "q5_k"), "q5_k_m": (17, "q5_k"),
    "q6_k": (18, "q6_k"), "iq4_nl": (25, "iq4_nl"), "iq3_s": (26, "iq3_s"), "iq3_m": (27, "iq3_s"),
    "iq4_xs": (30, "iq4_xs"),
    "iq2_xxs": (19, "iq2_xxs"), "iq2_xs": (20, "iq2_xs"), "q2_k_s": (21, "q2_k"), "iq3_xs": (22, "iq3_s"),
    "iq3_xxs": (23, "iq3_xxs"), "iq1_s": (24, "iq1_s"), "iq2_s": (28, "iq2_xs"), "iq2_m": (29, "iq2_s"),
    "iq1_m": (31, "iq1_m"),
}  # fmt: skip
# These are only usable with an importance matrix: llama.cpp refuses most of them without.
NEED_IMPORTANCE = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs", "q2_k_s")
EMBEDDING_TYPES = (*NUMPY_TYPES, "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
_HEADER_BYTES = 12 << 20  # the vocabulary of 262,144 pieces is 6.4 MB
_MIX = 1.3  # presets named _m and _l keep some matrices in a larger type


@dataclass(frozen=True)
class Quantisation:
    """One of them. `embedding` is None where llama.cpp chooses."""

    name: str
    preset: str
    matrix: str
    embedding: str | None
    file_type: int

    @property
    def made_by(self) -> str:
        """ "numpy" (the gguf worker) or "llama.cpp" (the quantise worker, which needs a compiler)."""
        return "numpy" if self.matrix in NUMPY_TYPES and self.embedding in NUMPY_TYPES else "llama.cpp"

    @property
    def weighted(self) -> bool:
        """Whether an importance matrix changes it."""
        return self.matrix not in ("f32", "f16", "bf16", "q8_0")

    def estimate_bytes(self, matrix_elements: int, embedding_elements: int, vector_elements: int) -> int:
        """The file's size: exact but for the header where numpy makes it, an upper bound elsewhere."""
        matrix, embedding = TYPES[self.matrix], TYPES[self.embedding or "q8_0"]
        fixed = _HEADER_BYTES + 4 * vector_elements + embedding.nbytes(embedding_elements)
        if self.matrix in NUMPY_TYPES:
            return fixed + matrix.nbytes(matrix_elements)
        larger = TYPES[FALLBACK.get(self.matrix, self.matrix)]
        return fixed + int(_MIX * max(matrix.nbytes(matrix_elements), larger.nbytes(matrix_elements)))


def parse(name: str, importance: bool = False) -> Quantisation:
    """The quantisation of this name, any case. importance: whether there is an importance matrix.

    Raises: EdgeError naming the nearest, or what this one needs.
    """
    preset, marker, embedding = name.strip().lower().partition("-emb-")
    if preset in NEED_IMPORTANCE and not importance:
        raise EdgeError(f"quantisation {name!r} needs an importance matrix",
                        "`edge export gguf … --importance ROWS.jsonl` makes one from training prompts; "
                        "iq3_m, iq4_xs and q3_k_m work without")  # fmt: skip
    if preset not in PRESETS:
        raise EdgeError(f"no quantisation {name!r}", _nearest(preset, list(PRESETS)))
    if marker and embedding not in EMBEDDING_TYPES:
        raise EdgeError(
            f"quantisation {name!r}: no embedding type {embedding!r}", _nearest(embedding, list(EMBEDDING_TYPES))
        )
    file_type, matrix = PRESETS[preset]
    usual = _usual_embedding(preset)
    full = f"{preset}-emb-{embedding}" if marker and embedding != usual else preset
    return Quantisation(full, preset, matrix, embedding or usual, file_type)


def parse_all(names: list[str], importance: bool = False) -> list[Quantisation]:
    """Several, in order, each once. Raises EdgeError if there are none."""
    found = {q.name: q for q in (parse(name, importance) for name in names)}
    if not found:
        raise EdgeError("no quantisation given", "name at least one, such as q8_0")
    return list(found.values())


def _usual_embedding(preset: str) -> str | None:
    if preset in ("f32", "f16", "bf16"):
        return preset
    return "q8_0" if preset in NUMPY_TYPES else None


def _nearest(word: str, among: list[str]) -> str:
    near = difflib.get_close_matches(word, among, n=1, cutoff=0.4)
    return (f"did you mean {near[0]}? " if near else "") + f"there are: {' '.join(among)}"
