"""Tokenizers in the two forms that artifacts carry: a SentencePiece model (protobuf) and a Hugging Face JSON.

Field numbers: sentencepiece_model.proto of google/sentencepiece.
"""

from __future__ import annotations

import json
from typing import Any

from edge.export.inspect.found import Tokenizer
from edge.export.inspect.wire import CutOff, Message, fields
from edge.export.vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED

_PIECES, _TRAINER = 1, 2  # of ModelProto
_TEXT, _TYPE = 1, 3  # of SentencePiece
_MODEL_TYPE = 3  # of TrainerSpec
_KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}


def sentencepiece(data: memoryview) -> Tokenizer:
    """Raises CutOff for bytes that are no such model."""
    pieces: list[str] = []
    types: list[int] = []
    kind = _KINDS[1]
    for number, value in fields(data):
        if number == _PIECES and not isinstance(value, int):
            text, type_ = _piece(value)
            pieces.append(text)
            types.append(type_)
        elif number == _TRAINER and not isinstance(value, int):
            kind = _KINDS.get(Message(value).number(_MODEL_TYPE, 1), "unknown")
    if not pieces:
        raise CutOff("no SentencePiece model: it holds no pieces")
    return Tokenizer(f"SentencePiece {kind}", pieces, types)


def hugging_face(text: str | bytes) -> Tokenizer:
    """A `tokenizer.json`. Raises CutOff for text that is none."""
    try:
        told = json.loads(text)
        model, added = told["model"], told.get("added_tokens") or []
        texts = _vocabulary(model.get("vocab") or {})
        types = dict.fromkeys(texts, NORMAL)
        for token in added:
            texts[token["id"]] = token["content"]
            types[token["id"]] = CONTROL if token.get("special") else USER_DEFINED
        return _dense(f"Hugging Face {model.get('type') or ''}".strip(), texts, types)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CutOff(f"no tokenizer.json: {error!r}") from None


def overlaid(tokenizer: Tokenizer, added: dict[int, Any]) -> Tokenizer:
    """The tokens that a folder's JSON files add to its SentencePiece model, over or after its pieces."""
    texts = dict(enumerate(tokenizer.pieces))
    types = dict(enumerate(tokenizer.types))
    for n, token in added.items():
        texts[n] = token["content"]
        types[n] = CONTROL if token.get("special") else USER_DEFINED
    return _dense(tokenizer.kind, texts, types)


def _piece(data: memoryview) -> tuple[str, int]:
    text, type_ = "", NORMAL
    for number, value in fields(data):
        if number == _TEXT and not isinstance(value, int):
            text = str(value, "utf-8", "replace")
        elif number == _TYPE and isinstance(value, int):
            type_ = value
    return text, type_


def _vocabulary(vocab: Any) -> dict[int, str]:
    """BPE and WordPiece have {text: id}, unigram a list of [text, score]."""
    if isinstance(vocab, dict):
        return {n: text for text, n in vocab.items()}
    return {n: entry[0] for n, entry in enumerate(vocab)}


_MOST = 4 << 20  # ids: no tokenizer has as many, and a damaged file may say anything


def _dense(kind: str, texts: dict[int, str], types: dict[int, int]) -> Tokenizer:
    size = max(texts, default=-1) + 1
    if size > _MOST:
        raise CutOff(f"a token with the id {size - 1:,}")
    ids = range(size)
    return Tokenizer(kind, [texts.get(n, "") for n in ids], [types.get(n, UNUSED) for n in ids])
