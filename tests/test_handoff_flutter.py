"""The Dart package of `edge handoff flutter`: parsed by a real grammar, its names and literals read back from the source.

No Dart runs here; the same dispatcher in Kotlin does (test_handoff_android.py), written from the same shapes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import dart_source
import handoffs
import pytest
from handoffs import NAMED, TOOLS, WORDS, job, tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.dialects import function_of, functiongemma
from edge.errors import EdgeError
from edge.export.handoff import android, flutter, names
from edge.export.handoff.shapes import Class, learned, shapes
from edge.renderers import flutter_gemma, parity

TEXT = {"type": "string"}
SOURCES = "lib/src/tools.dart"


def dart(files):
    return {path: text for path, text in files.items() if path.endswith(".dart")}


def look(tools, **more):
    """Everything that can be known of the package for these tools, without a Dart SDK."""
    asked = job(tools, **more)
    files = flutter.files(asked)
    assert {path: dart_source.errors(text) for path, text in dart(files).items() if dart_source.errors(text)} == {}
    source = files[SOURCES]
    assert dart_source.name_problems(source) == []
    root = dart_source.parse(source)
    assert not list(dart_source.nodes(root, "template_substitution"))
    declared = next(n for n in dart_source.nodes(root, "static_final_declaration"))
    given = [dart_source.arguments(n) for n in dart_source.nodes(declared, "arguments")]
    read = [{k: dart_source.value(v) for k, v in one.items()} for one in given]
    functions = [function_of(t) for t in learned(tools, asked.dialect, asked.renderer)]
    assert read == [
        {"name": f["name"], "description": f.get("description") or "", "parameters": f.get("parameters") or {}}
        for f in functions
    ]
    assert [list(r["parameters"].get("properties") or {}) for r in read] == [
        list((f.get("parameters") or {}).get("properties") or {}) for f in functions
    ]  # dictionaries are equal in any order; models are not
    for wire, cases in wires(source).items():
        assert wire in {f["name"] for f in functions} and cases == 1
    return files


def wires(source):
    """How often each tool's name stands in the dispatcher."""
    factory = source[source.index("factory ToolCall.of") : source.index("/// The tool's declared name.")]
    keys = [dart_source.string(m[1]) for m in re.finditer(r"^    ('(?:[^'\\]|\\.)*') => ", factory, re.MULTILINE)]
    return {key: keys.count(key) for key in keys}


@pytest.mark.parametrize("package", flutter.PACKAGES)
@pytest.mark.parametrize("format", flutter.FORMATS)
@pytest.mark.parametrize("tools", NAMED.values(), ids=NAMED)
def test_the_package_is_dart(tools, format, package):
    files = look([t for t in tools if not surrogate(t)], format=format, package=package)
    assert f"package:{package}/{package}.dart" in files["lib/src/assistant.dart"]


def surrogate(tool):
    return any("\ud800" <= c <= "\udfff" for c in tool["function"].get("description") or "")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(TOOLS)
def test_the_package_is_dart_whatever_is_declared(tools):
    look(tools)


def test_half_a_surrogate_pair_is_escaped_and_no_file_holds_one():
    files = flutter.files(job(NAMED["odd"]))
    assert r"half \u{d800}" in files[SOURCES]
    assert all(text.encode() for text in files.values())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class A { final String class; }", "A.class: reserved"),
        ("enum A { in, is }", "A.in: reserved"),
        ("enum A { values }", "A.values: reserved"),
        ("class A { final String toString; }", "A.toString: reserved"),
        ("class A { final String a; final int a; }", "A.a: 2 times"),
        ("class A { final String a; String get a => ''; }", "A.a: 2 times"),
        ("class A {} class A {}", "type A: 2 times"),
        ("class A { final B b; }", "no type B"),
        ("class A { final int int; }", "A.int: hides the type"),
        ("class typedef {}", "type typedef: reserved"),
    ],
)
def test_the_checks_notice_names_that_dart_has_not(source, words):
    assert words in dart_source.name_problems(source)


