# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "llama-cpp-python==0.3.36", "torch==2.13.0", "transformers==5.23.0", "safetensors==0.8.0", "sentencepiece==0.2.3",
#   "protobuf==7.36.2", "numpy==2.4.6", "pyyaml==6.0.3", "tqdm==4.70.1",
# ]
#
# [tool.edge]
# megabytes = 1400
# environment = "convert-hf"
# about = "torch, transformers and llama.cpp's converter, 1.2 GB"
# without = ["diskcache"]
#
# [tool.edge.config-settings]
# "wheel.cmake" = "false"
# "wheel.packages" = "vendor/llama.cpp/conversion;vendor/llama.cpp/gguf-py/gguf"
# ///
"""Hugging Face folder -> GGUF files by llama.cpp's own converter, for the families that `export/families.py` names.

The converter is not on any index by itself. It lies in the sdist of llama-cpp-python, whose build backend is told above
to compile nothing and to install the converter's two packages instead of the bindings.

Request:
    checkpoint      the folder: config.json, safetensors, tokenizer.json, tokenizer_config.json
    name            the files are called NAME-QUANTISATION.gguf
    quantisations   of f32, f16, bf16, q8_0: what the converter writes; others are made from one of these
    dialect         whose stop tokens and (for want of the checkpoint's own) template go into the file
    out             the folder to fill

Makes the GGUF files and `tokens.jsonl`: some 400 strings and their ids by transformers, for llama.cpp to be compared with.

Answer:
    artifacts       one each: file, quantisation, bytes, file_type, tensor_types (type -> count), export_s
    tokens          "tokens.jsonl"
    stop_ids, stop_tokens, chat_template_sha256, chat_template_source, context_tokens
    checks          family; tensors; tokenizer_strings_checked, tokenizer_mismatches (0, else it fails),
                    tokenizer_exotic_mismatches (control characters, decomposed accents: left out of tokens.jsonl);
                    pre_tokenizer, pre_tokenizer_known_by ("converter" or "rule"); function_tokens, spelled_tokens (of the
                    dialect: those that this tokenizer writes in several pieces)
    versions        of the packages that the result depends on

The converter knows a pre-tokenizer by the hash of one text's ids, so it knows published vocabularies only. How a text is
cut does not depend on the vocabulary but on the rule in the tokenizer, which is compared with llama.cpp's rules here, to
the letter. Where the converter knows the vocabulary too, both must agree.

Fails with "input" for a checkpoint or tokenizer that can't be exported right, "gate" if what was written does not tokenise
as transformers does.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import hashlib
import json
import shutil
import time
import unicodedata
from pathlib import Path
from typing import Any

from edge import dialects
from edge.errors import EdgeError, GateError, MissingError
from edge.export import checkpoint, families, gguf_file, quantisations, token_check, vocabulary
from edge.export.quantisations import Quantisation

MADE = ("f32", "f16", "bf16", "q8_0")
_HALF_MAX = 65504.0
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# tokenizer.ggml.pre -> how it cuts a text. llama.cpp's rules of these names are the same; it never normalises, though.
RULES = {"qwen2": _WORDS + r"\p{N}" + _REST, "llama-bpe": _WORDS + r"\p{N}{1,3}" + _REST}
_WHOLE_WORDS = ("llama-bpe",)  # a word that is a token is not cut into merges
_BASE = "take the tokenizer's files from the base model, as it was trained with them"


def main(request: dict[str, Any], reply: Any) -> dict[str, Any]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    out, dialect = Path(request["out"]), dialects.get(request["dialect"])
    folder = checkpoint.inspect(request["checkpoint"])
    family = families.converted(folder)
    chosen = _chosen(request["quantisations"])
    _check_disk(out, folder, chosen)
    reply.progress(None, None, "tokenizer")
    tokens = Tokens(folder, dialect)
    reply.progress(None, None, "weights")
    families.plan(folder)  # what is missing would be filled with random weights
    _check_weights(folder, chosen)
    template, source = vocabulary.chat_template(folder, dialect.CHAT_TEMPLATE)
    stage = _stage(folder, template, out)
    artifacts = []
    for n, q in enumerate(chosen):
        reply.progress(n, len(chosen), q.name)
        artifacts.append(_convert(stage, family, tokens, out / f"{request['name']}-{q.name}.gguf", q, request["name"]))
    shutil.rmtree(stage)
    reply.progress(len(chosen), len(chosen), "reading back")
    first = out / artifacts[0]["file"]
    right = _check_tokens(first, tokens)
    token_check.save(right, out / token_check.FILE)
    stops = _stops(folder, tokens, dialect)
    return {
        "artifacts": artifacts,
        "tokens": token_check.FILE,
        "stop_ids": [n for _, n in stops],
        "stop_tokens": [text for text, _ in stops],
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "chat_template_source": source,
        "context_tokens": folder.config.get("max_position_embeddings"),
        "checks": {
            "family": family.name,
            "tensors": len(gguf_file.read(first).tensors),
            "tokenizer_strings_checked": len(right),
            "tokenizer_mismatches": 0,
            "tokenizer_exotic_mismatches": len(tokens.pairs) - len(right),
            "pre_tokenizer": tokens.rule,
            "pre_tokenizer_known_by": tokens.known_by,
            "function_tokens": {t: tokens.ids[t] for t in dialect.FUNCTION_TOKENS if t in tokens.ids},
            "spelled_tokens": [t for t in dialect.FUNCTION_TOKENS if t not in tokens.ids],
        },
        "versions": _versions(),
    }


def _chosen(names: list[str]) -> list[Quantisation]:
    chosen = quantisations.parse_all(names)
    others = [q.name for q in chosen if q.name not in MADE]
    if others:
        raise EdgeError(f"{', '.join(others)}: the converter makes {' '.join(MADE)}",
                        "make an f16 here and give it to the quantise worker")  # fmt: skip
    return chosen


def _check_disk(out: Path, folder: checkpoint.Folder, chosen: list[Quantisation]) -> None:
    needed, free = sum(q.estimate_bytes(folder.parameters, 0, 0) for q in chosen), shutil.disk_usage(out).free
    if needed > free:
        what = ", ".join(q.name for q in chosen)
        raise MissingError(f"{out}: {needed / 1e6:,.0f} MB are needed for {what}, {free / 1e6:,.0f} MB are free",
                           "free some disk, or export fewer quantisations at a time")  # fmt: skip


def _check_weights(folder: checkpoint.Folder, chosen: list[Quantisation]) -> None:
    """Every weight is finite, and fits into float16 where that is wanted: the converter asks neither."""
    import torch
    from safetensors import safe_open

    halves = [q.name for q in chosen if q.name in ("f16", "q8_0")]
    for file in sorted({t.file for t in folder.tensors.values()}):
        with safe_open(str(file), "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118, it is no dict
                largest = float(tensors.get_tensor(name).abs().max().to(torch.float32))
                if not largest < float("inf"):
                    raise EdgeError(f"{file}: {name} has weights that are NaN or infinite",
                                    "training diverged: go back to an earlier checkpoint, lower the learning rate")  # fmt: skip
                if halves and largest > _HALF_MAX:
                    raise EdgeError(f"{file}: {name}: a weight of {largest:g} is beyond float16, which {halves[0]} needs",
                                    "export as bf16 or f32; weights so large mostly mean that training diverged")  # fmt: skip


def _stage(folder: checkpoint.Folder, template: str, out: Path) -> Path:
    """The checkpoint by links, with its template in the one place where the converter always finds it."""
    stage = out / ".stage"
    stage.mkdir()
    for file in folder.path.iterdir():
        if file.is_file() and file.name != "chat_template.jinja":
            (stage / file.name).symlink_to(file)
    (stage / "chat_template.jinja").write_text(template, encoding="utf-8")
    return stage


def _convert(
    stage: Path, family: families.Family, tokens: Tokens, target: Path, q: Quantisation, name: str
) -> dict[str, Any]:
    """Write one file and read it back. Raises EdgeError with the converter's words where it refuses."""
    import gguf
    import torch
    from conversion import get_model_class

    started = time.perf_counter()
    with torch.inference_mode():
        model = get_model_class(family.architecture)(
            stage, gguf.LlamaFileType(q.file_type), target, model_name=name
        )  # fmt: skip
        model.get_vocab_base_pre = tokens.naming(model.get_vocab_base_pre)
        try:
            model.write()
        except (ValueError, KeyError, NotImplementedError, AssertionError) as error:
            raise EdgeError(f"{stage.parent}: llama.cpp's converter can't take it: {type(error).__name__}: {error}",
                            "compare config.json and the tensors with those of the base model") from error  # fmt: skip
    header = gguf_file.verify(target)
    return {
        "file": target.name,
        "quantisation": q.name,
        "bytes": target.stat().st_size,
        "file_type": header.metadata["general.file_type"],
        "tensor_types": header.types(),
        "export_s": time.perf_counter() - started,
    }


