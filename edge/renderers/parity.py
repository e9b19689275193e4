"""Two renderings of one row: where their token ids part, and in what way their texts differ."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Optional

AROUND = 4  # tokens shown on each side of the first difference
_ESCAPED = re.compile(r"<escape>.*?<escape>", re.DOTALL)
_DECLARATION = re.compile(r"<start_function_declaration>(.*?)<end_function_declaration>", re.DOTALL)
_HEAD = re.compile(r"<start_of_turn>developer\n(.*?)(?=<start_function_declaration>|<end_of_turn>)", re.DOTALL)
_DEVELOPER = "<start_of_turn>developer\n"
_KEYWORDS = "description|type|enum|items|properties|required|nullable"
_PROPERTY = re.compile(rf"(?<=[{{,])(?!(?:parameters|properties|items):)([^{{}},\[\]:]+):\{{({_KEYWORDS}):")
_CALL = re.compile(r"<start_function_call>(.*?)<end_function_call>", re.DOTALL)
_RESPONSE = re.compile(r"<start_function_response>(.*?)<end_function_response>", re.DOTALL)


@dataclass(frozen=True)
class Tokens:
    """A text's token ids and where in the text each begins and ends (characters)."""

    text: str
    ids: list[int]
    spans: list[tuple[int, int]]

    def around(self, at: int) -> dict[str, Any]:
        """Ids and text on both sides of token `at`; "token" is None where this side has ended."""
        first, last = max(0, at - AROUND), min(len(self.ids), at + AROUND + 1)
        begin = self.spans[at][0] if at < len(self.ids) else len(self.text)
        end = self.spans[last - 1][1] if last > at else len(self.text)
        return {
            "token": self.ids[at] if at < len(self.ids) else None,
            "ids": self.ids[first:last],
            "before": self.text[self.spans[first][0] if first < len(self.ids) else begin : begin],
            "after": self.text[begin:end],
        }


def first_difference(a: list[int], b: list[int]) -> Optional[int]:
    """The index of the first token in which they differ, or None. Where one is the other's beginning: its length."""
    if a == b:
        return None
    return next((n for n, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def classify(training: str, target: str) -> list[str]:
    """Every way in which the target's prompt differs from training's, as far as recognisable; [] if they are equal.

    start token, developer turn, sentence, developer text, newline, declaration, property order, keyword order, dropped
    enum, dropped items, dropped property, call, null, tool response, turns; "other" for what is none of them.
    """
    if training == target:
        return []
    found = _start(training, target) + _head(training, target) + _declarations(training, target)
    found += _conversation(training, target)
    return list(dict.fromkeys(found)) or ["other"]


def _start(a: str, b: str) -> list[str]:
    return ["start token"] if a.startswith("<bos>") != b.startswith("<bos>") else []


def _head(a: str, b: str) -> list[str]:
    if a.count(_DEVELOPER) != b.count(_DEVELOPER):
        return ["developer turn"]
    ours, theirs = (_HEAD.search(text) for text in (a, b))
    said, told = (match[1] if match else "" for match in (ours, theirs))
    lines, others = ({line.strip() for line in text.splitlines()} - {""} for text in (said, told))
    found = ["sentence"] if others - lines else []
    found += ["developer text"] if lines - others else []
    return found + (["newline"] if _ends(a, said) != _ends(b, told) or (said != told and not found) else [])


def _ends(text: str, head: str) -> list[str]:
    """White space at the head's end and after each declaration."""
    after = re.findall(r"<end_function_declaration>(\s*)", text)
    return [head[len(head.rstrip()) :], *after[:1], *after[-1:]]


def _declarations(a: str, b: str) -> list[str]:
    ours, theirs = (_DECLARATION.findall(text) for text in (a, b))
    if ours == theirs:
        return []
    if len(ours) != len(theirs):
        return ["declaration"]
    found: list[str] = []
    for mine, other in zip(ours, theirs):
        if mine != other:
            found += _declaration(mine, other)
    return found


def _declaration(a: str, b: str) -> list[str]:
    bare = [_ESCAPED.sub("~", text) for text in (a, b)]
    pairs, other_pairs = (_PROPERTY.findall(text) for text in bare)
    names, others = [name for name, _ in pairs], [name for name, _ in other_pairs]
    found = ["dropped enum"] if bare[0].count("enum:[") > bare[1].count("enum:[") else []
    found += ["dropped items"] if bare[0].count("items:{") > bare[1].count("items:{") else []
    found += ["dropped property"] if Counter(names) - Counter(others) else []
    kept = [name for name in names if name in set(others)]
    if kept != [name for name in others if name in set(names)] and Counter(kept) == Counter(others):
        found.append("property order")
    if {first for _, first in pairs} != {first for _, first in other_pairs} and pairs and other_pairs:
        found.append("keyword order")
    return found or ["declaration"]


def _conversation(a: str, b: str) -> list[str]:
    a, b = (_DECLARATION.sub("", _HEAD.sub("<start_of_turn>developer\n", text, count=1)) for text in (a, b))
    a, b = (
        re.sub(r"<start_of_turn>developer\n.*?<end_of_turn>\n|^<bos>", "", text, flags=re.DOTALL) for text in (a, b)
    )
    if a == b:
        return []
    found = ["call"] if _CALL.findall(a) != _CALL.findall(b) else []
    responses, others = _RESPONSE.findall(a), _RESPONSE.findall(b)
    if responses != others:
        nulls = [re.sub(r"\b(None|null)\b", "None", _ESCAPED.sub("~", r)) for r in (*responses, *others)]
        found.append("null" if nulls[: len(responses)] == nulls[len(responses) :] else "tool response")
    if a.count("<start_of_turn>") != b.count("<start_of_turn>"):
        found.append("turns")
    same = [re.sub(r"\s+", "", _RESPONSE.sub("", _CALL.sub("", text))) for text in (a, b)]
    if not found:
        found.append("newline" if same[0] == same[1] else "other")
    return found