@pytest.mark.parametrize(
    "source", ["class A { final = ; }", "const a = 'it's';", "void f() { switch (x) { case }", "class {"]
)
def test_the_grammar_notices_what_is_no_dart(source):
    assert dart_source.errors(source)


@pytest.mark.parametrize("literal", ["'a'b'", "'$x'", "'a\nb'", '"a"', "'\\'"])
def test_strings_that_would_end_or_be_evaluated_are_noticed(literal):
    with pytest.raises(ValueError, match="not one plain string"):
        dart_source.string(literal)


@given(st.text())
def test_every_text_is_a_literal_in_both_languages(text):
    assert dart_source.string(flutter.text(text)) == text
    literal = android.text(text)
    assert re.fullmatch(r'"(?:[^"\\$\n\r]|\\.)*"', literal) and "\n" not in literal


@pytest.mark.skipif(
    dart_source.shutil.which("flutter") is None, reason="no Flutter SDK: the package is parsed, NOT analysed"
)
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_the_package_passes_the_analyser(name, tmp_path):
    folder = handoffs.write(flutter.files(job(NAMED[name])), tmp_path)
    handoffs.write({"assets/lights.litertlm": "x"}, folder)
    assert dart_source.analyse(folder) == ""


# What is written


def test_types_follow_the_declarations():
    source = flutter.files(job(NAMED["cases"]))[SOURCES]
    for line in (
        "  final SetLightRoom room;", "  final bool on;", "  final int? level;", "  final double? warmth;",
        "  final String? colour;", "  final List<String>? guests;", "  final AddEventWhere where;",
        "  final Map<String, Object?>? notes;", "  n2ndFloor('2nd floor');",
        "    'list_lights' => ListLightsCall.read(arguments, name),",
        "      step: found.optional('step', Read.oneOf(const [1, 2, 5], Read.integer)),",
    ):  # fmt: skip
        assert f"{line}\n" in source


def test_the_model_is_opened_as_the_package_wants_it():
    for format, engine in (("task", "MediaPipeEngine"), ("litertlm", "LiteRtLmEngine")):
        text = flutter.files(job(NAMED["cases"], format=format, system="Call."))["lib/src/assistant.dart"]
        for words in (
            f"inferenceEngines: const [{engine}()]", "modelType: ModelType.functionGemma", f"ModelFileType.{format}",
            "supportsFunctionCalls: true", "topK: 1", "const int maxTokens = 1024;", "withProgress",
            "FlutterEdgeAi.installModel",
        ):  # fmt: skip
            assert words in text
        assert ("systemInstruction: 'Call.'" in text) is (format == "litertlm")


def test_one_template_two_names():
    new, old = (flutter.files(job(NAMED["cases"], package=p)) for p in ("flutter_edge_ai", "flutter_gemma"))
    renamed = {
        k: v.replace("flutter_edge_ai", "flutter_gemma").replace("FlutterEdgeAi", "FlutterGemma")
        for k, v in new.items()
    }
    versions = re.compile(r"\^[0-9.]+")
    assert {k: versions.sub("", v) for k, v in renamed.items()} == {k: versions.sub("", v) for k, v in old.items()}
    assert "flutter_gemma_litertlm: ^1.8.0" in old["pubspec.yaml"] and "flutter_edge_ai: ^2" in new["pubspec.yaml"]


def test_replies_that_were_recorded_are_tested():
    examples = [{"user": "it's $5", "calls": [{"name": "set_light", "arguments": {"room": "hall", "on": True}},
                                               {"name": "list_lights", "arguments": {}}]},
                {"user": "wrong", "calls": [{"name": "set_light", "arguments": {}}]}]  # fmt: skip
    text = flutter.files(job(NAMED["cases"], examples=examples))["test/recorded_replies_test.dart"]
    assert r"it\'s \$5" in text and "ParallelFunctionCallResponse" in text and "wrong" not in text
    assert text.count("FunctionCallResponse(name:") == 3  # both of the reply, and one on the screen
    cases = [{"messages": [{"role": "user", "content": e["user"]}], "expected": e["calls"]} for e in examples]
    assert flutter.files(job(NAMED["cases"], cases=cases))["test/recorded_replies_test.dart"] == text