# --- tokenizer --------------------------------------------------------------------------------------------------------


class Tokens:
    """The tokenizer as transformers has it, with which the model was trained, and what llama.cpp calls its rule."""

    def __init__(self, folder: checkpoint.Folder, dialect: dialects.Dialect) -> None:
        from transformers import AutoTokenizer

        self._file = folder.path / "tokenizer.json"
        if not self._file.is_file():
            raise EdgeError(f"{self._file}: missing", _BASE)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder.path)
            self._told = json.loads(tokenizer.backend_tokenizer.to_str())
        except Exception as error:  # the packages have no finer one
            raise EdgeError(f"{self._file}: not a tokenizer that can be read: {error}", _BASE) from None
        rows = folder.config.get("vocab_size", 0)
        if len(tokenizer) > rows:
            raise EdgeError(f"{self._file}: {len(tokenizer)} tokens, the embedding has {rows} rows: of different models",
                            _BASE)  # fmt: skip
        self.rule = self._rule()
        self.known_by = "rule"
        self.ids: dict[str, int] = {t["content"]: t["id"] for t in self._told["added_tokens"]}
        step = max(1, len(self.ids) // 30)
        markers = [t for t in dialect.FUNCTION_TOKENS if t in self.ids]
        texts = token_check.strings(dialect, dict.fromkeys([*markers, *list(self.ids)[::step]]))
        self.pairs = [(t, list(tokenizer(t, add_special_tokens=False).input_ids)) for t in texts]

    def naming(self, by_hash: Any) -> Any:
        """What the converter shall ask for a pre-tokenizer's name. Raises GateError where hash and rule disagree."""

        def name(tokenizer: Any) -> str:
            try:
                found = by_hash(tokenizer)
            except NotImplementedError:
                return self.rule
            self.known_by = "converter"
            if found != self.rule:
                raise GateError(
                    f"{self._file}: by its vocabulary this is {found}, by the rule in it {self.rule}", _BASE
                )
            return self.rule

        return name

    def _rule(self) -> str:
        """The name in RULES. Raises EdgeError for a tokenizer that cuts texts in another way."""
        kind = self._told["model"].get("type")
        steps = self._told.get("pre_tokenizer") or {}
        cut, *then = steps.get("pretokenizers") or [steps]
        by_bytes = [s for s in then if s.get("type") == "ByteLevel"]
        normaliser = (self._told.get("normalizer") or {}).get("type")
        for name, rule in RULES.items():
            if (
                kind == "BPE"
                and cut.get("type") == "Split"
                and cut.get("pattern") == {"Regex": rule}
                and (cut.get("behavior"), cut.get("invert")) == ("Isolated", False)
                and len(then) == len(by_bytes) == 1
                and not (by_bytes[0].get("use_regex") or by_bytes[0].get("add_prefix_space"))
                and normaliser in (None, "NFC")
                and bool(self._told["model"].get("ignore_merges")) == (name in _WHOLE_WORDS)
            ):
                return name
        raise EdgeError(
            f"{self._file}: it cuts texts in a way that is none of {', '.join(RULES)} "
            f"({kind}, normalizer {normaliser}, {json.dumps(cut, ensure_ascii=False)[:120]})",
            _BASE + "; a tokenizer of another kind can't be carried over to GGUF yet",
        )


def _check_tokens(file: Path, tokens: Tokens) -> list[token_check.Pair]:
    """The pairs that the vocabulary as it stands in the file gets right.

    Raises: GateError if what people write is tokenised otherwise. Texts that Unicode would compose count as exotic:
    Qwen's tokenizer composes them and llama.cpp does not.
    """
    tokenizer = written(gguf_file.read(file).metadata)
    wrong = token_check.differing(tokens.pairs, lambda t: list(tokenizer.encode(t, add_special_tokens=False).ids))
    token_check.refuse([w for w in wrong if not _exotic(w[0])], len(tokens.pairs), str(file))
    dropped = {text for text, _ in wrong}
    return [p for p in tokens.pairs if p[0] not in dropped]


def _exotic(text: str) -> bool:
    return token_check.exotic(text) or not unicodedata.is_normalized("NFC", text)


def written(metadata: dict[str, Any]) -> Any:
    """The tokenizer that a GGUF's metadata describes."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    texts, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    rule = metadata["tokenizer.ggml.pre"]
    merges = [tuple(m.split(" ")) for m in metadata["tokenizer.ggml.merges"]]
    plain = {t: n for n, t in enumerate(texts)}
    tokenizer = Tokenizer(models.BPE(plain, merges, ignore_merges=rule in _WHOLE_WORDS))
    cut = pre_tokenizers.Split(Regex(RULES[rule]), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, as_bytes])
    marked = (vocabulary.CONTROL, vocabulary.USER_DEFINED)
    markers = [AddedToken(t, normalized=False) for t, k in zip(texts, kinds, strict=True) if k in marked]
    tokenizer.add_tokens(markers)
    return tokenizer


def _stops(folder: checkpoint.Folder, tokens: Tokens, dialect: dialects.Dialect) -> list[tuple[str, int]]:
    """The dialect's stop tokens that this tokenizer has, and the model's own ends."""
    texts = {n: t for t, n in tokens.ids.items()}
    own = folder.json("generation_config.json").get("eos_token_id", folder.config.get("eos_token_id"))
    ends = own if isinstance(own, list) else [own]
    found = [tokens.ids[t] for t in dialect.STOP if t in tokens.ids] + [n for n in ends if n in texts]
    if not found:
        raise EdgeError(f"{folder.path}: no stop token: the tokenizer has none of {' '.join(dialect.STOP)}, and neither "
                        "generation_config.json nor config.json names an eos_token_id that it has", _BASE)  # fmt: skip
    return [(texts[n], n) for n in dict.fromkeys(found)]


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("llama-cpp-python", "torch", "transformers", "tokenizers", "numpy")
    return {"python": sys.version.split()[0], **{n: version(n) for n in names}}


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
