"""A Kotlin library module for LiteRT-LM: typed tools, a dispatcher, the model's installation, and a benchmark for phones.

The interface of LiteRT-LM that is used was read in its sources of July 2026; the generated code is compiled against stubs
of it (`tests/kotlin`), and the dispatcher is run.
"""

from __future__ import annotations

import json
import re
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

FORMATS = ("litertlm",)
RENDERS = "litert_lm"
ASSET = "src/main/assets/{file}"
LITERT_LM, KOTLIN, MIN_SDK = "0.18.0", "2.4.20", 24
DIALECTS = ("functiongemma", "hermes")  # whose calls LiteRT-LM reads, and the benchmark writes back
_HEADER = "Written by edge handoff android; contract.json says from what. Write it again rather than change it."

KOTLIN_NAMES = Language(
    names.camel,
    names.upper_snake,
    names.KOTLIN_RESERVED,
    types=(
        *names.listed(
            "Any Array Boolean Byte Char Comparable Double Enum Exception Float Int List Long Map Nothing Number Pair Set"
            " Short String Suppress Throwable Unit RuntimeException Context File Override OptIn Deprecated"
        ),
        *names.listed(
            "Reader Read Fields ToolCall ToolHandler ToolCallException UnknownTool MissingArgument NullArgument WrongType"
            " OutsideEnum UndeclaredArgument Declared Assistant ModelFile Benchmark BenchmarkTest CallText DispatchTest"
            " ToolsKt ToolCallsKt Companion"  # which the compiler makes
        ),
    ),
    members=(
        *names.listed(
            "tool send toArguments read toString hashCode equals copy getClass wait notify notifyAll clone finalize"
        ),
        "done",  # of the test's handler
    ),
    constants=(),
    plain={"string": "String", "integer": "Long", "number": "Double", "boolean": "Boolean", "any": "Any"},
)


def files(job: Job) -> dict[str, str]:
    """The module's files. Raises EdgeError for another dialect, and naming tool and property for what can't be written."""
    if job.dialect not in DIALECTS:
        raise EdgeError(
            f"{job.artifact.name}: the dialect {job.dialect} has no calls that LiteRT-LM reads",
            f"hand over a model of {' or '.join(DIALECTS)}",
        )
    if job.dialect == "functiongemma":
        refuse_dropped(job.tools, "FunctionGemma's template")
    values = _values(job)
    source = f"src/main/kotlin/{values['namespace'].replace('.', '/')}"
    placed = {
        "README.md": "android_readme.md",
        "build.gradle.kts": "android_build.kts",
        f"{source}/ToolCalls.kt": "android_calls.kt",
        f"{source}/Tools.kt": "android_tools.kt",
        f"{source}/Assistant.kt": "android_assistant.kt",
        f"{source}/ModelFile.kt": "android_model.kt",
        f"{source.replace('/main/', '/test/')}/DispatchTest.kt": "android_dispatch_test.kt",
        f"{source.replace('/main/', '/androidTest/')}/Benchmark.kt": "android_benchmark.kt",
        f"{source.replace('/main/', '/androidTest/')}/BenchmarkTest.kt": "android_benchmark_test.kt",
    }
    return {
        **{path: templates.fill(name, **values) for path, name in placed.items()},
        "consumer-rules.pro": _RULES,
        "src/main/AndroidManifest.xml": _MANIFEST,
    }


def check(folder: Path, job: Job) -> list[str]:
    """What a receiver would find wrong, one sentence each."""
    return templates.changed(folder, files(job), ASSET.format(file=job.artifact.name), job.record.bytes)


def steps(job: Job) -> list[str]:
    module = _module(job)
    return [
        f"Copy this folder into the app's project as `{module}`, and include it as the head of build.gradle.kts says.",
        f"Implement `ToolHandler` ({len(job.tools)} methods), then call `Assistant.ask` off the main thread.",
        "Run BenchmarkTest on the phone, pull its record, and read it with `edge report`.",
    ]


