"""What will go wrong on the device, said beforehand: one table of rules, one small function a rule.

A rule's function looks at what `edge.export.inspect` found and yields what it sees, one sentence for each fault; the
table says what that does on the device and what to do about it. Nothing is run: the parity gate and the bench are for
what only a run can show.

Sources of what happens: our own trials and published field reports, with LiteRT-LM 0.12 to 0.18.1, llama.cpp as in
llama-cpp-python 0.3.36, mediapipe 0.10.35, flutter_gemma 1.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge import dialects
from edge.dialects import Dialect
from edge.export import inspect
from edge.export.inspect import litertlm
from edge.export.inspect.found import NO_TOKENIZER, Found, Token, printable
from edge.export.job import GEMMA_NOTICE
from edge.export.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, visible_tokens
from edge.records import PathLike

ERROR, WARNING, INFO = "error", "warning", "info"
# What `inspect` calls them, but that a lone .onnx file is "graph": unlike its folder it says nothing of tokens.
_ARTIFACTS = ("gguf", "tflite", "task", "litertlm", "onnx", "graph")  # what a device gets
EVERY = (*_ARTIFACTS, "checkpoint", "adapter")
_TALKING = ("gguf", "task", "litertlm", "onnx")  # those that say themselves where an answer begins and ends
_GEMMA_PIECES = range(262_144, 262_210)  # the size of Gemma 3's vocabulary, with the few tokens that families add
# The parsers of LiteRT-LM that read a dialect's calls.
_MODEL_TYPES = {"functiongemma": ("function_gemma",), "hermes": ("qwen3", "qwen2p5")}
# What LiteRT-LM's Jinja (MiniJinja) can't do: tried with 0.12, 0.15, 0.17.1 and 0.18.1, which agree, on templates of one
# expression each. They can do macros and dictsort, and the methods items, strip, rstrip, split, replace, startswith and
# endswith. Reports that blame `macro` or `dictsort` were not borne out.
_NO_STATEMENT = r"\{%[-+]?\s*(break|continue|do|include|import|extends)\b"
_NO_METHOD = r"\.\s*(append|capitalize|count|find|get|join|keys|lower|title|update|upper|values)\s*\("


@dataclass(frozen=True)
class Finding:
    """seen: what is wrong in this file; happens: what that does on the device; fix: what to do."""

    file: str
    rule: str
    severity: str
    seen: str
    happens: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}: {self.severity} {self.rule}: {self.seen}\n    on the device: {self.happens}\n    fix: {self.fix}"


@dataclass(frozen=True)
class Rule:
    id: str
    formats: tuple[str, ...]
    severity: str
    find: Callable[[Found], Iterator[str]]
    happens: str
    fix: str


def check(path: PathLike) -> list[Finding]:
    """What is wrong with an artifact, errors first; a file that is not whole is a finding of its own.

    Raises: EdgeError for what is missing or of no format that edge reads.
    """
    inspect.format_of(Path(path))
    try:
        found = inspect.read(path)
    except inspect.Damaged as error:
        fix = f"{error.hint or DAMAGED.fix}".removesuffix(".") + "."
        return [Finding(str(path), DAMAGED.id, ERROR, error.message.removeprefix(f"{path}: "), DAMAGED.happens, fix)]
    return check_found(found)


def check_found(found: Found) -> list[Finding]:
    """The same for what was read already."""
    findings = [
        Finding(found.path, rule.id, rule.severity, printable(seen), rule.happens, rule.fix)
        for rule in RULES
        if _kind(found) in rule.formats
        for seen in rule.find(found)
    ]
    return sorted(findings, key=lambda f: (ERROR, WARNING, INFO).index(f.severity))


def _kind(found: Found) -> str:
    return "graph" if found.format == "onnx" and not Path(found.path).is_dir() else found.format


# Which family's tokens and stops a file should have


def dialect_of(found: Found) -> tuple[str, Dialect] | None:
    """The manifest's dialect, else the one whose function tokens are all in the vocabulary."""
    told = found.manifest.dialect if found.manifest else None
    if told in dialects.names():
        return str(told), dialects.get(str(told))
    ids = (found.tokenizer or NO_TOKENIZER).ids
    for name in dialects.names():
        dialect = dialects.get(name)
        if all(t in ids for t in dialect.FUNCTION_TOKENS):
            return name, dialect
    return None