def test_declared_in_the_order_that_was_learned():
    tools = [tool("t", {"b": {"type": "array", "items": {"type": "object", "properties": {
        "z": {"type": "string"}, "Y": {"type": "string"}}}},
                        "A": {"type": "string"}}, ["b"])]  # fmt: skip
    messages = [{"role": "developer", "content": flutter_gemma.SENTENCE}, {"role": "user", "content": "x"}]
    trained = functiongemma.render(messages, tools)
    given, shown = (
        flutter_gemma.render(messages, tools),
        flutter_gemma.render(messages, learned(tools, "functiongemma", "training")),
    )
    assert "property order" in parity.classify(trained, given) and "property order" not in parity.classify(
        trained, shown
    )
    assert functiongemma.render(messages, learned(tools, "functiongemma", "training")) == trained
    assert learned(tools, "functiongemma", "flutter_gemma") == tools and learned(tools, "hermes", "training") == tools


def test_the_folder_holds_what_the_readme_says(tmp_path):
    asked = job(NAMED["cases"])
    files = flutter.files(asked)
    readme = files["README.md"]
    assert all(step in readme for step in flutter.steps(asked)) and len(flutter.steps(asked)) == 3
    assert "not" in readme and "compiled or run" in readme and "Gemma is provided under its terms." in readme
    assert "url: 'https://…'" in readme and "assets/lights.litertlm" in files["pubspec.yaml"]
    assert {"analysis_options.yaml", "example/lib/main.dart", "lib/lights_q8_0.dart"} <= files.keys()
    handoffs.write({**files, "assets/lights.litertlm": "abc"}, tmp_path)
    assert flutter.check(tmp_path, asked) == []
    (tmp_path / SOURCES).write_text("// mine")
    (tmp_path / "assets/lights.litertlm").unlink()
    assert len(flutter.check(tmp_path, asked)) == 2


def test_a_reply_with_null_for_what_may_be_left_out_is_tested_for_what_comes_back():
    where = {"x": {"type": "integer"}, "note": {"type": "string", "nullable": True}}
    tools = [tool("t", {"a": {"type": "string", "nullable": True}, "must": {"type": "string", "nullable": True},
                        "in": {"type": "array", "items": {"type": "object", "properties": where, "required": ["x"]}}},
                  ["must"])]  # fmt: skip
    arguments = {"a": None, "must": None, "in": [{"x": 1, "note": None}]}
    examples = [{"user": "u", "calls": [{"name": "t", "arguments": arguments}]}]
    text = flutter.files(job(tools, examples=examples))["test/recorded_replies_test.dart"]
    assert "args: {'a': null, 'must': null, 'in': [{'x': 1, 'note': null}]}" in text
    assert "toArguments(), {'must': null, 'in': [{'x': 1}]});" in text


@pytest.mark.parametrize("name", ["a #1: b.litertlm", "'a' & - b.litertlm", "앱.litertlm", "#.litertlm"])
def test_any_name_of_a_file_is_yaml(name):
    made = dataclasses.replace(job(NAMED["cases"]), artifact=Path(name))
    lines = flutter.files(made)["pubspec.yaml"].splitlines()
    asset, said = lines[-1].removeprefix("    - "), lines[2].removeprefix("description: ")
    assert json.loads(asset) == f"assets/{name}" and name in json.loads(said)  # what JSON quotes, YAML reads


def test_what_is_downloaded_is_no_asset():
    url = "https://example.org/$a'b"
    files = look(NAMED["cases"], download_url=url)
    assert "assets" not in files["pubspec.yaml"] and f"from <{url}>" in files["README.md"]
    assert r"const String modelUrl = 'https://example.org/\$a\'b';" in files["lib/src/assistant.dart"]
    assert "String? url = modelUrl," in files["lib/src/assistant.dart"]
    assert "modelUrl" not in look(NAMED["cases"])["lib/src/assistant.dart"]
    assert 'fromUrl(context, "https://example.org/\\$a\'b")' in android.files(job([], download_url=url))["README.md"]