def _values(job: Job) -> Json:
    declared = learned(job.tools, job.dialect, job.renderer)
    return {
        "header": _HEADER, "name": job.name, "namespace": namespace(job), "module": _module(job),
        "shapes": shapes(declared, KOTLIN_NAMES), "recorded": recorded(declared, examples(job.options)),
        "file": job.artifact.name, "format": job.record.format, "bytes": job.record.bytes, "sha256": job.record.digest,
        "megabytes": f"{job.record.bytes / 1e6:.3g}", "max_tokens": job.context_tokens, "max_output": job.max_tokens,
        "system": job.system, "dialect": job.dialect, "notices": job.record.notices, "steps": steps(job),
        "url": job.options.get("download_url"), "litert_lm": LITERT_LM, "kotlin": KOTLIN, "min_sdk": MIN_SDK,
        "text": text, "json": _json, "literal": literal, "comment": templates.comment,
        "type": KOTLIN_NAMES.type_of, "type_of": KOTLIN_NAMES.field_type,
        "reader": reader, "writer": _field_writer, "rest_writer": _rest_writer, "texts": _texts,
    }  # fmt: skip


def namespace(job: Job) -> str:
    """The Kotlin package: the one asked for, or one of our own."""
    asked = job.options.get("namespace")
    if asked is None:
        return f"handoff.{_module(job)}"
    parts = str(asked).split(".")
    if not all(re.fullmatch(r"[a-z][a-z0-9_]*", part) and part not in names.KOTLIN_RESERVED for part in parts):
        raise EdgeError(
            f"{asked!r} is no name of a package", "use lower-case words with dots, such as com.example.tools"
        )
    return str(asked)


def _module(job: Job) -> str:
    return names.package(job.name)


# Kotlin


def text(value: str) -> str:
    """A string literal."""
    return f'"{"".join(map(_character, value))}"'


_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _character(c: str) -> str:
    if c in _ESCAPES:
        return _ESCAPES[c]
    if c in '\\"$':
        return f"\\{c}"
    if c.isprintable():
        return c
    return "".join(f"\\u{unit:04x}" for unit in _units(c))


def _units(c: str) -> list[int]:
    code = ord(c)
    return [code] if code < 0x10000 else [0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF)]


def literal(value: Any) -> str:
    """A JSON value as an expression."""
    if isinstance(value, dict):
        return f"mapOf<String, Any?>({', '.join(f'{text(k)} to {literal(v)}' for k, v in value.items())})"
    if isinstance(value, list):
        return f"listOf<Any?>({', '.join(map(literal, value))})"
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value}L" if isinstance(value, int) else repr(value)


def _json(declaration: Json) -> str:
    return json.dumps(declaration, ensure_ascii=False)


def reader(shape: Shape) -> str:
    """An expression that reads such a value."""
    inner = reader(shape.inner) if shape.inner else ""
    found = (
        {"list": f"Read.list({inner})", "map": f"Read.map({inner})"}.get(shape.kind)
        or shape.name
        or f"Read.{shape.kind}"
    )
    if shape.values:
        values = [float(v) if shape.kind == "number" else v for v in shape.values]
        found = f"Read.oneOf(listOf({', '.join(map(literal, values))}), {found})"
    return f"Read.nullable({found})" if shape.nullable and shape.kind != "any" else found


def writer(shape: Shape, value: str, nullable: bool) -> str:
    """An expression for the JSON of a value."""
    dot = "?." if nullable else "."
    if shape.kind == "enum":
        return f"{value}{dot}wire"
    if shape.kind == "class":
        return f"{value}{dot}toArguments()"
    if shape.inner and shape.inner.converted:
        item = "it" if shape.kind == "list" else "it.value"
        method = "map" if shape.kind == "list" else "mapValues"
        return f"{value}{dot}{method} {{ {writer(shape.inner, item, shape.inner.nullable)} }}"
    return value


def _field_writer(field: Field) -> str:
    return writer(field.shape, field.name, field.nullable)


def _rest_writer(it: Class) -> str:
    return writer(Shape("map", inner=it.others), it.rest, False)


def _texts(values: list[str]) -> str:
    return ", ".join(map(text, values))


_RULES = """\
# LiteRT-LM is called by its native code through these names. The library may ship the same rules; twice does no harm.
-keep class com.google.ai.edge.litertlm.** { *; }
"""

_MANIFEST = """\
<manifest xmlns:android="http://schemas.android.com/apk/res/android">
    <uses-permission android:name="android.permission.INTERNET" />
    <application>
        <!-- Wanted by Backend.GPU() alone; without them it is not there. -->
        <uses-native-library android:name="libvndksupport.so" android:required="false" />
        <uses-native-library android:name="libOpenCL.so" android:required="false" />
    </application>
</manifest>
"""
