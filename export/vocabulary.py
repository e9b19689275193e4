"""A checkpoint's tokenizer as a GGUF vocabulary: every piece with its text, its score and its type.

SentencePiece's `tokenizer.model` holds the pieces; what was added later (the function tokens, in some checkpoints)
stands only in Hugging Face's files. A converter that forgets those writes a file that loads, runs and tokenises nothing
right, so what the dialect needs is checked here by name. Standard library only; reading the `.model` is the worker's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge.errors import EdgeError
from edge.export.checkpoint import Folder
from edge.export.gguf_file import Entry
from edge.records import Json

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # the same numbers in SentencePiece and in GGUF
SPACE = "\u2581"  # how SentencePiece writes a space
_ADDED_SCORE, _PAD_SCORE = -1000.0, -10000.0
_CARRY = (
    "take tokenizer.model, tokenizer.json and tokenizer_config.json from the base model, as it was trained with them"
)


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Vocabulary:
    """pieces: one per row of the embedding. beyond: added tokens without a row, left out (Gemma's image token)."""

    pieces: list[Piece]
    padded: int
    beyond: list[str]
    ids: dict[str, int]  # the marker tokens: control and user-defined ones, by text

    def entries(self) -> list[Entry]:
        """The metadata of the vocabulary, three arrays of its length."""
        return [
            Entry("tokenizer.ggml.tokens", "array:string", [p.text for p in self.pieces]),
            Entry("tokenizer.ggml.scores", "array:float32", [p.score for p in self.pieces]),
            Entry("tokenizer.ggml.token_type", "array:int32", [p.type for p in self.pieces]),
        ]


@dataclass(frozen=True)
class Ends:
    """The ids that a GGUF names: end of text, of turn, of message; None where the dialect has no such."""

    eos: int
    eot: int | None
    eom: int | None


def build(
    model: list[Piece],
    added: dict[int, Json],
    rows: int,
    visible: Iterable[str] = (),
    where: object = "tokenizer.model",
) -> Vocabulary:
    """Lay the added tokens over the pieces of the `.model`.

    Args:
        model: the pieces as SentencePiece has them, by id.
        added: id -> {"content", "special"}, see `added_tokens`.
        rows: rows of the embedding; what the tokenizer lacks is filled with [PADn].
        visible: tokens that must show in generated text, whatever the files say of them.
        where: what an error names.

    Raises: EdgeError if the tokenizer has more pieces than the embedding has rows.
    """
    if len(model) > rows:
        raise EdgeError(
            f"{where}: {len(model)} pieces, the embedding has {rows} rows: they are of different models", _CARRY
        )
    shown = set(visible)
    pieces = [_own(p, shown) for p in model]
    pieces += [Piece(f"[PAD{n}]", _PAD_SCORE, UNUSED) for n in range(len(model), rows)]
    for n, token in added.items():
        if n < rows:
            pieces[n] = _added(token["content"], bool(token.get("special")), shown)
    used = sum(len(model) <= n < rows for n in added)
    ids = {p.text: n for n, p in enumerate(pieces) if p.type in (CONTROL, USER_DEFINED)}
    beyond = [str(added[n]["content"]) for n in sorted(added) if n >= rows]
    return Vocabulary(pieces, rows - len(model) - used, beyond, ids)


def added_tokens(folder: Folder) -> dict[int, Json]:
    """id -> {"content", "special"}, from whichever of the three files has them.

    Raises: EdgeError if two files give one id to different tokens, or one has no such list.
    """
    try:
        return _added_tokens(folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EdgeError(f"{folder.path}: the added tokens of its tokenizer can't be read: {error!r}", _CARRY) from None


def _added_tokens(folder: Folder) -> dict[int, Json]:
    found: dict[int, Json] = {}
    sources = (
        ("added_tokens.json", {n: {"content": text} for text, n in folder.json("added_tokens.json").items()}),
        ("tokenizer_config.json", folder.json("tokenizer_config.json").get("added_tokens_decoder") or {}),
        ("tokenizer.json", {t["id"]: t for t in folder.json("tokenizer.json").get("added_tokens") or []}),
    )
    for name, tokens in sources:
        for key, token in tokens.items():
            before = found.get(int(key), token)["content"]
            if before != token["content"]:
                said = f"id {key} is {token['content']!r}, in another file of the folder {before!r}"
                raise EdgeError(f"{folder.path / name}: {said}", _CARRY)
            found[int(key)] = {"content": token["content"], "special": token.get("special", False)}
    return found


def require(vocabulary: Vocabulary, tokens: Iterable[str], where: object) -> dict[str, int]:
    """The ids of the tokens that a dialect can't do without.

    Raises: EdgeError naming those that are missing, or that are there but would be spelled in several pieces.
    """
    wanted = list(tokens)
    missing = [t for t in wanted if t not in vocabulary.ids]
    if not missing:
        return {t: vocabulary.ids[t] for t in wanted}
    texts = {p.text for p in vocabulary.pieces}
    plain = [t for t in missing if t in texts]
    if plain:
        raise EdgeError(
            f"{where}: the tokenizer spells {' '.join(plain)} in several pieces: they are in tokenizer.model, "
            "but neither there nor in tokenizer.json as tokens of their own",
            _CARRY,
        )
    raise EdgeError(f"{where}: the tokenizer lacks {' '.join(missing)}", "start from a model that has them, such as "
                    "FunctionGemma or edge-tiny; if the base model has them, " + _CARRY)  # fmt: skip


def ends(stop: Iterable[str], ids: dict[str, int], eos: str) -> Ends:
    """Which of a dialect's stop tokens is end of text, of turn, of message: llama.cpp finds no others by itself.

    Raises: EdgeError for a dialect with more stops than the format can name.
    """
    others = [t for t in stop if t != eos]
    if len(others) > 2 or eos not in ids:
        raise EdgeError(f"GGUF names three stop tokens, {eos} and two more; the dialect has {' '.join(stop)}")
    found = [ids[t] for t in others] + [None, None]
    return Ends(ids[eos], found[0], found[1])


def visible_tokens(function_tokens: Iterable[str], stop: Iterable[str]) -> list[str]:
    """Those that a parser must see in generated text (not stops and turns): llama.cpp prints no control tokens."""
    ended = set(stop)
    turns = (
        "_of_turn>",
        "<|im_start|>",
        "<|begin_of_text|>",
        "_header_id|>",
        "<|python_tag|>",
    )  # the last: Llama's call
    return [t for t in function_tokens if t not in ended and not t.endswith(turns)]  # is read without it too


def chat_template(folder: Folder, default: str) -> tuple[str, str]:
    """(template, where from): the checkpoint's own, else the dialect's."""
    own = folder.text("chat_template.jinja")
    if own:
        return own, "chat_template.jinja"
    told = folder.json("tokenizer_config.json").get("chat_template")
    if isinstance(told, list):
        told = next((t.get("template") for t in told if t.get("name") == "default"), None)
    if isinstance(told, str) and told:
        return told, "tokenizer_config.json"
    return default, "dialect"


def token_text(config: Json, key: str, default: str) -> str:
    """A special token of tokenizer_config.json, which writes it as text or as an object with `content`."""
    value = config.get(key, default)
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else default


def _own(p: Piece, shown: set[str]) -> Piece:
    """A piece of the `.model`; user-defined ones are what SentencePiece cuts out of a text before anything else."""
    return _added(p.text, False, shown) if p.type == USER_DEFINED else p


def _added(text: str, special: bool, shown: set[str]) -> Piece:
    unused = text.startswith("<unused") and text.endswith(">")  # spare rows: not to be printed
    if text not in shown and (special or unused):
        return Piece(text, _ADDED_SCORE, CONTROL)
    # llama.cpp looks for these in the text before it writes spaces as SentencePiece does.
    return Piece(text.replace(SPACE, " "), _ADDED_SCORE, USER_DEFINED)