@pytest.mark.parametrize(
    ("tools", "more", "words"),
    [
        ([tool("t", {"type": {"type": "string"}}), tool("u", {"a": {"type": "object", "properties": {"nullable": TEXT}}})],
         {}, "flutter_edge_ai drops properties of these names, so that the model never sees them: t.type, u.a.nullable"),
        ([tool("t", {"a": {"type": "array", "items": {"type": "object", "properties": {"description": TEXT}}}})],
         {"package": "flutter_gemma"}, "flutter_gemma drops properties of these names, so that the model never sees them: t.a.items.d"),
        ([], {"dialect": "hermes"}, "its dialect is hermes"),
        ([], {"context_tokens": 512}, "made for 512 tokens"),
        ([], {"package": "flutter_llm"}, "no package 'flutter_llm'"),
        ([tool("t", {"a": {"type": "number", "enum": [float("inf")]}})], {}, "tool t, parameter a"),
    ],
)  # fmt: skip
def test_what_can_not_be_handed_over_is_named(tools, more, words):
    with pytest.raises(EdgeError, match=re.escape(words)) as caught:
        flutter.files(job(tools, **more))
    assert caught.value.hint


# Names


@pytest.mark.parametrize(
    ("wire", "camel", "constant"),
    [
        ("set_light", "setLight", "SET_LIGHT"), ("setHTTPServer", "setHttpServer", "SET_HTTP_SERVER"),
        ("2nd floor", "n2ndFloor", "N_2ND_FLOOR"),
        ("a.b-c", "aBC", "A_B_C"), ("", "empty", "EMPTY"), (" ", "space", "SPACE"), ("+", "plusSign", "PLUS_SIGN"), ("é", "e", "E"),
        ("불", "ubd88", "UBD88"), ("on!", "on", "ON"), ("_", "lowLine", "LOW_LINE"), ("LIGHT", "light", "LIGHT"), ("\n", "uA", "U_A"),
    ],
)  # fmt: skip
def test_words_of_a_name(wire, camel, constant):
    assert names.camel(names.words(wire)) == camel
    assert names.upper_snake(names.words(wire)) == constant


@given(st.lists(st.one_of(st.text(), st.sampled_from(WORDS)), max_size=12))
def test_names_side_by_side_are_names_and_differ_by_more_than_case(wires):
    for style, reserved in (
        (names.camel, names.DART_RESERVED),
        (names.camel, names.KOTLIN_RESERVED),
        (names.pascal, ["String"]),
    ):
        scope = names.Scope(style, reserved, "value")
        claimed = [scope.claim(wire) for wire in wires]
        assert all(re.fullmatch("[A-Za-z][A-Za-z0-9]*", name) and len(name) < 80 for name in claimed)
        assert len({name.lower() for name in claimed}) == len(wires)
        assert not {name.lower() for name in claimed} & {word.lower() for word in reserved}


def test_names_that_collide_are_numbered_in_order():
    scope = names.Scope(names.camel, ["class"], "value")
    assert [scope.claim(w) for w in ("a_b", "aB", "AB", "ab2", "class", "Class", "class_value")] == [
        "aB", "aB2", "ab3", "ab2v2", "classValue", "classValue2", "classValue3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("tuned-q8_0", "tuned_q8_0"),
        ("2B", "model_2b"),
        ("in", "model_in"),
        ("모델", "model"),
        ("Ä b", "a_b"),
        ("--", "model"),
    ],
)
def test_names_of_packages(name, package):
    assert names.package(name) == package


def test_both_languages_have_the_same_types():
    for tools in NAMED.values():
        ours, theirs = shapes(tools, flutter.DART_NAMES), shapes(tools, android.KOTLIN_NAMES)
        assert [form(t.call) for t in ours.tools] == [form(t.call) for t in theirs.tools]
        assert [[w for _, w in e.constants] for e in ours.enums] == [[w for _, w in e.constants] for e in theirs.enums]


def form(it: Class):
    return [
        (f.wire, f.required, f.shape.kind, f.shape.nullable, f.shape.values) for f in it.fields
    ], it.others is not None
