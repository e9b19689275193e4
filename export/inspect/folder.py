"""A Hugging Face folder: a checkpoint, or a LoRA adapter, through our own reader (`edge/export/checkpoint.py`)."""

from __future__ import annotations

import re
from pathlib import Path

from edge.errors import EdgeError
from edge.export import checkpoint, vocabulary
from edge.export.checkpoint import Folder, Tensor
from edge.export.inspect import tokens, wire
from edge.export.inspect.found import NO_TOKENIZER, Found, Section, Tally, Token, Tokenizer, add
from edge.records import digest_file, digest_folder

NAME, SUFFIXES = "a Hugging Face folder (a checkpoint or a LoRA adapter)", ()
ADAPTER = "adapter_config.json"
_EMBEDDING = "model.embed_tokens.weight"


def matches(path: Path) -> bool:
    return (path / "config.json").is_file() or (path / ADAPTER).is_file()


def read(path: Path) -> Found:
    """Raises EdgeError for a folder that is not whole."""
    return _adapter(path) if not (path / "config.json").is_file() else _checkpoint(path)


def tokenizer(path: Path) -> Tokenizer | None:
    """The folder's: the SentencePiece model with what JSON files add to it, or tokenizer.json alone."""
    model, text = path / "tokenizer.model", path / "tokenizer.json"
    try:
        if model.is_file():
            return tokens.overlaid(
                tokens.sentencepiece(wire.mapped(model)), vocabulary.added_tokens(Folder(path, {}, {}))
            )
        return tokens.hugging_face(text.read_bytes()) if text.is_file() else None
    except wire.CutOff as error:
        raise EdgeError(f"{model if model.is_file() else text}: {error}", "download or copy it again") from None


def template(path: Path) -> str | None:
    return vocabulary.chat_template(Folder(path, {}, {}), "")[0] or None


def licences(path: Path) -> list[str]:
    """Files that say so by their name, and what a model card says in its head."""
    found = [f.name for f in sorted(path.iterdir()) if re.match(r"(?i)(licen[cs]e|notice)(\W|$)", f.name)]
    card = path / "README.md"
    head = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace"), re.S) if card.is_file() else None
    told = re.search(r"(?m)^license:\s*(\S+)", head.group(1)) if head else None
    return [*found, *([f"license: {told.group(1)}"] if told else [])]


def _checkpoint(path: Path) -> Found:
    whole = checkpoint.inspect(path)
    c, known = whole.config, tokenizer(path)
    rows = whole.tensors.get(_EMBEDDING)
    return Found(
        path=str(path),
        format="checkpoint",
        bytes=sum(f.stat().st_size for f in path.iterdir() if f.is_file()),
        sha256=digest_folder(path),
        architecture=c.get("model_type"),
        parameters=whole.parameters,
        tensors=_tally(whole.tensors),
        vocabulary=rows.shape[0] if rows else c.get("vocab_size"),
        context_tokens=c.get("max_position_embeddings"),
        tokenizer=known,
        start=_one(known, c.get("bos_token_id")),
        stops=_stops(whole, known),
        template=template(path),
        notices=licences(path),
        sections=_sections(path, whole.tensors),
        facts={k: c[k] for k in _SHOWN if k in c},
    )


_SHOWN = ("architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
          "sliding_window", "tie_word_embeddings", "transformers_version")  # fmt: skip


def _adapter(path: Path) -> Found:
    told = Folder(path, {}, {}).json(ADAPTER)
    file = path / "adapter_model.safetensors"
    if not file.is_file():
        raise EdgeError(f"{file}: missing", "copy the whole folder; pickled adapters (.bin) are not read")
    found = checkpoint.read_header(file)
    return Found(
        path=str(path),
        format="adapter",
        bytes=sum(f.stat().st_size for f in path.iterdir() if f.is_file()),
        sha256=digest_folder(path),
        architecture=str(told.get("peft_type") or "adapter"),
        parameters=Folder(path, {}, found).parameters,
        tensors=_tally(found),
        tokenizer=tokenizer(path),
        template=template(path),
        notices=licences(path),
        sections=_sections(path, found),
        facts={k: told[k] for k in ("base_model_name_or_path", "r", "lora_alpha", "target_modules") if k in told},
    )


def _stops(whole: Folder, known: Tokenizer | None) -> list[Token]:
    """generation_config.json counts before config.json, as in transformers."""
    value = whole.json("generation_config.json").get("eos_token_id", whole.config.get("eos_token_id"))
    ids = value if isinstance(value, list) else [value]
    return [t for n in ids if (t := _one(known, n))]


def _one(known: Tokenizer | None, n: object) -> Token | None:
    return (known or NO_TOKENIZER).by_ids([n]) if isinstance(n, int) else None


def _tally(tensors: dict[str, Tensor]) -> dict[str, Tally]:
    tally: dict[str, Tally] = {}
    for t in tensors.values():
        elements = t.nbytes // checkpoint.ELEMENT_BYTES.get(t.dtype, 1)
        add(tally, t.dtype.lower(), elements, t.nbytes)
    return tally


def _sections(path: Path, tensors: dict[str, Tensor]) -> list[Section]:
    files = sorted({t.file for t in tensors.values()})
    return [Section(f.name, 0, f.stat().st_size, digest_file(f)) for f in files]
