"""How figures are put into words and digits: one way for the terminal, the README and the page.

A verdict is a word only where the interval carries it. Sizes are decimal: 1 MB is 1,000,000 bytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

UNKNOWN = "–"
_SHOWN = 240  # characters of a prompt's end
# Characters that a page can't hold or that turn the text around them: a model may write any of them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def number(value: float | None, digits: int = 0) -> str:
    """Rounded; digits behind the point only as far as the value is small enough to need them."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def figure(value: float | None) -> str:
    """Three digits that count: 0.0123, 1.23, 12.3, 123, 1,234."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 or size == 0 else 3
    return f"{value:,.{digits}f}"


def megabytes(count: float | None) -> str:
    return figure(None if count is None else count / 1e6)


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def points(share: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    if share is None:
        return UNKNOWN
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def verdict(difference: Mapping[str, Any]) -> str:
    """ "lost" or "gained" where the whole interval lies on that side of 0, else "none seen"; None-safe."""
    if difference.get("low") is None or difference.get("high") is None:
        return "unknown"
    return "lost" if difference["high"] < 0 else "gained" if difference["low"] > 0 else "none seen"


def change(difference: Mapping[str, Any]) -> str:
    """The verdict as a person reads it; where nothing was seen, how large a change could have hidden."""
    word = verdict(difference)
    if word == "none seen":
        return f"no difference seen (±{100 * (difference['high'] - difference['low']) / 2:.1f})"
    return word


def said(row: Mapping[str, Any]) -> str:
    """The user's words in a workload row: its own field, else the prompt's last user turn, else the prompt's end."""
    if isinstance(row.get("user"), str):
        return str(row["user"])
    prompt = str(row.get("prompt") or "")
    turns = re.findall(r"(?:<start_of_turn>|<\|im_start\|>)user\n(.*?)(?:<end_of_turn>|<\|im_end\|>|$)", prompt, re.S)
    text = (turns[-1] if turns else prompt).strip()
    return text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]


def markup(value: object, most: int | None = None) -> str:
    """Any text as HTML, content or attribute: escaped, control characters made visible, cut after `most` letters."""
    text = _UNSEEN.sub("\ufffd", str(value).replace("\r\n", "\n"))
    if most is not None and len(text) > most:
        text = text[:most] + "…"
    return html.escape(text)