def _type(found: Found, text: str) -> int | None:
    """A token's type in the vocabulary, None if it is not there."""
    t = found.tokenizer or NO_TOKENIZER
    n = t.ids.get(text)
    return None if n is None else t.types[n] if n < len(t.types) else NORMAL


# Stops and starts


def _stop_missing(found: Found) -> Iterator[str]:
    family = dialect_of(found)
    there = {t.text for t in found.stops}
    if family is None or found.tokenizer is None:  # which ids they should be can't be told
        if not found.stops:
            yield "it names no stop token"
        return
    lacking = [t for t in family[1].STOP if t not in there]
    if lacking:
        yield f"{' '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not among its stops ({_list(found.stops)})"


def _stop_several(found: Found) -> Iterator[str]:
    if found.tokenizer is None:
        return  # then it is the tokenizer that is missing
    for t in found.stops:
        if len(t.ids) > 1:
            yield f"the stop {t} is {len(t.ids)} tokens in a row"
        elif t.given == "text" and (not t.ids or _type(found, str(t.text)) in (NORMAL, UNKNOWN)):
            yield f"the stop {t.text!r} is a string that the tokenizer spells in several pieces"


def _stop_at_end_of_call(found: Found) -> Iterator[str]:
    for t in found.stops:
        if t.text in ("<end_function_call>", "</tool_call>"):
            yield f"{t} is one of its stops"


def _start_missing(found: Found) -> Iterator[str]:
    family = dialect_of(found)
    if (
        found.tokenizer
        and family
        and family[0] == "functiongemma"
        and (found.start is None or found.start.text != "<bos>")
    ):
        yield f"its start token is {found.start or 'not set'}, not <bos>"


# Templates and the runtime's own handling


def _template_missing(found: Found) -> Iterator[str]:
    if not found.template:
        yield "it carries no chat template"


def _template_beyond(found: Found) -> Iterator[str]:
    without_comments = re.sub(r"\{#.*?#\}", "", found.template or "", flags=re.S)
    tags = " ".join(re.findall(r"\{%.*?%\}|\{\{.*?\}\}", without_comments, flags=re.S))
    code = re.sub(r"'[^']*'|\"[^\"]*\"", "''", tags)  # strings may say anything
    used = [f"`{w}`" for w in re.findall(_NO_STATEMENT, code)] + [
        f"the method `{w}()`" for w in re.findall(_NO_METHOD, code)
    ]
    if used:
        yield f"its template uses {', '.join(dict.fromkeys(used))}"


def _model_type(found: Found) -> Iterator[str]:
    family = dialect_of(found)
    wanted = _MODEL_TYPES.get(family[0], ()) if family else ()
    said = found.model_type
    if wanted and said not in wanted:
        yield f"its model type is {said or 'not set'}; calls of this model need {' or '.join(wanted)}"
    elif not family and said in (None, "generic_model"):
        yield f"its model type is {said or 'not set'}"


def _sampler(found: Found) -> Iterator[str]:
    if (found.sampler or "").startswith("GREEDY"):
        yield "its sampler is GREEDY (type 3)"


def _activation_type(found: Found) -> Iterator[str]:
    for s in litertlm.prefill_decode(found):
        said = s.facts.get("prefer_activation_type")
        if said not in ("fp32", "float32"):
            yield f"prefer_activation_type of its prefill and decode section is {said or 'not set'}"


def _prompt_affixes(found: Found) -> Iterator[str]:
    written = found.facts.get("prompt") or {}
    if written:
        yield f"it writes {', '.join(f'{name} {text!r}' for name, text in written.items())}"


# Vocabularies


def _tokenizer_missing(found: Found) -> Iterator[str]:
    if found.tokenizer is None:
        yield "it carries no tokenizer"


