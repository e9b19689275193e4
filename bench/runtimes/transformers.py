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
"""The checkpoint itself, in float32 through transformers: the reference that every artifact is compared with.

Rows are generated in batches, so a row has no timings of its own: they are unknown, not zero. What all prompts of a batch
begin with (the tools, mostly) runs once and its keys and values are shared; rows that have ended leave the batch.

`path` is a checkpoint's folder, or a JSON file that says more (edge/bench/subjects.py writes it):

    {"checkpoint": folder, "adapter": folder or null, "answers": file or null, "tokens": file or null}

    adapter    LoRA's, put beside the base's matrices and not merged into them
    answers    JSON lines {"id", "completion"}: the right answers, whose every token the model is asked for, given those before
    tokens     where {"row", "right", "of"} goes, a line a row: how many of those tokens it expected
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import EdgeError

BATCH_TOKENS = 32_000  # prompt and answer of all rows in a batch: 60 short ones, 31 of a thousand tokens
BATCH_WORK = 2e12  # tokens times parameters: a large model's batches are smaller, so that rows finish every few seconds
HEAD_ROWS = 128  # positions whose logits are held at once: a vocabulary of 262,144 takes a megabyte each
SHARED = 0.5  # a beginning is shared by rows if it is at least this part of their prompts …
LEAST_ALIKE = 8  # … and if there are so many: many small batches would take longer than a few with padding
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}  # as for llama.cpp


@dataclass(frozen=True)
class Row:
    name: str
    ids: list[int]  # the prompt's
    answer: list[int]  # the right one's, if known
    room: int  # tokens that it may be answered with


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    def __init__(self, path: str, options: dict[str, Any]) -> None:
        import torch
        import transformers

        torch.set_num_threads(options["threads"])
        transformers.utils.logging.disable_progress_bar()
        subject = _subject(path)
        started = time.monotonic()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(subject["checkpoint"], padding_side="left")
        self._adapter = subject.get("adapter")
        self._model = _with_adapter(subject) if self._adapter else _plain(subject["checkpoint"])
        inner = self._model.get_base_model() if self._adapter else self._model
        self._decoder, self._head = inner.get_decoder(), inner.get_output_embeddings()
        self.load_s = time.monotonic() - started
        unknown = self._tokenizer.unk_token_id
        ids = {self._tokenizer.convert_tokens_to_ids(t): t for t in options["stop"]}
        self._stop = {i: t for i, t in ids.items() if i is not None and i != unknown}
        if not self._stop:
            raise EdgeError(
                f"{subject['checkpoint']}: its tokenizer knows none of {', '.join(options['stop'])}",
                "a checkpoint of another family: name its dialect, --dialect or [model] in edge.toml",
            )
        self.context = options["context"]
        self._answers = _answers(subject.get("answers"))
        self._tokens = subject.get("tokens")
        parameters = sum(p.numel() for p in self._model.parameters())
        self._budget = int(min(BATCH_TOKENS, BATCH_WORK / parameters))
        self._shares = _shared_up_to(self._model.config.get_text_config())

    def facts(self) -> dict[str, Any]:
        import torch
        import transformers

        version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        settings = {"dtype": "float32", "batch_tokens": self._budget, **ENVIRONMENT}
        return {"runtime_version": version, "settings": {**settings, **({"adapter": True} if self._adapter else {})}}

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        """Rows in the order of their batches. One whose prompt doesn't fit is an error, the others go on."""
        fitting = []
        for row in rows:
            ids = self.ids(row["prompt"])
            if len(ids) >= self.context:
                error = f"the prompt has {len(ids)} tokens, the context holds {self.context}"
                yield {"row": row["id"], "text": None, "prompt_tokens": len(ids), "error": error}
            else:
                answer = self.ids(self._answers.get(row["id"], ""))
                fitting.append(Row(row["id"], ids, answer, min(max_tokens, self.context - len(ids))))
        for shared, batch in batches(fitting, self._budget, max_tokens, self._shares):
            yield from self._batch(shared, batch)

    def ids(self, text: str) -> list[int]:
        """The text's tokens, none added."""
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def logits(self, ids: list[int], at: list[int]) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(torch.tensor([ids]), use_cache=False).logits[0, at].float().numpy()

    def _batch(self, shared: int, batch: list[Row]) -> list[dict[str, Any]]:
        import torch

        with torch.inference_mode():
            state = _State(self._decoder, shared, batch)
            first = self._next(state.last)
            if self._tokens:
                self._force(state, batch, first)
            made = self._decode(state, batch, first)
        return [
            {"row": row.name, "prompt_tokens": len(row.ids), **self._read(out, row.room)}
            for row, out in zip(batch, made)
        ]

    def _next(self, hidden: Any) -> Any:
        """The token that is expected most after each of these hidden states (n, width): n ids."""
        import torch

        return torch.cat([self._head(part).argmax(-1) for part in hidden.split(HEAD_ROWS)])

    def _force(self, state: _State, batch: list[Row], first: Any) -> None:
        """Write how many of each right answer's tokens the model expects, those before them given."""
        import torch

        expected = [[int(first[i]), *[-1] * (len(row.answer) - 1)] for i, row in enumerate(batch)]
        given = [row.answer[:-1] for row in batch]
        if any(given):
            hidden = state.peek(given)
            where = [(i, k) for i, ids in enumerate(given) for k in range(len(ids))]
            rows, places = (torch.tensor(part) for part in zip(*where))
            for (i, k), token in zip(where, self._next(hidden[rows, places]).tolist()):
                expected[i][k + 1] = token
        with Path(str(self._tokens)).open("a", encoding="utf-8") as f:
            for row, found in zip(batch, expected):
                right = sum(a == b for a, b in zip(row.answer, found))
                f.write(json.dumps({"row": row.name, "right": right, "of": len(row.answer)}) + "\n")

    def _decode(self, state: _State, batch: list[Row], first: Any) -> list[list[int]]:
        """Greedy, each row to its stop token or as far as it has room."""
        made: list[list[int]] = [[] for _ in batch]
        live, tokens = list(range(len(batch))), first
        while True:
            for row, token in zip(live, tokens.tolist()):
                made[row].append(token)
            keep = [k for k, r in enumerate(live) if made[r][-1] not in self._stop and len(made[r]) < batch[r].room]
            if not keep:
                return made
            if len(keep) < len(live):
                live, tokens = [live[k] for k in keep], tokens[keep]
                state.select(keep)
            tokens = self._next(state.step(tokens))

    def _read(self, out: list[int], room: int) -> dict[str, Any]:
        stopped = out[-1] in self._stop
        text = self._tokenizer.decode(
            out[:-1] if stopped else out, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return {"text": text, "completion_tokens": len(out), "stop": self._stop[out[-1]] if stopped else "length"}


class _State:
    """What a batch has read so far: keys and values, and where the padding is.

    In the cache come first what all rows share, then each row's rest, padded on its left, then what it is answered.
    """

    def __init__(self, decoder: Any, shared: int, batch: list[Row]) -> None:
        import torch
        from transformers import DynamicCache

        self._decoder, self._cache = (
            decoder,
            DynamicCache(),
        )  # without a config: all layers whole, windows are in the masks
        if shared:
            decoder(input_ids=torch.tensor([batch[0].ids[:shared]]), past_key_values=self._cache, use_cache=True)
            self._cache.batch_repeat_interleave(len(batch))
        rests = [row.ids[shared:] for row in batch]
        width = max(map(len, rests))
        ids = torch.tensor([[0] * (width - len(rest)) + rest for rest in rests])
        real = torch.tensor([[0] * (width - len(rest)) + [1] * len(rest) for rest in rests])
        self._mask = torch.cat([torch.ones(len(batch), shared, dtype=torch.long), real], 1)
        positions = (shared + real.cumsum(1) - 1).clamp(min=0)
        self._at = positions[:, -1:]
        self.last = self._run(ids, self._mask, positions)[:, -1]  # (rows, width of the model): after each prompt

    def peek(self, given: list[list[int]]) -> Any:
        """Hidden states after each of these tokens (rows, tokens, width), which are then forgotten."""
        import torch

        width = max(map(len, given))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in given])
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in given])
        positions = self._at + 1 + torch.arange(width)
        hidden = self._run(ids, torch.cat([self._mask, real], 1), positions)
        self._cache.crop(-width)
        return hidden

    def step(self, tokens: Any) -> Any:
        """One token more for each row; the hidden state after it."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        self._at = self._at + 1
        return self._run(tokens[:, None], self._mask, self._at)[:, -1]

    def select(self, keep: list[int]) -> None:
        """Go on with these rows only."""
        import torch

        self._cache.batch_select_indices(torch.tensor(keep))
        self._mask, self._at = self._mask[keep], self._at[keep]

    def _run(self, ids: Any, mask: Any, positions: Any) -> Any:
        return self._decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self._cache, use_cache=True
        ).last_hidden_state


def batches(rows: list[Row], budget: int, room: int, shares: float) -> Iterator[tuple[int, list[Row]]]:
    """How many tokens of their prompts are shared, and the rows of each batch, of like length.

    budget: tokens of a batch, prompts and answers. shares: the most tokens of a whole row for which sharing is exact.
    """
    alone: list[Row] = []
    for group in _alike(rows):
        longest = max(len(row.ids) + max(room, len(row.answer)) for row in group)
        if len(group) < LEAST_ALIKE or longest > shares:
            alone += group
        else:
            yield from _cut(group, _common([row.ids for row in group]), budget, room)
    yield from _cut(alone, 0, budget, room)


def _cut(group: list[Row], common: int, budget: int, room: int) -> Iterator[tuple[int, list[Row]]]:
    left = sorted(group, key=lambda row: len(row.ids), reverse=True)
    while left:
        size = max(1, budget // (len(left[0].ids) + room))
        yield common, left[:size]
        left = left[size:]


def _alike(rows: list[Row]) -> list[list[Row]]:
    """Groups of rows whose prompts begin alike, for at least a part SHARED of the longest."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.ids):
        first = groups[-1][0].ids if groups else []
        if groups and _common([first, row.ids]) >= SHARED * max(len(first), len(row.ids)):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _common(prompts: list[list[int]]) -> int:
    """How many tokens all of them begin with; at least one of each is left over."""
    first, last = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)


def _shared_up_to(config: Any) -> float:
    """The most tokens of a row for which a shared beginning is exact.

    Between it and a row's rest lies padding, which a sliding window counts and a position doesn't.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds == {"full_attention"}:
        return float("inf")
    known = kinds <= {"full_attention", "sliding_attention"}
    return int(getattr(config, "sliding_window", None) or 0) if known else 0


def _subject(path: str) -> dict[str, Any]:
    if Path(path).suffix != ".json":
        return {"checkpoint": path}
    return dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _plain(checkpoint: str) -> Any:
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


def _with_adapter(subject: dict[str, Any]) -> Any:
    """Raises EdgeError for an adapter of another base, one that changes nothing, and one that holds no numbers."""
    from edge.train.workers import merge

    adapter = Path(subject["adapter"])
    joined = merge.join(adapter, Path(subject["checkpoint"]))
    merge.check(joined, adapter)
    return joined.eval()


def _answers(file: str | None) -> dict[str, str]:
    lines = Path(file).read_text(encoding="utf-8").splitlines() if file else []
    return {row["id"]: row["completion"] for row in map(json.loads, lines)}
