"""`edge data stats`: what rows hold: calls, coverage of tools and arguments, values, lengths, scripts, repetitions, leaks.

Everything here is a count over good rows; `reject`ed ones are counted by reason. Shares are left to the reader of the
counts, except where one figure alone says nothing.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from edge.records import Json, digest_value
from edge.train import readers
from edge.train.readers import Row, calls_of
from edge.worker import Progress

from . import text
from .near import THRESHOLD, Index, groups, sign
from .source import Item, Loaded
from .tokens import Length

SHOWN = 5  # values and places that a list shows


def stats(
    loaded: Loaded,
    lengths: Sequence[Length],
    limit: int,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
) -> Json:
    """Everything that `edge data stats` tells, as JSON values.

    Args:
        lengths: of `loaded.items`, in their order.
        limit: tokens that a row may have.
        threshold: how alike near-duplicates are, 0.5 to 1.
    """
    items = loaded.items
    return {
        **overview(loaded),
        "calls_per_row": dict(sorted(Counter(len(item.row.calls) for item in items).items())),
        "tools": tools_of(items),
        "lengths": lengths_of(items, lengths, limit),
        "scripts": dict(Counter(text.script(text.said(item.row)) for item in items).most_common()),
        "repetitions": repetitions(items, threshold, progress),
        "leaks": leaks(items, threshold),
    }


def overview(loaded: Loaded) -> Json:
    """Rows by file, shape and kind: what `check` tells too."""
    items = loaded.items
    return {
        "rows": len(items),
        "rejected": len(loaded.rejects),
        "reasons": dict(readers.count_reasons(loaded.rejects).most_common()),
        "files": _files(loaded),
        "shapes": dict(Counter(shape(item) for item in items).most_common()),
        "splits": dict(Counter(item.split or "not said" for item in items).most_common()),
        "no_call": sum(not item.row.calls for item in items),
        "several_turns": sum(sum(m["role"] == "user" for m in item.row.messages) > 1 for item in items),
        "with_tool_responses": sum(any(m["role"] == "tool" for m in item.row.messages) for item in items),
        "with_tools_of_their_own": sum(item.row.tools is not None for item in items),
    }


def _files(loaded: Loaded) -> Json:
    good = Counter(item.row.file for item in loaded.items)
    bad = Counter(reject.file for reject in loaded.rejects)
    return {file: {"rows": good[file], "rejected": bad[file]} for file in dict.fromkeys([*good, *bad])}


def shape(item: Item) -> str:
    """The name of a row's data format, as its users write it: mobile-actions, flat, raw-call; `text` for messages
    without any call, which look the same in the first and the last."""
    record = item.record
    name = next(name for name, module in readers.formats().items() if module.matches(record))
    return name.replace("_", "-") if name == "flat" or all_calls(item.row) else "text"


# ---- tools


def tools_of(items: Iterable[Item]) -> Json:
    """By tool: rows that offer it, rows and calls that use it, and each of its arguments; never called ones too."""
    found: dict[str, Json] = {}
    for item in items:
        for tool in item.tools:
            found.setdefault(tool["function"]["name"], _new_tool())["offered"] += 1
        for name in {call.name for call in all_calls(item.row)}:
            found.setdefault(name, _new_tool())["rows"] += 1
        for tool in item.tools:
            _declare(found[tool["function"]["name"]], tool)
        said = text.said(item.row)
        for call in all_calls(item.row):
            _count_call(found[call.name], call.arguments, said)
    ordered = sorted(found.items(), key=lambda pair: (-pair[1]["calls"], pair[0]))
    return {name: _told(tool) for name, tool in ordered}


def all_calls(row: Row) -> list[Any]:
    """The calls of every turn."""
    return [call for m in row.messages if m["role"] == "assistant" for call in calls_of(m)]


def _new_tool() -> Json:
    return {"offered": 0, "rows": 0, "calls": 0, "arguments": {}}


def _new_argument() -> Json:
    return {"calls": 0, "in_text": 0, "values": Counter(), "enum": None}


def _declare(found: Json, tool: Json) -> None:
    for name, schema in (tool["function"].get("parameters") or {}).get("properties", {}).items():
        argument = found["arguments"].setdefault(name, _new_argument())
        argument["enum"] = argument["enum"] or schema.get("enum")


def _count_call(found: Json, arguments: Json, said: str) -> None:
    found["calls"] += 1
    for name, value in arguments.items():
        argument = found["arguments"].setdefault(name, _new_argument())
        argument["calls"] += 1
        argument["values"][_shown(value)] += 1
        leaves = list(text.leaves(value))
        argument["in_text"] += bool(leaves) and all(text.stands_in(leaf, said) for leaf in leaves)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _told(tool: Json) -> Json:
    arguments = {}
    for name, found in sorted(tool["arguments"].items()):
        values: Counter[str] = found["values"]
        unseen = [v for v in found["enum"] or [] if _shown(v) not in values]
        arguments[name] = {
            "calls": found["calls"],  # that give it
            "distinct": len(values),
            "once": sum(count == 1 for count in values.values()),  # values that no second call has
            "in_text": found["in_text"],  # calls whose value stands in the user's text
            "common": values.most_common(SHOWN),
            **({"enum_unseen": unseen} if found["enum"] else {}),
        }
    return {**tool, "arguments": arguments}


# ---- lengths


def lengths_of(items: Sequence[Item], lengths: Sequence[Length], limit: int) -> Json:
    """Median, 95th percentile and longest of characters, bytes and tokens (None without a tokenizer)."""
    units: dict[str, Callable[[Length], int | None]] = {
        "characters": lambda length: length.characters,
        "bytes": lambda length: length.bytes,
        "tokens": lambda length: length.tokens,
    }
    told: Json = {unit: _spread(items, [of(length) for length in lengths]) for unit, of in units.items()}
    over = [item.place for item, length in zip(items, lengths) if (length.tokens or 0) > limit]
    counted = told["tokens"] is not None
    return {**told, "limit": limit, "over_limit": len(over) if counted else None, "over_limit_at": over[:SHOWN]}


def _spread(items: Sequence[Item], sizes: Sequence[int | None]) -> Json | None:
    known = [size for size in sizes if size is not None]
    if not known:
        return None
    longest = max(range(len(known)), key=known.__getitem__)
    ordered = sorted(known)
    return {
        "median": statistics.median_low(ordered),
        "p95": ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
        "longest": known[longest],
        "longest_at": items[longest].place,
    }


# ---- repetitions and leaks


def repetitions(items: Sequence[Item], threshold: float = THRESHOLD, progress: Progress | None = None) -> Json:
    """Rows that repeat an earlier one: exactly, nearly, or but for their values; and questions with several answers."""
    exact = Counter(text.identity(item.row) for item in items)
    near = Counter(groups([text.normalised(text.said(item.row)) for item in items], threshold, progress))
    phrasings = Counter(text.masked(item.row) for item in items)
    common = phrasings.most_common(SHOWN)
    return {
        "duplicates": len(items) - len(exact),  # same conversation, same answer
        "near_duplicates": len(items) - len(near),  # user's text alike by the threshold, duplicates included
        "threshold": threshold,
        "phrasings": len(phrasings),  # distinct user texts with values and numbers masked
        "common_phrasings": common,
        "contradictions": [[item.place for item in group] for group in contradictions(items)],
    }


def contradictions(items: Iterable[Item]) -> list[list[Item]]:
    """Groups of rows with the same prompt and tools and different answers, one row an answer."""
    found: dict[str, dict[str, Item]] = {}
    for item in items:
        names = [tool["function"]["name"] for tool in item.tools]
        answers = found.setdefault(text.question(item.row, names), {})
        answers.setdefault(digest_value(item.row.messages[-1]), item)
    return [list(answers.values()) for answers in found.values() if len(answers) > 1]


def leaks(items: Sequence[Item], threshold: float = THRESHOLD) -> Json | None:
    """Evaluation rows that training has seen: exactly, nearly, or in the same phrasing; None unless both are named."""
    train = [item for item in items if item.split == "train"]
    evaluation = [item for item in items if item.split == "eval"]
    if not train or not evaluation:
        return None
    phrasings = {text.masked(item.row) for item in train}
    shared = exact_leaks(train, evaluation)
    near = near_leaks(train, evaluation, threshold)
    return {
        "train_rows": len(train),
        "eval_rows": len(evaluation),
        "exact": [item.place for item in shared],
        "near": [(item.place, other.place) for item, other in near],
        "same_phrasing": sum(text.masked(item.row) in phrasings for item in evaluation),
    }


def exact_leaks(train: Iterable[Item], evaluation: Sequence[Item]) -> list[Item]:
    """Evaluation rows with the prompt of a training row, or with its user text and its calls."""
    shared = set(readers.shared_rows([item.row for item in train], [item.row for item in evaluation]))
    return [item for item in evaluation if item.row.id in shared]


def near_leaks(train: Iterable[Item], evaluation: Iterable[Item], threshold: float) -> list[tuple[Item, Item]]:
    """Evaluation rows whose user text is near to a training row's, with the first such row; equal texts included."""
    index, first = Index(threshold), dict[str, Item]()
    for item in train:
        said = text.normalised(text.said(item.row))
        if said not in first:
            first[said] = item
            index.add(said)
    known = list(first.values())
    found = ((item, index.near(sign(text.normalised(text.said(item.row))))) for item in evaluation)
    return [(item, known[near[0]]) for item, near in found if near]