def _tokenizer_size(found: Found) -> Iterator[str]:
    """A runtime can't feed an id beyond the embedding, nor print one beyond the tokenizer."""
    if found.tokenizer is None or not found.vocabulary:
        return
    t, rows = found.tokenizer, found.vocabulary
    spoken = [n for n, kind in enumerate(t.types) if n >= rows and kind in (NORMAL, USER_DEFINED, BYTE)]
    padded = found.format in ("checkpoint", "onnx")  # rows that no text leads to; an exporter fills or cuts them
    if spoken or (len(t.pieces) < rows and not padded):
        yield f"its tokenizer has {len(t.pieces):,} pieces, the model's embedding {rows:,} rows"


def _tokens_as_control(found: Found) -> Iterator[str]:
    family = dialect_of(found)
    shown = visible_tokens(family[1].FUNCTION_TOKENS, family[1].STOP) if family else []
    hidden = [t for t in shown if _type(found, t) == CONTROL]
    if hidden:
        yield f"{' '.join(hidden)} {'is' if len(hidden) == 1 else 'are'} of type CONTROL"


def _tokens_spelled(found: Found) -> Iterator[str]:
    """SentencePiece alone matches only user-defined pieces in a text; other readers also control ones."""
    family = dialect_of(found)
    if family is None or found.tokenizer is None:
        return
    by_text_only = found.format in ("task", "litertlm") and found.tokenizer.kind.startswith("SentencePiece")
    whole = [USER_DEFINED] if by_text_only else [USER_DEFINED, CONTROL]
    needed = [t for t in family[1].FUNCTION_TOKENS if t not in family[1].STOP or t == "<end_of_turn>"]
    spelled = [t for t in needed if _type(found, t) not in whole]
    if spelled:
        yield f"its tokenizer spells {' '.join(spelled)} in several pieces, or has no such token"


# Weights and sizes


def _zero_row(found: Found) -> Iterator[str]:
    if found.bad_scales:
        more = f" and {len(found.bad_scales) - 1} more" if len(found.bad_scales) > 1 else ""
        yield f"the 4-bit tensor {found.bad_scales[0]}{more} has a scale of zero, as a row of zeros (the pad token's) gives"


def _beyond_cache(found: Found) -> Iterator[str]:
    room = found.cache_tokens or (found.context_tokens if found.format in ("gguf", "onnx") else None)
    if not room:
        return
    told = found.manifest.context_tokens if found.manifest else None
    for what, tokens in (("its metadata asks for", found.asked_tokens), ("its manifest says", told)):
        if tokens and tokens > room:
            yield f"{what} {tokens:,} tokens, it has room for {room:,}"
    for s in found.signatures:
        if s.tokens and s.tokens > room:
            yield f"its signature {s.name} takes {s.tokens:,} tokens, it has room for {room:,}"


def _overhangs(found: Found) -> Iterator[str]:
    """LiteRT-LM feeds the last piece of a prompt as a whole prefill, which must not end behind the cache (0.18.1)."""
    room = found.cache_tokens or 0
    for s in found.signatures:
        if s.tokens and s.tokens > 1 and s.tokens <= room and room % s.tokens:
            yield f"a cache of {room:,} tokens is no multiple of {s.name}'s {s.tokens:,}"


def _lacks_model(found: Found) -> Iterator[str]:
    if found.format == "litertlm" and not litertlm.prefill_decode(found):
        yield f"it has no section of model_type {litertlm.PREFILL_DECODE}"
    if found.format == "task" and "TF_LITE_PREFILL_DECODE" in found.facts.get("lacks", []):
        yield "it has no member TF_LITE_PREFILL_DECODE"


def _compressed(found: Found) -> Iterator[str]:
    packed = found.facts.get("compressed") or []
    if packed:
        yield f"{', '.join(packed)} {'is' if len(packed) == 1 else 'are'} compressed in its zip"


def _unmerged(found: Found) -> Iterator[str]:
    yield f"an adapter alone, to be added to {found.facts.get('base_model_name_or_path') or 'its base model'}"


# Papers


def _refused(found: Found) -> Iterator[str]:
    yield from _verdict(found, "refused")


def _degraded(found: Found) -> Iterator[str]:
    yield from _verdict(found, "degraded")


def _verdict(found: Found, verdict: str) -> Iterator[str]:
    if found.manifest and found.manifest.verdict == verdict:
        yield found.manifest.why or "its manifest doesn't say why"


