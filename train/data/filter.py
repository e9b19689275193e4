"""`edge data filter`: rules by name, one after the other. What is kept is kept as it stands; the rest has its reason."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge import dialects
from edge.errors import EdgeError
from edge.records import Json, digest_value
from edge.tools import validate_call
from edge.train.readers import Reject
from edge.worker import Progress

from . import text
from .near import THRESHOLD, Index, sign
from .source import Item, Loaded
from .stats import all_calls
from .tokens import Length

Reasons = list["str | None"]  # for each row why it goes, or None


@dataclass(frozen=True)
class Context:
    """What rules may ask about rows besides the rows themselves."""

    lengths: dict[str, Length]  # by the row's place; tokens None without a tokenizer
    threshold: float = THRESHOLD
    progress: Progress | None = None


@dataclass(frozen=True)
class Rule:
    """`apply(rows, value, context)`: why each row goes. `takes`: how the value is called, "" for a rule without one."""

    takes: str
    meaning: str
    apply: Callable[[Sequence[Item], str, Context], Reasons]


@dataclass
class Filtered:
    kept: list[Item]
    rejects: list[Reject]  # unreadable ones first, then rule by rule
    steps: list[Json] = field(default_factory=list)  # {"rule", "dropped", "kept", "example"}


def run(loaded: Loaded, rules: Sequence[str], context: Context) -> Filtered:
    """Apply `name` or `name=value` rules from left to right. Raises EdgeError for one that there is not."""
    chosen = [(rule, *parse(rule)) for rule in rules]
    result = Filtered(list(loaded.items), list(loaded.rejects))
    result.steps.append(_step("(readable)", loaded.rejects, len(loaded.items)))
    for given, rule, value in chosen:
        reasons = rule.apply(result.kept, value, context)
        dropped = [_reject(i, f"{given}: {why}") for i, why in zip(result.kept, reasons) if why is not None]
        result.kept = [item for item, why in zip(result.kept, reasons) if why is None]
        result.rejects += dropped
        result.steps.append(_step(given, dropped, len(result.kept)))
    return result


def parse(given: str) -> tuple[Rule, str]:
    """The rule of this name and its value."""
    name, _, value = given.partition("=")
    if name not in RULES:
        near = difflib.get_close_matches(name, RULES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(RULES)}"
        raise EdgeError(f"no rule {name!r}", hint)
    rule = RULES[name]
    if bool(value) != bool(rule.takes) or ("=" in given and not rule.takes):
        usage = f"{name}={rule.takes}" if rule.takes else name
        raise EdgeError(f"rule {given!r}: {'no value' if rule.takes else 'takes no value'}", f"write it as {usage}")
    if rule.takes == "N":
        _number(given)
    return rule, value


def needs_tokens(rules: Sequence[str]) -> bool:
    return any(rule.startswith("max-tokens") for rule in rules)


def needs_lengths(rules: Sequence[str]) -> bool:
    return needs_tokens(rules) or any(rule.startswith("max-chars") for rule in rules)


def _number(given: str) -> int:
    name, _, value = given.partition("=")
    if not re.fullmatch("[1-9][0-9]{0,17}", value):  # int() refuses more than 4300 digits
        raise EdgeError(f"rule {given!r:.60}: that is no whole number from 1 to 10^18", f"write {name}=500")
    return int(value)


def _reject(item: Item, reason: str) -> Reject:
    return Reject(item.row.file, item.row.line, reason, item.text)


def _step(rule: str, dropped: Sequence[Reject], kept: int) -> Json:
    example = None
    if dropped:
        first = dropped[0]
        example = {"file": first.file, "line": first.line, "reason": first.reason}
    return {"rule": rule, "dropped": len(dropped), "kept": kept, "example": example}


# ---- rules


def each(why: Callable[[Item, str, Context], str | None]) -> Callable[[Sequence[Item], str, Context], Reasons]:
    """A rule that looks at one row at a time."""
    return lambda items, value, context: [why(item, value, context) for item in items]


def _calls(right: Callable[[int], bool]) -> Callable[[Sequence[Item], str, Context], Reasons]:
    return each(lambda item, _, __: None if right(n := len(item.row.calls)) else f"{n} calls")


def _has_arguments(item: Item, _: str, __: Context) -> str | None:
    return None if any(call.arguments for call in item.row.calls) else "no call with an argument"


def _valid(item: Item, _: str, __: Context) -> str | None:
    if not item.tools and all_calls(item.row):
        return "its tools are not declared"
    return next((problem for call in all_calls(item.row) for problem in validate_call(call, item.tools)), None)


def _named(why: Callable[[Item, str, Context], str | None]) -> Callable[[Sequence[Item], str, Context], Reasons]:
    """A rule about tools by their names. Raises EdgeError for a name that no row declares or calls: a slip, most likely."""

    def apply(items: Sequence[Item], value: str, context: Context) -> Reasons:
        known = {call.name for item in items for call in item.row.calls}
        known |= {str(dialects.function_of(tool).get("name")) for item in items for tool in item.tools}
        strange = sorted(set(value.split(",")) - known) if items else []
        if strange:
            near = difflib.get_close_matches(strange[0], known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
            raise EdgeError(f"rule '…tool={value}': no row declares or calls {strange[0]}", hint)
        return each(why)(items, value, context)

    return apply


def _tool(item: Item, value: str, _: Context) -> str | None:
    others = sorted({call.name for call in item.row.calls} - set(value.split(",")))
    if others:
        return f"calls {', '.join(others)}"
    return None if item.row.calls else "no call"


def _not_tool(item: Item, value: str, _: Context) -> str | None:
    found = sorted({call.name for call in item.row.calls} & set(value.split(",")))
    return f"calls {', '.join(found)}" if found else None


def _script(item: Item, value: str, _: Context) -> str | None:
    if value not in (*text.SCRIPTS, "other", "none"):
        raise EdgeError(f"rule 'script={value}': no such script", f"there are: {', '.join(text.SCRIPTS)}, other, none")
    script = text.script(text.said(item.row))
    return None if script == value else f"mostly {script}"


def _max_chars(item: Item, value: str, context: Context) -> str | None:
    length = context.lengths[item.place].characters
    return None if length <= int(value) else f"{length} characters"


def _max_tokens(item: Item, value: str, context: Context) -> str | None:
    length = context.lengths[item.place].tokens
    if length is None:
        raise EdgeError("rule 'max-tokens' needs a tokenizer", "give --tokenizer FOLDER, or use max-chars=N")
    return None if length <= int(value) else f"{length} tokens"


def _unique(items: Sequence[Item], _: str, __: Context) -> Reasons:
    return _at_most(1, items, lambda item: [text.identity(item.row)], "the same conversation and answer as")


def _max_per_tool(items: Sequence[Item], value: str, _: Context) -> Reasons:
    """A row counts for each tool that it calls, and goes if one of them has enough; rows without a call are one kind."""
    return _at_most(int(value), items, lambda item: sorted({c.name for c in item.row.calls}) or ["(no call)"],
                    f"{value} rows before it call the same tool, first")  # fmt: skip


def _max_per_phrasing(items: Sequence[Item], value: str, _: Context) -> Reasons:
    return _at_most(int(value), items, lambda item: [text.masked(item.row)],
                    f"{value} rows before it are phrased so, first")  # fmt: skip


def _at_most(limit: int, items: Sequence[Item], keys: Callable[[Item], list[str]], why: str) -> Reasons:
    counts: Counter[str] = Counter()
    first: dict[str, Item] = {}
    reasons: Reasons = []
    for item in items:
        full = [key for key in keys(item) if counts[key] >= limit]
        reasons.append(f"{why} {first[full[0]].place}" if full else None)
        for key in () if full else keys(item):
            counts[key] += 1
            first.setdefault(key, item)
    return reasons


def _near_unique(items: Sequence[Item], _: str, context: Context) -> Reasons:
    """Compared with the rows that stay, among those with the same calls: another value is another row."""
    indexes: dict[str, tuple[Index, list[Item]]] = {}
    reasons: Reasons = []
    for n, item in enumerate(items):
        if context.progress and n % 100 == 0:
            context.progress(n, len(items), "near-unique")
        answer = digest_value(item.row.messages[-1])
        index, kept = indexes.setdefault(answer, (Index(context.threshold), []))
        signature = sign(text.normalised(text.said(item.row)))
        near = index.near(signature)
        reasons.append(f"near to {kept[near[0]].place}" if near else None)
        if not near:
            index.put(signature)
            kept.append(item)
    return reasons


def _sample(items: Sequence[Item], value: str, _: Context) -> Reasons:
    order = sorted(range(len(items)), key=lambda n: hashlib.sha256(items[n].text.encode("utf-8", "replace")).digest())
    chosen = set(order[: int(value)])
    return [None if n in chosen else "not among the sample" for n in range(len(items))]


RULES = {
    "single-call": Rule("", "answers with exactly one call", _calls(lambda n: n == 1)),
    "parallel": Rule("", "answers with two calls or more", _calls(lambda n: n > 1)),
    "no-call": Rule("", "answers without a call", _calls(lambda n: n == 0)),
    "has-arguments": Rule("", "answers with a call that has an argument", each(_has_arguments)),
    "valid": Rule("", "calls agree with their declared tools; undeclared ones go", each(_valid)),
    "tool": Rule("NAME[,NAME]", "answers that call these tools and no other", _named(_tool)),
    "not-tool": Rule("NAME[,NAME]", "answers that call none of these", _named(_not_tool)),
    "script": Rule("NAME", "most letters of the user's text are hangul, latin, …", each(_script)),
    "max-chars": Rule("N", "prompt and completion have at most N characters", each(_max_chars)),
    "max-tokens": Rule("N", "the same in tokens; needs --tokenizer", each(_max_tokens)),
    "unique": Rule("", "the first of rows with the same conversation and answer", _unique),
    "near-unique": Rule("", "the first of rows with the same answer to nearly the same text", _near_unique),
    "max-per-tool": Rule("N", "the first N rows that call a tool", _max_per_tool),
    "max-per-phrasing": Rule("N", "the first N rows that differ in their values alone", _max_per_phrasing),
    "sample": Rule("N", "N rows, chosen by their content: the same ones every time", _sample),
}  # fmt: skip
