"""The Kotlin module of `edge handoff android`: compiled by a real compiler, its dispatcher, installation and benchmark run by java."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading

import handoffs
import kotlinc
import pytest
from handoffs import CASES, NAMED, tool

from edge import dialects, records
from edge.bench import report
from edge.bench.score import score
from edge.calls import Call, read_calls
from edge.dialects import function_of
from edge.errors import EdgeError
from edge.export.handoff import android
from edge.export.handoff.shapes import learned
from edge.records import Measurement

MODEL = bytes(range(256)) * 9000  # more than one block of a copy
PER_SET = ("Tools.kt", "ToolCalls.kt", "DispatchTest.kt")
RANDOM = 4  # sets of random declarations, besides the named ones
SYSTEM = 'You are "it", for $5.\nBe short.'
# A fault for each thing that the cases must notice, put into a copy of the dispatcher.
FAULTS = {
    "undeclared": ("if (!open) values.keys", "if (open) values.keys"),
    "integer": ("?.toString()?.toLongOrNull()", "?.toLong()"),
    "enum": ("?: throw OutsideEnum(path, value, constants.map(wire))", "?: constants.first()"),
    "null": ("if (value == null) throw NullArgument(path)", "if (value == null) throw WrongType(path, value, type)"),
}


def job(tools, number, **more):
    digest = hashlib.sha256(MODEL).hexdigest()
    return handoffs.job(tools, digest=digest, bytes=len(MODEL), namespace=f"set{number}", system=SYSTEM, **more)


def driver(count, faults):
    """A program around all dispatchers: answers calls, asks, installs, measures, and runs the tests that were generated."""
    dispatch = "\n".join(
        f"""    {json.dumps(space)} -> try {{
        val call = {space}.ToolCall.of(name, arguments)
        mapOf("tool" to call.tool, "arguments" to call.toArguments())
    }} catch (problem: {space}.ToolCallException) {{ mapOf("kind" to problem.kind, "path" to problem.path) }}"""
        for space in [*(f"set{n}" for n in range(count)), *(f"fault_{name}" for name in faults)]
    )
    return (kotlinc.STUBS / "driver.kt.txt").read_text(encoding="utf-8").replace("/* DISPATCH */", dispatch)


class Built:
    """Everything in one compilation, since each takes its ten seconds: all sets, faulty copies of the first, the driver."""

    def __init__(self, top):
        self.sets = [*NAMED.values(), *handoffs.drawn(RANDOM)]
        sources = []
        for number, tools in enumerate(self.sets):
            examples = [{"user": "say */ it", "calls": [called(c)]} for c in CASES["calls"] if not c["problem"]]
            files = android.files(job(tools, number, examples=examples if number == 0 else []))
            # What does not depend on the declarations is compiled for the first two sets, the second of which has no tools.
            kept = {path: text for path, text in files.items() if number < 2 or path.endswith(PER_SET)}
            sources += sorted(handoffs.write(kept, top / f"set{number}").rglob("*.kt"))
        for name, (old, new) in FAULTS.items():
            for file in ("ToolCalls.kt", "Tools.kt"):
                text = (top / "set0/src/main/kotlin/set0" / file).read_text(encoding="utf-8")
                assert file == "Tools.kt" or old in text, name
                handoffs.write(
                    {file: text.replace("package set0", f"package fault_{name}").replace(old, new)}, top / name
                )
            sources += sorted((top / name).glob("*.kt"))
        (top / "Driver.kt").write_text(driver(len(self.sets), FAULTS), encoding="utf-8")
        self.out = top / "classes"
        self.status, self.said = kotlinc.compile([*sources, top / "Driver.kt"], self.out)

    def run(self, *arguments, **properties):
        return kotlinc.run(self.out, "DriverKt", *map(str, arguments), properties=properties)

    def dispatch(self, top, asked):
        """Answers to (namespace, call) pairs."""
        lines = [json.dumps({"set": space, "name": call.name, "arguments": call.arguments}) for space, call in asked]
        (top / "asked.jsonl").write_text("\n".join(lines))
        return [json.loads(line) for line in self.run("dispatch", top / "asked.jsonl").split("\n") if line]


def called(case):
    return {"name": case["name"], "arguments": case["arguments"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    found = Built(tmp_path_factory.mktemp("kotlin"))
    assert found.status == 0, found.said[-4000:]
    return found


@pytest.mark.slow
def test_every_set_of_declarations_compiles(built):
    assert built.status == 0 and len(built.sets) == len(NAMED) + RANDOM
    assert sum(len(tools) for tools in built.sets) > 150


@pytest.mark.slow
def test_the_compiler_notices_what_does_not_compile(built, tmp_path):
    source = tmp_path / "Wrong.kt"
    source.write_text("package wrong\nval wrong: set0.SetLightCall = set0.ListLightsCall\n")
    status, said = kotlinc._compile([source], tmp_path / "out", ["-cp", str(built.out)])
    assert status != 0 and "type mismatch" in said.lower()


@pytest.mark.slow
def test_the_dispatcher_judges_the_written_cases_as_we_do(built, tmp_path):
    given = [Call(c["name"], c["arguments"]) for c in CASES["calls"]]
    answers = built.dispatch(tmp_path, [("set0", call) for call in given])
    assert len(answers) == len(given)
    for case, call, answer in zip(CASES["calls"], given, answers):
        right = handoffs.told(call, built.sets[0])
        assert (right.get("problems") or [""])[0].startswith(case["problem"] or "")  # validate_call is as the case says
        assert handoffs.agrees(answer, right), (case, answer)
        if case["problem"]:
            assert f"{answer['kind']}: {answer['path']}" == case["problem"]


@pytest.mark.slow
def test_the_dispatcher_judges_random_calls_as_we_do(built, tmp_path):
    asked = [
        (number, call)
        for number, tools in enumerate(built.sets)
        for call in handoffs.calls(tools, handoffs.chance(number), 3 if len(tools) > 20 else 12)
    ]
    answers = built.dispatch(tmp_path, [(f"set{number}", call) for number, call in asked])
    rights = [handoffs.told(call, built.sets[number]) for number, call in asked]
    wrong = [(asked[i], a, r) for i, (a, r) in enumerate(zip(answers, rights)) if not handoffs.agrees(a, r)]
    assert len(answers) == len(asked) > 1500 and wrong == []
    kinds = {a.get("kind") for a in answers}
    assert kinds >= {
        None,
        "undeclared tool",
        "missing argument",
        "null argument",
        "wrong type",
        "outside enum",
        "undeclared argument",
    }
    assert sum("arguments" in r for r in rights) > 400


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_the_cases_notice_a_faulty_dispatcher(built, tmp_path, fault):
    given = [Call(c["name"], c["arguments"]) for c in CASES["calls"]]
    answers = built.dispatch(tmp_path, [(f"fault_{fault}", call) for call in given])
    assert not all(handoffs.agrees(a, handoffs.told(call, built.sets[0])) for a, call in zip(answers, given))


@pytest.mark.slow
def test_the_generated_tests_pass(built):
    said = built.run("tests", len(built.sets))
    assert "reply1" in said and int(re.search(r"(\d+) passed", said)[1]) > len(built.sets)


@pytest.mark.slow
def test_asking_declares_answers_and_tells(built):
    told = json.loads(built.run("ask"))
    assert [json.loads(d) for d in told["tools"]] == [
        function_of(t) for t in learned(built.sets[0], "functiongemma", "training")
    ]
    assert list(json.loads(told["tools"][0])["parameters"]["properties"]) == [
        "colour",
        "level",
        "on",
        "room",
        "step",
        "warmth",
    ]
    assert told["automatic"] is False and told["topK"] == 1 and told["system"] == SYSTEM
    assert told["asked"] == [
        "light in the hall",
        "{set_light={done=hall}, list_lights={done=all}}",
        "{set_light={error=missing argument: set_light.room is required}}",
    ]
    assert told["answer"] == "There is light." and told["thrown"] == "MissingArgument"


class Pieces(http.server.BaseHTTPRequestHandler):
    """Serves the model by ranges, and cuts the first answer off in its middle."""

    asked: list[str | None] = []  # noqa: RUF012  one server at a time

    def do_GET(self):
        begin = int((self.headers["Range"] or "bytes=0-")[6:-1])
        self.asked.append(self.headers["Range"])
        body = MODEL[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if len(self.asked) == 1 else body)

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_the_model_is_installed_only_whole(built, tmp_path):
    installed, asset = tmp_path / "files/lights.litertlm", tmp_path / "assets/lights.litertlm"
    asset.parent.mkdir()
    asset.write_bytes(MODEL[:-1] + b"x")
    assert "is not the model that was handed over" in built.run("asset", folder=tmp_path)
    assert not list(installed.parent.iterdir())
    asset.write_bytes(MODEL)
    assert built.run("asset", folder=tmp_path).split() == [str(len(MODEL)), str(installed)]
    asset.unlink()  # it is there already: nothing is copied
    assert built.run("asset", folder=tmp_path).split() == ["0", str(installed)]
    installed.write_bytes(MODEL[:-1])  # cut short: it is wanted again
    assert "FileNotFoundException" in built.run("asset", folder=tmp_path)


@pytest.mark.slow
def test_a_download_goes_on_where_it_was_cut(built, tmp_path):
    Pieces.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pieces) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/lights"
        assert f"{len(MODEL) // 2} of {len(MODEL)} bytes" in built.run("url", url, folder=tmp_path)
        assert built.run("url", url, folder=tmp_path).split() == [
            str(len(MODEL)),
            str(tmp_path / "files/lights.litertlm"),
        ]
        server.shutdown()
    assert Pieces.asked == [None, f"bytes={len(MODEL) // 2}-"]
    assert (tmp_path / "files/lights.litertlm").read_bytes() == MODEL


ROWS = [
    {"id": "r1", "messages": [{"role": "developer", "content": SYSTEM}, {"role": "user", "content": "light in the hall"}],
     "expected": [{"name": "set_light", "arguments": {"room": "hall", "on": True, "level": 3, "warmth": 2.5, "colour": None}}]},
    {"id": "r2", "messages": [
        {"role": "user", "content": "which?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "list_lights", "arguments": "{}"}}]},
        {"role": "tool", "name": "list_lights", "content": {"lights": ["hall"]}}],
     "expected": []},
    {"id": "r3", "messages": [{"role": "user", "content": "none"}], "expected": [{"name": "list_lights", "arguments": {}}]},
]  # fmt: skip


def compiled_for(dialect, built, top):
    """Where the benchmark of this dialect is: each has its own writer of calls."""
    if dialect == "functiongemma":
        return built.out
    folder = handoffs.write(android.files(job(built.sets[0], 0, dialect=dialect)), top / dialect)
    (top / "Driver.kt").write_text(driver(1, {}), encoding="utf-8")
    status, said = kotlinc.compile([*sorted(folder.rglob("*.kt")), top / "Driver.kt"], top / "classes")
    assert status == 0, said
    return top / "classes"


@pytest.mark.slow
@pytest.mark.parametrize("dialect", android.DIALECTS)
def test_the_phones_measurement_is_one_of_ours(built, tmp_path, dialect):
    rows = [{**row, "prompt": "not used", "tools": built.sets[0], "user": "u"} for row in ROWS]
    workload = tmp_path / "external/workload.jsonl"
    handoffs.write({"external/workload.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}, tmp_path)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/lights.litertlm").write_bytes(MODEL)
    kotlinc.run(compiled_for(dialect, built, tmp_path), "DriverKt", "benchmark", properties={"folder": str(tmp_path)})
    measured = records.load(Measurement, tmp_path / "external/lights-q8_0-android.json")
    assert measured.subject == hashlib.sha256(MODEL).hexdigest() and measured.workload == records.digest_file(workload)
    assert measured.device["emulated"] is True and measured.throttled is False and measured.file_bytes == len(MODEL)
    assert measured.error is None and measured.peak_rss_bytes > 1e6 and measured.load_s >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", measured.started_at)
    first, second, third = measured.samples
    assert dialects.get(dialect).parse(first.text).calls == read_calls(ROWS[0]["expected"])
    assert (first.prompt_tokens, first.completion_tokens, first.prefill_s, first.decode_s) == (100, 20, 0.25, 0.25)
    assert second.text == "The hall's." and third.text is None and "no answer left" in third.error
    assert [o.state for o in score(rows, measured, dialect).outcomes] == ["right", "right", "failed"]
    cell = report.build("phone", measured.workload, rows, [measured], dialect=dialect).cells[0]
    assert cell["rows"]["right"] == 2 and any("emulated" in mark for mark in cell["marks"])


# Without a compiler


def test_the_folder_holds_what_the_readme_says():
    files = android.files(job(NAMED["cases"], 0))
    readme, build = files["README.md"], files["build.gradle.kts"]
    assert "litertlm-android:0.18.0" in build and android.KOTLIN in build and "minSdk = 24" in build
    assert "Gemma is provided under its terms." in readme and "lights.litertlm" in readme
    assert all(step in readme for step in android.steps(job(NAMED["cases"], 0))) and len(android.steps(job([], 0))) == 3
    assert not any("{{" in text or "{%" in text for text in files.values())


def test_check_names_what_was_changed(tmp_path):
    asked = job(NAMED["cases"], 0)
    handoffs.write(android.files(asked), tmp_path)
    model = tmp_path / "src/main/assets/lights.litertlm"
    model.parent.mkdir()
    model.write_bytes(MODEL)
    assert android.check(tmp_path, asked) == []
    (tmp_path / "build.gradle.kts").write_text("// mine")
    (tmp_path / "README.md").unlink()
    model.write_bytes(b"")
    assert len(android.check(tmp_path, asked)) == 3


@pytest.mark.parametrize(
    ("tools", "more", "words"),
    [
        ([tool("t", {"type": {"type": "string"}})], {}, "t.type"),
        ([tool("t", {"a": {"type": "array", "items": {"type": "object", "properties": {"required": {"type": "string"}}}}})],
         {}, "t.a.items.required"),
        ([tool("t", {"a": {"type": "integer", "enum": [2**60]}})], {}, "tool t, parameter a: its enum"),
        ([tool("t", {"a": {"type": "object", "properties": {"b": {"type": "array", "enum": [[1]]}}}})], {}, "parameter a.b"),
        ([tool("t")], {"dialect": "llama3"}, "llama3"),
    ],
)  # fmt: skip
def test_what_can_not_be_handed_over_is_named(tools, more, words):
    with pytest.raises(EdgeError, match=re.escape(words)) as caught:
        android.files(job(tools, 0, **more))
    assert caught.value.hint


@pytest.mark.parametrize("namespace", ["com.example.in", "Com.example", "com..example", "com example", "../x"])
def test_a_package_name_that_kotlin_has_not_is_refused(namespace):
    with pytest.raises(EdgeError, match="no name of a package"):
        android.files(handoffs.job([], namespace=namespace))
