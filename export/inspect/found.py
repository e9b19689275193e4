"""What `read` finds in an artifact: one record for every format, None or empty where the format doesn't say.

Standard library only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edge.records import Json


@dataclass(frozen=True)
class Token:
    """A token that an artifact names. given: "ids" or "text", as the file has it; the other is looked up.

    ids is empty where the tokenizer has no such piece; with several ids the runtime waits for all of them in a row.
    """

    ids: tuple[int, ...]
    text: str | None
    given: str

    def __str__(self) -> str:
        numbers = " ".join(map(str, self.ids)) or "no single id"
        return f"{self.text} ({numbers})" if self.text else numbers


@dataclass(frozen=True)
class Tokenizer:
    """pieces and types by id; the types are SentencePiece's numbers, which are GGUF's as well."""

    kind: str
    pieces: list[str]
    types: list[int]

    def __post_init__(self) -> None:
        """JSON and GGUF may hold anything under any key. Raises ValueError for what is not of its type."""
        if not isinstance(self.types, list):
            raise ValueError(f"the tokens' types are {self.types!r:.60}, no list")
        strange = next((piece for piece in self.pieces if not isinstance(piece, str)), None)
        if strange is not None:
            raise ValueError(f"a token is {strange!r:.60}, no text")

    @cached_property
    def ids(self) -> dict[str, int]:
        return {text: n for n, text in reversed(list(enumerate(self.pieces)))}

    def by_ids(self, ids: list[int]) -> Token:
        known = all(0 <= n < len(self.pieces) for n in ids)
        return Token(tuple(ids), "".join(self.pieces[n] for n in ids) if known and ids else None, "ids")

    def by_text(self, text: str) -> Token:
        found = self.ids.get(text)
        return Token(() if found is None else (found,), text, "text")


NO_TOKENIZER = Tokenizer("none", [], [])


@dataclass(frozen=True)
class Tally:
    """Tensors of one type."""

    count: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class Section:
    """A part of a file that is a file of its own. facts: what the container says about it."""

    name: str
    offset: int
    bytes: int
    sha256: str
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """One way to run a graph. tokens: how many it takes at once."""

    name: str
    tokens: int | None


@dataclass(frozen=True)
class Manifest:
    """The record beside an artifact. error: why it can't be used; differs: how the file is not the one it describes."""

    path: str
    error: str | None = None
    differs: str | None = None
    dialect: str | None = None
    quantisation: str | None = None
    context_tokens: int | None = None
    notices: list[str] = field(default_factory=list)
    source: str | None = None  # what made it
    verdict: str | None = None  # of its proof beside the checkpoint
    why: str = ""  # what spoke against it there


@dataclass(frozen=True)
class Found:
    """An artifact, a checkpoint or an adapter. Bytes are the file's, or those of all files of a folder."""

    path: str
    format: str
    bytes: int
    sha256: str
    architecture: str | None = None
    parameters: int | None = None
    tensors: dict[str, Tally] = field(default_factory=dict)
    quantisation: str | None = None
    vocabulary: int | None = None  # rows of the embedding: how many tokens the model can say
    context_tokens: int | None = None  # what the model was made for
    cache_tokens: int | None = None  # what the artifact has room for, prompt and answer together
    asked_tokens: int | None = None  # what the artifact's own metadata promises to a runtime
    signatures: list[Signature] = field(default_factory=list)
    tokenizer: Tokenizer | None = None
    start: Token | None = None
    stops: list[Token] = field(default_factory=list)
    template: str | None = None
    model_type: str | None = None  # which of the runtime's own parsers and templates it will take
    sampler: str | None = None
    notices: list[str] = field(default_factory=list)  # licence sentences or names, in the file or in its manifest
    sections: list[Section] = field(default_factory=list)
    bad_scales: list[str] = field(default_factory=list)  # 4-bit tensors with a scale that the CPU kernels refuse
    facts: dict[str, Any] = field(default_factory=dict)  # what only this format has
    manifest: Manifest | None = None

    def __post_init__(self) -> None:
        """JSON and GGUF may hold anything under any key. Raises ValueError for what is not of its type."""
        for name in ("vocabulary", "context_tokens", "cache_tokens", "asked_tokens"):
            if not isinstance(getattr(self, name), (int, type(None))):
                raise ValueError(f"{name} is {getattr(self, name)!r:.60}, no whole number")
        if not isinstance(self.template, (str, type(None))):
            raise ValueError(f"the template is {self.template!r:.60}, no text")

    @property
    def template_sha256(self) -> str | None:
        """Of its text in UTF-8: what manifests have as chat_template_sha256."""
        return None if self.template is None else sha256(self.template.encode("utf-8", "surrogateescape"))

    def to_json(self) -> Json:
        """Everything but the vocabulary's pieces and the template's text: what `edge inspect --json` prints."""
        value = {k: _plain(v) for k, v in vars(self).items() if k not in ("tokenizer", "template")}
        tokenizer = self.tokenizer and {"kind": printable(self.tokenizer.kind), "pieces": len(self.tokenizer.pieces)}
        template = None
        if self.template is not None:
            template = {"sha256": self.template_sha256, "first_line": printable(first_line(self.template))}
        return {**value, "tokenizer": tokenizer, "template": template}


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:100]


def printable(text: str) -> str:
    """Bytes that were no UTF-8 (a GGUF may hold any) as question marks: JSON and terminals refuse them."""
    return text.encode("utf-8", "replace").decode()


def sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def add(tally: dict[str, Tally], kind: str, elements: int, nbytes: int) -> None:
    """Count one more tensor."""
    t = tally.get(kind, Tally(0, 0, 0))
    tally[kind] = Tally(t.count + 1, t.elements + elements, t.bytes + nbytes)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {printable(str(k)): _plain(v) for k, v in value.items()}
    return {k: _plain(v) for k, v in vars(value).items()} if hasattr(value, "__dataclass_fields__") else value
