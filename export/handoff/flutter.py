"""A Dart package for flutter_edge_ai, or its predecessor flutter_gemma: typed tools, a dispatcher, the model's installation.

Both have the same interface under two names. It was read in their sources of August 2026; the generated code is parsed,
and analysed where there is a Dart SDK, but has been run nowhere here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import EdgeError
from edge.export.handoff import names, templates
from edge.export.handoff.shapes import (
    Class,
    Field,
    Language,
    Shape,
    examples,
    learned,
    recorded,
    refuse_dropped,
    shapes,
)
from edge.records import Json

if TYPE_CHECKING:
    from edge.export.handoff import Job

FORMATS = ("task", "litertlm")
RENDERS = "flutter_gemma"
ASSET = "assets/{file}"
MIN_TOKENS = 1024  # below it the package raises a `.litertlm`'s, and a `.task` is cut
_HEADER = "Written by edge handoff flutter; contract.json says from what. Write it again rather than change it."


@dataclass(frozen=True)
class Package:
    """Versions: the lowest that pass FunctionGemma's tools on, and its integers as integers."""

    facade: str
    core: str
    engines: dict[str, tuple[str, str, str]]  # by format: the engine package's ending, its class, its version


PACKAGES = {
    "flutter_edge_ai": Package(
        "FlutterEdgeAi",
        "^2.1.1",
        {"litertlm": ("litertlm", "LiteRtLmEngine", "^1.10.1"), "task": ("mediapipe", "MediaPipeEngine", "^1.1.1")},
    ),
    "flutter_gemma": Package(
        "FlutterGemma",
        "^1.8.4",
        {"litertlm": ("litertlm", "LiteRtLmEngine", "^1.8.0"), "task": ("mediapipe", "MediaPipeEngine", "^1.0.5")},
    ),
}

DART_NAMES = Language(
    names.camel,
    names.camel,
    names.DART_RESERVED,
    types=(
        *names.listed(
            "bool double dynamic int num Comparable Enum Error Exception Function Future FutureOr Iterable List Map MapEntry"
            " Never Null Object Record Set StateError Stream String Symbol Type"
        ),
        *names.listed(
            "AppBar AsyncSnapshot BuildContext Center Column FilledButton FutureBuilder MaterialApp Scaffold State"
            " StatefulWidget StatelessWidget Text TextEditingController TextField Widget"
        ),
        *names.listed(
            "FlutterEdgeAi FlutterGemma InferenceChat InferenceModel LiteRtLmEngine MediaPipeEngine Message ModelFileType"
            " ModelResponse ModelType PreferredBackend TextResponse FunctionCallResponse ParallelFunctionCallResponse"
            " ThinkingResponse Tool ToolChoice"
        ),
        *names.listed(
            "Reader Read Fields ToolCall ToolHandler ToolCallException UnknownTool MissingArgument NullArgument WrongType"
            " OutsideEnum UndeclaredArgument ToolSession ModelSession AskView RecordedSession RecordingHandler ExampleApp"
            " PrintingHandler"
        ),
    ),
    members=(
        *names.listed(
            "bool double int num tool send toArguments read hashCode runtimeType toString noSuchMethod written"
        ),
        *names.listed("done handled"),  # of the test's handler
    ),
    constants=tuple(
        names.listed("bool double int num values index name wire read hashCode runtimeType toString noSuchMethod")
    ),
    plain={"string": "String", "integer": "int", "number": "double", "boolean": "bool", "any": "Object"},
)


def files(job: Job) -> dict[str, str]:
    """The package's files. Raises EdgeError naming tool, property and remedy for what the package would lose."""
    _refuse(job)
    values = _values(job)
    placed = {
        "README.md": "flutter_readme.md",
        "pubspec.yaml": "flutter_pubspec.yaml",
        f"lib/{values['module']}.dart": "flutter_library.dart",
        "lib/src/calls.dart": "flutter_calls.dart",
        "lib/src/tools.dart": "flutter_tools.dart",
        "lib/src/assistant.dart": "flutter_assistant.dart",
        "lib/src/ask_view.dart": "flutter_view.dart",
        "test/recorded_replies_test.dart": "flutter_test.dart",
        "example/lib/main.dart": "flutter_example.dart",
        "example/pubspec.yaml": "flutter_example_pubspec.yaml",
    }
    filled = {path: templates.fill(name, **values) for path, name in placed.items()}
    return {**filled, "analysis_options.yaml": _ANALYSIS}


def check(folder: Path, job: Job) -> list[str]:
    """What a receiver would find wrong, one sentence each."""
    return templates.changed(folder, files(job), ASSET.format(file=job.artifact.name), job.record.bytes)


