# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
#   "sentencepiece==0.2.3", "protobuf==7.36.2", "safetensors==0.8.0", "numpy==2.4.6",
# ]
#
# [tool.edge]
# megabytes = 1500
# environment = "torch"
# about = "torch and its company, 1.2 GB"
# ///
"""Worker: the embedded base model, trained from scratch on `edge.train.generator`. Tokenizer, model, training, scores.

Request: {"out": folder, "minutes": CPU minutes, "seed": 1, "threads": 1, "every": minutes between checkpoints,
"steps": at most so many, "rows": rows per evaluation set at the end, "size": changes to `SIZE`}.
Answer: {"steps", "examples", "cpu_minutes", "parameters", "seed", "size", "curve": [{"minutes", "steps", "examples",
"loss", "scores"}], "scores": {set: {"exact", "rows"}}}.

`out` ends as a plain Hugging Face folder in bfloat16. While training it holds `checkpoint.pt`, and a run that finds one
there goes on from it: the data of a step depend on the seed and the step's number alone, and the learning rate and the
most tools in a prompt on how much of `minutes` is used, so a stopped run may also be told to finish early.

A head (date and declarations) is long and a question is short. So a step takes a few heads, runs each once, keeps its
keys and values, and asks ten questions against each of them: the cost of a head is shared by ten examples.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.environ["EDGE_CODE"])

import functools
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# About 4.3 million parameters. llama.cpp takes every sixth layer of a Gemma 3 model as global whatever the file says,
# so there are six. The window is longer than any prompt of ours: it never cuts.
SIZE = {
    "vocabulary": 3072,
    "hidden": 256,
    "feed_forward": 512,
    "layers": 6,
    "heads": 4,
    "kv_heads": 2,
    "head": 64,
    "window": 1024,
}

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
    ",parameters:{properties:{",
    "}},required:[",
    ",type:",
    "],type:",
    "},type:",
    "},",
]
# Of these, what stands before a name in a declaration, and what stands before that name in a call.
ALIKE = [("declaration:", "call:"), (",parameters:{properties:{", "{"), ("},", ",")]

HEADS, QUESTIONS, SPARE = 2, 10, 5  # per step, and how many times as many are drawn
STAGES = [(0.25, 2), (0.5, 4), (math.inf, 7)]  # up to this share of the time, at most so many tools: first things first
RATE, WARM_UP, DECAY = 2e-3, 30, 0.4  # AdamW's peak, steps to reach it, share of the time over which it falls to zero


def main(request: Json, reply: Any) -> Json:
    import torch

    torch.set_num_threads(int(request.get("threads", 1)))
    out, seed = Path(request["out"]), int(request.get("seed", 1))
    torch.manual_seed(seed)
    size = {**SIZE, **request.get("size", {})}
    if not (out / "tokenizer.json").exists():
        reply.log(f"tokenizer: {build_tokenizer(out, size['vocabulary'], seed)}")
    words = Words(out)
    run = Run(new_model(words, size, seed), words, seed, float(request["minutes"]))
    run.resume(out / "checkpoint.pt")
    train(run, out, request, reply)
    scores = run.scores(int(request.get("rows", 1000)))
    save_model(run.model, out)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    parameters = sum(p.numel() for p in run.model.parameters())
    return {
        "steps": run.step,
        "examples": run.examples,
        "cpu_minutes": round(run.minutes_used, 2),
        "parameters": parameters,
        "seed": seed,
        "size": size,
        "curve": run.curve,
        "scores": scores,
    }


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def build_tokenizer(out: Path, size: int, seed: int) -> str:
    """Write tokenizer.model (SentencePiece) and the same as a Hugging Face tokenizer. Returns what was checked.

    Byte-pair encoding of Gemma's kind: byte fallback, digits one by one, no dummy prefix, text as it is. One choice is
    our own. The space and the newline are symbols of their own, so a word is cut the same way after a space as after
    `<escape>`: copying it from the question into a call is then copying tokens, one by one.
    """
    import io

    import sentencepiece

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


def texts(seed: int, count: int) -> Iterator[str]:
    """Questions and answers from the generator; every twentieth with its declarations."""
    from edge.dialects import functiongemma
    from edge.train.generator import Generator

    source = Generator(seed)
    for i in range(count):
        scene = source.scene()
        for _ in range(6):
            query = source.query(scene)
            yield query.text + functiongemma.completion(query.answer())
        if i % 20 == 0:
            yield functiongemma.render(
                [scene.developer(), {"role": "user", "content": query.text}], scene.tools()
            ).replace("<bos>", "")


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


# --- the model --------------------------------------------------------------------------------------------------------


def new_model(words: Words, size: Json, seed: int) -> Any:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(seed)
    config = Gemma3TextConfig(
        vocab_size=len(words.tokenizer), hidden_size=size["hidden"], intermediate_size=size["feed_forward"],
            num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], num_key_value_heads=size["kv_heads"], head_dim=size["head"],
            query_pre_attn_scalar=size["head"],
        max_position_embeddings=4096, sliding_window=size["window"],
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(size["layers"])],
        pad_token_id=0, eos_token_id=words.stops, bos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config)
    with torch.no_grad():
        plain_start(model)
        copying_start(model, size)
        reading_start(model, words)
    return model


def plain_start(model: Any) -> None:
    """Random matrices with outputs as large as their inputs; the residual branches start quiet."""
    hidden = model.config.hidden_size
    model.model.embed_tokens.weight.normal_(0, hidden**-0.5)  # Gemma multiplies embeddings by sqrt(hidden)
    for name, p in model.named_parameters():
        if p.ndim == 2 and "embed" not in name:
            p.normal_(0, p.shape[1] ** -0.5 * (0.5 if "o_proj" in name or "down_proj" in name else 1.0))
    for layer in model.model.layers:  # Gemma's norms scale by 1 + weight
        layer.post_feedforward_layernorm.weight.fill_(-0.8)
        layer.post_attention_layernorm.weight.fill_(-0.7)


def copying_start(model: Any, size: Json) -> None:
    """Set the first two layers so that the model can copy before it has learned anything.

    Writing a call is mostly copying: names from the declarations, values from the question. A transformer copies with
    two layers ("induction"). The first lets every position know which token came before it. The second looks for an
    earlier position whose previous token is the one that stands here now, and takes what that position holds: the token
    that followed last time. Random weights find this late and suddenly; a small model on one core can't wait for it. So
    we write it down, and let training change it as it likes. It copies 99 % of a repeated random text at once.

    The hidden vector (256) is cut into four parts:
        0..3      constant 2 in every embedding: something for position-only attention to hold on to
        4..127    who: the token's random embedding, with which the output matrix (tied) also reads the answer
        128..191  slot 1: empty; the first layer writes here who stands one position back
        192..255  slot 2: empty; here who stands two positions back
    Layer 0: head j attends to the position 1 + j back. Key and query come from the constants alone: a fixed vector in
    the fastest-turning rotary pairs, the two turned so that they agree exactly at that distance.
    Layer 1: head 0 compares "who" here with slot 1 there, head 2 compares slot 1 here with slot 2 there: together a
    match of two tokens. Both use the slowest rotary pairs, where distance hardly counts. Both add "who" of the place
    that they found to "who" here, which is what the output reads.
    """
    import torch

    hidden, d, heads, groups = size["hidden"], size["head"], size["heads"], size["heads"] // size["kv_heads"]
    constant, who = slice(0, 4), slice(4, hidden // 2)
    slot1, slot2 = slice(hidden // 2, hidden // 2 + d), slice(hidden // 2 + d, hidden // 2 + 2 * d)
    width = hidden // 2 - 4
    embed = model.model.embed_tokens.weight
    embed[:, slot1], embed[:, slot2], embed[:, constant] = 0.0, 0.0, 2.0 * hidden**-0.5
    first, second = model.model.layers[:2]
    for layer in (first, second):
        layer.post_feedforward_layernorm.weight.fill_(-0.9)  # hardly disturb what attention writes
        layer.self_attn.q_norm.weight.fill_(1.0)  # sharper: keys and queries twice as long
        layer.self_attn.k_norm.weight.fill_(1.0)

    first.post_attention_layernorm.weight.zero_()
    second.post_attention_layernorm.weight.fill_(1.0)  # what was found must drown out what stands here

    a = first.self_attn
    names = orthogonal(d, width)
    fixed = torch.zeros(d)
    fixed[:6] = 1.0
    a.q_proj.weight.mul_(0.1)
    a.k_proj.weight[:d].mul_(0.1)
    a.k_proj.weight[:d, constant] += turned(fixed, 1.0)[:, None]
    for j in range(heads):
        a.q_proj.weight[j * d : (j + 1) * d, constant] += turned(fixed, -float(j))[:, None]
    for g in range(size["kv_heads"]):
        a.k_proj.weight[g * d : (g + 1) * d] = a.k_proj.weight[:d].clone()
        a.v_proj.weight[g * d : (g + 1) * d] = 0.0
        a.v_proj.weight[g * d : (g + 1) * d, who] = names
    a.o_proj.weight.mul_(0.1)
    a.o_proj.weight[slot1, :d] += torch.eye(d)
    a.o_proj.weight[slot2, d : 2 * d] += torch.eye(d)

    b = second.self_attn
    slow = [i for i in range(d // 2) if i >= 22 * d // 64]
    slow += [i + d // 2 for i in slow]
    compare = torch.zeros(d, d)
    compare[slow] = orthogonal(len(slow), d)
    taken = orthogonal(d, width)
    for p, spread in ((b.q_proj, 0.02), (b.k_proj, 0.02), (b.v_proj, 0.02), (b.o_proj, 0.01)):
        p.weight.normal_(0, spread)
    b.q_proj.weight[:d, who] += compare @ names
    b.k_proj.weight[:d, slot1] += compare
    b.q_proj.weight[groups * d : (groups + 1) * d, slot1] += compare
    b.k_proj.weight[d : 2 * d, slot2] += compare
    for g in range(2):
        b.v_proj.weight[g * d : (g + 1) * d, who] += taken
        b.o_proj.weight[who, groups * g * d : (groups * g + 1) * d] += taken.T


def reading_start(model: Any, words: Words) -> None:
    """Let a call's signs resemble the signs of a declaration, so that the copying layer finds names at once.

    In a declaration a tool's name follows `declaration:`, in a call `call:`; parameters follow `properties:{` and `},`
    there, `{` and `,` here. With alike embeddings the second layer takes, after `call:`, what follows `declaration:`:
    the names of the declared tools. Which of them is left to learn; that it is one of them need not be found. (In a
    run without this and with other differences, names were still guessed after eleven CPU minutes.)
    """
    ids = words.tokenizer.convert_tokens_to_ids
    who = slice(4, model.config.hidden_size // 2)
    embed = model.model.embed_tokens.weight
    for declared, called in ALIKE:
        embed[ids(called), who] = 0.85 * embed[ids(declared), who] + 0.5 * embed[ids(called), who]


def orthogonal(rows: int, columns: int) -> Any:
    """A random matrix with orthonormal rows (columns, if there are more rows than columns)."""
    import torch

    if rows > columns:
        return orthogonal(columns, rows).T
    return torch.linalg.qr(torch.randn(columns, rows))[0].T


def turned(vector: Any, positions: float, base: float = 1e4) -> Any:
    """The vector as rotary embedding turns it at this position (base of the local layers)."""
    half = len(vector) // 2
    out = vector.clone()
    for i in range(half):
        angle = positions * base ** (-i / half)
        out[i] = vector[i] * math.cos(angle) - vector[i + half] * math.sin(angle)
        out[i + half] = vector[i + half] * math.cos(angle) + vector[i] * math.sin(angle)
    return out


def save_model(model: Any, out: Path) -> None:
    """Weights in bfloat16, configuration, stop ids, chat template: what `from_pretrained` and llama.cpp want."""
    import torch
    from transformers import Gemma3ForCausalLM, GenerationConfig

    from edge.dialects import functiongemma

    config = type(model.config).from_dict({**model.config.to_dict(), "dtype": "bfloat16"})
    config._attn_implementation = "eager"
    weights = {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in model.state_dict().items()}
    shipped = Gemma3ForCausalLM(config).to(torch.bfloat16)
    shipped.load_state_dict(weights)
    stops = model.config.eos_token_id
    shipped.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=stops, pad_token_id=0, do_sample=False)
    shipped.save_pretrained(out)
    (out / "chat_template.jinja").write_text(functiongemma.CHAT_TEMPLATE, encoding="utf-8")


# --- a step -----------------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Heads and, for each, as many questions: token ids. `labels[i][j]` says what kind of row a question is."""

    heads: list[list[int]]
    questions: list[list[list[int]]]
    answers: list[list[list[int]]]
    queries: list[list[Any]]


