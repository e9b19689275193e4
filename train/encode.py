"""Rows of text to token ids and labels, for a worker. Nothing is cut, and what would teach something wrong is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import EdgeError

Json = dict[str, Any]
IGNORE = -100  # the label of a token that the loss leaves out


@dataclass(frozen=True)
class Encoded:
    """One row. The prompt comes first; the loss is over the rest."""

    id: str
    ids: list[int]
    prompt: int  # tokens of it

    @property
    def labels(self) -> list[int]:
        return [IGNORE] * self.prompt + self.ids[self.prompt :]


def read(file: Path, request: Json, tokenizer: Any) -> list[Encoded]:
    """The rows of a file of {"id", "prompt", "completion"}.

    Raises EdgeError for a tokenizer that spells the dialect's markers out, an empty completion, one that doesn't end in a
    stop token, rows longer than max_tokens, and no rows at all.
    """
    refuse_plain_tokenizer(request, tokenizer)
    stops = {tokenizer.convert_tokens_to_ids(t) for t in request["stop"]} - {tokenizer.unk_token_id}
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        # Apart, as at inference: there the prompt is all that the tokenizer sees.
        prompt = tokenizer(row["prompt"], add_special_tokens=False).input_ids
        completion = tokenizer(row["completion"], add_special_tokens=False).input_ids
        _check(row, prompt, completion, stops, request["stop"])
        rows.append(Encoded(row["id"], prompt + completion, len(prompt)))
    if not rows:
        raise EdgeError(f"{file}: no rows to train on")
    _refuse_long(rows, request["options"]["max_tokens"])
    return rows


def _check(row: Json, prompt: list[int], completion: list[int], stops: set[int], names: list[str]) -> None:
    if not completion or completion[-1] not in stops:
        raise EdgeError(
            f"{row['id']}: its completion doesn't end in a stop token of this tokenizer: {row['completion'][-60:]!r}",
            f"the tokenizer must hold {', '.join(names)} as single tokens",
        )
    if len(completion) == 1:
        raise EdgeError(
            f"{row['id']}: its completion is empty: nothing but {row['completion']!r}",
            "it would teach to stop at once: take the row out, or give it an answer",
        )
    if not prompt:
        raise EdgeError(f"{row['id']}: its prompt is empty", "take the row out")


def _refuse_long(rows: list[Encoded], limit: int) -> None:
    long = [row for row in rows if len(row.ids) > limit]
    if long:
        longest = max(long, key=lambda row: len(row.ids))
        raise EdgeError(
            f"{len(long)} of {len(rows)} rows are longer than max_tokens = {limit}; "
            f"the longest, {longest.id}, has {len(longest.ids)}",
            f"set max_tokens = {len(longest.ids)} in [train], or take those rows out: cutting them would cut the call off",
        )


def refuse_plain_tokenizer(request: Json, tokenizer: Any) -> None:
    """Spelled out in ordinary pieces, the markers of a call would be learned as text and stop nothing."""
    rows = json.loads((Path(request["checkpoint"]) / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    ids = {t: tokenizer(t, add_special_tokens=False).input_ids for t in request["function_tokens"]}
    missing = [
        t for t, found in ids.items() if len(found) != 1 or found[0] >= rows
    ]  # a token may lie past the embedding
    if missing:
        raise EdgeError(
            f"{request['checkpoint']}: its tokenizer doesn't hold {', '.join(missing)} as single tokens",
            "take a model of this dialect's family, or set dialect in [model]",
        )
