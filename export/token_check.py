"""Does a GGUF tokenise as the model was trained? Hundreds of strings, and what their ids must be.

The export writes the pairs beside the GGUF, `tokens.jsonl`; whoever has a llama.cpp (the quantise worker, the runtimes)
compares. Where there is none, `Tokenizer` does: it works as llama.cpp is known to on such vocabularies, from the
vocabulary as it stands in the file. Standard library only.
"""

from __future__ import annotations

import heapq
import json
import random
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from edge.dialects import Dialect
from edge.errors import EdgeError, GateError
from edge.export.vocabulary import BYTE, CONTROL, SPACE, UNKNOWN, USER_DEFINED, Piece
from edge.records import Json, write_text

Pair = tuple[str, list[int]]
FILE = "tokens.jsonl"

_TOOLS: list[Json] = [
    {"type": "function", "function": {
        "name": "set_thermostat", "description": "Set a room's temperature, e.g. 21.5 °C.",
        "parameters": {"type": "object", "required": ["room", "celsius"], "properties": {
            "room": {"type": "string", "description": "Which room", "enum": ["kitchen", "bed room", "거실"]},
            "celsius": {"type": "number", "description": "Degrees; -5 to 30"},
            "days": {"type": "array", "description": "When", "items": {"type": "string"}}}}}},
    {"type": "function", "function": {"name": "lights.off", "description": "Turn off all lights",
                                      "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip
_WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "set", "alarm", "seven", "thirty", "play",
          "some", "jazz", "in", "kitchen", "please", "temperature", "turn", "off", "lights", "reminder", "tomorrow",
          "Wozniak's", "São", "Paulo", "naïve", "façade", "Ångström", "Straße", "don't", "e-mail", "3rd",
          "half-past"]  # fmt: skip
_TEXTS = (
    # languages
    "거실 온도를 3도 낮춰줘", "내일 오후 3시에 회의 일정 추가해줘", "김민수에게 전화해 줘!",
    "明日の天気は?", "今天天气怎么样", "Привет, мир",
    "مرحبا بالعالم", "שלום עולם", "नमस्ते", "e\u0301 vs é", "ａｂｃ １２３", "ﬁ ﬂ",
    "👍🏽 👩‍👩‍👧‍👦 🇰🇷 🎉🎉", "☃ ½ ∑ € ™ – — … “quotes” ‘single’",
    # white space, visible and not
    " leading", "trailing ", "two  spaces", "three   spaces", " " * 8, " " * 33, "\t", "\t\tx", "a\tb", "\n", "\n\n\n",
    "a\nb", "a\n\n b", "\r\n", " \n \n", "\u00a0x\u3000y", "\u200b\u200d\ufeff", "\u2581", "a\u2581b", "\x00\x01\x7f",
    "\ufffd",
    # numbers
    "0", "7", "42", "007", "3.14159", "-2.5e-10", "1,234,567.89", "2026-11-20T08:30:00", "12:30pm", "+82 10-1234-5678",
    "100%",
    # code and paths
    "def f(x):\n    return x**2  # square\n", "for (int i = 0; i < n; ++i) { a[i] += 1; }",
    '{"name": "f", "arguments": {"x": [1, null, true]}}', '<div class="a">x</div>', "SELECT * FROM t WHERE a <> 'b';",
    "https://example.org/a?b=c&d=%20#e", "C:\\temp\\x.txt", "a_b-c.d/e@f", "$HOME `ls`",
    # almost markers
    "<start_of", "start_function_call>", "<<escape>>", "< escape >", "[PAD1]", "<0x41>", "x" * 80, "ha" * 40,
)  # fmt: skip


def strings(dialect: Dialect, markers: Iterable[str], seed: int = 0) -> list[str]:
    """What to compare on, the same for the same arguments: about 400 strings, none empty, all different.

    Args:
        markers: tokens of the vocabulary that stand for themselves; each is tried alone and amid text.
    """
    chosen, r = list(markers), random.Random(seed)
    found = [*_wire(dialect), *_TEXTS]
    for m in chosen:
        found += [m, f"a{m}b", f" {m} {m}\n", f"{m}{r.choice(chosen)}{r.choice(_WORDS)}"]
    found += [_phrase(r) for _ in range(120)]
    found += [_call(r) for _ in range(60)]
    found += [_random_text(r) for _ in range(60)]
    found += [" " * r.randint(1, 40) + r.choice(_WORDS) + "\n" * r.randint(1, 12) + r.choice(_WORDS) for _ in range(20)]
    found += [str(r.randint(0, 10 ** r.randint(1, 15))) for _ in range(20)]
    return [t for t in dict.fromkeys(found) if t]


def save(pairs: Iterable[Pair], path: Path) -> None:
    write_text(path, "".join(json.dumps({"text": t, "ids": ids}) + "\n" for t, ids in pairs))


def load(path: Path) -> list[Pair]:
    """The pairs of a `tokens.jsonl`. Raises EdgeError naming the line that can't be read."""
    pairs = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}", "it is written beside every GGUF: export again") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            pairs.append((str(row["text"]), [int(i) for i in row["ids"]]))
        except (ValueError, KeyError, TypeError) as error:
            raise EdgeError(f"{path}, line {number}: not a text with its ids: {error}") from None
    return pairs


def check(pairs: Iterable[Pair], tokenise: Callable[[str], list[int]], what: str) -> int:
    """Compare; returns how many strings were compared.

    Raises: GateError with the count and the first string that differs.
    """
    chosen = list(pairs)
    refuse(differing(chosen, tokenise), len(chosen), what)
    return len(chosen)


def differing(pairs: Iterable[Pair], tokenise: Callable[[str], list[int]]) -> list[tuple[str, str]]:
    """(string, how it differs) for each that does."""
    got = ((text, ids, tokenise(text)) for text, ids in pairs)
    return [(text, _difference(ids, other)) for text, ids, other in got if ids != other]


def refuse(wrong: list[tuple[str, str]], count: int, what: str) -> None:
    """Raises GateError if any of `count` strings differ."""
    if wrong:
        text, how = wrong[0]
        raise GateError(
            f"{what} tokenises {len(wrong)} of {count} strings otherwise than SentencePiece; first {text[:60]!r}: "
            f"{how}",
            "the tokenizer's files are of different models, or were changed: take them all from the base model",
        )


def exotic(text: str) -> bool:
    """Whether a text holds what hardly anyone types: control and invisible characters, SentencePiece's own space."""
    return any(c not in "\n\t" and (c in (SPACE, "\ufffd") or unicodedata.category(c)[0] == "C") for c in text)


def _difference(ids: list[int], other: list[int]) -> str:
    n = next((n for n, (a, b) in enumerate(zip(ids, other)) if a != b), min(len(ids), len(other)))
    return f"from token {n} on {other[n : n + 4]}, expected {ids[n : n + 4]}"


class Tokenizer:
    """Tokenises as llama.cpp does with `tokenizer.ggml.model` "llama", no space added in front, markers recognised.

    Markers are cut out of the text, the longest first. What is left is split in characters, and the neighbours whose
    union is the best-scored piece are joined, the leftmost first, until no union is a piece.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self._ids = {p.text: n for n, p in enumerate(pieces)}
        self._scores = [p.score for p in pieces]
        self._bytes = {int(p.text[3:5], 16): n for n, p in enumerate(pieces) if p.type == BYTE}
        markers = [p.text for p in pieces if p.type in (CONTROL, USER_DEFINED, UNKNOWN)]
        self._markers = sorted(markers, key=lambda t: len(t.encode()), reverse=True)

    def __call__(self, text: str) -> list[int]:
        parts: list[str | int] = [text]
        for marker in self._markers:
            if marker in text:
                parts = [piece for part in parts for piece in self._cut(part, marker)]
        return [
            n for part in parts for n in ([part] if isinstance(part, int) else self._merge(part.replace(" ", SPACE)))
        ]

    def _cut(self, part: str | int, marker: str) -> list[str | int]:
        if isinstance(part, int):
            return [part]
        cut: list[str | int] = []
        for n, between in enumerate(part.split(marker)):
            cut += ([self._ids[marker]] if n else []) + ([between] if between else [])
        return cut

    def _merge(self, text: str) -> list[int]:
        symbols = list(text)
        before, after = list(range(-1, len(text) - 1)), [*range(1, len(text)), -1]
        queue: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                joined = symbols[left] + symbols[right]
                if joined in self._ids:
                    heapq.heappush(queue, (-self._scores[self._ids[joined]], left, right, joined))

        for n in range(1, len(text)):
            offer(n - 1, n)
        while queue:
            _, left, right, joined = heapq.heappop(queue)
            if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != joined:
                continue  # one of the two was joined with something else meanwhile
            symbols[left], symbols[right] = joined, ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [n for s in symbols if s for n in self._emit(s)]

    def _emit(self, symbol: str) -> list[int]:
        known = self._ids.get(symbol)
        return [known] if known is not None else [self._bytes[b] for b in symbol.encode()]


def _wire(dialect: Dialect) -> list[str]:
    """The text that the model will meet: a prompt with declarations, calls, a response."""
    call = {"name": "set_thermostat", "arguments": {"room": "거실", "celsius": 21.5, "days": ["mon", "tue"]}}
    messages: list[Json] = [
        {"role": "developer", "content": "Current date and time given in YYYY-MM-DDTHH:MM:SS format: "
                                         "2026-11-20T08:30:00\nDay of week is Friday"},
        {"role": "user", "content": "거실을 21.5도로 맞춰줘, and  turn off the lights\n\nplease"},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
        {"role": "tool", "name": "set_thermostat", "content": {"ok": True, "celsius": 21.5}},
    ]  # fmt: skip
    return [dialect.render(messages[:n], _TOOLS) for n in (2, 3, 4)] + [dialect.render(messages[1:2], [])]


def _phrase(r: random.Random) -> str:
    return " ".join(r.choice(_WORDS) for _ in range(r.randint(1, 12)))


def _call(r: random.Random) -> str:
    """In FunctionGemma's manner; to a vocabulary without its markers it is a text like any other."""
    value = r.choice(
        [
            f"<escape>{_phrase(r)}<escape>",
            str(r.randint(-99, 9999)),
            "true",
            f"{r.random() * 50:.2f}",
            "[1,<escape>a b<escape>]",
        ]
    )
    key = r.choice(_WORDS).lower()
    body = f"call:{r.choice(_WORDS)}_{r.choice(_WORDS)}{{{key}:{value}}}"
    return f"<start_function_call>{body}<end_function_call><start_function_response>"


def _random_text(r: random.Random) -> str:
    """Bytes as text, half of them any, half of them printable."""
    data = bytes(r.randrange(256) if r.random() < 0.5 else r.randrange(32, 127) for _ in range(r.randint(1, 24)))
    return data.decode("utf-8", "replace") if r.random() < 0.5 else data.decode("latin-1")
