"""What can be known of Dart source without a Dart SDK: that a grammar takes it, and that its names are ones that Dart takes.

The grammar accepts reserved words as names, two members of one name, and types that are nowhere, so that is asked here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_dart

from edge.export.handoff.names import listed

_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_dart.language()))
Node = tree_sitter.Node

# From the language's specification: what is never a name, and what is never a type's.
RESERVED = listed(
    "assert break case catch class const continue default do else enum extends false final finally for if in is new null"
    " rethrow return super switch this throw true try var void while with"
)
NO_TYPE = RESERVED | listed(
    "abstract as covariant deferred dynamic export extension external factory Function get implements import interface late"
    " library mixin operator part required set static type typedef"
)
INHERITED = frozenset({"hashCode", "runtimeType", "toString", "noSuchMethod"})  # of Object, with types of their own
OF_ENUMS = frozenset({"values", "index"})
CORE = listed("String int double bool num Object List Map Set FutureOr Future Tool ModelResponse FunctionCallResponse")


def parse(text: str) -> Node:
    return _PARSER.parse(text.encode()).root_node


def nodes(node: Node, *types: str) -> Iterator[Node]:
    """This node and those below it, of these types, in the order of the text."""
    if not types or node.type in types:
        yield node
    for child in node.children:
        yield from nodes(child, *types)


def said(node: Node) -> str:
    return (node.text or b"").decode()


def errors(text: str) -> list[str]:
    """What the grammar does not take, with its line."""
    found = [n for n in nodes(parse(text)) if n.type == "ERROR" or n.is_missing]
    return [f"line {n.start_point[0] + 1}: {said(n)[:60]!r}" for n in found]


def name_problems(text: str, known: frozenset[str] = CORE) -> list[str]:
    """Names that Dart refuses in a file of classes and enums: reserved ones, double ones, types that are nowhere."""
    root = parse(text)
    kinds = [n for n in root.children if n.type in ("class_definition", "enum_declaration")]
    types = [_name(n) for n in kinds]
    found = [f"type {name}: reserved" for name in types if name in NO_TYPE or not _is_name(name)]
    found += [f"type {name}: {count} times" for name, count in Counter(types).items() if count > 1]
    for kind, name in zip(kinds, types):
        members = list(_members(kind))
        taken = INHERITED | {name} | (OF_ENUMS if kind.type == "enum_declaration" else frozenset())
        found += [f"{name}.{m}: reserved" for m in members if m in RESERVED | taken or not _is_name(m)]
        found += [f"{name}.{m}: {count} times" for m, count in Counter(members).items() if count > 1]
        lower = {m for m in members if m in ("int", "double", "bool", "num")}
        found += [f"{name}.{m}: hides the type" for m in lower]
    found += [f"no type {t}" for t in {said(n) for n in nodes(root, "type_identifier")} - {*types, *known}]
    return found


def _is_name(name: str) -> bool:
    return bool(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name))


def _name(kind: Node) -> str:
    return said(next(c for c in kind.children if c.type == "identifier"))


def _members(kind: Node) -> Iterator[str]:
    body = next(c for c in kind.children if c.type in ("class_body", "enum_body"))
    for child in body.children:
        if child.type == "enum_constant":
            yield said(child.children[0])
        for node in nodes(child, "initialized_identifier", "getter_signature", "function_signature"):
            if child.type in ("declaration", "method_signature"):
                yield said(next(c for c in node.children if c.type == "identifier"))


def value(node: Node) -> Any:
    """The JSON of a constant expression of literals."""
    if node.type == "list_literal":
        return [value(c) for c in node.named_children if c.type not in ("const_builtin", "type_arguments")]
    if node.type == "set_or_map_literal":
        pairs = [c for c in node.named_children if c.type == "pair"]
        return {value(p.named_children[0]): value(p.named_children[1]) for p in pairs}
    text = said(node)
    if node.type == "string_literal":
        return string(text)
    words = {"true": True, "false": False, "null": None}
    return words[text] if text in words else float(text) if re.search("[.e]", text) else int(text)


_ESCAPE = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))", re.DOTALL)


def string(literal: str) -> str:
    """The value of a string between single quotes. Raises ValueError for what would end it, or be evaluated."""
    inner = literal[1:-1]
    bare = _ESCAPE.sub("", inner)
    if literal[0] + literal[-1] != "''" or any(c in bare for c in "'$\n\r\\"):
        raise ValueError(f"not one plain string: {literal!r}")
    plain = {"n": "\n", "r": "\r", "t": "\t"}
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else plain.get(m[2], m[2]), inner)


def arguments(node: Node) -> dict[str, Node]:
    """The named arguments of a call `Name(a: …, b: …)`."""
    named = nodes(node, "named_argument")
    return {said(n.named_children[0]).rstrip(":").strip(): n.named_children[-1] for n in named}


def analyse(folder: Path) -> str | None:
    """What `dart analyze` says against a package; None where there is no Dart SDK with Flutter."""
    flutter = shutil.which("flutter")
    if not flutter:
        return None
    subprocess.run([flutter, "pub", "get"], cwd=folder, capture_output=True, check=True, timeout=600)
    done = subprocess.run(
        [flutter, "analyze", "--fatal-infos"], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""