def steps(job: Job) -> list[str]:
    module = names.package(job.name)
    return [
        f"Run `flutter analyze && flutter test` in this folder, then add it to the app's pubspec.yaml: `{module}: {{path: …}}`.",
        f"Implement `ToolHandler` ({len(job.tools)} methods); example/lib/main.dart shows it.",
        "Call `installModel` once, `ModelSession.open`, then `ask`; try the example on a phone with `flutter run`.",
    ]


def _refuse(job: Job) -> None:
    if job.dialect != "functiongemma":
        raise EdgeError(
            f"{job.artifact.name}: its dialect is {job.dialect}, and this package is written for ModelType.functionGemma",
            "hand it over to android or ollama",
        )
    if job.context_tokens < MIN_TOKENS:
        raise EdgeError(
            f"{job.artifact.name}: made for {job.context_tokens} tokens, and {_package(job)} asks for {MIN_TOKENS}",
            f"export it again with room for {MIN_TOKENS}",
        )
    refuse_dropped(job.tools, _package(job))


def _package(job: Job) -> str:
    name = str(job.options.get("package") or "flutter_edge_ai")
    if name not in PACKAGES:
        raise EdgeError(f"no package {name!r}", f"use one of: {', '.join(PACKAGES)}")
    return name


def _values(job: Job) -> Json:
    package = _package(job)
    written = PACKAGES[package]
    engine, engine_class, engine_version = written.engines[job.record.format]
    declared = learned(job.tools, job.dialect, job.renderer)
    return {
        "header": _HEADER, "name": job.name, "module": names.package(job.name), "package": package,
        "facade": written.facade, "core_version": written.core, "engine": engine, "engine_class": engine_class,
        "engine_version": engine_version, "shapes": shapes(declared, DART_NAMES),
        "recorded": recorded(declared, examples(job.options)),
        "file": job.artifact.name, "format": job.record.format, "sha256": job.record.digest,
        "megabytes": f"{job.record.bytes / 1e6:.3g}", "max_tokens": job.context_tokens, "max_output": job.max_tokens,
        "system": job.system if job.record.format == "litertlm" else "", "url": job.options.get("download_url"),
        "notices": job.record.notices, "steps": steps(job), "text": text, "literal": literal, "comment": templates.comment,
        "type": DART_NAMES.type_of, "type_of": DART_NAMES.field_type,
        "reader": reader, "writer": _field_writer, "rest_writer": _rest_writer,
        "texts": _texts, "quoted": _quoted,
    }  # fmt: skip


# Dart


def text(value: str) -> str:
    """A string literal."""
    return f"'{''.join(map(_character, value))}'"


_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _character(c: str) -> str:
    if c in _ESCAPES:
        return _ESCAPES[c]
    if c in "\\'$":
        return f"\\{c}"
    return c if c.isprintable() else f"\\u{{{ord(c):x}}}"


def literal(value: Any) -> str:
    """A JSON value as a constant expression."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{text(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(float(value) if abs(value) > 2**53 else value)


def reader(shape: Shape) -> str:
    """An expression that reads such a value."""
    inner = reader(shape.inner) if shape.inner else ""
    found = {"list": f"Read.list({inner})", "map": f"Read.map({inner})", "enum": f"{shape.name}.read",
             "class": f"{shape.name}.read"}.get(shape.kind) or f"Read.{shape.kind}"  # fmt: skip
    if shape.values:
        values = [float(v) if shape.kind == "number" else v for v in shape.values]
        found = f"Read.oneOf(const {literal(values)}, {found})"
    return f"Read.nullable({found})" if shape.nullable and shape.kind != "any" else found


def writer(shape: Shape, value: str, nullable: bool) -> str:
    """An expression for the JSON of a value."""
    dot = "?." if nullable else "."
    if shape.kind == "enum":
        return f"{value}{dot}wire"
    if shape.kind == "class":
        return f"{value}{dot}toArguments()"
    if shape.inner and shape.inner.converted:
        inner = writer(shape.inner, "item", shape.inner.nullable)
        if shape.kind == "list":
            return f"{value}{dot}map((item) => {inner}).toList()"
        return f"{value}{dot}map((name, item) => MapEntry(name, {inner}))"
    return value


def _field_writer(field: Field) -> str:
    return writer(field.shape, field.name, field.nullable)


def _rest_writer(it: Class) -> str:
    return writer(Shape("map", inner=it.others), it.rest, False)


def _texts(values: list[str]) -> str:
    return ", ".join(map(text, values))


def _quoted(value: str) -> str:
    """A string in YAML, which takes JSON's."""
    return json.dumps(value, ensure_ascii=False)


_ANALYSIS = """\
include: package:flutter_lints/flutter.yaml

analyzer:
  language:
    strict-casts: true
    strict-raw-types: true
"""
