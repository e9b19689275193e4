"""A finding as a person reads it: one line a fact, what is unknown left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.export.inspect.found import Found, Signature, first_line, printable

_WIDTH = 13
_SHOWN = ("general.architecture", "general.file_type", "general.type")  # keys of GGUF that other lines are made of
_LONG = 90


def text(found: Found) -> str:
    lines = [f"{found.path}: {found.format}, {found.bytes / 1e6:,.2f} MB"]
    lines += [f"  {name:<{_WIDTH}} {value}" for name, value in _lines(found) if value]
    if found.sections:
        wide = max(len(s.name) for s in found.sections)
        lines.append("  sections")
        lines += [
            f"    {s.name:<{wide}} {s.bytes:>13,} bytes  sha256 {s.sha256[:16]}…{_facts(s.facts)}"
            for s in found.sections
        ]
    return printable("\n".join(lines))


def _lines(f: Found) -> Iterator[tuple[str, str]]:
    yield "architecture", f.architecture or ""
    yield "quantisation", f.quantisation or ""
    yield "parameters", f"{f.parameters / 1e6:,.2f} million" if f.parameters else ""
    yield "tensors", ", ".join(f"{t.count} {k} ({t.bytes / 1e6:,.2f} MB)" for k, t in f.tensors.items())
    yield "vocabulary", f"{f.vocabulary:,} tokens" if f.vocabulary else ""
    yield "tokenizer", f"{f.tokenizer.kind}, {len(f.tokenizer.pieces):,} pieces" if f.tokenizer else _none(f)
    yield "context", _room(f, f.context_tokens, "")
    yield "cache", _room(f, f.cache_tokens, ", prompt and answer together")
    yield "signatures", _signatures(f.signatures)
    yield "model type", f.model_type or ("none" if f.format == "litertlm" else "")
    yield "start", str(f.start) if f.start else ""
    yield "stops", ", ".join(map(str, f.stops)) or _none(f)
    yield "sampler", f.sampler or ""
    yield "template", f"sha256 {(f.template_sha256 or '')[:16]}…, begins {first_line(f.template)}" if f.template else ""
    yield "licence", "; ".join(f.notices) or _no_licence(f)
    yield (
        "sha256",
        f.sha256 + (" (of the names and digests of its files)" if f.format in ("checkpoint", "adapter") else ""),
    )
    yield "manifest", _manifest(f)
    yield "proof", _proof(f)
    yield "also", _plain(f.facts)


def _proof(f: Found) -> str:
    m = f.manifest
    return f"{m.verdict}{f': {m.why}' if m.why else ''}" if m and m.verdict else ""


def _no_licence(f: Found) -> str:
    recorded = f.manifest is not None and f.manifest.error is None
    return "none named, and by its manifest none is needed" if recorded else "none named"


def _none(f: Found) -> str:
    """What it lacks is said only where it could have it: a bare graph has neither tokenizer nor stops."""
    bare = f.format in ("tflite", "adapter") or (f.format == "onnx" and not Path(f.path).is_dir())
    return "" if bare else "none"


def _room(f: Found, tokens: int | None, what: str) -> str:
    if not tokens:
        return ""
    asked = f"; its metadata asks for {f.asked_tokens:,}" if f.asked_tokens and f.asked_tokens != tokens else ""
    return f"{tokens:,} tokens{what}{asked}"


def _signatures(signatures: list[Signature]) -> str:
    """Names, with the count of tokens where the name does not say it; a cache's many inputs are cut off."""
    words = [
        s.name if s.tokens in (None, 1) or str(s.tokens) in s.name else f"{s.name} ({s.tokens})" for s in signatures
    ]
    return _cut(", ".join(words))


def _manifest(f: Found) -> str:
    told = f.manifest
    if told is None:
        return "none"
    if told.error:
        return f"{told.path} can't be used: {told.error}"
    if told.differs:
        return f"{told.path} DIFFERS: {told.differs}"
    made = ", ".join(filter(None, (told.quantisation, told.dialect, told.source)))
    return f"{told.path} agrees ({made})"


def _facts(facts: dict[str, str]) -> str:
    return "  " + ", ".join(f"{k}={v}" for k, v in facts.items()) if facts else ""


def _plain(facts: dict[str, Any]) -> str:
    """What only this format has, where it says anything."""
    said = {k: v for k, v in facts.items() if v not in (None, "", [], {}) and k not in _SHOWN}
    return _cut("; ".join(f"{k} {_value(v)}" for k, v in said.items()), 4 * _LONG)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v!r}" if v == "" or isinstance(v, str) else f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cut(text: str, length: int = _LONG) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
