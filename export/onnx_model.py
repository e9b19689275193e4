"""What a checkpoint must have to become an ONNX folder: its shape, and the tokens that onnxruntime-genai goes by.

Asked by the host before an environment is built, and by the worker before it converts. Standard library only.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from edge.dialects import Dialect
from edge.errors import EdgeError
from edge.export import gemma3, vocabulary
from edge.export.checkpoint import Folder
from edge.export.inspect import tokens as tokenizers
from edge.export.inspect.found import Tokenizer
from edge.export.inspect.wire import CutOff

BLOCK = 32  # elements that share a scale
CONTEXT = 4096  # tokens; the tables of rotary angles grow with it: 4 KB a token in the 270M
_BASE = "take tokenizer.json from the base model, as it was trained with it"


@dataclass(frozen=True)
class Quantisation:
    """One of them. tag: in the folder's name; precision: the builder's word; embedding_bits: 32 is float32."""

    name: str
    tag: str
    precision: str
    embedding_bits: int


QUANTISATIONS = {
    q.name: q
    for q in (
        Quantisation("f32", "f32", "fp32", 32),
        Quantisation("int8", "q8", "int8", 8),
        Quantisation("int4", "q4", "int4", 4),
        Quantisation("int4-emb-int8", "q4e8", "int4", 8),
    )
}


@dataclass(frozen=True)
class Tokens:
    """The ids that genai_config.json names; stop: the dialect's, in its order."""

    start_id: int
    pad_id: int
    stop: tuple[str, ...]
    stop_ids: list[int]


def parse(name: str) -> Quantisation:
    """The quantisation of this name, any case. Raises EdgeError naming the nearest."""
    word = name.strip().lower()
    if word in QUANTISATIONS:
        return QUANTISATIONS[word]
    near = [q.name for q in QUANTISATIONS.values() if word and q.tag == word]
    near = near or difflib.get_close_matches(word, list(QUANTISATIONS), n=1, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise EdgeError(f"no quantisation {name!r}", f"{hint}there are: {' '.join(QUANTISATIONS)}")


def parse_all(names: list[str]) -> list[Quantisation]:
    """Several, in order, each once. Raises EdgeError if there are none."""
    found = {q.name: q for q in map(parse, names)}
    if not found:
        raise EdgeError("no quantisation given", "name at least one, such as int8")
    return list(found.values())


def read(folder: Folder, dialect: Dialect) -> tuple[gemma3.Shape, Tokens]:
    """The hyperparameters and the tokens.

    Raises: EdgeError for another architecture, tensors that are missing or of another shape, a rope scaling, a tokenizer
    that is missing, lacks a token of the dialect or is not the model's.
    """
    shape = gemma3.read(folder)
    if shape.rope_factor is not None:
        raise EdgeError(
            f"{folder.path / 'config.json'}: rope scaling by {shape.rope_factor:g}: onnxruntime-genai's builder would "
            "scale the sliding layers as well",
            "such a model can be exported as GGUF",
        )
    gemma3.check_tensors(folder, gemma3.weights(shape))
    return shape, read_tokens(folder, dialect, shape.vocabulary)


def check_rows(shape: gemma3.Shape, chosen: list[Quantisation]) -> None:
    """Raises EdgeError for matrices whose rows are no whole number of blocks, or, under int4, of pairs of blocks."""
    for q in chosen:
        unit = {"fp32": 1, "int8": BLOCK, "int4": 2 * BLOCK}[q.precision]  # k_quant packs two zero points into a byte
        for w in gemma3.weights(shape):
            if len(w.shape) > 1 and w.shape[-1] % unit:
                raise EdgeError(
                    f"{q.name}: rows of {w.source} have {w.shape[-1]} elements, no multiple of {unit}",
                    "this model can be exported as " + ("int8 or f32" if w.shape[-1] % BLOCK == 0 else "f32"),
                )


def context_of(shape: gemma3.Shape, wanted: int | None) -> int:
    """Tokens of prompt and answer together. Raises EdgeError for more than the model was trained for."""
    if wanted is None:
        return min(CONTEXT, shape.context)
    if not 2 <= wanted <= shape.context:
        raise EdgeError(
            f"a context of {wanted} tokens: the model was trained for at most {shape.context}",
            f"take 2 to {shape.context}",
        )
    return wanted


def read_tokens(folder: Folder, dialect: Dialect, rows: int) -> Tokens:
    """Of the checkpoint's tokenizer.json, the one file that onnxruntime-genai tokenises by. rows: of the embedding.

    Raises: EdgeError if it is missing or damaged, has pieces that the embedding lacks, or lacks a token of the dialect
    or spells it in several pieces.
    """
    known = _tokenizer(folder)
    file = folder.path / "tokenizer.json"
    beyond = [p for n, p in enumerate(known.pieces) if n >= rows and known.types[n] != vocabulary.CONTROL]
    if beyond:
        raise EdgeError(
            f"{file}: {len(known.pieces):,} pieces, the embedding has {rows:,} rows: they are of different models",
            _BASE,
        )
    config = folder.json("tokenizer_config.json")
    start = vocabulary.token_text(config, "bos_token", "<bos>")
    pad = vocabulary.token_text(config, "pad_token", "<pad>")
    wanted = dict.fromkeys([start, pad, *dialect.STOP, *dialect.FUNCTION_TOKENS])
    lost = [t for t in wanted if t not in known.ids]
    spelled = [t for t in wanted if t in known.ids and known.types[known.ids[t]] == vocabulary.NORMAL]
    for bad, what in ((lost, "lacks"), (spelled, "spells in several pieces:")):
        if bad:
            raise EdgeError(
                f"{file}: {what} {' '.join(bad)}",
                "start from a model whose tokenizer.json has them as added tokens, such as FunctionGemma or edge-tiny",
            )
    return Tokens(known.ids[start], known.ids[pad], tuple(dialect.STOP), [known.ids[t] for t in dialect.STOP])


def _tokenizer(folder: Folder) -> Tokenizer:
    file = folder.path / "tokenizer.json"
    if not file.is_file():
        raise EdgeError(
            f"{file}: missing; onnxruntime-genai reads no other tokenizer",
            "`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` writes it",
        )
    try:
        return tokenizers.hugging_face(file.read_bytes())
    except CutOff as error:
        raise EdgeError(f"{file}: {error}", _BASE) from None