def encode(words: Words, source: Any, scenes: list[Any], queries: list[list[Any]]) -> Batch:
    """Cut each prompt before the user's turn. The cut is between special tokens, so the ids are those of the whole."""
    from edge.dialects import functiongemma

    heads, questions, answers = [], [], []
    for scene, asked in zip(scenes, queries):
        developer, tools = scene.developer(), scene.tools()
        whole = functiongemma.render([developer, {"role": "user", "content": "?"}], tools)
        head, tail = whole.split("<start_of_turn>user\n")
        before, after = "<start_of_turn>user\n", tail[1:]
        heads.append(words.ids(head))
        questions.append(words.many([before + query.text.strip() + after for query in asked]))
        answers.append(words.many([functiongemma.completion(query.answer()).rstrip("\n") for query in asked]))
    return Batch(heads, questions, answers, queries)


def draw(words: Words, seed: int, step: int, most: int = 7) -> Batch:
    """The data of one step. More are drawn than used and a slice is taken by length: little padding, any length."""
    from edge.train.generator import Generator

    rng = random.Random(f"{seed}/{step}")
    source = Generator(f"{seed}/{step}", most=most)
    scenes = sorted((source.scene() for _ in range(SPARE * HEADS)), key=lambda s: len(str(s.tools())))
    at = rng.randrange(SPARE) * HEADS
    scenes = scenes[at : at + HEADS]
    at = rng.randrange(SPARE) * QUESTIONS
    queries = []
    for scene in scenes:
        asked = sorted(
            (source.query(scene) for _ in range(SPARE * QUESTIONS)), key=lambda q: len(q.text) + len(str(q.calls))
        )
        queries.append(asked[at : at + QUESTIONS])
    return encode(words, source, scenes, queries)