def _licence(found: Found) -> Iterator[str]:
    """A manifest of ours without notices says that none is needed, unless the vocabulary is Gemma's."""
    gemma = found.vocabulary in _GEMMA_PIECES
    ours = found.manifest is not None and found.manifest.error is None and not gemma
    if not found.notices and not ours:
        yield (
            "a vocabulary of Gemma's size, and no notice"
            if gemma
            else "neither the file nor a manifest names a licence"
        )


def _digest(found: Found) -> Iterator[str]:
    if found.manifest and found.manifest.differs:
        yield found.manifest.differs


def _manifest_missing(found: Found) -> Iterator[str]:
    if found.manifest is None:
        yield f"there is no {Path(found.path).name}.json beside it"


def _manifest_unreadable(found: Found) -> Iterator[str]:
    if found.manifest and found.manifest.error:
        yield found.manifest.error


def _list(tokens: list[Token]) -> str:
    return ", ".join(map(str, tokens)) or "it has none"


# The table. A file that can't be read is found before any of the other rules.

DAMAGED = Rule(
    "damaged",
    EVERY,
    ERROR,
    lambda _: iter(()),
    "it does not load, or loads and writes nonsense.",
    "copy it or export it again.",
)

RULES: tuple[Rule, ...] = (
    Rule("digest", EVERY, ERROR, _digest,
         "unknown: this is not the file that was checked and measured.",
         "copy it again, or export it anew; if the change was meant, write a new manifest with `edge export`."),
    Rule("model-missing", ("task", "litertlm"), ERROR, _lacks_model,
         "the runtime refuses to load it: it finds no graph to run.",
         "bundle it again with the TFLite model as prefill and decode."),
    Rule("adapter-not-merged", ("adapter",), ERROR, _unmerged,
         "nothing runs it: no runtime here adds an adapter to its base.",
         "edge merge ADAPTER --base FOLDER --out MODEL, then export."),
    Rule("stop-missing", _TALKING, ERROR, _stop_missing,
         "the model goes on after its call or answer until the tokens run out: repeated calls, invented tool results, slow.",
         "export it with all stops of its family as ids: `edge export` does; they are STOP in edge/dialects/."),
    Rule("stop-several-tokens", ("task", "litertlm"), ERROR, _stop_several,
         "the runtime waits for a run of pieces that the model never writes, so it doesn't stop there.",
         "give the stop as one id, of a token that the tokenizer has as a piece of its own."),
    Rule("stop-end-of-call", _TALKING, ERROR, _stop_at_end_of_call,
         "generation ends after the first call: parallel calls are lost, and the end tag with them.",
         "take it out of the stops; those of the family (STOP in edge/dialects/) end a turn."),
    Rule("start-missing", _TALKING, WARNING, _start_missing,
         "prompts begin without the token that the model saw first in every example: worse answers, with no error.",
         "set <bos> as the start token (GGUF: add_bos_token)."),
    Rule("model-type", ("litertlm",), ERROR, _model_type,
         "LiteRT-LM does not read the calls: they come back as plain text, and tools get no built-in prompt.",
         "set llm_model_type in LlmMetadata to the family's own, such as function_gemma {}."),
    Rule("template-missing", ("gguf",), ERROR, _template_missing,
         "llama.cpp falls back on another family's turn markers, which this model never saw.",
         "export it again: `edge export gguf` writes the checkpoint's own template, or the dialect's."),
    Rule("template-folder", ("onnx",), WARNING, _template_missing,
         "onnxruntime-genai can't render a conversation; the app must write every marker itself.",
         "copy chat_template.jinja, or tokenizer_config.json with one, into the folder."),
    Rule("template-builtin", ("litertlm",), WARNING, _template_missing,
         "LiteRT-LM uses its built-in template, which puts two newlines between developer text and declarations: "
         "not the prompt of the training.",
         "set jinja_prompt_template in LlmMetadata; `edge export litertlm` writes one that the runtime can run."),
    Rule("template-jinja", ("litertlm",), ERROR, _template_beyond,
         'every conversation fails ("Failed to apply template") or its prompt is empty: LiteRT-LM\'s Jinja has no such thing.',
         "write it with filters (`| upper`, `| items`, `['key']`); `edge export litertlm` carries a template that runs there."),
    Rule("prompt-affixes", ("task",), WARNING, _prompt_affixes,
         "flutter_gemma writes the turn markers itself, so every prompt has them twice; right only for apps that write none.",
         "bundle it with empty prefixes and suffixes for flutter_gemma."),
    Rule("sampler", ("litertlm",), ERROR, _sampler,
         'decoding fails with "Sampler type: 3 not implemented".',
         "set TOP_P with k=1, which is greedy, too."),
    Rule("activation-type", ("litertlm",), ERROR, _activation_type,
         "Android's GPU backend computes in float16, in which Gemma 3 overflows: floods of <pad>, wrong tools, and success reported.",
         "set prefer_activation_type=fp32 on that section."),
    Rule("tokenizer-missing", ("gguf", "task", "litertlm", "onnx", "checkpoint"), ERROR, _tokenizer_missing,
         "it does not load, or can't turn text into tokens.",
         "take tokenizer.model from the base model and export again."),
    Rule("tokenizer-size", ("gguf", "task", "litertlm", "onnx", "checkpoint"), ERROR, _tokenizer_size,
         "decoding aborts at the first token that one has and the other lacks, or reads beyond the embedding.",
         "take model and tokenizer from the same checkpoint; pad the tokenizer to the embedding's rows."),
    Rule("function-token-control", ("gguf",), ERROR, _tokens_as_control,
         "llama.cpp prints no control tokens: calls arrive without their markers, and no parser finds them.",
         "type them USER_DEFINED (4) in tokenizer.ggml.token_type; `edge export gguf` does."),
    Rule("function-token-spelled", ("gguf", "task", "litertlm", "onnx", "checkpoint"), ERROR, _tokens_spelled,
         "prompts reach the model in pieces that it never saw: it writes no calls.",
         "carry tokenizer.model, tokenizer.json and tokenizer_config.json along from the base model, and export again."),
    Rule("zero-row", ("tflite", "task", "litertlm"), ERROR, _zero_row,
         'loading fails with "unsupported scale value" in the CPU kernels (XNNPACK).',
         "make the row non-zero in the checkpoint (the pad token's: Hugging Face zeroes it), then convert again."),
    Rule("context-beyond-cache", ("gguf", "tflite", "task", "litertlm", "onnx"), ERROR, _beyond_cache,
         "longer prompts fail, or the end of the answer is cut off: the key-value cache has no room for them.",
         "promise no more than the cache holds, or convert with a longer one."),
    Rule("prefill-overhang", ("task", "litertlm"), WARNING, _overhangs,
         'prompts that nearly fill the cache fail: "Prefill input length exceeds available state entries".',
         "convert with a cache that is a multiple of each prefill length, such as 1024 with 256."),
    Rule("zip-compressed", ("task",), ERROR, _compressed,
         "MediaPipe maps members straight from the file, and refuses compressed ones.",
         "bundle it again; a .task is a zip that only stores."),
    Rule("proof-refused", _ARTIFACTS, ERROR, _refused,
         "function calls are lost that the checkpoint makes.",
         "hand on another quantisation; if this one has to be, look at what its manifest's proof lists first."),
    Rule("proof-degraded", _ARTIFACTS, WARNING, _degraded,
         "some function calls are lost that the checkpoint makes.",
         "take a quantisation with more bits, or say so to whoever gets it."),
    Rule("licence-missing", (*_ARTIFACTS, "checkpoint"), WARNING, _licence,
         "nothing there, but whoever passes on a model that is not theirs must pass on its terms.",
         f'add the notice; for what is derived from Gemma: "{GEMMA_NOTICE}".'),
    Rule("manifest-unreadable", EVERY, WARNING, _manifest_unreadable,
         "nothing there, but whether the file is the one that was measured can't be told.",
         "export it again, or delete that JSON file if it is none of edge's."),
    Rule("manifest-missing", _ARTIFACTS, INFO, _manifest_missing,
         "nothing there, but a file that is cut short or altered can't be told from a good one.",
         "keep FILE.json, which `edge export` writes, beside the file."),
)  # fmt: skip
