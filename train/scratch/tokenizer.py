"""The embedded model's tokenizer: byte-pair encoding of Gemma's kind, made from the generator's own text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
# What the real FunctionGemma tokenizer treats as special (dropped by skip_special_tokens), and what it keeps.
TURNS = ["<start_of_turn>", "<end_of_turn>", "<start_function_response>"]
MARKS = [
    "<mask>",
    "<start_function_declaration>",
    "<end_function_declaration>",
    "<start_function_call>",
    "<end_function_call>",
    "<end_function_response>",
    "<escape>",
    "<start_of_image>",
    "<end_of_image>",
]
SPACE = "▁"
# The format's own phrases: one token each, so that prompts are shorter and each place in a declaration has a sign.
# Where two could overlap, the longer is listed too ("},type:"): then finding the longest first (llama.cpp) or the
# leftmost first (SentencePiece, Hugging Face) is the same.
FORMAT = [
    "declaration:",
    "call:",
    "{description:",
    "{description:<escape>",
    ":{description:<escape>",
    ",parameters:{properties:{",
    "}},required:[",
    ",type:",
    "],type:",
    "},type:",
    "},",
    *(f"<escape>{kind}<escape>" for kind in ("STRING", "INTEGER", "NUMBER", "BOOLEAN", "ARRAY", "OBJECT")),
]


def build_tokenizer(out: Path, size: int, seed: int) -> str:
    """Write tokenizer.model (SentencePiece) and the same as a Hugging Face tokenizer. Returns what was checked.

    Byte-pair encoding of Gemma's kind: byte fallback, digits one by one, no dummy prefix, text as it is. One choice is
    our own. The space and the newline are symbols of their own, so a word is cut the same way after a space as after
    `<escape>`: copying it from the question into a call is then copying tokens, one by one.
    """
    import io

    import sentencepiece

    from edge.train.scratch.data import texts

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts(seed, 4000) for line in text.split("\n")),
        model_writer=model, model_type="bpe", vocab_size=size, minloglevel=2, num_threads=1, max_sentence_length=20000,
        byte_fallback=True, split_digits=True, character_coverage=1.0, normalization_rule_name="identity",
        add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>",
        user_defined_symbols=[*TURNS, *MARKS, *FORMAT, "\n", SPACE],
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    save_tokenizer(hugging_face(pieces), out)
    checked = [*texts(seed + 1, 300), *TRICKY]
    differ = [text for text in checked if pieces.encode(text) != Words(out).ids(text)]
    if differ:
        raise ValueError(f"transformers and SentencePiece differ on {len(differ)} texts, first {differ[0]!r}")
    return f"{pieces.vocab_size()} pieces, equal on {len(checked)} texts"


def copy_tokenizer(model: Path, out: Path) -> None:
    """The tokenizer of a model that training goes on from."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model / name, out / name)


TRICKY = [
    "온도를 2도 올려 주세요",
    "é ☃ two  spaces",
    " 👩‍👩‍👧 emoji 🎉",
    "a\n\nb\tc",
    "<escape>{}:,[]<escape>",
    "ＦＵＬＬ ㎏",
    "日本語 ا",
    "",
    " ",
    "x" * 99,
]


def hugging_face(pieces: Any) -> Any:
    """The same tokenizer for transformers: merges are recovered from the order of the vocabulary."""
    from tokenizers import AddedToken, processors
    from transformers import GemmaTokenizer

    vocabulary = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    fixed = {*CONTROL, *TURNS, *MARKS, *FORMAT, "\n", SPACE} | {p for p, i in vocabulary.items() if pieces.is_byte(i)}
    merges = []
    for piece, rank in vocabulary.items():
        if piece not in fixed and len(piece) > 1:
            cuts = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
            merges += [
                (rank, vocabulary[a], vocabulary[b], a, b)
                for a, b in cuts
                if a in vocabulary and b in vocabulary and SPACE not in (a, b)
            ]
    tokenizer = GemmaTokenizer(
        vocab=vocabulary, merges=[(a, b) for *_, a, b in sorted(merges)], extra_special_tokens=None
    )
    inner = tokenizer._tokenizer
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in [*CONTROL, *TURNS]])
    inner.add_tokens([AddedToken(t, special=False, normalized=False) for t in [*MARKS, *FORMAT, "\n"]])
    inner.post_processor = processors.TemplateProcessing("<bos> $A", "<bos> $A <bos> $B", [("<bos>", 2)])
    return tokenizer


def save_tokenizer(tokenizer: Any, out: Path) -> None:
    """tokenizer.json, and a tokenizer_config.json that lists the added tokens as Gemma's does: converters read it."""
    tokenizer.save_pretrained(out)
    path = out / "tokenizer_config.json"
    added = {str(i): {"content": t.content, "special": t.special} for i, t in tokenizer.added_tokens_decoder.items()}
    ends = {"add_bos_token": True, "add_eos_token": False, "model_max_length": 4096}
    config = {**json.loads(path.read_text()), **ends, "added_tokens_decoder": added}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Words:
    """Text to token ids and the ids that matter."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.stops = [1, *self.tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<start_function_response>"])]
        self.call = self.tokenizer.convert_tokens_to_ids("<start_function_call>")

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def many(self, texts: list[str]) -> list[list[int]]:
        return [list(ids) for ids in self.tokenizer(texts, add_special_tokens=False).input_ids]