def logits(model: Any, batch: Batch) -> tuple[Any, Any, Any]:
    """Logits (tokens of all answers, vocabulary), the right tokens, and the number of the question of each token."""
    import torch

    net = Net(model)
    heads, valid = padded(batch.heads)
    count = len(batch.questions[0])
    kept: list[tuple[Any, Any]] = []
    net.hidden(heads, torch.arange(heads.shape[1]).expand_as(heads), functools.partial(attend_and_keep, kept))
    pairs = [(q, a) for qs, answers in zip(batch.questions, batch.answers) for q, a in zip(qs, answers)]
    rows, _ = padded([q + a[:-1] for q, a in pairs])
    positions = valid.sum(-1).repeat_interleave(count)[:, None] + torch.arange(rows.shape[1])
    hidden = net.hidden(rows, positions, functools.partial(attend_after, kept, valid))
    at = [i * rows.shape[1] + len(q) - 1 + j for i, (q, a) in enumerate(pairs) for j in range(len(a))]
    of = torch.tensor([i for i, (_, a) in enumerate(pairs) for _ in a])
    right = torch.tensor([t for _, a in pairs for t in a])
    return net.head(hidden.flatten(0, 1)[at]).float(), right, of


def padded(rows: list[list[int]]) -> tuple[Any, Any]:
    """Ids (rows, longest) filled up with zeros, and which of them are real."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(width)[None] < lengths[:, None]


class Net:
    """Gemma 3's arithmetic over the parameters of a `Gemma3ForCausalLM`, with attention handed in.

    The library's forward pass can't share one head among many questions without copying it, and casts every matrix anew
    for each use: written out, a step is shorter. In float32 the two agree to 2e-5.
    """

    def __init__(self, model: Any) -> None:
        import torch

        self.config, dtype = model.config, torch.bfloat16 if fast_bfloat16() else torch.float32
        self.embedding = model.model.embed_tokens.weight.to(dtype)
        self.final = (1 + model.model.norm.weight).to(dtype)
        self.layers = [self._layer(layer, dtype) for layer in model.model.layers]

    def _layer(self, layer: Any, dtype: Any) -> Json:
        import torch

        a, m = layer.self_attn, layer.mlp
        norms = {name: (1 + getattr(layer, name).weight).to(dtype) for name in _NORMS}
        joined = {
            "qkv": [a.q_proj, a.k_proj, a.v_proj],
            "out": [a.o_proj],
            "gate_up": [m.gate_proj, m.up_proj],
            "down": [m.down_proj],
        }
        matrices = {name: torch.cat([p.weight for p in parts]).to(dtype) for name, parts in joined.items()}
        return {
            **norms,
            **matrices,
            "q_norm": (1 + a.q_norm.weight).to(dtype),
            "k_norm": (1 + a.k_norm.weight).to(dtype),
        }

    def hidden(self, ids: Any, positions: Any, attend: Any) -> Any:
        """Ids and positions (rows, tokens) to the last hidden states (rows, tokens, hidden)."""
        from torch.nn import functional as f

        c, eps = self.config, self.config.rms_norm_eps
        turns = {kind: rotation(positions, c.head_dim, base, self.final.dtype) for kind, base in _BASES.items()}
        x = self.embedding[ids] * c.hidden_size**0.5
        for i, w in enumerate(self.layers):
            q, k, v = self._qkv(f.rms_norm(x, x.shape[-1:], w["input_layernorm"], eps), w, turns[c.layer_types[i]])
            x = x + f.rms_norm(f.linear(attend(i, q, k, v), w["out"]), x.shape[-1:], w["post_attention_layernorm"], eps)
            h = f.rms_norm(x, x.shape[-1:], w["pre_feedforward_layernorm"], eps)
            gate, up = f.linear(h, w["gate_up"]).chunk(2, -1)
            h = f.linear(f.gelu(gate, approximate="tanh") * up, w["down"])
            x = x + f.rms_norm(h, x.shape[-1:], w["post_feedforward_layernorm"], eps)
        return f.rms_norm(x, x.shape[-1:], self.final, eps)

    def _qkv(self, x: Any, w: Json, turn: Any) -> tuple[Any, Any, Any]:
        """Queries, keys, values: (rows, heads, tokens, head)."""
        from torch.nn import functional as f

        c, d, eps = self.config, self.config.head_dim, self.config.rms_norm_eps
        sizes = [c.num_attention_heads, c.num_key_value_heads, c.num_key_value_heads]
        q, k, v = f.linear(x, w["qkv"]).unflatten(-1, (-1, d)).transpose(1, 2).split(sizes, 1)
        q = rotated(f.rms_norm(q, (d,), w["q_norm"] * d**-0.5, eps), turn)
        return q, rotated(f.rms_norm(k, (d,), w["k_norm"], eps), turn), v

    def head(self, hidden: Any) -> Any:
        return hidden @ self.embedding.T


_NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
_BASES = {"sliding_attention": 1e4, "full_attention": 1e6}


def rotation(positions: Any, d: int, base: float, dtype: Any) -> tuple[Any, Any]:
    """Cosines and sines (rows, 1, tokens, head)."""
    import torch

    angles = positions[:, None, :, None] * base ** (-torch.arange(0, d, 2) / d)
    angles = torch.cat([angles, angles], -1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotated(x: Any, turn: tuple[Any, Any]) -> Any:
    import torch

    a, b = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-b, a], -1) * turn[1]


def attend_and_keep(kept: list[tuple[Any, Any]], layer: int, q: Any, k: Any, v: Any) -> Any:
    """Causal attention among the heads' tokens, keeping keys and values. Padding stands at the end: never seen."""
    kept.append((k, v))
    shared, n = k.shape[1:3]
    weight = stacked(q, shared) @ k.transpose(2, 3) + causal(n, q.dtype).repeat(q.shape[1] // shared, 1)
    return unstacked(weight.softmax(-1) @ v, q.shape)


def attend_after(kept: list[tuple[Any, Any]], valid: Any, layer: int, q: Any, k: Any, v: Any) -> Any:
    """Attention of each question to its head and to itself. All questions of a head are one matrix against its keys."""
    import torch

    past_k, past_v = kept[layer]
    (rows, shared, n, d), (heads, _, length, _) = k.shape, past_k.shape
    groups = q.shape[1] // shared
    own = stacked(q, shared) @ k.transpose(2, 3) + causal(n, q.dtype).repeat(groups, 1)
    asked = stacked(q, shared).unflatten(0, (heads, -1)).transpose(1, 2).reshape(heads, shared, -1, d)
    before = (
        asked @ past_k.transpose(2, 3)
        + torch.zeros(valid.shape, dtype=q.dtype).masked_fill(~valid, -1e9)[:, None, None]
    )
    own = own.unflatten(0, (heads, -1)).transpose(1, 2).reshape(heads, shared, -1, n)
    weight = torch.cat([before, own], -1).softmax(-1)
    own = weight[..., length:].unflatten(2, (-1, groups * n)).transpose(1, 2).reshape(rows, shared, groups * n, n)
    found = (
        (weight[..., :length] @ past_v)
        .unflatten(2, (-1, groups * n))
        .transpose(1, 2)
        .reshape(rows, shared, groups * n, d)
    )
    return unstacked(found + own @ v, q.shape)


def stacked(q: Any, shared: int) -> Any:
    """(rows, heads, n, d) to (rows, shared, heads / shared * n, d): query heads with the same keys under each other."""
    return q.reshape(q.shape[0], shared, -1, q.shape[-1])


def unstacked(found: Any, shape: Any) -> Any:
    """Back to (rows, n, heads * d)."""
    return found.reshape(shape).transpose(1, 2).flatten(2)


def causal(n: int, dtype: Any) -> Any:
    import torch

    return torch.full((n, n), -1e9, dtype=dtype).triu(1)


# --- a run ------------------------------------------------------------------------------------------------------------


class Run:
    """A model in training: weights, optimizer and how far it got."""

    def __init__(self, model: Any, words: Words, seed: int, minutes: float) -> None:
        import torch

        self.model, self.words, self.seed, self.minutes = model, words, seed, minutes
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.01)
        self.step = self.examples = 0
        self.minutes_used, self.loss = 0.0, float("nan")
        self.curve: list[Json] = []

    def resume(self, path: Path) -> None:
        import torch

        if path.exists():
            kept = torch.load(path, weights_only=True)
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            for name in _KEPT:
                setattr(self, name, kept[name])

    def keep(self, path: Path) -> None:
        """A checkpoint, whole or not at all."""
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{n: getattr(self, n) for n in _KEPT},
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def rate(self) -> float:
        left = 1 - self.minutes_used / self.minutes
        return RATE * min(1.0, (self.step + 1) / WARM_UP) * min(1.0, max(0.02, left / DECAY))

    def learn(self) -> None:
        """One step. A token weighs less in a long answer (by the root of its length), which would drown short ones."""
        import torch
        from torch.nn import functional

        started = time.process_time()
        most = next(tools for share, tools in STAGES if self.minutes_used < share * self.minutes)
        found, right, of = logits(self.model, draw(self.words, self.seed, self.step, most))
        loss = functional.cross_entropy(found, right, reduction="none")
        weight = torch.bincount(of).float()[of] ** -0.5
        ((loss * weight).sum() / weight.sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        mean = float(loss.detach().mean())
        self.loss = mean if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * mean
        self.step += 1
        self.examples += HEADS * QUESTIONS
        self.minutes_used += (time.process_time() - started) / 60

    def scores(self, rows: int) -> Json:
        return {name: score(self.model, self.words, name, rows) for name in EXAMS}


_KEPT = ("step", "examples", "minutes_used", "loss", "curve")


@functools.lru_cache(maxsize=1)
def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: measured, since no table of processors is complete."""
    import torch

    def seconds(dtype: Any) -> float:
        a, b = torch.randn(512, 256, dtype=dtype), torch.randn(256, 512, dtype=dtype)
        _ = a @ b
        started = time.perf_counter()
        for _ in range(20):
            _ = a @ b
        return time.perf_counter() - started

    return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def train(run: Run, out: Path, request: Json, reply: Any) -> None:
    every, most = float(request.get("every", 4)), int(request.get("steps", 10**9))
    due = run.minutes_used + every
    while run.minutes_used < run.minutes and run.step < most:
        run.learn()
        if run.step % 25 == 0:
            reply.progress(round(run.minutes_used, 2), run.minutes, f"step {run.step}, loss {run.loss:.3f}")
        if run.minutes_used >= due:
            due = run.minutes_used + every
            note = {
                "minutes": round(run.minutes_used, 2),
                "steps": run.step,
                "examples": run.examples,
                "loss": round(run.loss, 4),
                "scores": run.scores(100),
            }
            run.curve.append(note)
            reply.log(json.dumps(note))
            run.keep(out / "checkpoint.pt")


# --- examination ------------------------------------------------------------------------------------------------------

# What each set asks: the generator's arguments and the kind and language of the question. All use unseen values.
EXAMS: dict[str, tuple[Json, Json]] = {
    "seen phrasings": ({}, {"kind": "call", "lang": "en"}),
    "unseen phrasings": ({"held": True}, {"kind": "call", "lang": "en"}),
    "unseen tools": ({"tools": "unseen"}, {"kind": "call", "lang": "en"}),
    "Mobile Actions tools": ({"tools": "mobile"}, {"kind": "call", "lang": "en"}),
    "parallel": ({}, {"kind": "parallel", "lang": "en"}),
    "Korean": ({}, {"kind": "call", "lang": "ko"}),
    "no fitting tool": ({}, {"kind": "none", "lang": "en"}),
}
EXAM_SEED = 20261121


def score(model: Any, words: Words, name: str, rows: int) -> Json:
    """Exact match on one set: {"exact", "rows"}. Where no tool fits, any answer without a call is right.

    Greedy decoding writes exactly the right answer if and only if the right token is the likeliest at each place of the
    right answer, so one forward pass tells, and nothing need be generated.
    """
    import torch

    right = total = 0
    model.eval()
    with torch.no_grad():
        for batch in exam(words, name, rows):
            found, wanted, of = logits(model, batch)
            best = found.argmax(-1)
            if name == "no fitting tool":
                starts = torch.cat([torch.tensor([True]), of[1:] != of[:-1]])
                right += int((best[starts] != words.call).sum())
            else:
                wrong = torch.zeros(int(of.max()) + 1, dtype=torch.bool)
                wrong[of[best != wanted]] = True
                right += int((~wrong).sum())
            total += int(of.max()) + 1
    model.train()
    return {"exact": round(right / total, 4), "rows": total}


def exam(words: Words, name: str, rows: int, questions: int = 5, heads: int = 6) -> Iterator[Batch]:
    from edge.train.generator import Generator

    which, asked = EXAMS[name]
    source = Generator(EXAM_SEED, "test", **which)
    scenes = []
    while len(scenes) * questions < rows:
        scene = source.scene()
        if asked["lang"] == "en" or any(i.concept.ko for i in scene.targets):
            scenes.append(scene)
    queries = [[source.query(scene, **asked) for _ in range(questions)] for scene in scenes]
    for at in range(0, len(scenes), heads):
        yield encode(words, source, scenes[at : at + heads], queries[at : at + heads])


if __name__ == "__main__":
    from edge.worker import serve

    serve(main)
